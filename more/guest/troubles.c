// SPDX-License-Identifier: GPL-2.0-only
/*
 * troubles - what other people's systems have met when faults wait, in small
 *
 * Runs in the guest and prints KTAP:
 *
 *	troubles [CASE...]	all, or those named; "broken": those that must not be ok
 *
 * times=N on the kernel's command line makes each case N times as long. What is to be compared
 * with another kernel is said as NAME=NUMBER.
 *
 *  kill_*	SIGKILL while 32 threads fault: how soon the memory and the process are gone
 *	disk, fork, uffd, dirty	mprotect or fork beside faults on a disk whose pages get lost
 *		(E2l, E3r of lab/guest/writer.c), on userfaultfd, on throttled stores (E8)
 *  eexist	two servers of one userfaultfd take EEXIST for done, and do not wake
 *  stale	UFFDIO_UNREGISTER against UFFDIO_COPY leaves no page write-protected by it
 *  pool	an empty pool of huge pages; who serves their faults closes, unregisters or dies
 *  hard	a huge page's fault needs an anon_vma while mmap_lock is write-held: a hard retry
 *  move	UFFDIO_MOVE and page-out of pages that others swap in
 *  fork	children look at what they have inherited, much of it swapped out
 *  lazy	missing pages, and EVENT_FORK, REMAP, UNMAP, REMOVE; the userfaultfd is closed
 *  mthp	huge swap-in, in a cgroup that has half of the memory that it takes
 *  writer	8 threads map and unmap large pieces beside faults, and none is kept from it
 */
#define _GNU_SOURCE
#include <poll.h>

#include "case.h"
#include "vfr.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

#define HUGE		(2UL << 20)
#define HUGE_POOL	"/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define MTHP		"/sys/kernel/mm/transparent_hugepage/hugepages-64kB/"

static unsigned long times = 1;
static atomic_bool stop;
static __thread uint64_t seed;

static size_t rnd(size_t below)
{
	if (!seed)
		seed = syscall(SYS_gettid);
	return random_below(&seed, below);
}

static long retries(void)
{
	return counter("/proc/vmstat", "vma_lock_retry");
}

/*
 * Whether to go on: for so many seconds from the first call, and on a slow machine until enough
 * has happened.
 */
static bool go_on(unsigned int seconds, bool enough)
{
	static uint64_t begin;
	double took;

	begin = begin ?: now_ns();
	took = (now_ns() - begin) / 1e9;
	return took < (this_case->broken ? 4 : seconds * times) ||
	       (!enough && took < this_case->limit / 2);
}

static long pages_swapped_in(void)
{
	return counter("/proc/vmstat", "pswpin");
}

static pid_t fork_process(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	return pid;
}

static void *shared_memory(size_t size)
{
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		die("mmap");
	return map;
}

static void join_all(pthread_t *threads, int nr)
{
	for (int i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);
}

/* Swap as make_swap() makes it, in the place of what there is. */
static void use_swap(unsigned int delay_ms)
{
	swapoff("/dev/zram0");
	try_put("/sys/block/zram0/reset", "1");
	swapoff("/dev/swap");
	if (!access(NULLB "swap", F_OK))
		remove_disk("swap");
	make_swap(delay_ms);
}

/* Page out the memory, and then out of the swap cache: only the cgroup's reclaim does that. */
static void page_out(char *map, size_t size, const char *group)
{
	char path[96];

	madvise(map, size, MADV_PAGEOUT);
	snprintf(path, sizeof(path), CGROUPS "%s/memory.reclaim", group);
	try_put(path, "%zu", size);
}

/* Words that say of which page they are, of which generation, and which of its words. */
#define WORDS		512
#define WORD(page, gen, k)	((uint64_t)((page) + 1) << 48 | (uint64_t)(gen) << 10 | (k))
#define GEN_OF(word)	((word) << 16 >> 26)

static void write_words(uint64_t *p, size_t page, uint64_t gen)
{
	for (size_t k = 0; k < WORDS; k++)
		__atomic_store_n(p + k, WORD(page, gen, k), __ATOMIC_RELEASE);
}

/*
 * Verify all words of a page; 0, or what was wrong. least to most: the generations that may be.
 * still: nobody writes, so they are of one generation, or the first ones of a newer one.
 */
static uint64_t wrong_word(const uint64_t *p, size_t page, uint64_t least, uint64_t most,
			   bool still)
{
	for (size_t k = 0; k < WORDS; k++) {
		uint64_t word = __atomic_load_n(p + k, __ATOMIC_ACQUIRE), gen = GEN_OF(word);

		if (word != WORD(page, gen, k) || gen < least || gen > most)
			return word ?: ~0UL;
		if (still)
			most = gen;
	}
	return 0;
}

/* ---- kill to exit ---- */

#define KILL_ROUNDS	10
#define KILL_THREADS	32
#define BALLAST		(16UL << 20)	/* of memory that nothing keeps */
#define KILL_REGION	(256UL << 20)
#define GONE_S		10		/* and a victim counts as one that stays */

enum victim { DISK, FORK, UFFD, DIRTY };

static struct {
	atomic_ulong faults;
	_Atomic uint64_t exits;
} *victim_state;

static enum victim victim;
static char *victim_map;
static int victim_uffd;

static void *victim_faults(void *arg)
{
	size_t pages = KILL_REGION / page_size, next = 64 + (size_t)arg;

	for (;; next = victim == UFFD || victim == DIRTY ? next + KILL_THREADS : 64 + rnd(pages - 64)) {
		volatile char *p = victim_map + next % pages * page_size;

		if (victim == DIRTY)
			*p = 1;
		else
			(void)*p;
		atomic_fetch_add(&victim_state->faults, 1);
	}
	return NULL;
}

static void *victim_changes(void *arg)
{
	for (;; usleep(victim == FORK ? 20000 : 1000)) {
		if (victim == FORK) {
			pid_t pid = _Fork();

			if (!pid)
				_exit(0);
			waitpid(pid, NULL, 0);
		} else if (mprotect(victim_map, 16 * page_size, PROT_NONE) ||
			   mprotect(victim_map, 16 * page_size, PROT_READ | PROT_WRITE)) {
			die("mprotect");
		}
	}
	return arg;
}

static void *victim_server(void *arg)
{
	char *page = arg;

	for (;;) {
		struct pollfd pfd = { .fd = victim_uffd, .events = POLLIN };
		struct uffdio_copy copy = { .src = (unsigned long)page, .len = page_size };
		struct uffd_msg msg;

		if (poll(&pfd, 1, -1) != 1 || read(victim_uffd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		usleep(1000);
		copy.dst = msg.arg.pagefault.address & -page_size;
		ioctl(victim_uffd, UFFDIO_COPY, &copy);
	}
	return NULL;
}

static void be_victim(void)
{
	char *ballast = map_memory(BALLAST);
	int fd = -1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memset(ballast, 1, BALLAST);
	if (victim == UFFD) {
		victim_uffd = uffd_open(0);
		victim_map = uffd_map(victim_uffd, KILL_REGION / page_size);
		start_thread(victim_server, ballast);
	} else {
		fd = open(victim == DIRTY ? "/tmp/data/hole" : "/dev/slow", O_RDWR);
		victim_map = mmap(NULL, KILL_REGION, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (fd < 0 || victim_map == MAP_FAILED)
			die("what the victim maps");
		madvise(victim_map, KILL_REGION, MADV_RANDOM);
		madvise(victim_map, KILL_REGION, MADV_NOHUGEPAGE);
	}
	for (size_t i = 0; victim == FORK && i < 300; i += 2)
		madvise(victim_map + i * 128 * page_size, 128 * page_size, MADV_DONTDUMP);
	for (size_t i = 0; i < KILL_THREADS; i++)
		start_thread(victim_faults, (void *)i);
	start_thread(victim_changes, NULL);
	for (;;)
		pause();
}

static void *lose_pages(void *arg)
{
	int fd = (long)arg;

	for (; !atomic_load(&stop); usleep(1000))
		posix_fadvise(fd, 0, KILL_REGION, POSIX_FADV_DONTNEED);
	return NULL;
}

static double released_ms;

static void *release(void *arg)
{
	uint64_t t = now_ns();

	syscall(SYS_process_mrelease, (int)(long)arg, 0);
	released_ms = (now_ns() - t) / 1e6;
	return NULL;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* How a victim ends: ms until its memory is below a tenth, until it can be waited for, both to
 * the last of process_mrelease().
 */
static void kill_round(int sig, double *rss_ms, double *exit_ms, double *release_ms)
{
	const struct timespec tick = { 0, 500000 };
	unsigned long faults = atomic_load(&victim_state->faults), resident, now;
	pid_t pid = fork_process();
	char path[64], text[64];
	pthread_t releaser;
	siginfo_t info;
	long pidfd;
	uint64_t t;

	if (!pid)
		be_victim();
	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		die("pidfd_open");
	while (atomic_load(&victim_state->faults) < faults + 4 * KILL_THREADS) {
		if (waitpid(pid, NULL, WNOHANG))
			fail("the victim ended by itself");
		usleep(1000);
	}
	usleep(rnd(100000));
	read_file(path, text, sizeof(text));
	if (sscanf(text, "%*u %lu", &resident) != 1)
		die("%s", path);
	t = now_ns();
	kill(pid, sig);
	releaser = start_thread(release, (void *)pidfd);
	*rss_ms = *exit_ms = 0;
	while (!*exit_ms) {
		if (now_ns() - t > GONE_S * 1000000000ULL)
			fail("%s after %d s", *rss_ms ? "no exit" : "still there", GONE_S);
		read_file(path, text, sizeof(text));
		if (!*rss_ms && (sscanf(text, "%*u %lu", &now) != 1 || now * 10 < resident))
			*rss_ms = (now_ns() - t) / 1e6;
		info.si_pid = 0;
		waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT);
		if (info.si_pid)
			*exit_ms = (now_ns() - t) / 1e6;
		nanosleep(&tick, NULL);
	}
	pthread_join(releaser, NULL);
	*release_ms = released_ms;
	waitpid(pid, NULL, 0);
	close(pidfd);
}

static void kill_victims(enum victim what)
{
	static double rss[1000], ends[1000], freed[1000];
	/* A broken victim does not die. */
	const int sig = this_case->broken ? SIGCONT : SIGKILL;
	size_t nr = KILL_ROUNDS * times;
	long before = retries();
	pthread_t loser = 0;
	double mean = 0;
	int fd = -1;

	victim = what;
	victim_state = shared_memory(sizeof(*victim_state));
	if (nr > ARRAY_SIZE(rss))
		nr = ARRAY_SIZE(rss);
	if (victim == DIRTY) {
		if (access("fs.blocks", F_OK))
			skip("no fs.blocks in this guest");
		make_fs(20);
		put("/proc/sys/vm/dirty_bytes", "1048576");
		fd = open("/tmp/data/hole", O_RDWR | O_CREAT, 0600);
	} else if (victim != UFFD) {
		if (access("/dev/slow", F_OK)) {
			make_null_disk("slow", 1024, 20000, false);
			no_readahead("slow");
		}
		fd = open("/dev/slow", O_RDONLY);
		loser = start_thread(lose_pages, (void *)(long)fd);
	}
	for (size_t i = 0; i < nr; i++) {
		if (victim == DIRTY && (ftruncate(fd, 0) || ftruncate(fd, KILL_REGION)))
			die("/tmp/data/hole");
		kill_round(sig, &rss[i], &ends[i], &freed[i]);
	}
	atomic_store(&stop, true);
	if (loser)
		pthread_join(loser, NULL);
	qsort(rss, nr, sizeof(*rss), by_size);
	qsort(ends, nr, sizeof(*ends), by_size);
	qsort(freed, nr, sizeof(*freed), by_size);
	/* At once or after 7 ms, as often: a median would be the one or the other. */
	for (size_t i = 0; i < nr; i++)
		mean += freed[i] / nr;
	before = retries() - before;
	/* Stores that are throttled are not retried: they have come to an end then. */
	judge(before > 0 || victim == DIRTY,
	      "%zu kills among %lu faults, %ld of them retried; rss_ms=%.1f (most %.1f) exit_ms=%.1f "
	      "(most %.1f) mrelease_ms=%.1f (most %.1f)", nr, atomic_load(&victim_state->faults),
	      before, rss[nr / 2], rss[nr - 1], ends[nr / 2], ends[nr - 1], mean, freed[nr - 1]);
}

static void kill_disk_case(void)
{
	kill_victims(DISK);
}

static void kill_fork_case(void)
{
	kill_victims(FORK);
}

static void kill_uffd_case(void)
{
	kill_victims(UFFD);
}

static void kill_dirty_case(void)
{
	kill_victims(DIRTY);
}

/* ---- userfaultfd: EEXIST taken for done ---- */

#define EEXIST_PAGES	1024
#define EEXIST_FAULTERS	4
#define EEXIST_SECONDS	8

static struct {
	char *map;
	int fd;
	pthread_barrier_t barrier;
	atomic_size_t next[2];		/* of each server */
	_Atomic uint64_t round;
	struct waiting {
		atomic_int tid;
		atomic_size_t page;
		_Atomic uint64_t since;	/* 0: does not fault */
		uint64_t told;
		_Atomic uint64_t asked;	/* round and address of its last message */
	} waiting[EEXIST_FAULTERS];
	atomic_ulong faults, messages, waits, eexist, stranded, changes;
} ee;

/* A message: whether it is the first one of its fault. */
static void ee_count(uint64_t round, const struct uffd_msg *msg)
{
	uint64_t asks = round << 48 | (msg->arg.pagefault.address & -page_size);

	atomic_fetch_add(&ee.messages, 1);
	for (size_t i = 0; i < EEXIST_FAULTERS; i++)
		if (atomic_load(&ee.waiting[i].tid) == (int)msg->arg.pagefault.feat.ptid &&
		    atomic_exchange(&ee.waiting[i].asked, asks) != asks)
			atomic_fetch_add(&ee.waits, 1);
}

static bool in_handle_userfault(int tid)
{
	char path[64], wchan[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/wchan", tid);
	read_file(path, wchan, sizeof(wchan));
	return !strcmp(wchan, "handle_userfault");
}

static void ee_copy(uint64_t *page, size_t i)
{
	struct uffdio_copy copy = {
		.src = (unsigned long)page, .dst = (unsigned long)ee.map + i * page_size,
		.len = page_size, /* Nobody is woken: wrong on purpose. */
		.mode = this_case->broken ? UFFDIO_COPY_MODE_DONTWAKE : 0,
	};

	*page = tag(1, i);
	while (ioctl(ee.fd, UFFDIO_COPY, &copy)) {
		if (errno == EEXIST) {
			atomic_fetch_add(&ee.eexist, 1);
			return;
		}
		if (errno != EAGAIN)
			die("UFFDIO_COPY");
		copy.copy = 0;
	}
}

/* Copies what is asked for first, else the pages in their order, as both servers do. */
static void *ee_serve(void *arg)
{
	atomic_size_t *next = arg;
	uint64_t *page = aligned_alloc(page_size, page_size);

	memset(page, 0, page_size);
	while (!atomic_load(&stop)) {
		struct pollfd pfd = { .fd = ee.fd, .events = POLLIN };
		struct uffd_msg msg;
		uint64_t round = atomic_load(&ee.round);
		size_t i = atomic_load(next);

		if (poll(&pfd, 1, i < EEXIST_PAGES ? 0 : 1) == 1 &&
		    read(ee.fd, &msg, sizeof(msg)) == sizeof(msg)) {
			ee_count(round, &msg);
			ee_copy(page, (msg.arg.pagefault.address - (unsigned long)ee.map) / page_size);
		} else if (i < EEXIST_PAGES) {
			ee_copy(page, i);
			/* Unless another round has begun. */
			atomic_compare_exchange_strong(next, &i, i + 1);
		}
	}
	return NULL;
}

static void *ee_fault(void *arg)
{
	struct waiting *w = arg;

	atomic_store(&w->tid, syscall(SYS_gettid));
	for (;;) {
		pthread_barrier_wait(&ee.barrier);
		if (atomic_load(&stop))
			return NULL;
		for (size_t i = 0; i < EEXIST_PAGES; i++) {
			atomic_store(&w->page, i);
			atomic_store(&w->since, now_ns());
			if (*(volatile uint64_t *)(ee.map + i * page_size) != tag(1, i))
				fail("wrong data in page %zu", i);
			atomic_store(&w->since, 0);
		}
		atomic_fetch_add(&ee.faults, EEXIST_PAGES);
		pthread_barrier_wait(&ee.barrier);
	}
}

/* Who waits for a page that has been there for long has missed its waking. */
static void *ee_watch(void *arg)
{
	while (!atomic_load(&stop)) {
		usleep(50000);
		for (size_t i = 0; i < EEXIST_FAULTERS; i++) {
			struct waiting *w = &ee.waiting[i];
			uint64_t since = atomic_load(&w->since);
			char *p = ee.map + atomic_load(&w->page) * page_size;
			struct uffdio_range range = { (unsigned long)p, page_size };
			unsigned char there = 0;

			if (!since || now_ns() - since < 500000000 || since == w->told ||
			    mincore(p, page_size, &there) || !(there & 1))
				continue;
			usleep(200000);
			if (atomic_load(&w->since) != since || !in_handle_userfault(w->tid))
				continue;
			w->told = since;
			atomic_fetch_add(&ee.stranded, 1);
			ioctl(ee.fd, UFFDIO_WAKE, &range);
		}
	}
	return arg;
}

/* Write-locks the VMA, splits and merges it: the pages behind are of no faulter. */
static void *ee_change(void *arg)
{
	char *p = ee.map + EEXIST_PAGES * page_size;

	for (; !atomic_load(&stop); usleep(200)) {
		if (mprotect(p, 8 * page_size, PROT_NONE) ||
		    mprotect(p, 8 * page_size, PROT_READ | PROT_WRITE))
			die("mprotect");
		atomic_fetch_add(&ee.changes, 1);
	}
	return arg;
}

static void eexist_case(void)
{
	pthread_t thread[EEXIST_FAULTERS + 4];
	long before = retries();
	int nr = 0;

	ee.fd = uffd_open(UFFD_FEATURE_THREAD_ID);
	ee.map = uffd_map(ee.fd, EEXIST_PAGES + 16);
	pthread_barrier_init(&ee.barrier, NULL, EEXIST_FAULTERS + 1);
	for (int i = 0; i < EEXIST_FAULTERS; i++)
		thread[nr++] = start_thread(ee_fault, &ee.waiting[i]);
	thread[nr++] = start_thread(ee_serve, &ee.next[0]);
	thread[nr++] = start_thread(ee_serve, &ee.next[1]);
	thread[nr++] = start_thread(ee_watch, NULL);
	thread[nr++] = start_thread(ee_change, NULL);
	do {
		if (madvise(ee.map, EEXIST_PAGES * page_size, MADV_DONTNEED))
			die("MADV_DONTNEED");
		atomic_fetch_add(&ee.round, 1);
		atomic_store(&ee.next[0], 0);
		atomic_store(&ee.next[1], 0);
		pthread_barrier_wait(&ee.barrier);
		pthread_barrier_wait(&ee.barrier);
	} while (go_on(EEXIST_SECONDS, ee.messages && ee.eexist && ee.changes));
	atomic_store(&stop, true);
	pthread_barrier_wait(&ee.barrier);
	join_all(thread, nr);
	before = retries() - before;
	judge(!ee.stranded && ee.waits && ee.eexist && before > 0 && ee.changes,
	      "stranded=%.1f a million of %lu touches, %lu times EEXIST, %ld retries, %lu mprotect, "
	      "messages=%.4f a fault that waited, of which there are %.4f a touch",
	      ee.stranded * 1e6 / ee.faults, ee.faults, ee.eexist, before, ee.changes,
	      (double)ee.messages / ee.waits, (double)ee.waits / ee.faults);
}

/* ---- userfaultfd: a bit that stays ---- */

#define STALE_PAGES	4096
#define STALE_SECONDS	8
#define PM_UFFD_WP	(1ULL << 57)	/* of pagemap */

static struct {
	char *map;
	int fd;
	atomic_bool on;
	pthread_barrier_t barrier;
	atomic_ulong copies;
} st;

/* While the pages are registered, and a little longer, as who copies does not know. */
static void *st_copy(void *arg)
{
	while (pthread_barrier_wait(&st.barrier), !atomic_load(&stop)) {
		for (size_t i = 0; i < STALE_PAGES && atomic_load(&st.on); i++) {
			struct uffdio_copy copy = {
				.src = (unsigned long)arg, .len = page_size,
				.dst = (unsigned long)st.map + i * page_size,
				.mode = UFFDIO_COPY_MODE_WP,
			};

			if (!ioctl(st.fd, UFFDIO_COPY, &copy))
				atomic_fetch_add(&st.copies, 1);
		}
		pthread_barrier_wait(&st.barrier);
	}
	return NULL;
}

static void stale_case(void)
{
	static uint64_t entries[STALE_PAGES];
	const size_t size = STALE_PAGES * page_size;
	unsigned long rounds = 0, stale = 0;
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	pthread_t thread;

	st.fd = uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	/* The page in front has the VMA its anon_vma: UFFDIO_COPY needs no mmap_lock then. */
	st.map = map_memory(size + page_size);
	*st.map = 1;
	st.map += page_size;
	pthread_barrier_init(&st.barrier, NULL, 2);
	thread = start_thread(st_copy, map_memory(page_size));
	for (; go_on(STALE_SECONDS, rounds > 100); rounds++) {
		struct uffdio_register reg = {
			.range = { (unsigned long)st.map - page_size, size + page_size },
			.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
		};

		if (madvise(st.map, size, MADV_DONTNEED) || ioctl(st.fd, UFFDIO_REGISTER, &reg))
			die("UFFDIO_REGISTER");
		atomic_store(&st.on, true);
		pthread_barrier_wait(&st.barrier);
		usleep(rnd(3000));
		if (ioctl(st.fd, UFFDIO_UNREGISTER, &reg.range))
			die("UFFDIO_UNREGISTER");
		atomic_store(&st.on, false);
		pthread_barrier_wait(&st.barrier);
		if (pread(pagemap, entries, sizeof(entries), (unsigned long)st.map / page_size * 8) !=
		    sizeof(entries))
			die("pagemap");
		for (size_t i = 0; i < STALE_PAGES; i++)
			stale += !!(entries[i] & PM_UFFD_WP);
	}
	atomic_store(&stop, true);
	pthread_barrier_wait(&st.barrier);
	pthread_join(thread, NULL);
	judge(!stale && st.copies > 100, "stale=%lu pages after %lu times UNREGISTER, %lu copied",
	      stale, rounds, st.copies);
}

/* ---- hugetlb ---- */

#define POOL		8
#define NR_WAITING	16
#define WAIT_S		5	/* and none may wait any longer */

enum how { CLOSE, UNREGISTER, DIE, NOTHING };

static const char * const pool_counters[] = {
	"nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages",
};

static struct {
	char *map;
	atomic_int pages, signals;
} pool;

static void read_pool(long *values)
{
	char path[96];

	for (size_t i = 0; i < ARRAY_SIZE(pool_counters); i++) {
		snprintf(path, sizeof(path), HUGE_POOL "%s", pool_counters[i]);
		scan_file(path, "%ld", &values[i]);
	}
}

static void *touch_huge(void *arg)
{
	char *p = pool.map + (size_t)arg * HUGE;
	uint64_t got;
	int code = touch_word((uint64_t *)p, false, &got);

	if (code ? code != BUS_ADRERR : got != 0 && got != tag(1, (size_t)arg))
		fail("huge page %zu: si_code %d, data %llx", (size_t)arg, code,
		     (unsigned long long)got);
	atomic_fetch_add(code ? &pool.signals : &pool.pages, 1);
	return NULL;
}

/* NR_WAITING faults wait; copied of them get a page, and then their userfaultfd ends. */
static void pool_round(bool shared, enum how how, size_t copied)
{
	const size_t size = NR_WAITING * HUGE;
	int fd = uffd_open(UFFD_FEATURE_MISSING_HUGETLBFS);
	long before[ARRAY_SIZE(pool_counters)], after[ARRAY_SIZE(pool_counters)];
	uint64_t *page = (uint64_t *)map_memory(HUGE);
	pthread_t thread[NR_WAITING];
	struct uffdio_range range;
	pid_t server = 0;
	uint64_t t;

	read_pool(before);
	pool.map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_HUGETLB |
			MAP_NORESERVE | (shared ? MAP_SHARED : MAP_PRIVATE), -1, 0);
	if (pool.map == MAP_FAILED)
		die("MAP_HUGETLB");
	uffd_register(fd, pool.map, size);
	if (how == DIE) {
		server = fork_process();
		for (; !server; pause())
			;
	}
	pool.pages = pool.signals = 0;
	for (size_t i = 0; i < NR_WAITING; i++)
		thread[i] = start_thread(touch_huge, (void *)i);
	for (size_t i = 0; i < NR_WAITING; ) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		struct uffd_msg msg;

		i += poll(&pfd, 1, -1) == 1 && read(fd, &msg, sizeof(msg)) == sizeof(msg);
	}
	for (size_t i = 0; i <= copied && copied; i++) {
		struct uffdio_copy copy = { .src = (unsigned long)page, .len = HUGE,
					    .dst = (unsigned long)pool.map + i * HUGE };

		*page = tag(1, i);
		if (!ioctl(fd, UFFDIO_COPY, &copy) != (i < copied))
			fail("UFFDIO_COPY of huge page %zu: %s", i, strerror(errno));
	}
	range = (struct uffdio_range){ (unsigned long)pool.map, size };
	if (how == UNREGISTER ? ioctl(fd, UFFDIO_UNREGISTER, &range) : how != NOTHING && close(fd))
		die("cannot end it");
	if (server) {
		kill(server, SIGKILL);
		waitpid(server, NULL, 0);
	}
	for (t = now_ns(); pool.pages + pool.signals < NR_WAITING; usleep(1000))
		if (now_ns() - t > WAIT_S * 1000000000ULL)
			fail("%d of %d faults still wait after %d s", NR_WAITING - pool.pages -
			     pool.signals, NR_WAITING, WAIT_S);
	join_all(thread, NR_WAITING);
	if (pool.pages != POOL)
		fail("%d pages of %d, %d SIGBUS", pool.pages, POOL, pool.signals);
	if (how == UNREGISTER)
		close(fd);
	munmap(pool.map, size);
	munmap(page, HUGE);
	read_pool(after);
	for (size_t i = 0; i < ARRAY_SIZE(pool_counters); i++)
		if (before[i] != after[i])
			fail("%s: %ld, now %ld", pool_counters[i], before[i], after[i]);
}

static void make_pool(void)
{
	long nr[ARRAY_SIZE(pool_counters)];

	put(HUGE_POOL "nr_hugepages", "%d", POOL);
	read_pool(nr);
	if (nr[0] != POOL || nr[1] != POOL)
		skip("%ld of %d huge pages, %ld free", nr[0], POOL, nr[1]);
}

static void pool_case(void)
{
	unsigned int rounds = times;
	long before = retries();

	make_pool();
	if (this_case->broken)
		pool_round(false, NOTHING, 0);
	for (unsigned int i = 0; i < rounds; i++)
		for (int n = 0; n < 12; n++)
			pool_round(n & 1, n / 4, n & 2 ? POOL : 0);
	judge(retries() > before, "%u rounds of %d faults, all ended by a page or SIGBUS, "
	      "%ld retries", 12 * rounds, NR_WAITING, retries() - before);
}

static int vfr_fd;

static void *hold_mmap_lock(void *arg)
{
	struct vfr_hold hold = { .limit_ms = 5000 };

	if (ioctl(vfr_fd, VFR_HOLD, &hold))
		die("VFR_HOLD");
	return arg;
}

static const char * const hard_counters[] = {
	"vma_lock_retry", "vma_lock_retry_hard", "vma_lock_fallback",
};

enum hard { FIRST_TOUCH, COW_AT_ONCE, COW_LATER };

/* One store with mmap_lock held; the counters since then in delta. */
static void hard_store(enum hard what, long *delta)
{
	int fd = memfd_create("huge", MFD_HUGETLB);
	volatile uint64_t *file = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *p;
	const bool held = !this_case->broken;
	struct vfr_log log = { 0 };
	pthread_t holder = 0;

	if (fd < 0 || file == MAP_FAILED)
		die("memfd_create");
	file[0] = tag(1, 1);
	file[HUGE / 8 - 1] = tag(1, 2);
	p = what == FIRST_TOUCH ?
		mmap(NULL, HUGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0) :
		mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		die("MAP_HUGETLB");
	if (what == COW_LATER && *p != tag(1, 1))
		fail("wrong data");
	if (held)
		holder = start_thread(hold_mmap_lock, NULL);
	while (held && !log.held) {
		usleep(1000);
		if (ioctl(vfr_fd, VFR_GET, &log))
			die("VFR_GET");
	}
	for (size_t i = 0; i < ARRAY_SIZE(hard_counters); i++)
		delta[i] = -counter("/proc/vmstat", hard_counters[i]);
	*p = tag(2, 1);
	for (size_t i = 0; i < ARRAY_SIZE(hard_counters); i++)
		delta[i] += counter("/proc/vmstat", hard_counters[i]);
	if (holder)
		pthread_join(holder, NULL);
	if (p[0] != tag(2, 1) || p[HUGE / 8 - 1] != (what == FIRST_TOUCH ? 0 : tag(1, 2)) ||
	    file[0] != tag(1, 1))
		fail("wrong data in store %d", what);
	if (munmap((void *)p, HUGE) || munmap((void *)file, HUGE) || close(fd))
		die("munmap");
}

static void hard_case(void)
{
	bool counts = counter("/proc/vmstat", "vma_lock_retry_hard") >= 0, ok = true;
	long before[ARRAY_SIZE(pool_counters)], after[ARRAY_SIZE(pool_counters)], delta[3];
	char text[240] = "";

	make_pool();
	read_pool(before);
	vfr_fd = open("/dev/vfr", O_RDWR);
	if (vfr_fd < 0)
		die("/dev/vfr");
	for (enum hard what = FIRST_TOUCH; what <= COW_LATER; what++) {
		bool good = false;

		/* Whoever else takes mmap_lock, for a page of the stack say, ends VFR_HOLD. */
		for (int try = 0; try < 5 && !good; try++) {
			hard_store(what, delta);
			good = delta[0] == 1 && (!counts || (delta[1] == 1 && delta[2] == 1));
		}
		ok &= good;
		snprintf(text + strlen(text), sizeof(text) - strlen(text),
			 "%sretries +%ld, hard +%ld, ended under mmap_lock +%ld",
			 what ? "; " : "", delta[0], counts ? delta[1] : 0, counts ? delta[2] : 0);
	}
	read_pool(after);
	judge(ok && !memcmp(before, after, sizeof(after)), "%s%s; %ld of %ld pages free again", text,
	      counts ? "" : " (not counted by this kernel)", after[1], before[1]);
}

/* ---- UFFDIO_MOVE ---- */

#define MOVE_PAGES	64
#define MOVE_SECONDS	8

/* A page is on one side or the other; whoever touches it where it is not has it moved there. */
static struct {
	char *side[2];
	int fd;
	_Atomic uint64_t gen[MOVE_PAGES];	/* the last one that was written, or is being */
	atomic_ulong looks, moves, busy;
} mv;

static uint64_t *mv_page(int side, size_t page)
{
	return (uint64_t *)(mv.side[side] + page * page_size);
}

static void mv_move(int to, size_t page, bool asked)
{
	struct uffdio_move move = { .dst = (unsigned long)mv_page(to, page), .len = page_size,
				    .src = (unsigned long)mv_page(!to, page) };
	struct uffdio_range range = { move.dst, page_size };

	for (int try = 0; try < 1000; try++) {
		move.move = 0;
		if (!ioctl(mv.fd, UFFDIO_MOVE, &move)) {
			atomic_fetch_add(&mv.moves, 1);
			return;
		}
		if (errno != EAGAIN && errno != EBUSY)
			break;
		atomic_fetch_add(&mv.busy, 1);
		usleep(100);
	}
	if (errno != EEXIST && errno != ENOENT && errno != EBUSY && errno != EAGAIN)
		die("UFFDIO_MOVE");
	/* It is there, or it will be asked for again. */
	if (asked)
		ioctl(mv.fd, UFFDIO_WAKE, &range);
}

/* To the end of the program: at the end of the test there are still faults to be served. */
static void *mv_serve(void *arg)
{
	for (;;) {
		struct pollfd pfd = { .fd = mv.fd, .events = POLLIN };
		struct uffd_msg msg;
		size_t at;

		if (poll(&pfd, 1, 1) == 1 && read(mv.fd, &msg, sizeof(msg)) == sizeof(msg)) {
			at = (msg.arg.pagefault.address - (unsigned long)mv.side[0]) / page_size;
			mv_move(at >= MOVE_PAGES, at % MOVE_PAGES, true);
		} else {
			mv_move(rnd(2), rnd(MOVE_PAGES), false);
		}
	}
	return arg;
}

static void *mv_page_out(void *arg)
{
	for (; !atomic_load(&stop); usleep(5000))
		page_out(mv.side[rnd(2)], MOVE_PAGES * page_size, "move");
	return arg;
}

/* arg: which pages it writes, every fourth; NULL: none. */
static void *mv_touch(void *arg)
{
	size_t own = (size_t)arg;

	while (!atomic_load(&stop)) {
		size_t i = own ? rnd(MOVE_PAGES / 4) * 4 + own - 1 : rnd(MOVE_PAGES);
		uint64_t gen = atomic_load(&mv.gen[i]), bad;

		/* Another one's: at least of the generation before the one that is being written. */
		bad = own ? wrong_word(mv_page(rnd(2), i), i, gen, gen, true) :
			    wrong_word(mv_page(rnd(2), i), i, gen - 1, gen + 1000, false);
		if (bad)
			fail("page %zu has the word %llx, generation %llu wanted", i,
			     (unsigned long long)bad, (unsigned long long)gen);
		atomic_fetch_add(&mv.looks, 1);
		if (own && rnd(2)) {
			atomic_store(&mv.gen[i], gen + 1);
			write_words(mv_page(rnd(2), i), i, gen + 1);
		}
	}
	return NULL;
}

static void move_case(void)
{
	pthread_t thread[10];
	long before = retries(), in;
	int nr = 0;

	use_swap(1);
	limit_memory("move", 256);
	in = pages_swapped_in();
	mv.fd = uffd_open(UFFD_FEATURE_MOVE);
	mv.side[0] = map_memory(2 * MOVE_PAGES * page_size);
	mv.side[1] = mv.side[0] + MOVE_PAGES * page_size;
	for (size_t i = 0; i < MOVE_PAGES; i++) {
		mv.gen[i] = 1;
		write_words(mv_page(0, i), i, 1);
	}
	if (this_case->broken)
		mv_page(0, 9)[300] ^= 1024;
	uffd_register(mv.fd, mv.side[0], 2 * MOVE_PAGES * page_size);
	for (size_t i = 0; i < 8; i++)
		thread[nr++] = start_thread(mv_touch, (void *)(i < 4 ? i + 1 : 0));
	thread[nr++] = start_thread(mv_page_out, NULL);
	thread[nr++] = start_thread(mv_serve, NULL);
	while (go_on(MOVE_SECONDS, mv.looks > 500 && mv.moves > 100 &&
		     pages_swapped_in() - in > 100))
		usleep(100000);
	atomic_store(&stop, true);
	join_all(thread, nr - 1);
	before = retries() - before;
	in = pages_swapped_in() - in;
	judge(mv.looks > 500 && mv.moves > 100 && in > 100 && before > 0,
	      "%lu looks, %lu moves, %lu times EBUSY or EAGAIN, %ld pages swapped in, %ld retries",
	      mv.looks, mv.moves, mv.busy, in, before);
}

/* ---- fork ---- */

#define FORK_PAGES	1024
#define FORK_LOOKS	24		/* pages that a child looks at */
#define FORK_SECONDS	10
#define CHILDREN	6		/* at a time */

/* The generations of each page that the parent had begun to write, and had written. */
static struct family {
	_Atomic uint64_t begun[FORK_PAGES], written[FORK_PAGES];
	struct child {
		uint64_t least[FORK_PAGES], most[FORK_PAGES];
		atomic_bool known;
		pid_t pid;
	} child[CHILDREN];
	atomic_ulong looks;
	char text[128];
} *family;

static char *fork_map;

static uint64_t *fork_page(size_t page)
{
	return (uint64_t *)(fork_map + page * page_size);
}

static void *parent_writes(void *arg)
{
	while (!atomic_load(&stop)) {
		size_t i = rnd(FORK_PAGES / 4) * 4 + (size_t)arg;
		uint64_t gen = family->written[i], bad = wrong_word(fork_page(i), i, gen, gen, true);

		if (bad)
			fail("the parent's page %zu has the word %llx, generation %llu wanted", i,
			     (unsigned long long)bad, (unsigned long long)gen);
		family->begun[i] = gen + 1;
		write_words(fork_page(i), i, gen + 1);
		family->written[i] = gen + 1;
		usleep(500);
	}
	return NULL;
}

static void *parent_pages_out(void *arg)
{
	for (; !atomic_load(&stop); usleep(10000))
		page_out((char *)fork_page(rnd(FORK_PAGES - 128)), 128 * page_size, "fork");
	return arg;
}

static void be_child(struct child *c)
{
	seed = getpid();
	while (!atomic_load(&c->known))
		usleep(1000);
	if (this_case->broken)
		fork_page(7)[77] ^= 2048;
	for (int n = 0; n < FORK_LOOKS; n++) {
		size_t i = n ? rnd(FORK_PAGES) : 7;
		uint64_t bad = wrong_word(fork_page(i), i, c->least[i], c->most[i], true);

		if (bad) {
			snprintf(family->text, sizeof(family->text),
				 "a child's page %zu has the word %llx, generations %llu to %llu wanted",
				 i, (unsigned long long)bad, (unsigned long long)c->least[i],
				 (unsigned long long)c->most[i]);
			_exit(1);
		}
		atomic_fetch_add(&family->looks, 1);
	}
	_exit(0);
}

static void fork_case(void)
{
	long before = retries(), in, forks = 0, late = 0;
	unsigned int n = 0;
	pthread_t thread[5];

	use_swap(1);
	limit_memory("fork", 256);
	in = pages_swapped_in();
	family = shared_memory(sizeof(*family));
	fork_map = map_memory(FORK_PAGES * page_size);
	for (size_t i = 0; i < FORK_PAGES; i++)
		write_words(fork_page(i), i, 0);
	for (size_t i = 0; i < 5; i++)
		thread[i] = start_thread(i < 4 ? parent_writes : parent_pages_out, (void *)i);
	for (; go_on(FORK_SECONDS, family->looks > 100 && pages_swapped_in() - in > 100);
	     n++, usleep(20000)) {
		struct child *c = &family->child[n % CHILDREN];
		int status;

		if (c->pid && waitpid(c->pid, &status, WNOHANG) != c->pid) {
			late++;
			continue;
		}
		if (c->pid && status)
			fail("status %x of a child: %s", status, family->text);
		atomic_store(&c->known, false);
		for (size_t i = 0; i < FORK_PAGES; i++)
			c->least[i] = family->written[i];
		c->pid = fork_process();
		if (!c->pid)
			be_child(c);
		for (size_t i = 0; i < FORK_PAGES; i++)
			c->most[i] = family->begun[i];
		atomic_store(&c->known, true);
		forks++;
	}
	atomic_store(&stop, true);
	join_all(thread, 5);
	before = retries() - before;
	in = pages_swapped_in() - in;
	judge(family->looks > 100 && in > 100 && before > 0,
	      "%ld forks, %ld times too many children, %lu looks of these, %ld pages swapped in, "
	      "%ld retries", forks, late, family->looks, in, before);
}

/* ---- userfaultfd: events ---- */

#define LAZY_PAGES	1024
#define PIECE		64		/* pages that are changed together */
#define LAZY_SECONDS	10
#define LAZY_FEATURES	(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | \
			 UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP)

enum { DO_FORK, DO_REMAP, DO_DONTNEED, DO_UNMAP, NR_CHANGES };

static struct {
	char *area, *spare;		/* pieces are moved to spare and come back */
	int fd, child_fd;
	atomic_bool *closed;		/* shared with children */
	pthread_mutex_t closing;
	atomic_ulong absent[LAZY_PAGES / PIECE];	/* odd while a piece is not in its place */
	atomic_ulong faults, signals, messages, events, again, done[NR_CHANGES];
} lz = { .closing = PTHREAD_MUTEX_INITIALIZER };

/* One page of the area or of spare: right, or zero when nobody serves any more. */
static bool lz_touch(char *area, size_t i, bool may_be_absent)
{
	bool closed = atomic_load(lz.closed);
	unsigned long absent = atomic_load(&lz.absent[i / PIECE]);
	uint64_t got;

	if (touch_word((uint64_t *)(area + i * page_size), false, &got)) {
		atomic_fetch_add(&lz.signals, 1);
		return may_be_absent && (absent & 1 || absent != lz.absent[i / PIECE]);
	}
	atomic_fetch_add(&lz.faults, 1);
	return got == tag(1, i) || (!got && (closed || atomic_load(lz.closed)));
}

static void *lz_fault(void *arg)
{
	for (unsigned int n = 1; !atomic_load(&stop); n++) {
		size_t i = rnd(LAZY_PAGES);

		if (!lz_touch(lz.area, i, true))
			fail("page %zu: wrong data or signal", i);
		/* Most of them are there: leave the CPU to who makes them missing. */
		if (n % 16 == 0)
			usleep(1000);
	}
	return arg;
}

/* What could not be copied since the address space was changing. */
static struct {
	int fd;
	unsigned long address;
} lz_later[64];
static int nr_later;

static void lz_copy(int fd, unsigned long address)
{
	static __attribute__((aligned(4096))) uint64_t page[WORDS];
	size_t i = (address - (unsigned long)lz.area) / page_size % LAZY_PAGES;
	struct uffdio_copy copy = { .src = (unsigned long)page, .dst = address, .len = page_size };
	struct uffdio_range range = { address, page_size };

	*page = tag(this_case->broken && i % 16 == 5 ? 2 : 1, i);
	if (!ioctl(fd, UFFDIO_COPY, &copy))
		return;
	if (errno == EAGAIN && nr_later < (int)ARRAY_SIZE(lz_later)) {
		lz_later[nr_later].fd = fd;
		lz_later[nr_later++].address = address;
		atomic_fetch_add(&lz.again, 1);
		return;
	}
	/* It is there, or no longer to be there: whoever waits shall look again. */
	ioctl(fd, UFFDIO_WAKE, &range);
}

static void lz_read(int fd)
{
	struct uffd_msg msg;

	while (read(fd, &msg, sizeof(msg)) == sizeof(msg)) {
		if (msg.event == UFFD_EVENT_PAGEFAULT) {
			atomic_fetch_add(&lz.messages, 1);
			lz_copy(fd, msg.arg.pagefault.address & -page_size);
			continue;
		}
		atomic_fetch_add(&lz.events, 1);
		if (msg.event == UFFD_EVENT_FORK) {
			if (lz.child_fd >= 0)
				close(lz.child_fd);
			lz.child_fd = msg.arg.fork.ufd;
		}
	}
}

static void *lz_serve(void *arg)
{
	uint64_t end = now_ns() + (50 + rnd(500)) * 1000000;

	while ((now_ns() < end && !atomic_load(&stop)) || pthread_mutex_trylock(&lz.closing)) {
		struct pollfd pfd[2] = { { .fd = lz.fd, .events = POLLIN },
					 { .fd = lz.child_fd, .events = POLLIN } };
		int later = nr_later;

		poll(pfd, 2, 1);
		lz_read(lz.fd);
		if (lz.child_fd >= 0)
			lz_read(lz.child_fd);
		nr_later = 0;
		for (int i = 0; i < later; i++)
			lz_copy(lz_later[i].fd, lz_later[i].address);
	}
	atomic_store(lz.closed, true);
	close(lz.fd);
	if (lz.child_fd >= 0)
		close(lz.child_fd);
	pthread_mutex_unlock(&lz.closing);
	nr_later = 0;
	return arg;
}

static void lz_child(void)
{
	close(lz.fd);
	for (int n = 0; n < 16; n++)
		if (!lz_touch(lz.area, rnd(LAZY_PAGES), false))
			_exit(1);
	_exit(0);
}

static void lz_change(int what, size_t piece)
{
	const size_t len = PIECE * page_size;
	char *p = lz.area + piece * len, *away = lz.spare + piece * len;
	int status;
	pid_t pid;

	if (what == DO_FORK) {
		/* The new child has the file, too: fork() waits for its reader, not for close(). */
		pthread_mutex_lock(&lz.closing);
		pid = fork_process();
		if (!pid)
			lz_child();
		pthread_mutex_unlock(&lz.closing);
		if (waitpid(pid, &status, 0) != pid || status)
			fail("a child found wrong data, or ended with %x", status);
	} else if (what == DO_DONTNEED) {
		madvise(p, len, MADV_DONTNEED);
	} else if (what == DO_REMAP) {
		atomic_fetch_add(&lz.absent[piece], 1);
		if (mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, away) != away)
			die("mremap");
		if (!lz_touch(lz.spare, piece * PIECE + rnd(PIECE), false))
			fail("wrong data where it was moved to");
		if (mremap(away, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, p) != p)
			die("mremap");
		atomic_fetch_add(&lz.absent[piece], 1);
	} else {
		atomic_fetch_add(&lz.absent[piece], 1);
		if (munmap(p, len) || mmap(p, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
					   MAP_FIXED, -1, 0) != p)
			die("mmap");
		pthread_mutex_lock(&lz.closing);
		if (!atomic_load(lz.closed))
			uffd_register(lz.fd, p, len);
		pthread_mutex_unlock(&lz.closing);
		if (madvise(p, len, MADV_NOHUGEPAGE) || mprotect(p, len, PROT_READ | PROT_WRITE))
			die("mprotect");
		atomic_fetch_add(&lz.absent[piece], 1);
	}
	atomic_fetch_add(&lz.done[what], 1);
}

static void lazy_case(void)
{
	const size_t size = LAZY_PAGES * page_size;
	unsigned int rounds = 0, after;
	long before = retries();
	pthread_t thread[5];
	bool all = false;

	lz.closed = shared_memory(sizeof(*lz.closed));
	for (; go_on(LAZY_SECONDS, all); rounds++) {
		atomic_store(&stop, false);
		atomic_store(lz.closed, false);
		lz.child_fd = -1;
		lz.fd = uffd_open(LAZY_FEATURES);
		lz.area = uffd_map(lz.fd, LAZY_PAGES);
		/* A multiple of the area's size away, so that pages keep their number. */
		lz.spare = mmap(lz.area + size, size, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (lz.spare == MAP_FAILED)
			lz.spare = mmap(lz.area - size, size, PROT_NONE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (lz.spare == MAP_FAILED)
			die("no room");
		for (size_t i = 0; i < 5; i++)
			thread[i] = start_thread(i ? lz_fault : lz_serve, NULL);
		for (after = 0; after < 8; after += atomic_load(lz.closed))
			lz_change(rnd(NR_CHANGES), rnd(LAZY_PAGES / PIECE));
		atomic_store(&stop, true);
		join_all(thread, 5);
		munmap(lz.area, size);
		munmap(lz.spare, size);
		all = lz.messages > 500 && lz.events > 50;
		for (int i = 0; i < NR_CHANGES; i++)
			all &= lz.done[i] > 0;
	}
	before = retries() - before;
	judge(all && before > 0,
	      "closed %u times; %lu faults, %lu messages, %lu events, %lu times EAGAIN, %lu forks, "
	      "%lu mremap, %lu DONTNEED, %lu munmap, %lu signals beside these, %ld retries", rounds,
	      lz.faults, lz.messages, lz.events, lz.again, lz.done[DO_FORK], lz.done[DO_REMAP],
	      lz.done[DO_DONTNEED], lz.done[DO_UNMAP], lz.signals, before);
}

/* ---- huge swap-in ---- */

#define MTHP_MB		16		/* memory.max, half of what is touched */
#define MTHP_SECONDS	8

static struct {
	atomic_ulong passes;
	atomic_bool wrong;
} *mt;

static void *mt_touch(void *arg)
{
	const size_t pages = (2UL * MTHP_MB << 20) / page_size / 4;
	char *map = (char *)arg;

	for (uint64_t gen = 1; !atomic_load(&stop); gen++) {
		for (size_t i = 0; i < pages; i++) {
			uint64_t *p = (uint64_t *)(map + i * page_size);

			if (*p != (gen > 1 ? WORD(i, gen - 1, 0) : 0))
				mt->wrong = true;
			*p = WORD(i, gen, 0);
		}
		atomic_fetch_add(&mt->passes, 1);
	}
	return NULL;
}

static void mthp_case(void)
{
	const char *events = CGROUPS "mthp/memory.events";
	static char log[1 << 16];
	int kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK), status;
	long leaks = 0, in, kills;
	pid_t pid;

	if (!try_put(MTHP "enabled", "always"))
		skip("no pages of 64 KiB");
	use_swap(0);
	/* Without swap there is too little of it. */
	if (this_case->broken)
		swapoff("/dev/zram0");
	lseek(kmsg, 0, SEEK_END);
	mt = shared_memory(sizeof(*mt));
	pid = fork_process();
	if (!pid) {
		const size_t size = 2UL * MTHP_MB << 20;
		pthread_t thread[4];
		char *map;

		limit_memory("mthp", MTHP_MB);
		map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (map == MAP_FAILED)
			die("mmap");
		for (size_t i = 0; i < 4; i++)
			thread[i] = start_thread(mt_touch, map + i * size / 4);
		while (go_on(MTHP_SECONDS, mt->passes > 3))
			usleep(100000);
		atomic_store(&stop, true);
		join_all(thread, 4);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	put(MTHP "enabled", "never");
	while (read(kmsg, log, sizeof(log) - 1) > 0) {
		leaks += !!strstr(log, "VM_FAULT_OOM leaked out");
		memset(log, 0, sizeof(log));
	}
	scan_file(MTHP "stats/swpin", "%ld", &in);
	kills = counter(events, "oom_kill");
	judge(!status && mt->passes && !mt->wrong && in > 0 && !leaks && !kills,
	      "passes=%lu of 4 threads, %ld swap-ins of 64 KiB, leaked_oom=%ld, oom_kill=%ld, "
	      "status %x%s", mt->passes, in, leaks, kills, status, mt->wrong ? ", wrong data" : "");
}

/* ---- a writer that never gets through ---- */

#define WR_PIECE	(64UL << 20)
#define WR_WRITERS	8
#define WR_FAULTERS	32
#define WR_SECONDS	10

static struct {
	char *disk, *served;		/* half of the faults are on each */
	int fd, uffd;
	atomic_bool go, hold;
	atomic_ulong faults, signals, ops[WR_WRITERS];
	_Atomic uint64_t longest_ns, unmap_ns, map_ns;
} wr;

static void *wr_fault(void *arg)
{
	size_t nr = (size_t)arg, next = nr;
	uint64_t got;

	while (!atomic_load(&stop)) {
		char *p = nr & 1 ? wr.disk + rnd(WR_WRITERS * WR_PIECE / page_size) * page_size :
				   wr.served + next % (WR_PIECE / page_size) * page_size;

		next += WR_FAULTERS;
		atomic_fetch_add(touch_word((uint64_t *)p, false, &got) ? &wr.signals : &wr.faults, 1);
	}
	return NULL;
}

static void *wr_serve(void *arg)
{
	char *page = map_memory(page_size);

	for (*page = 1; ; ) {
		struct pollfd pfd = { .fd = wr.uffd, .events = POLLIN };
		struct uffdio_copy copy = { .src = (unsigned long)page, .len = page_size };
		struct uffd_msg msg;

		if (poll(&pfd, 1, -1) != 1 || read(wr.uffd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		copy.dst = msg.arg.pagefault.address & -page_size;
		if (ioctl(wr.uffd, UFFDIO_COPY, &copy)) {
			struct uffdio_range range = { copy.dst, page_size };

			ioctl(wr.uffd, UFFDIO_WAKE, &range);
		}
	}
	return arg;
}

static void wr_time(uint64_t since, _Atomic uint64_t *sum)
{
	uint64_t ns = now_ns() - since, longest = atomic_load(&wr.longest_ns);

	atomic_fetch_add(sum, ns);
	while (ns > longest && !atomic_compare_exchange_weak(&wr.longest_ns, &longest, ns))
		;
}

static void *wr_write(void *arg)
{
	size_t nr = (size_t)arg;
	char *piece = wr.disk + nr * WR_PIECE;

	/* Nobody may take the hole: all threads have their stacks first. */
	while (!atomic_load(&wr.go))
		usleep(1000);
	while (!atomic_load(&stop)) {
		uint64_t since = now_ns();

		if (munmap(piece, WR_PIECE))
			die("munmap");
		wr_time(since, &wr.unmap_ns);
		since = now_ns();
		if (mmap(piece, WR_PIECE, PROT_READ, MAP_SHARED | MAP_FIXED, wr.fd,
			 nr * WR_PIECE) != piece || madvise(piece, WR_PIECE, MADV_RANDOM))
			die("mmap");
		wr_time(since, &wr.map_ns);
		atomic_fetch_add(&wr.ops[nr], 1);
		usleep(1000);
	}
	return NULL;
}

/* mprotect() of each VMA of the region, there and back: how many, and the longest in ms. */
static double lock_all(unsigned int *nr)
{
	unsigned long start, end, first = (unsigned long)wr.served;
	FILE *maps = fopen("/proc/self/maps", "r");
	double longest = 0;
	char line[300], w;

	for (*nr = 0; fgets(line, sizeof(line), maps); ) {
		uint64_t t = now_ns();

		if (sscanf(line, "%lx-%lx %*c%c", &start, &end, &w) != 3 || start < first ||
		    end > first + (WR_WRITERS + 1) * WR_PIECE)
			continue;
		mprotect((void *)start, end - start, PROT_NONE);
		mprotect((void *)start, end - start, PROT_READ | (w == 'w' ? PROT_WRITE : 0));
		if ((now_ns() - t) / 1e6 > longest)
			longest = (now_ns() - t) / 1e6;
		++*nr;
	}
	fclose(maps);
	return longest;
}

static void *wr_hold(void *arg)
{
	struct vfr_hold hold = { .limit_ms = 3000, .more_ms = 1500 };

	while (!atomic_load(&wr.hold))
		usleep(1000);
	ioctl(open("/dev/vfr", O_RDWR), VFR_HOLD, &hold);
	return arg;
}

static void writer_case(void)
{
	unsigned long least = 0, all = 0;
	unsigned int nr;
	long before = retries();
	double ms;

	if (access("/dev/slow", F_OK)) {
		make_null_disk("slow", 1024, 20000, false);
		no_readahead("slow");
	}
	wr.fd = open("/dev/slow", O_RDONLY);
	wr.uffd = uffd_open(0);
	/* Together, so that lock_all() can tell them from the program's own. */
	wr.served = mmap(NULL, (WR_WRITERS + 1) * WR_PIECE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	wr.disk = wr.served + WR_PIECE;
	if (wr.fd < 0 || wr.served == MAP_FAILED ||
	    mmap(wr.disk, WR_WRITERS * WR_PIECE, PROT_READ, MAP_SHARED | MAP_FIXED, wr.fd, 0) !=
	    wr.disk)
		die("mmap");
	madvise(wr.served, WR_PIECE, MADV_NOHUGEPAGE);
	uffd_register(wr.uffd, wr.served, WR_PIECE);
	start_thread(wr_serve, NULL);
	for (size_t i = 0; i < WR_FAULTERS; i++)
		start_thread(wr_fault, (void *)i);
	for (size_t i = 0; i < WR_WRITERS; i++)
		start_thread(wr_write, (void *)i);
	start_thread(wr_hold, NULL);
	atomic_store(&wr.go, true);
	/* What has been served is given back, so that there is more to be served. */
	while (go_on(WR_SECONDS, least)) {
		usleep(100000);
		madvise(wr.served, WR_PIECE, MADV_DONTNEED);
		least = ~0UL;
		for (size_t i = 0; i < WR_WRITERS; i++)
			least = wr.ops[i] < least ? wr.ops[i] : least;
	}
	atomic_store(&wr.hold, this_case->broken);
	usleep(20000);
	ms = lock_all(&nr);
	for (size_t i = 0; i < WR_WRITERS; i++)
		all += wr.ops[i];
	before = retries() - before;
	judge(ms < 1000 && nr >= 2 && least && wr.longest_ns < 5000000000 && before > 0,
	      "%lu faults, %ld retried, %lu signals; %lu rounds of %d writers, of one %lu or more; "
	      "munmap_us=%.0f mmap_us=%.0f longest_ms=%.0f, then %u VMAs locked, the last of them "
	      "after %.0f ms", wr.faults, before, wr.signals, all, WR_WRITERS, least,
	      wr.unmap_ns / 1e3 / (all ?: 1), wr.map_ns / 1e3 / (all ?: 1), wr.longest_ns / 1e6, nr, ms);
}

static struct test_case cases[] = {
	{ "kill_disk", kill_disk_case, 200, false },
	{ "kill_fork", kill_fork_case, 200, false },
	{ "kill_uffd", kill_uffd_case, 200, false },
	{ "kill_dirty", kill_dirty_case, 200, false },
	{ "eexist", eexist_case, 200, false },
	{ "stale", stale_case, 200, false },
	{ "pool", pool_case, 600, false },
	{ "hard", hard_case, 200, false },
	{ "move", move_case, 200, false },
	{ "fork", fork_case, 200, false },
	{ "lazy", lazy_case, 200, false },
	{ "mthp", mthp_case, 200, false },
	{ "writer", writer_case, 200, false },
	{ "broken_kill", kill_disk_case, 100, true },
	{ "broken_eexist", eexist_case, 100, true },
	{ "broken_pool", pool_case, 100, true },
	{ "broken_hard", hard_case, 100, true },
	{ "broken_move", move_case, 100, true },
	{ "broken_fork", fork_case, 100, true },
	{ "broken_lazy", lazy_case, 100, true },
	{ "broken_mthp", mthp_case, 100, true },
	{ "broken_writer", writer_case, 100, true },
};

int main(int argc, char **argv)
{
	(void)argc;
	page_size = sysconf(_SC_PAGESIZE);
	wait_for_clock();
	catch_signals();
	if (getenv("times"))
		times = strtoul(getenv("times"), NULL, 10) ?: 1;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		cases[i].limit *= times;
	return run_cases(cases, ARRAY_SIZE(cases), argv + 1);
}
