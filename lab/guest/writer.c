// SPDX-License-Identifier: GPL-2.0-only
/*
 * writer - what page-fault I/O does to a thread that changes the address space
 *
 * Some 32 threads fault on cold pages of a slow disk; another one of their process, the writer,
 * changes the address space once a millisecond or so. Runs one workload of the table below in
 * a guest, and prints one line "R key=value ...". All times are of an emulated machine: they
 * show waiting, not the speed of a CPU.
 *
 *	writer [floor] WORKLOAD
 *
 * floor: the same, but the faults are another process's. They load the CPUs and the disk, and
 * share no mmap_lock with the writer.
 *
 * The threads allocate and touch all they need before the measurement, and nothing in the
 * process takes mmap_lock then but the writer and the faults.
 */
#define _GNU_SOURCE
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "bench.h"

#define SLOW_MB		(256UL << 10)	/* of the slow disk, which keeps nothing */
#define DELAY_MS	20		/* of all disks, and of userfaultfd */
#define NR_THREADS	32		/* that fault, if the workload has no number */
#define MOST_THREADS	300
#define EVICT_US	500		/* between two rounds of an evictor */
#define WARM_UP_US	200000		/* of faults, before the writer begins */
#define STALL_NS	10000000	/* a wait that counts as a stall */
#define MAX_TIMES	8192		/* of a thread that are kept; all are counted */
/* The first and last pages of the region, on which nothing faults, belong to the writer. */
#define OWN_PAGES	64
#define CHUNK_PAGES	16		/* of a madvise() in advise() */

static void map_disk(void);
static void map_swapped(void);
static void map_uffd(void);
static void map_hole(void);

/* What the threads fault on. */
static const struct region {
	void (*map)(void);
	size_t size;
	int nr_vmas;		/* that it consists of, if not of one */
	bool once;		/* each page is touched once */
	bool store;		/* the faults are stores */
} cold = { map_disk, .size = 4UL << 30 },
  limited = { map_disk, .size = 256UL << 20 },	/* so that its page tables are small */
  many = { map_disk, .size = 4UL << 30, .nr_vmas = 300 },
  warm_many = { map_disk, .size = 16UL << 20, .nr_vmas = 300 },
  phone = { map_disk, .size = 128UL << 20, .nr_vmas = 8000 },
  swapped = { map_swapped, .size = 96UL << 20, .once = true },
  served = { map_uffd, .size = 96UL << 20, .once = true },
  dirty = { map_hole, .size = 800UL << 20, .once = true, .store = true };

static void map_op(void);
static void merge_op(void);
static void protect_op(void);
static void fork_op(void);
static void touch_op(void);
static void cmdline_op(void);

/* The priority of the faults. If it is low, the writer is at nice -20 and all CPUs are busy. */
enum priority { SAME, IDLE, WEIGHT };

static const struct workload {
	const char *name;
	const struct region *region;
	void (*op)(void);		/* what the writer does... */
	/*
	 * ...and the time to the next operation: from the end of the last one, but beside
	 * stores from its beginning, so that they are equally many however long it takes.
	 */
	unsigned int pause_us;
	unsigned int seconds;		/* stalls of seconds need a longer look */
	enum priority priority;
	unsigned int limit_kb;		/* page cache that the faults may use, if limited */
	unsigned int reads;		/* a second that the process may make, if limited */
	bool evict;			/* what has been read and not been mapped yet gets lost */
	bool bystander;			/* at nice -20; the writer is not */
	unsigned int threads;		/* that fault */
	unsigned int delay_us;		/* of the disk, if not DELAY_MS */
} workloads[] = {
	/* mmap and munmap: elsewhere; next to the region, so that they merge */
	{ "e1", &cold, map_op, 1000, .seconds = 3 },
	{ "e1m", &cold, merge_op, 1000, .seconds = 3 },
	/* elsewhere, CPUs are busy: faults are SCHED_IDLE; have cpu.weight 1; lose their pages */
	{ "e1i", &cold, map_op, 1000, .seconds = 6, .priority = IDLE },
	{ "e1w", &cold, map_op, 1000, .seconds = 6, .priority = WEIGHT },
	{ "e1l", &cold, map_op, 1000, .seconds = 6, .priority = IDLE, .evict = true },
	/* mprotect of a part of the region; pages get lost; it is swapped-out memory */
	{ "e2", &cold, protect_op, 1000, .seconds = 3 },
	{ "e2l", &limited, protect_op, 1000, .seconds = 3, .limit_kb = 3072, .evict = true },
	{ "e2s", &swapped, protect_op, 1000, .seconds = 3 },
	/* fork of a region of 300 VMAs; pages get lost */
	{ "e3", &many, fork_op, 20000, .seconds = 3 },
	{ "e3r", &warm_many, fork_op, 20000, .seconds = 3, .limit_kb = 4096, .evict = true },
	/* mprotect, fork; faults are SCHED_IDLE, and a bystander maps and unmaps elsewhere */
	{ "e2i", &cold, protect_op, 1000, .seconds = 6, .priority = IDLE, .bystander = true },
	{ "e3i", &many, fork_op, 20000, .seconds = 6, .priority = IDLE, .bystander = true },
	/* fork of a phone's program: 8,000 VMAs, 300 threads, pages get lost; and io.max */
	{ "e3x", &phone, fork_op, 100000, .seconds = 6, .limit_kb = 32768, .evict = true,
	  .bystander = true, .threads = 300 },
	{ "e3xl", &phone, fork_op, 100000, .seconds = 6, .limit_kb = 32768, .evict = true,
	  .bystander = true, .threads = 300, .reads = 4000 },
	/* no writer: all threads call madvise() and mincore() on what they touch; CPUs are busy */
	{ "e9", &cold, NULL, .seconds = 3, .priority = SAME, .delay_us = 50 },
	/* mmap, touch and munmap, faults are throttled by io.max */
	{ "e6", &cold, touch_op, 1000, .seconds = 3, .reads = 400 },
	/* e1i, but the faults are served by userfaultfd */
	{ "e7", &served, map_op, 1000, .seconds = 6, .priority = IDLE },
	/* Beside stores that dirty throttling keeps waiting: mprotect, mmap, fork, cmdline */
	{ "e8", &dirty, protect_op, 50000, .seconds = 9 },
	{ "e8m", &dirty, map_op, 50000, .seconds = 9 },
	{ "e8f", &dirty, fork_op, 50000, .seconds = 9 },
	{ "e8p", &dirty, cmdline_op, 50000, .seconds = 9 },
};

struct times {
	unsigned int nr;
	uint64_t ns[MAX_TIMES];
};

/* Shared with the process that faults, if that is another one. */
static struct shared {
	struct gate gate;
	atomic_bool burn;
	/* ops: of the writer; without one, of each thread */
	struct times faults[MOST_THREADS], ops, own_ops[NR_THREADS], bystander;
} *shared;

static const struct workload *work;
static long page_size;
static char *faulted;		/* the region */
static int disk;
static pid_t faulting;		/* the process */
static int nr_threads;
static pid_t helpers[128];
static int nr_helpers;

static void add_time(struct times *times, uint64_t since)
{
	if (times->nr < MAX_TIMES)
		times->ns[times->nr] = now_ns() - since;
	times->nr++;
}

static pid_t fork_process(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/* ---- regions ---- */

/* The slow disk keeps nothing. There is room before it, so that nothing else is adjacent. */
static void map_disk(void)
{
	const struct region *r = work->region;
	char *room = mmap(NULL, r->size + (4UL << 21), PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	disk = open("/dev/slow", O_RDONLY);
	if (room == MAP_FAILED || disk < 0)
		die("/dev/slow");
	faulted = mmap(room + (1UL << 21), r->size, PROT_READ, MAP_SHARED | MAP_FIXED, disk, 0);
	if (faulted == MAP_FAILED)
		die("mmap");
	/*
	 * There is no readahead of the device anyway; a VMA with MADV_RANDOM would not merge
	 * with the new mappings of merge_op().
	 */
	if (work->op != merge_op && madvise(faulted, r->size, MADV_RANDOM))
		die("MADV_RANDOM");
	/* Every other piece has a flag more, so that they do not merge. */
	for (int i = 0; i < r->nr_vmas; i += 2) {
		size_t len = r->size / r->nr_vmas / page_size * page_size;

		if (madvise(faulted + i * len, len, MADV_DONTDUMP))
			die("MADV_DONTDUMP");
	}
}

/*
 * All of it on the swap disk. By the cgroup's reclaim, since MADV_PAGEOUT leaves what
 * it has written in the swap cache.
 */
static void map_swapped(void)
{
	size_t size = work->region->size, nr = size / page_size, resident = nr;
	unsigned char *vec = malloc(nr);

	make_swap(DELAY_MS);
	faulted = map_memory(size);
	memset(faulted, 1, size);
	for (int try = 0; try < 100 && resident; try++) {
		/* It says EAGAIN as long as there is not so much to be had. */
		try_put(CGROUPS "run/memory.reclaim", "%lu", size);
		if (mincore(faulted, size, vec))
			die("mincore");
		resident = 0;
		for (size_t i = 0; i < nr; i++)
			resident += vec[i] & 1;
		if (resident)
			usleep(50000);
	}
	free(vec);
	if (resident)
		die("%zu of %zu pages do not get swapped out", resident, nr);
}

/* A file that is one hole. */
static void map_hole(void)
{
	size_t size = work->region->size;

	make_fs(DELAY_MS);
	put("/proc/sys/vm/dirty_bytes", "1048576");
	disk = open("/tmp/data/hole", O_RDWR | O_CREAT, 0600);
	if (disk < 0 || ftruncate(disk, size))
		die("/tmp/data/hole");
	faulted = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, disk, 0);
	/* A folio larger than vm.dirty_bytes is written before its store comes to an end. */
	if (faulted == MAP_FAILED || madvise(faulted, size, MADV_RANDOM) ||
	    madvise(faulted, size, MADV_NOHUGEPAGE))
		die("mmap");
}

/* Serves the faults of the region, each DELAY_MS after it came. */
static void *serve(void *arg)
{
	static struct { uint64_t due; unsigned long addr; } queue[2 * NR_THREADS];
	unsigned int head = 0, tail = 0;
	int fd = (long)arg;
	static char page[65536];

	if (setpriority(PRIO_PROCESS, syscall(SYS_gettid), -20))
		die("nice -20");
	for (;;) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		int64_t left = 1000000000;
		struct uffd_msg msg;

		if (head != tail)
			left = (int64_t)(queue[head % ARRAY_SIZE(queue)].due - now_ns());
		if (left > 0) {
			struct timespec ts = { left / 1000000000, left % 1000000000 };

			if (ppoll(&pfd, 1, &ts, NULL) == 1 &&
			    read(fd, &msg, sizeof(msg)) == sizeof(msg)) {
				unsigned int at = tail++ % ARRAY_SIZE(queue);

				queue[at].due = now_ns() + DELAY_MS * 1000000ULL;
				queue[at].addr = msg.arg.pagefault.address;
			}
		} else {
			struct uffdio_copy copy = {
				.src = (unsigned long)page,
				.dst = queue[head++ % ARRAY_SIZE(queue)].addr & -page_size,
				.len = page_size,
			};

			while (ioctl(fd, UFFDIO_COPY, &copy) && errno == EAGAIN)
				copy.copy = 0;
		}
	}
	return NULL;
}

static void map_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	long fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	faulted = map_memory(work->region->size);
	reg.range.start = (unsigned long)faulted;
	reg.range.len = work->region->size;
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		die("userfaultfd");
	start_thread(serve, (void *)fd);
}

/* ---- the threads that fault ---- */

static void touch_stack(void)
{
	volatile char room[32768];

	for (size_t i = 0; i < sizeof(room); i += 1024)
		room[i] = 1;
}

static void *fault_thread(void *arg)
{
	size_t pages = work->region->size / page_size - 2 * OWN_PAGES;
	long number = (long)arg, next = number;
	struct times *times = &shared->faults[number];
	uint64_t seed = 1000 + number;
	struct sched_param param = { 0 };

	touch_stack();
	if (work->priority == IDLE && sched_setscheduler(0, SCHED_IDLE, &param))
		die("SCHED_IDLE");
	if (work->priority == WEIGHT)
		put(CGROUPS "low/cgroup.threads", "%ld", syscall(SYS_gettid));
	wait_for_go(&shared->gate);
	for (; !atomic_load(&shared->gate.stop); next += nr_threads) {
		size_t i = work->region->once ? (size_t)next : random_below(&seed, pages);
		volatile char *page = faulted + (OWN_PAGES + i) * page_size;
		uint64_t since = now_ns();

		if (i >= pages)
			die("all pages have been touched");
		if (work->region->store)
			*page = 1;
		else
			(void)*page;
		add_time(times, since);
	}
	return NULL;
}

/*
 * Advises, looks for and touches pages of a part of the region that is its own. The advice
 * changes nothing, but takes the mmap_lock for writing.
 */
static void *advise(void *arg)
{
	size_t part = work->region->size / page_size / nr_threads;
	size_t size = CHUNK_PAGES * page_size;
	long number = (long)arg;
	uint64_t seed = 1000 + number, since;
	unsigned char vec[CHUNK_PAGES];

	touch_stack();
	wait_for_go(&shared->gate);
	while (!atomic_load(&shared->gate.stop)) {
		size_t at = number * part + random_below(&seed, part / CHUNK_PAGES) * CHUNK_PAGES;
		char *chunk = faulted + at * page_size;

		since = now_ns();
		if (madvise(chunk, size, MADV_RANDOM))
			die("MADV_RANDOM");
		add_time(&shared->own_ops[number], since);
		if (mincore(chunk, size, vec))
			die("mincore");
		for (size_t i = 0; i < size; i += page_size) {
			since = now_ns();
			(void)*(volatile char *)(chunk + i);
			add_time(&shared->faults[number], since);
		}
	}
	return NULL;
}

static void run_faults(pthread_t *threads)
{
	for (long i = 0; i < nr_threads; i++)
		threads[i] = start_thread(work->op ? fault_thread : advise, (void *)i);
	await_ready(&shared->gate, nr_threads);
}

static void end_faults(pthread_t *threads)
{
	for (int i = 0; i < nr_threads; i++)
		pthread_join(threads[i], NULL);
}

/*
 * The process that faults in our place. It has the region from us; a userfaultfd does not
 * outlive a fork.
 */
static void fault_apart(void)
{
	pthread_t threads[MOST_THREADS];

	faulting = fork_process();
	if (faulting) {
		await_ready(&shared->gate, nr_threads);
		return;
	}
	if (work->region == &served)
		map_uffd();
	run_faults(threads);
	/* Only beside a writer is there something to wait for. */
	while (work->op == cmdline_op && !atomic_load(&shared->gate.stop)) {
		usleep(work->pause_us);
		protect_op();
	}
	end_faults(threads);
	_exit(0);
}

/* ---- one operation of the writer; only touch_op() touches what it maps ---- */

static char *map_page(void)
{
	char *page = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	if (page == MAP_FAILED)
		die("mmap");
	return page;
}

static void map_op(void)
{
	munmap(map_page(), page_size);
}

static void touch_op(void)
{
	volatile char *page = map_page();

	*page = 1;
	munmap((void *)page, page_size);
}

/* The last page of the region goes and comes back. */
static void merge_op(void)
{
	off_t at = work->region->size - page_size;
	char *page = faulted + at;

	if (munmap(page, page_size) ||
	    mmap(page, page_size, PROT_READ, MAP_SHARED | MAP_FIXED, disk, at) != page)
		die("mmap");
}

static void protect_op(void)
{
	bool writable = work->region == &swapped || work->region->store;
	int prot = writable ? PROT_READ | PROT_WRITE : PROT_READ;
	char *page = faulted + 16 * page_size;

	if (mprotect(page, 16 * page_size, PROT_NONE) || mprotect(page, 16 * page_size, prot))
		die("mprotect");
}

/* Only the time in the parent's fork() counts: see run_writer(). */
static void fork_op(void)
{
	pid_t pid = _Fork();

	if (!pid)
		_exit(0);
	if (pid < 0)
		die("fork");
}

/* What another process waits for that only looks. */
static void cmdline_op(void)
{
	char path[32], text[256];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", faulting);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text)) <= 0 || close(fd))
		die("%s", path);
}

static void run_writer(void)
{
	uint64_t due = now_ns(), end = due + work->seconds * 1000000000ULL, t;

	touch_stack();
	if (!work->op) {
		usleep(work->seconds * 1000000);
		return;
	}
	if (work->priority != SAME && !work->bystander &&
	    setpriority(PRIO_PROCESS, syscall(SYS_gettid), -20))
		die("nice -20");
	do {
		t = now_ns();
		due += work->pause_us * 1000ULL;
		if (!work->region->store)
			usleep(work->pause_us);
		else if (due > t)
			usleep((due - t) / 1000);
		else
			due = t;
		t = now_ns();
		work->op();
		add_time(&shared->ops, t);
		if (work->op == fork_op)
			wait(NULL);
	} while (now_ns() < end);
}

/* ---- what is beside them ---- */

/* Has no part in it, but needs the mmap_lock for mappings of its own. */
static void *map_elsewhere(void *arg)
{
	touch_stack();
	if (setpriority(PRIO_PROCESS, syscall(SYS_gettid), -20))
		die("nice -20");
	while (!atomic_load(&shared->gate.go))
		usleep(1000);
	while (!atomic_load(&shared->gate.stop)) {
		uint64_t since = now_ns();

		map_op();
		add_time(&shared->bystander, since);
		usleep(1000);
	}
	return arg;
}

static void add_helper(void (*func)(void))
{
	pid_t pid = fork_process();

	if (!pid)
		func();
	if (nr_helpers == ARRAY_SIZE(helpers))
		die("too many CPUs");
	helpers[nr_helpers++] = pid;
}

/* Keeps a CPU busy. */
static void burn(void)
{
	while (!atomic_load(&shared->burn))
		usleep(10000);
	for (;;)
		;
}

/*
 * Drops the clean pages of the disk which nobody has mapped: those that have been read, and
 * whose fault has not come to its next attempt.
 */
static void evict(void)
{
	int fd = open("/dev/slow", O_RDONLY);

	if (fd < 0)
		die("/dev/slow");
	while (!atomic_load(&shared->gate.go))
		usleep(10000);
	for (;; usleep(EVICT_US))
		posix_fadvise(fd, 0, work->region->size, POSIX_FADV_DONTNEED);
}

/* Before the faults begin: fork() would write-lock all VMAs and send faults to mmap_lock. */
static void start_helpers(void)
{
	if (work->priority != SAME || !work->op)
		for (int i = 0; i < sysconf(_SC_NPROCESSORS_ONLN); i++)
			add_helper(burn);
	if (work->evict)
		add_helper(evict);
}

static void stop_helpers(void)
{
	for (int i = 0; i < nr_helpers; i++) {
		kill(helpers[i], SIGKILL);
		waitpid(helpers[i], NULL, 0);
	}
}

static void enter_cgroups(void)
{
	char number[16];

	if (work->priority == WEIGHT) {
		put(CGROUPS "cgroup.subtree_control", "+cpu");
		mkdir(CGROUPS "low", 0755);
		put(CGROUPS "low/cgroup.type", "threaded");
		put(CGROUPS "low/cpu.weight", "1");
	}
	if (work->limit_kb || work->reads || work->region == &swapped)
		enter_cgroup();
	if (work->reads) {
		scan_file("/sys/block/slow/dev", "%15s", number);
		put(CGROUPS "run/io.max", "%s riops=%u", number, work->reads);
	}
}

/* All that the run needs but pages of the region is there by now. */
static void limit_memory(void)
{
	long now;

	if (!work->limit_kb)
		return;
	scan_file(CGROUPS "run/memory.current", "%ld", &now);
	put(CGROUPS "run/memory.max", "%lu", now + work->limit_kb * 1024UL);
}

/* ---- the result ---- */

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Add the times that were kept to all; returns how many there were. */
static size_t gather(const struct times *times, uint64_t *all, size_t *kept)
{
	size_t nr = times->nr < MAX_TIMES ? times->nr : MAX_TIMES;

	memcpy(all + *kept, times->ns, nr * sizeof(*all));
	*kept += nr;
	return times->nr;
}

/* Print the times of the writer or of the bystander, which is who. */
static void print_waits(const char *who, uint64_t *ns, size_t nr)
{
	uint64_t sum = 0, stalled = 0;

	if (!nr)
		die("no operation");
	for (size_t i = 0; i < nr; i++) {
		sum += ns[i];
		stalled += ns[i] > STALL_NS ? ns[i] : 0;
	}
	qsort(ns, nr, sizeof(*ns), compare);
	printf(" %s_ops=%zu %s_mean_us=%.1f %s_p50_us=%.1f %s_p99_us=%.1f %s_max_us=%.1f"
	       " %s_stalled_ms=%.1f", who, nr, who, sum / 1e3 / nr, who, ns[nr / 2] / 1e3, who,
	       ns[nr * 99 / 100] / 1e3, who, ns[nr - 1] / 1e3, who, stalled / 1e6);
}

static void report(const char *how, double took)
{
	static uint64_t all[MOST_THREADS * MAX_TIMES];
	size_t faults = 0, kept = 0;

	printf("R w=%s how=%s seconds=%u took=%.2f", work->name, how, work->seconds, took);
	gather(&shared->ops, all, &kept);
	for (int i = 0; i < NR_THREADS; i++)
		gather(&shared->own_ops[i], all, &kept);
	print_waits("w", all, kept);
	if (work->bystander)
		print_waits("c", shared->bystander.ns, shared->bystander.nr);
	kept = 0;
	for (int i = 0; i < nr_threads; i++)
		faults += gather(&shared->faults[i], all, &kept);
	if (!kept)
		die("no fault");
	qsort(all, kept, sizeof(*all), compare);
	printf(" faults=%zu faults_s=%.1f f_p50_us=%.0f f_p99_us=%.0f", faults, faults / took,
	       all[kept / 2] / 1e3, all[kept * 99 / 100] / 1e3);
}

static void run(bool floor)
{
	/* What is another process anyway has no floor. */
	const bool apart = floor || work->op == cmdline_op;
	long before[ARRAY_SIZE(fault_counters)];
	pthread_t threads[MOST_THREADS], bystander = 0;
	int status = 0;
	double took;

	start_helpers();
	enter_cgroups();
	work->region->map();
	if (apart)
		fault_apart();
	else
		run_faults(threads);
	if (work->bystander)
		bystander = start_thread(map_elsewhere, NULL);
	limit_memory();
	sample_counters("/proc/vmstat", fault_counters, ARRAY_SIZE(before), before, false);
	atomic_store(&shared->gate.go, true);
	/* The faults of this time count, too. */
	took = now_ns() / 1e9;
	usleep(WARM_UP_US);
	atomic_store(&shared->burn, true);
	run_writer();
	took = now_ns() / 1e9 - took;
	atomic_store(&shared->gate.stop, true);
	stop_helpers();
	if (apart)
		waitpid(faulting, &status, 0);
	else
		end_faults(threads);
	if (work->bystander)
		pthread_join(bystander, NULL);
	if (status)
		die("the process that faults ended with status %x", status);
	report(floor ? "floor" : "own", took);
	sample_counters("/proc/vmstat", fault_counters, ARRAY_SIZE(before), before, true);
	printf("\n");
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[argc - 1] : "";
	bool floor = argc > 2 && !strcmp(argv[1], "floor");
	int status = 0;
	pid_t pid;

	for (size_t i = 0; i < ARRAY_SIZE(workloads); i++)
		if (!strcmp(name, workloads[i].name))
			work = &workloads[i];
	if (!work || argc != 2 + floor) {
		printf("writer [floor] WORKLOAD; no workload '%s'\n", name);
		return 2;
	}
	nr_threads = work->threads ?: NR_THREADS;
	set_up_guest();
	page_size = sysconf(_SC_PAGESIZE);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		die("mmap");
	mount_cgroups();
	if (work->region->map == map_disk) {
		make_null_disk("slow", SLOW_MB, work->delay_us ?: DELAY_MS * 1000, false);
		put("/sys/block/slow/queue/read_ahead_kb", "0");
	}
	/*
	 * In a process that has done nothing yet: in this one, which has been busy, the faults
	 * of e7 under priority inversion were a third less, and it was not found out why.
	 */
	pid = fork_process();
	if (!pid) {
		memset(shared, 0, sizeof(*shared));
		run(floor);
		exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		die("the measurement ended with status %x", status);
	return 0;
}
