// SPDX-License-Identifier: GPL-2.0-only
/*
 * contend - what page-fault I/O does to a thread that changes the address space
 *
 * Threads fault on random cold pages of a slow disk; a writer of the same
 * process maps and unmaps, or changes protections, once a millisecond. Runs in
 * the guest and prints one line "R key=value ..." a workload. All times are of
 * an emulated machine: they show waiting, not the speed of a CPU.
 *
 *	contend quick|long [floors|own] [workload...]
 *
 * Workloads:
 *  e1   the writer maps and unmaps a page elsewhere
 *  e1m  the same next to the faulted VMA, into which the mapping merges
 *  e1i  e1 under priority inversion: the faulting threads are SCHED_IDLE, the
 *       writer is at nice -20, and another process keeps every CPU busy
 *  e1w  the same, but the faulting threads are in a cgroup with cpu.weight 1
 *  e2   the writer changes the protection of a part of the faulted VMA
 *  e2l  e2 under a memory limit that leaves the faults 3 MiB of page cache
 *  e2s  e2 on anonymous memory, swapped out to a slow disk
 *  e3   the writer forks; the faulted region consists of 300 VMAs
 *  e3r  e3 under a memory limit: the faults are on pages that were evicted
 *  e6   e1 with the faults throttled by io.max; the writer touches its mapping
 *  e7   e1i with the faults served by userfaultfd after 20 ms
 *  e8   the faults are first stores to pages of a file that dirty throttling keeps
 *       waiting; the writer changes the protection of a part of their VMA, 20 times
 *       a second
 *  e8m, e8f  the same; the writer maps and unmaps a page elsewhere, or forks
 *  e8p  e8, but measured is another process, which reads their /proc/PID/cmdline
 * For each, "floor" is the same writer while the faults happen in another
 * process: same load on CPUs and disk, no common mmap_lock (of e1i only, unless
 * "floors" is asked for); and "trace" a shorter run of its own with the mmap_lock
 * tracepoints on. With "own" there is neither, nor for e8. Without a list: e1, e1m,
 * e1i, e2.
 *
 * The threads allocate and touch all they need before the measurement, and
 * nothing in the process takes mmap_lock then but the writer and the faults.
 */
#define _GNU_SOURCE
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "bench.h"

#define DISK		"/dev/nullb0"
#define TRACING		"/sys/kernel/tracing/"
#define REGION		(4UL << 30)	/* of the disk, a fresh one a run */
#define ANON_REGION	(96UL << 20)	/* each page is touched once */
#define WARM_REGION	(16UL << 20)	/* touched over and over */
#define LIMITED_REGION	(256UL << 20)	/* so that its page tables are small */
#define DIRTY_REGION	(800UL << 20)	/* each page is touched once */
#define NR_VMAS		300
#define DELAY_MS	20		/* of the disks, and of userfaultfd */
#define EVICT_US	500		/* between two rounds of an evictor */
#define DIRTY_OP_NS	50000000	/* from one operation beside throttled stores to the next */
#define MAX_THREADS	64
#define MAX_FAULTS	8192		/* a thread */
#define MAX_OPS		65536
#define STALL_NS	10000000	/* a wait that counts as a stall */

struct workload;
static void map_op(const struct workload *w, int fd);
static void merge_op(const struct workload *w, int fd);
static void protect_op(const struct workload *w, int fd);
static void fork_op(const struct workload *w, int fd);
static void touch_op(const struct workload *w, int fd);
static void cmdline_op(const struct workload *w, int fd);

enum region { COLD, LIMITED, MANY, WARM_MANY, SWAPPED, UFFD, DIRTY };
enum low { SAME, IDLE, WEIGHT };	/* the priority of the faulting threads */

static const struct workload {
	const char *name;
	enum region region;
	void (*op)(const struct workload *w, int fd);
	enum low low;
	unsigned int limit_kb;		/* what the faults may use, if limited */
	unsigned int riops;		/* io.max, if not 0 */
	bool evict;			/* drop the region's pages over and over */
	bool usual;			/* run if none is named */
} workloads[] = {
	{ "e1", COLD, map_op, .usual = true },
	{ "e1m", COLD, merge_op, .usual = true },
	{ "e1i", COLD, map_op, .low = IDLE, .usual = true },
	{ "e1w", COLD, map_op, .low = WEIGHT },
	{ "e1l", COLD, map_op, .low = IDLE, .evict = true },
	{ "e2", COLD, protect_op, .usual = true },
	{ "e2l", LIMITED, protect_op, .limit_kb = 3072, .evict = true },
	{ "e2s", SWAPPED, protect_op, .usual = false },
	{ "e3", MANY, fork_op, .usual = false },
	{ "e3r", WARM_MANY, fork_op, .limit_kb = 4096, .evict = true },
	{ "e6", COLD, touch_op, .riops = 400 },
	{ "e7", UFFD, map_op, .low = IDLE },
	{ "e8", DIRTY, protect_op, .low = SAME },
	{ "e8m", DIRTY, map_op, .low = SAME },
	{ "e8f", DIRTY, fork_op, .low = SAME },
	{ "e8p", DIRTY, cmdline_op, .low = SAME },
};
#define NR_WORKLOADS (sizeof(workloads) / sizeof(*workloads))

struct faulter {
	pthread_t thread;
	pid_t tid;
	uint64_t seed;
	unsigned int nr, next;
	uint32_t us[MAX_FAULTS];
};

/* Shared with the child that faults in the floor runs. */
struct shared {
	atomic_int ready;
	atomic_bool go, stop, burn;
	struct faulter faulter[MAX_THREADS];
	unsigned int nr_ops;
	uint64_t op_ns[MAX_OPS];
};

static struct shared *sh;
static long page_size, nr_cpus;
static int nr_threads = 32;
static unsigned int next_region;
static char *faulted;			/* region_size bytes to fault on */
static size_t region_size;
static bool once;			/* each page of it */
static bool store;			/* the faults are stores */
static pid_t faulting;			/* the process */
static enum low low;

static uint64_t rnd(uint64_t *s)	/* splitmix64 */
{
	uint64_t z = *s += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* The first number in a file. */
static long get(const char *path)
{
	FILE *f = fopen(path, "r");
	long val;

	if (!f || fscanf(f, "%ld", &val) != 1)
		die("%s", path);
	fclose(f);
	return val;
}

static long vmstat(const char *name)
{
	return counter("/proc/vmstat", name);
}

static void touch_stack(void)
{
	volatile char room[32768];

	for (size_t i = 0; i < sizeof(room); i += 1024)
		room[i] = 1;
}

static void *fault_thread(void *arg)
{
	struct faulter *f = arg;
	/* The first and last 64 pages belong to the writer. */
	uint64_t pages = region_size / page_size - 128;

	touch_stack();
	f->tid = syscall(SYS_gettid);
	if (low == IDLE) {
		struct sched_param sp = { 0 };

		if (sched_setscheduler(0, SCHED_IDLE, &sp))
			die("SCHED_IDLE");
	} else if (low == WEIGHT) {
		put(CGROUPS "low/cgroup.threads", "%d", f->tid);
	}
	atomic_fetch_add(&sh->ready, 1);
	while (!atomic_load(&sh->go))
		usleep(1000);
	while (!atomic_load(&sh->stop)) {
		uint64_t i = rnd(&f->seed) % pages, t;
		char *p;

		if (once) {
			i = f->next;
			f->next += nr_threads;
			if (i >= pages)
				die("all pages have been touched");
		}
		p = faulted + (64 + i) * page_size;
		t = now_ns();
		if (store)
			*(volatile char *)p = 1;
		else
			(void)*(volatile char *)p;
		t = now_ns() - t;
		if (f->nr < MAX_FAULTS)
			f->us[f->nr++] = t / 1000;
	}
	return NULL;
}

/* Serves the faults of the region, each DELAY_MS after it came. */
static void *serve(void *arg)
{
	static struct { uint64_t due; unsigned long addr; } queue[2 * MAX_THREADS];
	unsigned int head = 0, tail = 0;
	int fd = (long)arg;
	static char page[65536];

	if (setpriority(PRIO_PROCESS, syscall(SYS_gettid), -20))
		die("nice -20");
	for (;;) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		const unsigned int len = 2 * MAX_THREADS;
		int64_t left = 1000000000;
		struct uffd_msg msg;

		if (head != tail)
			left = (int64_t)(queue[head % len].due - now_ns());
		if (left > 0) {
			struct timespec ts = { left / 1000000000, left % 1000000000 };

			if (ppoll(&pfd, 1, &ts, NULL) == 1 &&
			    read(fd, &msg, sizeof(msg)) == sizeof(msg)) {
				queue[tail % len].due = now_ns() + DELAY_MS * 1000000ULL;
				queue[tail++ % len].addr = msg.arg.pagefault.address;
			}
		} else {
			struct uffdio_copy copy = {
				.src = (unsigned long)page,
				.dst = queue[head++ % len].addr & -page_size,
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
	pthread_t thread;

	faulted = mmap(NULL, region_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	reg.range.start = (unsigned long)faulted;
	reg.range.len = region_size;
	if (fd < 0 || faulted == MAP_FAILED ||
	    madvise(faulted, region_size, MADV_NOHUGEPAGE) ||
	    ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg) ||
	    pthread_create(&thread, NULL, serve, (void *)fd))
		die("userfaultfd");
}

/*
 * All of it on the swap disk. By the cgroup's reclaim, since MADV_PAGEOUT leaves what
 * it has written in the swap cache.
 */
static void map_swapped(void)
{
	size_t nr = region_size / page_size, resident = nr;
	unsigned char *vec = malloc(nr);

	faulted = mmap(NULL, region_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!vec || faulted == MAP_FAILED || madvise(faulted, region_size, MADV_NOHUGEPAGE))
		die("mmap");
	memset(faulted, 1, region_size);
	for (int try = 0; try < 100 && resident; try++) {
		/* It says EAGAIN as long as there is not so much to be had. */
		try_put(CGROUPS "run/memory.reclaim", "%lu", region_size);
		if (mincore(faulted, region_size, vec))
			die("mincore");
		resident = 0;
		for (size_t i = 0; i < nr; i++)
			resident += vec[i] & 1;
		if (resident)
			usleep(50000);
	}
	free(vec);
	if (resident) {
		errno = 0;
		die("%zu of %zu pages do not get swapped out", resident, nr);
	}
}

/* A file that is one hole. */
static void map_hole(void)
{
	int fd = open("/tmp/data/hole", O_RDWR | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || ftruncate(fd, region_size))
		die("/tmp/data/hole");
	faulted = mmap(NULL, region_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	/* A folio larger than vm.dirty_bytes is written before its store comes to an end. */
	if (faulted == MAP_FAILED || madvise(faulted, region_size, MADV_RANDOM) ||
	    madvise(faulted, region_size, MADV_NOHUGEPAGE))
		die("mmap");
	close(fd);
}

/* A region of the disk that no run has used before. */
static void map_disk(const struct workload *w)
{
	int fd = open(DISK, O_RDONLY);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	/* Room before it, so that nothing else is adjacent. */
	char *room = mmap(NULL, region_size + (4UL << 21), PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (fd < 0 || room == MAP_FAILED)
		die(DISK);
	errno = ENOSPC;
	if (size < (off_t)((next_region + 1) * REGION))
		die(DISK " of %lld bytes, run %u", (long long)size, next_region + 1);
	faulted = mmap(room + (1UL << 21), region_size, PROT_READ,
		       MAP_SHARED | MAP_FIXED, fd, next_region++ * REGION);
	if (faulted == MAP_FAILED)
		die("mmap " DISK);
	/*
	 * Readahead is off for the device anyway (see main()); a VMA with
	 * MADV_RANDOM would not merge with the new mappings of e1m.
	 */
	if (w->op != merge_op && madvise(faulted, region_size, MADV_RANDOM))
		die("MADV_RANDOM");
	close(fd);
	if (w->region == COLD || w->region == LIMITED)
		return;
	/* Every other piece has a flag more: so they do not merge. */
	for (int i = 0; i < NR_VMAS; i += 2) {
		size_t len = region_size / NR_VMAS / page_size * page_size;

		if (madvise(faulted + i * len, len, MADV_DONTDUMP))
			die("MADV_DONTDUMP");
	}
}

static void map_region(const struct workload *w)
{
	region_size = w->region == SWAPPED || w->region == UFFD ? ANON_REGION :
		      w->region == WARM_MANY ? WARM_REGION :
		      w->region == LIMITED ? LIMITED_REGION :
		      w->region == DIRTY ? DIRTY_REGION : REGION;
	once = w->region == SWAPPED || w->region == UFFD || w->region == DIRTY;
	store = w->region == DIRTY;
	if (w->region == SWAPPED)
		map_swapped();
	else if (w->region == DIRTY)
		map_hole();
	else if (w->region == UFFD)
		map_uffd();
	else
		map_disk(w);
}

static void start_faulters(void)
{
	for (int i = 0; i < nr_threads; i++) {
		struct faulter *f = &sh->faulter[i];

		memset(f, 0, sizeof(*f));
		f->seed = 1000 * next_region + i;
		f->next = i;
		if (pthread_create(&f->thread, NULL, fault_thread, f))
			die("pthread_create");
	}
	while (atomic_load(&sh->ready) < nr_threads)
		usleep(1000);
}

static void join_faulters(void)
{
	for (int i = 0; i < nr_threads; i++)
		pthread_join(sh->faulter[i].thread, NULL);
}

/* ---- one operation of the writer: it touches nothing it maps, but for e6 ---- */

static void map_op(const struct workload *w, int fd)
{
	char *p = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)w, (void)fd;
	if (p == MAP_FAILED || munmap(p, page_size))
		die("mmap");
}

/* The last page of the region goes and comes back. */
static void merge_op(const struct workload *w, int fd)
{
	char *p = faulted + region_size - page_size;

	(void)w;
	if (munmap(p, page_size) ||
	    mmap(p, page_size, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
		 (next_region - 1) * REGION + region_size - page_size) != p)
		die("mmap");
}

static void protect_op(const struct workload *w, int fd)
{
	int prot = w->region == SWAPPED || store ? PROT_READ | PROT_WRITE : PROT_READ;
	char *p = faulted + 16 * page_size;

	(void)fd;
	if (mprotect(p, 16 * page_size, PROT_NONE) ||
	    mprotect(p, 16 * page_size, prot))
		die("mprotect");
}

/* Only the time in the parent's fork() counts: see writer(). */
static void fork_op(const struct workload *w, int fd)
{
	pid_t pid = _Fork();

	(void)w, (void)fd;
	if (!pid)
		_exit(0);
	if (pid < 0)
		die("fork");
}

static void touch_op(const struct workload *w, int fd)
{
	char *p = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)w, (void)fd;
	if (p == MAP_FAILED)
		die("mmap");
	*(volatile char *)p = 1;
	if (munmap(p, page_size))
		die("munmap");
}

static void cmdline_op(const struct workload *w, int fd)
{
	char path[32], text[256];

	(void)w;
	snprintf(path, sizeof(path), "/proc/%d/cmdline", faulting);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text)) <= 0 || close(fd))
		die("%s", path);
}

static void writer(const struct workload *w, double seconds)
{
	int fd = open(DISK, O_RDONLY);
	uint64_t start, end, due, t;

	if (fd < 0)
		die(DISK);
	memset(sh->op_ns, 0, sizeof(sh->op_ns));
	sh->nr_ops = 0;
	touch_stack();
	if (w->low != SAME && setpriority(PRIO_PROCESS, syscall(SYS_gettid), -20))
		die("nice -20");
	start = due = now_ns();
	end = start + seconds * 1e9;
	do {
		t = now_ns();
		due += DIRTY_OP_NS;
		if (!store)
			usleep(w->op == fork_op ? 20000 : 1000);
		else if (due > t)
			usleep((due - t) / 1000);
		else
			due = t;
		t = now_ns();
		w->op(w, fd);
		t = now_ns() - t;
		if (w->op == fork_op)
			wait(NULL);
		if (sh->nr_ops < MAX_OPS)
			sh->op_ns[sh->nr_ops++] = t;
	} while (now_ns() < end);
	if (w->low != SAME)
		setpriority(PRIO_PROCESS, syscall(SYS_gettid), 0);
	close(fd);
}

static int cmp64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int cmp32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void report(const struct workload *w, const char *how, double seconds, double took)
{
	static uint32_t all[MAX_THREADS * 1024];
	uint64_t sum = 0, stalled = 0;
	unsigned int n = 0, faults = 0;

	for (unsigned int i = 0; i < sh->nr_ops; i++) {
		sum += sh->op_ns[i];
		if (sh->op_ns[i] > STALL_NS)
			stalled += sh->op_ns[i];
	}
	qsort(sh->op_ns, sh->nr_ops, sizeof(*sh->op_ns), cmp64);
	for (int i = 0; i < nr_threads; i++) {
		struct faulter *f = &sh->faulter[i];

		faults += f->nr;
		for (unsigned int k = 0; k < f->nr && n < sizeof(all) / sizeof(*all); k++)
			all[n++] = f->us[k];
	}
	qsort(all, n, sizeof(*all), cmp32);
	if (!sh->nr_ops || !n) {
		printf("contend: no operation or no fault in %s %s\n",
		       w->name, how);
		exit(1);
	}
	printf("R w=%s how=%s seconds=%.1f took=%.2f ops=%u w_mean_us=%.1f w_p50_us=%.1f w_p99_us=%.1f w_max_us=%.1f stalled_ms=%.1f faults=%u faults_s=%.1f f_p50_us=%u f_p99_us=%u",
	       w->name, how, seconds, took, sh->nr_ops,
	       sum / 1e3 / sh->nr_ops,
	       sh->op_ns[sh->nr_ops / 2] / 1e3,
	       sh->op_ns[(uint64_t)sh->nr_ops * 99 / 100] / 1e3,
	       sh->op_ns[sh->nr_ops - 1] / 1e3, stalled / 1e6,
	       faults, faults / took, all[n / 2], all[(uint64_t)n * 99 / 100]);
}

/* ---- mmap_lock, by the kernel's tracepoints ---- */

static void trace_on(void)
{
	put(TRACING "tracing_on", "0");
	put(TRACING "trace", "");
	put(TRACING "trace_clock", "mono");
	put(TRACING "buffer_size_kb", "16384");
	put(TRACING "options/event-fork", "1");
	put(TRACING "set_event_pid", "%d", getpid());
	put(TRACING "events/mmap_lock/enable", "1");
	put(TRACING "tracing_on", "1");
}

static void trace_off(void)
{
	put(TRACING "tracing_on", "0");
	put(TRACING "events/mmap_lock/enable", "0");
	put(TRACING "set_event_pid", "");
}

/* Whether it is this process's: what the children of e3 do is not counted. */
static bool ours(int pid)
{
	bool ret = pid == getpid();

	for (int i = 0; i < nr_threads; i++)
		ret |= sh->faulter[i].tid == pid;
	return ret;
}

/*
 * Sum up the trace from @from to @to (seconds of CLOCK_MONOTONIC): how often
 * mmap_lock was taken and, from start_locking to acquire_returned, waited for.
 */
static void trace_report(double from, double to)
{
	static double started[65536];
	unsigned long n[2] = { 0 }, lost = 0;
	double wait[2] = { 0 };
	char line[512], path[64];
	FILE *f = fopen(TRACING "trace", "r");

	if (!f)
		die("trace");
	memset(started, 0, sizeof(started));
	while (fgets(line, sizeof(line), f)) {
		char *ev = strstr(line, ": mmap_lock_"), *p;
		int pid, write;
		double t;

		if (line[0] == '#' || !ev)
			continue;
		/* "comm-pid [cpu] flags seconds.micros: event: ..." */
		for (p = ev; p > line && p[-1] != ' '; p--)
			;
		t = strtod(p, NULL);
		p = strstr(line, " [");
		while (p && p > line && p[-1] != '-')
			p--;
		if (!p || t < from || t > to || !ours(atoi(p)))
			continue;
		pid = atoi(p) & 65535;
		write = strstr(ev, "write=true") != NULL;
		if (strstr(ev, "start_locking")) {
			started[pid] = t;
		} else if (strstr(ev, "acquire_returned")) {
			/*
			 * munmap() downgrades: the writer gets a read lock
			 * which it never waits for.
			 */
			if (!write && pid == (getpid() & 65535))
				continue;
			if (strstr(ev, "success=true")) {
				n[write]++;
				if (started[pid])
					wait[write] += t - started[pid];
			}
			/* A failed trylock precedes the real one. */
			if (started[pid] || strstr(ev, "success=true"))
				started[pid] = 0;
		}
	}
	fclose(f);
	for (int cpu = 0; cpu < nr_cpus; cpu++) {
		unsigned long v;

		snprintf(path, sizeof(path), TRACING "per_cpu/cpu%d/stats", cpu);
		f = fopen(path, "r");
		while (f && fgets(line, sizeof(line), f))
			if (sscanf(line, "overrun: %lu", &v) == 1 ||
			    sscanf(line, "dropped events: %lu", &v) == 1)
				lost += v;
		if (f)
			fclose(f);
	}
	printf(" rd_locks=%lu rd_wait_ms=%.2f wr_locks=%lu wr_wait_ms=%.2f trace_lost=%lu",
	       n[0], wait[0] * 1e3, n[1], wait[1] * 1e3, lost);
}

/* ---- one run ---- */

/*
 * Processes that keep every CPU busy once sh->burn is set. Made before the faults
 * begin: fork() would write-lock all VMAs and send faults to mmap_lock.
 */
static void make_burners(pid_t *pid)
{
	for (int i = 0; i < nr_cpus; i++) {
		pid[i] = fork();
		if (pid[i] < 0)
			die("fork");
		if (!pid[i]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			while (!atomic_load(&sh->burn))
				usleep(10000);
			for (;;)
				;
		}
	}
}

/*
 * A process that drops the clean pages of the region which nobody has mapped: those
 * that have been read, and whose fault has not come to its next attempt.
 */
static pid_t make_evictor(void)
{
	off_t from = next_region * REGION;
	int fd = open(DISK, O_RDONLY);
	pid_t pid = fork();

	if (fd < 0 || pid < 0)
		die("evictor");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (!atomic_load(&sh->go))
			usleep(10000);
		for (;;) {
			posix_fadvise(fd, from, REGION, POSIX_FADV_DONTNEED);
			usleep(EVICT_US);
		}
	}
	close(fd);
	return pid;
}

/* A cgroup of its own for the run, if it needs one. */
static void enter_cgroups(const struct workload *w)
{
	if (w->low == WEIGHT) {
		put(CGROUPS "cgroup.subtree_control", "+cpu");
		mkdir(CGROUPS "low", 0755);
		put(CGROUPS "low/cgroup.type", "threaded");
		put(CGROUPS "low/cpu.weight", "1");
	}
	if (w->limit_kb || w->riops || w->region == SWAPPED) {
		put(CGROUPS "cgroup.subtree_control", "+memory +io");
		mkdir(CGROUPS "run", 0755);
		put(CGROUPS "run/cgroup.procs", "%d", getpid());
	}
	if (w->riops) {
		FILE *f = fopen("/sys/block/nullb0/dev", "r");
		char dev[16];

		if (!f || fscanf(f, "%15s", dev) != 1)
			die("/sys/block/nullb0/dev");
		fclose(f);
		put(CGROUPS "run/io.max", "%s riops=%u", dev, w->riops);
	}
}

/* All that the run needs but pages of the region is there by now. */
static void limit_memory(const struct workload *w)
{
	if (w->limit_kb)
		put(CGROUPS "run/memory.max", "%lu",
		    get(CGROUPS "run/memory.current") + w->limit_kb * 1024UL);
}

static void run_in_child(const struct workload *w, bool floor, bool trace, double seconds)
{
	/* What is another process anyway has no floor. */
	const bool apart = floor || w->op == cmdline_op;
	static const char * const counters[] = {
		"vma_lock_success", "vma_lock_abort", "vma_lock_retry",
		"vma_lock_retry_hard", "vma_lock_fallback", "pgmajfault",
	};
	const size_t nr_counters = sizeof(counters) / sizeof(*counters);
	const char *how = trace ? "trace" : floor ? "floor" : "own";
	long before[nr_counters], after[nr_counters];
	pid_t burner[nr_cpus], child = 0, evictor = 0;
	uint64_t t0, t1;
	int status = 0;

	atomic_store(&sh->ready, 0);
	atomic_store(&sh->go, false);
	atomic_store(&sh->stop, false);
	atomic_store(&sh->burn, false);
	low = w->low;
	if (low != SAME)
		make_burners(burner);
	if (w->evict)
		evictor = make_evictor();
	enter_cgroups(w);

	if (trace)
		trace_on();
	map_region(w);
	if (apart) {
		/*
		 * The faults are the child's. Fork leaves it what it does not
		 * need from us, and us the region to work on. A userfaultfd
		 * does not outlive it.
		 */
		child = fork();
		if (child < 0)
			die("fork");
		faulting = child;
		if (!child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (w->region == UFFD)
				map_region(w);
			start_faulters();
			while (w->op == cmdline_op && !atomic_load(&sh->stop)) {
				usleep(DIRTY_OP_NS / 1000);
				protect_op(w, -1);
			}
			join_faulters();
			_exit(0);
		}
		while (atomic_load(&sh->ready) < nr_threads)
			usleep(1000);
	} else {
		start_faulters();
	}
	limit_memory(w);
	for (size_t i = 0; i < nr_counters; i++)
		before[i] = vmstat(counters[i]);
	atomic_store(&sh->go, true);
	usleep(200000);
	atomic_store(&sh->burn, true);
	t0 = now_ns();
	writer(w, seconds);
	t1 = now_ns();
	atomic_store(&sh->stop, true);
	if (low != SAME)
		for (int i = 0; i < nr_cpus; i++) {
			kill(burner[i], SIGKILL);
			waitpid(burner[i], NULL, 0);
		}
	if (evictor) {
		kill(evictor, SIGKILL);
		waitpid(evictor, NULL, 0);
	}
	if (trace)
		trace_off();
	for (size_t i = 0; i < nr_counters; i++)
		after[i] = vmstat(counters[i]);
	if (apart)
		waitpid(child, &status, 0);
	else
		join_faulters();
	if (status) {
		errno = 0;
		die("the process that faults ended with status %x", status);
	}
	/* The faults of the 200 ms before count, too. */
	report(w, how, seconds, (t1 - t0) / 1e9 + 0.2);
	for (size_t i = 0; i < nr_counters; i++)
		printf(" %s=%ld", counters[i], after[i] - before[i]);
	if (trace)
		trace_report(t0 / 1e9, t1 / 1e9);
	printf("\n");
	fflush(stdout);
}

/* A process of its own for each run: no VMA or thread is left from the last. */
static void run(const struct workload *w, bool floor, bool trace, double seconds)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		run_in_child(w, floor, trace, seconds);
		exit(0);
	}
	next_region++;
	if (waitpid(pid, &status, 0) != pid || status) {
		printf("contend: the run of %s ended with status %x\n",
		       w->name, status);
		exit(1);
	}
	/* A dead thread may still be leaving. */
	for (int i = 0; i < 100 && rmdir(CGROUPS "run") && errno == EBUSY; i++)
		usleep(10000);
	for (int i = 0; i < 100 && rmdir(CGROUPS "low") && errno == EBUSY; i++)
		usleep(10000);
}

static bool wanted(const struct workload *w, int nr, char **names)
{
	bool ret = !nr && w->usual;

	for (int i = 0; i < nr; i++)
		ret |= !strcmp(names[i], w->name);
	return ret;
}

int main(int argc, char **argv)
{
	bool is_long = argc > 1 && !strcmp(argv[1], "long");
	bool own = argc > 2 && !strcmp(argv[2], "own");
	bool floors = argc > 2 && !strcmp(argv[2], "floors");
	double unit = is_long ? 10 : 3;

	argv += 1 + (argc > 1) + (own || floors);
	floors |= is_long;
	for (argc = 0; argv[argc]; argc++)
		;
	setvbuf(stdout, NULL, _IOFBF, 65536);
	wait_for_clock();
	page_size = sysconf(_SC_PAGESIZE);
	nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		die("mmap");
	memset(sh, 0, sizeof(*sh));
	put("/sys/block/nullb0/queue/read_ahead_kb", "0");
	mount_cgroups();

	for (size_t k = 0; k < NR_WORKLOADS; k++) {
		const struct workload *w = &workloads[k];
		/* Stalls of seconds are rare enough to need a longer look. */
		double seconds = w->region == DIRTY ? 3 * unit :
				 w->low != SAME ? 2 * unit : unit;

		if (!wanted(w, argc, argv))
			continue;
		if (w->region == SWAPPED)
			make_swap(DELAY_MS);
		if (w->region == DIRTY) {
			make_disk("data", 1024, DELAY_MS);
			make_fs();
			put("/proc/sys/vm/dirty_bytes", "1048576");
		}
		run(w, false, false, seconds);
		/* What has been used is slower: each run gets a new one. */
		if (w->region == DIRTY) {
			for (int i = 0; i < 100 && umount("/tmp/data"); i++)
				usleep(20000);
			remove_disk("data");
		}
		if (own || w->region == DIRTY)
			continue;
		if (floors || (w->low == IDLE && w->region == COLD))
			run(w, true, false, w->low != SAME && is_long ? seconds : unit);
		run(w, false, true, is_long ? 2 : 1.5);
	}
	return 0;
}
