// SPDX-License-Identifier: GPL-2.0-only
/*
 * contend - what page-fault I/O does to a thread that changes the address space
 *
 * Threads fault on random cold pages of a slow disk; a writer of the same
 * process maps and unmaps, or changes protections, once a millisecond. Runs in
 * the guest and prints one line "R key=value ..." a workload. All times are of
 * an emulated machine: they show waiting, not the speed of a CPU.
 *
 *	contend [quick|long] [workload...]
 *
 * Workloads:
 *  e1   the writer maps and unmaps a page elsewhere
 *  e1m  the same next to the faulted VMA, into which the mapping merges
 *  e1i  e1 under priority inversion: the faulting threads are SCHED_IDLE, the
 *       writer is at nice -20, and another process keeps every CPU busy
 *  e2   the writer changes the protection of a part of the faulted VMA
 * For each, "floor" is the same writer while the faults happen in another
 * process: same load on CPUs and disk, no common mmap_lock; and "trace" a
 * shorter run of its own with the mmap_lock tracepoints on.
 *
 * The threads allocate and touch all they need before the measurement, and
 * nothing in the process takes mmap_lock then but the writer and the faults.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DISK		"/dev/nullb0"
#define TRACING		"/sys/kernel/tracing/"
#define REGION		(4UL << 30)	/* of the disk, a fresh one a run */
#define MAX_THREADS	64
#define MAX_FAULTS	8192		/* a thread */
#define MAX_OPS		65536
#define STALL_NS	10000000	/* a wait that counts as a stall */

#define die(...) do {							\
	printf("contend: " __VA_ARGS__);				\
	printf(": %s\n", strerror(errno));				\
	exit(1);							\
} while (0)

enum kind { E1, E1M, E1I, E2, NR_KINDS };
static const char * const kind_name[] = { "e1", "e1m", "e1i", "e2" };

struct faulter {
	pthread_t thread;
	uint64_t seed;
	unsigned int nr;
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
static char *faulted;			/* REGION bytes of the disk */
static bool idle_faulters;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static uint64_t rnd(uint64_t *s)	/* splitmix64 */
{
	uint64_t z = *s += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die("%s", path);
	close(fd);
}

static long vmstat(const char *name)
{
	char line[128];
	size_t len = strlen(name);
	long val = 0;
	FILE *f = fopen("/proc/vmstat", "r");

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, len) && line[len] == ' ')
			val = atol(line + len + 1);
	if (f)
		fclose(f);
	return val;
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
	uint64_t pages = REGION / page_size - 128;

	touch_stack();
	if (idle_faulters) {
		struct sched_param sp = { 0 };

		if (sched_setscheduler(0, SCHED_IDLE, &sp))
			die("SCHED_IDLE");
	}
	atomic_fetch_add(&sh->ready, 1);
	while (!atomic_load(&sh->go))
		usleep(1000);
	while (!atomic_load(&sh->stop)) {
		char *p = faulted + (64 + rnd(&f->seed) % pages) * page_size;
		uint64_t t = now_ns();

		(void)*(volatile char *)p;
		t = now_ns() - t;
		if (f->nr < MAX_FAULTS)
			f->us[f->nr++] = t / 1000;
	}
	return NULL;
}

static void map_region(enum kind kind)
{
	int fd = open(DISK, O_RDONLY);
	/* Room before it, so that nothing else is adjacent. */
	char *room = mmap(NULL, REGION + (4UL << 21), PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (fd < 0 || room == MAP_FAILED)
		die(DISK);
	faulted = mmap(room + (1UL << 21), REGION, PROT_READ,
		       MAP_SHARED | MAP_FIXED, fd, next_region++ * REGION);
	if (faulted == MAP_FAILED)
		die("mmap " DISK);
	/*
	 * Readahead is off for the device anyway (see main()); a VMA with
	 * MADV_RANDOM would not merge with the new mappings of e1m.
	 */
	if (kind != E1M && madvise(faulted, REGION, MADV_RANDOM))
		die("MADV_RANDOM");
	close(fd);
}

static void start_faulters(void)
{
	for (int i = 0; i < nr_threads; i++) {
		struct faulter *f = &sh->faulter[i];

		memset(f, 0, sizeof(*f));
		f->seed = 1000 * next_region + i;
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

/* One operation of the writer. It touches nothing it maps. */
static void write_op(enum kind kind, int fd, char *room)
{
	char *p;

	switch (kind) {
	case E1:
	case E1I:
		p = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED || munmap(p, page_size))
			die("mmap");
		break;
	case E1M:
		/* The last page of the region goes and comes back. */
		p = faulted + REGION - page_size;
		if (munmap(p, page_size) ||
		    mmap(p, page_size, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
			 (next_region - 1) * REGION + REGION - page_size) != p)
			die("mmap");
		break;
	default:
		p = room;
		if (mprotect(p, 16 * page_size, PROT_NONE) ||
		    mprotect(p, 16 * page_size, PROT_READ))
			die("mprotect");
	}
}

static void writer(enum kind kind, double seconds)
{
	int fd = open(DISK, O_RDONLY);
	char *room = faulted + 16 * page_size;
	uint64_t start, end, t;

	if (fd < 0)
		die(DISK);
	memset(sh->op_ns, 0, sizeof(sh->op_ns));
	sh->nr_ops = 0;
	touch_stack();
	if (kind == E1I && setpriority(PRIO_PROCESS, syscall(SYS_gettid), -20))
		die("nice -20");
	start = now_ns();
	end = start + seconds * 1e9;
	do {
		usleep(1000);
		t = now_ns();
		write_op(kind, fd, room);
		t = now_ns() - t;
		if (sh->nr_ops < MAX_OPS)
			sh->op_ns[sh->nr_ops++] = t;
	} while (now_ns() < end);
	if (kind == E1I)
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

static void report(enum kind kind, const char *how, double seconds, double took)
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
		       kind_name[kind], how);
		exit(1);
	}
	printf("R w=%s how=%s seconds=%.1f took=%.2f ops=%u w_mean_us=%.1f w_p50_us=%.1f w_p99_us=%.1f w_max_us=%.1f stalled_ms=%.1f faults=%u faults_s=%.1f f_p50_us=%u f_p99_us=%u",
	       kind_name[kind], how, seconds, took, sh->nr_ops,
	       sum / 1e3 / sh->nr_ops,
	       sh->op_ns[sh->nr_ops / 2] / 1e3,
	       sh->op_ns[(uint64_t)sh->nr_ops * 99 / 100] / 1e3,
	       sh->op_ns[sh->nr_ops - 1] / 1e3, stalled / 1e6,
	       faults, faults / took, all[n / 2], all[(uint64_t)n * 99 / 100]);
}

/* ---- mmap_lock, by the kernel's tracepoints ---- */

static void trace_on(void)
{
	char pid[16];

	put(TRACING "tracing_on", "0");
	put(TRACING "trace", "");
	put(TRACING "trace_clock", "mono");
	put(TRACING "buffer_size_kb", "16384");
	put(TRACING "options/event-fork", "1");
	snprintf(pid, sizeof(pid), "%d", getpid());
	put(TRACING "set_event_pid", pid);
	put(TRACING "events/mmap_lock/enable", "1");
	put(TRACING "tracing_on", "1");
}

static void trace_off(void)
{
	put(TRACING "tracing_on", "0");
	put(TRACING "events/mmap_lock/enable", "0");
	put(TRACING "set_event_pid", "");
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
		if (!p || t < from || t > to)
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

static void run_in_child(enum kind kind, bool floor, bool trace, double seconds)
{
	const char *how = trace ? "trace" : floor ? "floor" : "own";
	long retry, hard, fallback;
	pid_t burner[8], child = 0;
	uint64_t t0, t1;

	atomic_store(&sh->ready, 0);
	atomic_store(&sh->go, false);
	atomic_store(&sh->stop, false);
	atomic_store(&sh->burn, false);
	idle_faulters = kind == E1I;
	if (kind == E1I)
		make_burners(burner);

	if (trace)
		trace_on();
	map_region(kind);
	if (floor) {
		/*
		 * The faults are the child's. Fork leaves it what it does not
		 * need from us, and us the region to work on.
		 */
		child = fork();
		if (child < 0)
			die("fork");
		if (!child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			start_faulters();
			join_faulters();
			_exit(0);
		}
		while (atomic_load(&sh->ready) < nr_threads)
			usleep(1000);
	} else {
		start_faulters();
	}
	retry = vmstat("vma_lock_retry");
	hard = vmstat("vma_lock_retry_hard");
	fallback = vmstat("vma_lock_fallback");
	atomic_store(&sh->go, true);
	usleep(200000);
	atomic_store(&sh->burn, true);
	t0 = now_ns();
	writer(kind, seconds);
	t1 = now_ns();
	atomic_store(&sh->stop, true);
	if (kind == E1I)
		for (int i = 0; i < nr_cpus; i++) {
			kill(burner[i], SIGKILL);
			waitpid(burner[i], NULL, 0);
		}
	if (trace)
		trace_off();
	retry = vmstat("vma_lock_retry") - retry;
	hard = vmstat("vma_lock_retry_hard") - hard;
	fallback = vmstat("vma_lock_fallback") - fallback;
	if (floor)
		waitpid(child, NULL, 0);
	else
		join_faulters();
	/* The faults of the 200 ms before count, too. */
	report(kind, how, seconds, (t1 - t0) / 1e9 + 0.2);
	printf(" vma_lock_retry=%ld vma_lock_retry_hard=%ld vma_lock_fallback=%ld",
	       retry, hard, fallback);
	if (trace)
		trace_report(t0 / 1e9, t1 / 1e9);
	printf("\n");
	fflush(stdout);
}

/* A process of its own for each run: no VMA or thread is left from the last. */
static void run(enum kind kind, bool floor, bool trace, double seconds)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		run_in_child(kind, floor, trace, seconds);
		exit(0);
	}
	next_region++;
	if (waitpid(pid, &status, 0) != pid || status) {
		printf("contend: the run of %s ended with status %x\n",
		       kind_name[kind], status);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	bool is_long = argc > 1 && !strcmp(argv[1], "long");
	double unit = is_long ? 10 : 3;

	struct timespec res;

	setvbuf(stdout, NULL, _IOFBF, 65536);
	/*
	 * A clock that ticks in milliseconds would measure nothing. The good one
	 * takes a second or two to be calibrated.
	 */
	for (int i = 0; ; i++, usleep(100000)) {
		if (!clock_getres(CLOCK_MONOTONIC, &res) && !res.tv_sec &&
		    res.tv_nsec <= 1000)
			break;
		if (i == 200)
			die("no high-resolution timers in this guest");
	}
	page_size = sysconf(_SC_PAGESIZE);
	nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	if (nr_cpus > 8)
		nr_cpus = 8;
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		die("mmap");
	memset(sh, 0, sizeof(*sh));
	put("/sys/block/nullb0/queue/read_ahead_kb", "0");

	for (int k = 0; k < NR_KINDS; k++) {
		bool wanted = argc < 3;

		for (int i = 2; i < argc; i++)
			wanted |= !strcmp(argv[i], kind_name[k]);
		if (!wanted)
			continue;
		/* Stalls of seconds are rare enough to need a longer look. */
		run(k, false, false, k == E1I ? 2 * unit : unit);
		if (is_long || k == E1I)
			run(k, true, false, k == E1I && is_long ? 2 * unit : unit);
		run(k, false, true, is_long ? 2 : 1.5);
	}
	return 0;
}
