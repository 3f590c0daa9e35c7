// SPDX-License-Identifier: GPL-2.0-only
/*
 * behave - the behaviours B1-B6, B12 and B13 of the retry, with real faults.
 *
 * Runs in the guest and prints KTAP: one line a behaviour, judged by what the
 * series promises, and behind the # what was seen. On the base kernel some of
 * them must fail; the host knows which (tests/base-fails).
 *
 * Attempts are written as V (under the VMA lock) or M (under mmap_lock), with a
 * t where FAULT_FLAG_TRIED was set.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vfr.h"

/* Newer than the libc's headers. */
#ifndef UFFDIO_REGISTER_MODE_RWP
#define UFFD_FEATURE_RWP		(1 << 17)
#define UFFDIO_REGISTER_MODE_RWP	((__u64)1 << 3)
#define UFFDIO_RWPROTECT_MODE_RWP	((__u64)1 << 0)
struct uffdio_rwprotect {
	struct uffdio_range range;
	__u64 mode;
};
#define UFFDIO_RWPROTECT		_IOWR(UFFDIO, 0x09, struct uffdio_rwprotect)
#endif

#define die(...) do {							\
	printf("Bail out! %s:%d: ", __func__, __LINE__);		\
	printf(__VA_ARGS__);						\
	printf(": %s\n", strerror(errno));				\
	exit(2);							\
} while (0)

static long page_size;
static int nr_tests, nr_failed;
static bool all_rounds;		/* "behave all": count on, however many are lost */

static void result(bool ok, const char *name, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %d %s # ", ok ? "" : "not ", ++nr_tests, name);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	nr_failed += !ok;
}

static void skip(const char *name, const char *why)
{
	printf("ok %d %s # SKIP %s\n", ++nr_tests, name, why);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void msleep(int ms)
{
	usleep(ms * 1000);
}

/* One counter of /proc/vmstat, or -1 where the kernel has no such line. */
static long vmstat(const char *name)
{
	char line[128];
	size_t len = strlen(name);
	long val = -1;
	FILE *f = fopen("/proc/vmstat", "r");

	if (!f)
		die("/proc/vmstat");
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, name, len) && line[len] == ' ')
			val = atol(line + len + 1);
	fclose(f);
	return val;
}

/* ---- one fault on the test driver ---- */

static sigjmp_buf on_signal;

static void jump(int sig)
{
	siglongjmp(on_signal, sig);
}

struct outcome {
	char attempts[VFR_LOG * 4 + 40];
	unsigned long nr, reads;
	int sig;		/* of the access, or 0 */
	char byte;		/* what it read */
	long maj, min;
};

static int vfr_open(const struct vfr_script *s, char **map)
{
	int fd = open("/dev/vfr", O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, VFR_SET, s))
		die("/dev/vfr");
	*map = mmap(NULL, page_size, PROT_READ, MAP_SHARED, fd, 0);
	if (*map == MAP_FAILED)
		die("mmap /dev/vfr");
	return fd;
}

static void vfr_read_log(int fd, struct outcome *o)
{
	struct vfr_log log;
	char *p = o->attempts;

	if (ioctl(fd, VFR_GET, &log))
		die("VFR_GET");
	o->nr = log.attempts;
	o->reads = log.reads;
	for (unsigned int i = 0; i < log.attempts && i < VFR_LOG; i++)
		p += sprintf(p, "%s%c%s", i ? " " : "",
			     log.attempt[i] & VFR_BY_VMA_LOCK ? 'V' : 'M',
			     log.attempt[i] & VFR_TRIED ? "t" : "");
	*p = 0;
	if (o->nr > VFR_LOG)
		sprintf(p, " ..., %lu attempts", o->nr);
}

static struct outcome fault(int nr, ...)
{
	struct vfr_script s = { .nr = nr, .wait_ms = 2 };
	struct outcome o = { 0 };
	struct rusage before, after;
	va_list ap;
	char *map;
	int fd;

	va_start(ap, nr);
	for (int i = 0; i < nr; i++)
		s.action[i] = va_arg(ap, int);
	va_end(ap);

	fd = vfr_open(&s, &map);
	signal(SIGBUS, jump);
	signal(SIGSEGV, jump);
	signal(SIGALRM, jump);
	alarm(10);		/* no fault is kept for ever */
	getrusage(RUSAGE_THREAD, &after);	/* nothing below faults but the access */
	getrusage(RUSAGE_THREAD, &before);
	o.sig = sigsetjmp(on_signal, 1);
	if (!o.sig)
		o.byte = *(volatile char *)map;
	getrusage(RUSAGE_THREAD, &after);
	alarm(0);
	o.maj = after.ru_majflt - before.ru_majflt;
	o.min = after.ru_minflt - before.ru_minflt;
	vfr_read_log(fd, &o);
	munmap(map, page_size);
	close(fd);
	return o;
}

static void expect_page(const char *name, struct outcome o,
			const char *attempts, long maj, long min)
{
	result(!strcmp(o.attempts, attempts) && !o.sig && o.byte == 'V' &&
	       o.maj == maj && o.min == min, name, "%s, %s, maj %ld min %ld",
	       o.attempts, o.sig ? strsignal(o.sig) : o.byte == 'V' ? "page" :
	       "wrong data", o.maj, o.min);
}

static void expect_sigbus(const char *name, struct outcome o,
			  const char *attempts, unsigned long reads)
{
	result(!strcmp(o.attempts, attempts) && o.sig == SIGBUS &&
	       o.reads == reads && !o.maj && !o.min, name,
	       "%s, %s, %lu reads, maj %ld min %ld", o.attempts,
	       o.sig ? strsignal(o.sig) : "page", o.reads, o.maj, o.min);
}

static void b1_to_b4_and_b6(void)
{
	/* What the way back from a signal touches is not to be counted below. */
	fault(1, VFR_SIGBUS);
	expect_page("B0 there at once",
		    fault(1, VFR_PAGE), "V", 0, 1);
	expect_page("B1 waits for storage once",
		    fault(2, VFR_READ, VFR_PAGE), "V Vt", 1, 0);
	expect_page("B2 waits for a lock once",
		    fault(2, VFR_WAIT, VFR_PAGE), "V V", 0, 1);
	expect_sigbus("B3 lasting error at once",
		      fault(1, VFR_SIGBUS), "V", 1);
	expect_sigbus("B3 lasting error, drops the lock whenever it may",
		      fault(1, VFR_FAIL), "V V Mt", 3);
	expect_sigbus("B3 the same after I/O",
		      fault(1, VFR_FAIL_MAJOR), "V Vt", 2);
	expect_page("B4 plain RETRY asks for mmap_lock",
		    fault(1, VFR_OLD_HARD), "V V Mt", 1, 0);
	expect_page("B6 HARD at the first attempt",
		    fault(1, VFR_HARD), "V M", 0, 1);
	expect_page("B6 HARD at the second attempt",
		    fault(2, VFR_WAIT, VFR_HARD), "V V M", 0, 1);
	expect_page("B6 HARD at the second attempt, after I/O",
		    fault(2, VFR_READ, VFR_HARD), "V Vt Mt", 1, 0);
	expect_page("B13 two waits for a lock",
		    fault(3, VFR_WAIT, VFR_WAIT, VFR_PAGE), "V V Mt", 1, 0);
	expect_page("B13 three waits for a lock",
		    fault(4, VFR_WAIT, VFR_WAIT, VFR_WAIT, VFR_PAGE),
		    "V V Mt Mt", 1, 0);
	expect_page("B13 four waits for a lock",
		    fault(5, VFR_WAIT, VFR_WAIT, VFR_WAIT, VFR_WAIT, VFR_PAGE),
		    "V V Mt Mt Mt", 1, 0);
}

/* ---- C10: the counters ---- */

static void counters(void)
{
	static const char * const name[] = {
		"vma_lock_retry", "vma_lock_retry_hard", "vma_lock_fallback"
	};
	static const struct {
		const char *what;
		int nr, action[3];
		int delta[3];
	} c[] = {
		{ "C10 counters of a success",
		  1, { VFR_PAGE }, { 0, 0, 0 } },
		{ "C10 counters of one soft retry",
		  2, { VFR_WAIT, VFR_PAGE }, { 1, 0, 0 } },
		{ "C10 counters of two soft retries",
		  3, { VFR_WAIT, VFR_WAIT, VFR_PAGE }, { 2, 0, 1 } },
		{ "C10 counters of a hard retry",
		  1, { VFR_HARD }, { 1, 1, 1 } },
		{ "C10 counters of a soft and a hard retry",
		  2, { VFR_WAIT, VFR_HARD }, { 2, 1, 1 } },
	};

	for (unsigned int i = 0; i < sizeof(c) / sizeof(*c); i++) {
		long before[3], delta[3];
		bool ok = true;

		for (int k = 0; k < 3; k++)
			before[k] = vmstat(name[k]);
		fault(c[i].nr, c[i].action[0], c[i].action[1], c[i].action[2]);
		for (int k = 0; k < 3; k++) {
			delta[k] = vmstat(name[k]) - before[k];
			ok &= before[k] >= 0 && delta[k] == c[i].delta[k];
		}
		if (before[2] < 0)
			result(ok, c[i].what, "retry +%ld, no other counters", delta[0]);
		else
			result(ok, c[i].what, "retry +%ld, hard +%ld, fallback +%ld",
			       delta[0], delta[1], delta[2]);
	}
}

/* ---- B5: RETRY for ever ---- */

static volatile sig_atomic_t handled;

static void handler(int sig)
{
	(void)sig;
	handled = 1;
	_exit(42);
}

/*
 * A child that faults for ever, from user mode or from within write(2), must
 * end within two seconds of the signal.
 */
static void b5_one(const char *name, int action, bool kernel_mode, int sig)
{
	struct vfr_script s = { .nr = 1, .action = { action } };
	struct outcome o = { 0 };
	bool want_handler = sig == SIGUSR1;
	int fd, status = 0, p[2];
	double t0, took;
	bool prefix;
	char *map;
	pid_t pid;

	fd = vfr_open(&s, &map);
	if (pipe(p))
		die("pipe");
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		signal(SIGUSR1, handler);
		if (kernel_mode)
			write(p[1], map, 1);
		else
			(void)*(volatile char *)map;
		_exit(1);
	}
	/* Not before it is well on its way, however slow the machine is. */
	t0 = now();
	do {
		msleep(50);
		vfr_read_log(fd, &o);
	} while (o.nr < 5 && now() - t0 < 10);
	kill(pid, sig);
	t0 = now();
	while (waitpid(pid, &status, WNOHANG) == 0 && now() - t0 < 2)
		msleep(1);
	took = now() - t0;
	if (took >= 2) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	/* Two attempts under the VMA lock and no more; none from kernel mode. */
	prefix = kernel_mode ? !strncmp(o.attempts, "M Mt Mt Mt", 10)
			     : !strncmp(o.attempts, "V V Mt Mt", 9);
	o.attempts[10] = 0;
	result(took < 2 && prefix &&
	       (want_handler ? WIFEXITED(status) && WEXITSTATUS(status) == 42
			     : WIFSIGNALED(status) && WTERMSIG(status) == sig),
	       name, "%s ..., %s", o.attempts, took < 2 ? "ended" : "did not end");
	close(p[0]);
	close(p[1]);
	munmap(map, page_size);
	close(fd);
}

static void b5(void)
{
	b5_one("B5 RETRY for ever, SIGKILL", VFR_EVER, false, SIGKILL);
	b5_one("B5 RETRY for ever, SIGTERM", VFR_EVER, false, SIGTERM);
	b5_one("B5 RETRY for ever, handled signal", VFR_EVER, false, SIGUSR1);
	b5_one("B5 RETRY for ever asleep, SIGKILL", VFR_EVER_SLEEP, false, SIGKILL);
	b5_one("B5 RETRY for ever asleep, handled signal", VFR_EVER_SLEEP, false, SIGUSR1);
	b5_one("B5 RETRY for ever in write(2), SIGKILL", VFR_EVER, true, SIGKILL);
}

/* ---- userfaultfd ---- */

static int uffd_open(__u64 features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		die("userfaultfd");
	if (ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		return -1;
	}
	return fd;
}

static bool uffd_read(int fd, struct uffd_msg *msg, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	for (;;) {
		if (poll(&pfd, 1, timeout_ms) != 1)
			return false;
		if (read(fd, msg, sizeof(*msg)) == sizeof(*msg))
			return true;
		if (errno != EAGAIN)
			die("read userfaultfd");
	}
}

struct toucher {
	pthread_t thread;
	char *addr;
	bool write;
	atomic_bool *go;	/* when set: spin until it is true */
	int delay;		/* loops after that */
	int fifo_cpu;		/* run as SCHED_FIFO on this CPU, or -1 */
	long maj, min;
	atomic_bool done;
};

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

static void unpin(void)
{
	cpu_set_t set;

	memset(&set, 0xff, sizeof(set));
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

static void *touch(void *arg)
{
	struct toucher *t = arg;
	struct sched_param sp = { .sched_priority = 10 };
	struct rusage before, after;

	if (t->fifo_cpu >= 0) {
		pin(t->fifo_cpu);
		if (sched_setscheduler(0, SCHED_FIFO, &sp))
			die("SCHED_FIFO");
	}
	while (t->go && !atomic_load(t->go))
		;
	for (volatile int i = 0; i < t->delay; i++)
		;
	getrusage(RUSAGE_THREAD, &after);
	getrusage(RUSAGE_THREAD, &before);
	if (t->write)
		*(volatile char *)t->addr = 1;
	else
		(void)*(volatile char *)t->addr;
	getrusage(RUSAGE_THREAD, &after);
	t->maj = after.ru_majflt - before.ru_majflt;
	t->min = after.ru_minflt - before.ru_minflt;
	atomic_store(&t->done, true);
	return NULL;
}

static void start(struct toucher *t)
{
	if (pthread_create(&t->thread, NULL, touch, t))
		die("pthread_create");
}

/* B13: woken without a page so often, then given one. */
static void b13_uffd(int waits, long maj, long min, long retries)
{
	struct toucher t = { .fifo_cpu = -1 };
	char name[64], *map, *src;
	struct uffdio_register reg = { 0 };
	struct uffdio_copy copy = { 0 };
	struct uffd_msg msg;
	long retry0, retry;
	int fd = uffd_open(0);

	map = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	src = aligned_alloc(page_size, page_size);
	memset(src, 7, page_size);
	reg.range.start = (unsigned long)map;
	reg.range.len = page_size;
	reg.mode = UFFDIO_REGISTER_MODE_MISSING;
	if (fd < 0 || ioctl(fd, UFFDIO_REGISTER, &reg))
		die("UFFDIO_REGISTER");
	retry0 = vmstat("vma_lock_retry");
	t.addr = map;
	start(&t);
	for (int i = 1; i <= waits; i++) {
		if (!uffd_read(fd, &msg, 5000))
			die("no userfaultfd message");
		/* Let it go to sleep. */
		msleep(20);
		if (i < waits && ioctl(fd, UFFDIO_WAKE, &reg.range))
			die("UFFDIO_WAKE");
	}
	copy.dst = (unsigned long)map;
	copy.src = (unsigned long)src;
	copy.len = page_size;
	if (ioctl(fd, UFFDIO_COPY, &copy))
		die("UFFDIO_COPY");
	pthread_join(t.thread, NULL);
	retry = vmstat("vma_lock_retry") - retry0;
	snprintf(name, sizeof(name), "B13 userfaultfd, %d wait%s", waits,
		 waits > 1 ? "s" : "");
	result(t.maj == maj && t.min == min && *map == 7 && retry == retries, name,
	       "maj %ld min %ld, %ld retries under the VMA lock",
	       t.maj, t.min, retry);
	munmap(map, page_size);
	close(fd);
	free(src);
}

/* ---- B12: the last chance to be woken ---- */

#define B12_PAGES	64
#define B12_WAITERS	3
#define B12_FRESH	3
#define B12_THREADS	(B12_WAITERS + B12_FRESH)

struct b12 {
	const char *name;
	__u64 mode, features;
	bool shmem, populate, write;
	int pages;
	bool fifo;		/* the waiters preempt who wakes them */
	int rounds;
};

static const struct b12 b12_modes[] = {
	{ "missing", UFFDIO_REGISTER_MODE_MISSING, 0, .rounds = 10 },
	{ "missing on shmem", UFFDIO_REGISTER_MODE_MISSING,
	  UFFD_FEATURE_MISSING_SHMEM, .shmem = true, .rounds = 10 },
	{ "wp", UFFDIO_REGISTER_MODE_WP, UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	  .populate = true, .write = true, .rounds = 10 },
	{ "minor", UFFDIO_REGISTER_MODE_MINOR, UFFD_FEATURE_MINOR_SHMEM,
	  .shmem = true, .populate = true, .rounds = 10 },
	{ "rwp", UFFDIO_REGISTER_MODE_RWP, UFFD_FEATURE_RWP,
	  .populate = true, .rounds = 10 },
	{ "missing, SCHED_FIFO waiters", UFFDIO_REGISTER_MODE_MISSING, 0,
	  .fifo = true, .rounds = 10 },
	{ "missing|wp, many pages",
	  UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	  UFFD_FEATURE_PAGEFAULT_FLAG_WP, .pages = 4096, .rounds = 20 },
};

/*
 * One round: threads wait in the range and others arrive just now, while it is
 * unregistered or the userfaultfd is closed. Return how many sleep on.
 */
static int b12_round(const struct b12 *m, bool closing, int fd, int round)
{
	int pages = m->pages ?: B12_PAGES, lost = 0, memfd = -1, nr_waiters = 0;
	size_t len = (size_t)pages * page_size;
	struct toucher t[B12_THREADS] = { 0 };
	struct uffdio_register reg = { 0 };
	int fresh = m->fifo ? 0 : B12_FRESH;
	int nr = B12_WAITERS + fresh;
	static atomic_bool go;
	struct uffd_msg msg;
	double t0;
	char *map;

	atomic_store(&go, false);
	if (m->shmem) {
		memfd = memfd_create("b12", 0);
		if (memfd < 0 || ftruncate(memfd, len))
			die("memfd");
	}
	map = mmap(NULL, len, PROT_READ | PROT_WRITE,
		   m->shmem ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, memfd, 0);
	if (map == MAP_FAILED)
		die("mmap");
	madvise(map, len, MADV_NOHUGEPAGE);
	if (m->mode & UFFDIO_REGISTER_MODE_MINOR) {
		/* in the page cache, but not in the page table */
		char *other = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED,
				   memfd, 0);

		memset(other, 1, len);
		munmap(other, len);
	} else if (m->populate) {
		memset(map, 1, len);
	} else if (m->pages) {
		/* every other page, so that clearing the protection takes long */
		for (int i = 1; i < pages; i += 2)
			map[(size_t)i * page_size] = 1;
	}
	reg.range.start = (unsigned long)map;
	reg.range.len = len;
	reg.mode = m->mode;
	if (ioctl(fd, UFFDIO_REGISTER, &reg))
		die("UFFDIO_REGISTER %s", m->name);
	if (m->mode & UFFDIO_REGISTER_MODE_WP) {
		struct uffdio_writeprotect wp = {
			.range = reg.range, .mode = UFFDIO_WRITEPROTECT_MODE_WP
		};

		if (ioctl(fd, UFFDIO_WRITEPROTECT, &wp))
			die("UFFDIO_WRITEPROTECT");
	}
	if (m->mode & UFFDIO_REGISTER_MODE_RWP) {
		struct uffdio_rwprotect rwp = {
			.range = reg.range, .mode = UFFDIO_RWPROTECT_MODE_RWP
		};

		if (ioctl(fd, UFFDIO_RWPROTECT, &rwp))
			die("UFFDIO_RWPROTECT");
	}

	for (int i = 0; i < nr; i++) {
		t[i].addr = map + (size_t)i * 2 * page_size;
		t[i].write = m->write;
		t[i].fifo_cpu = m->fifo ? 0 : -1;
		if (i >= B12_WAITERS) {
			t[i].go = &go;
			/* spread over the time the ioctl takes */
			t[i].delay = (round * 7 + i * 3) % 23 * (m->pages ? 2000 : 100);
		}
		start(&t[i]);
	}
	while (nr_waiters < B12_WAITERS && uffd_read(fd, &msg, 5000))
		nr_waiters++;
	if (nr_waiters < B12_WAITERS)
		die("%d waiters of %d", nr_waiters, B12_WAITERS);

	if (m->fifo)
		pin(0);
	atomic_store(&go, true);
	if (closing)
		close(fd);
	else if (ioctl(fd, UFFDIO_UNREGISTER, &reg.range))
		die("UFFDIO_UNREGISTER");
	if (m->fifo)
		unpin();

	t0 = now();
	for (int i = 0; i < nr; i++) {
		while (!atomic_load(&t[i].done) && now() - t0 < 1)
			msleep(1);
		lost += !atomic_load(&t[i].done);
	}
	/* The range is not registered any more: this wakes them for good. */
	for (int i = 0; i < nr; i++) {
		while (!atomic_load(&t[i].done)) {
			if (!closing)
				ioctl(fd, UFFDIO_WAKE, &reg.range);
			else if (now() - t0 > 10)
				die("lost after close");
			msleep(1);
		}
		pthread_join(t[i].thread, NULL);
	}
	munmap(map, len);
	if (memfd >= 0)
		close(memfd);
	return lost;
}

static void b12_one(const struct b12 *m, bool closing)
{
	int lost = 0, total = 0, fd;
	char name[80];

	snprintf(name, sizeof(name), "B12 %s, %s",
		 closing ? "close" : "UFFDIO_UNREGISTER", m->name);
	for (int r = 0; r < m->rounds; r++) {
		fd = uffd_open(m->features);
		if (fd < 0) {
			skip(name, "the kernel lacks the userfaultfd feature");
			return;
		}
		lost += b12_round(m, closing, fd, r);
		total += B12_WAITERS + (m->fifo ? 0 : B12_FRESH);
		if (!closing)
			close(fd);
		/* It is proved, and each such round costs a second. */
		if (lost > 2 && !all_rounds)
			break;
	}
	result(!lost, name, "%d of %d faults slept on", lost, total);
}

static void b12(void)
{
	for (unsigned int i = 0; i < sizeof(b12_modes) / sizeof(*b12_modes); i++) {
		b12_one(&b12_modes[i], false);
		b12_one(&b12_modes[i], true);
	}
}

int main(int argc, char **argv)
{
	all_rounds = argc > 1 && !strcmp(argv[1], "all");
	setvbuf(stdout, NULL, _IOLBF, 0);
	page_size = sysconf(_SC_PAGESIZE);
	/* A handler that breaks the contract: the console must tell. */
	if (argc > 1 && !strcmp(argv[1], "bad-alone"))
		return fault(1, VFR_BAD_ALONE).byte != 'V';
	if (argc > 1 && !strcmp(argv[1], "bad-mmap"))
		return fault(1, VFR_BAD_MMAP).byte != 'V';
	if (argc > 1 && !strcmp(argv[1], "bad-held"))
		return fault(2, VFR_BAD_HELD, VFR_BAD_MEND).byte != 'V';
	printf("KTAP version 1\n");
	b1_to_b4_and_b6();
	counters();
	b5();
	b13_uffd(1, 0, 1, 1);
	b13_uffd(2, 1, 0, 2);
	b13_uffd(3, 1, 0, 2);
	b13_uffd(4, 1, 0, 2);
	b12();
	printf("1..%d\n", nr_tests);
	return nr_failed != 0;
}
