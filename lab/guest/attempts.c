// SPDX-License-Identifier: GPL-2.0-only
/*
 * behave - the behaviours B1 to B12 of the retry, with real faults.
 *
 * Runs in the guest and prints KTAP: one line a behaviour, judged by what the
 * series promises, and behind the # what was seen. On the base kernel some of
 * them must fail; the host knows which (tests/base-fails).
 *
 * Attempts are written as V (under the VMA lock) or M (under mmap_lock), with a
 * t where FAULT_FLAG_TRIED was set. The number of attempts is the series' promise;
 * data, signals, si_code, maj and min must be base's.
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
#include <sys/stat.h>
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

#define PATIENCE	30	/* seconds: the CPUs of a busy host's guest */

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
static volatile int si_code;

static void jump(int sig, siginfo_t *info, void *context)
{
	(void)context;
	si_code = info->si_code;
	siglongjmp(on_signal, sig);
}

static void catch_signals(void)
{
	static const int signals[] = { SIGBUS, SIGSEGV, SIGALRM, SIGUSR1 };
	struct sigaction sa = { .sa_sigaction = jump, .sa_flags = SA_SIGINFO };

	for (unsigned int i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		sigaction(signals[i], &sa, NULL);
}

struct outcome {
	char attempts[VFR_LOG * 4 + 40];
	unsigned long nr, reads;
	bool held;		/* VFR_HOLD still held mmap_lock after the fault */
	int sig, code;		/* the signal the access met, or 0, and its si_code */
	char byte;		/* what it read */
	long maj, min;
};

/* The driver's page is the second of three: what is around it can be unmapped. */
static char *vfr_map(int fd)
{
	char *map = mmap(NULL, 3 * page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		die("mmap /dev/vfr");
	return map + page_size;
}

static void vfr_unmap(char *map)
{
	munmap(map - page_size, 3 * page_size);
}

static int vfr_open(const struct vfr_script *s)
{
	int fd = open("/dev/vfr", O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, VFR_SET, s))
		die("/dev/vfr");
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
	o->held = log.held;
	for (unsigned int i = 0; i < log.attempts && i < VFR_LOG; i++)
		p += sprintf(p, "%s%c%s", i ? " " : "",
			     log.attempt[i] & VFR_BY_VMA_LOCK ? 'V' : 'M',
			     log.attempt[i] & VFR_TRIED ? "t" : "");
	*p = 0;
	if (o->nr > VFR_LOG)
		sprintf(p, " ..., %lu attempts", o->nr);
}

/* Wait until an attempt waits in VFR_WAIT_GO, or until VFR_HOLD holds its lock. */
static void vfr_await(int fd, bool held)
{
	/* Written here: the kernel, which takes mmap_lock for its faults, would end VFR_HOLD. */
	struct vfr_log log = { 0 };
	double t0 = now();

	do {
		usleep(1000);
		if (ioctl(fd, VFR_GET, &log))
			die("VFR_GET");
	} while (!(held ? log.held : log.waiting) && now() - t0 < PATIENCE);
}

/* Fault on the driver's page; the log is left to the caller. */
static struct outcome touch_page(char *map, bool write)
{
	struct outcome o = { 0 };
	struct rusage before, after;

	alarm(2 * PATIENCE);	/* no fault is kept for ever */
	getrusage(RUSAGE_THREAD, &after);	/* nothing below faults but the access */
	getrusage(RUSAGE_THREAD, &before);
	o.sig = sigsetjmp(on_signal, 1);
	if (!o.sig && write)
		*(volatile char *)map = 'V';
	if (!o.sig)
		o.byte = *(volatile char *)map;
	getrusage(RUSAGE_THREAD, &after);
	alarm(0);
	o.code = o.sig ? si_code : 0;
	o.maj = after.ru_majflt - before.ru_majflt;
	o.min = after.ru_minflt - before.ru_minflt;
	return o;
}

/**
 * struct beside - what another thread does beside a fault
 * @func: what
 * @at_once: before the fault, which begins when VFR_HOLD holds its lock; or else while an
 *	     attempt waits in VFR_WAIT_GO, which then ends
 * @write: it is a write fault
 */
struct beside {
	void (*func)(const struct beside *b);
	bool at_once, write;

	int fd;
	char *map;
	pthread_t faulting, thread;
};

static void *run_beside(void *arg)
{
	const struct beside *b = arg;
	sigset_t alarms;

	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarms, NULL);
	if (!b->at_once)
		vfr_await(b->fd, false);
	b->func(b);
	ioctl(b->fd, VFR_GO);
	return NULL;
}

/* A thread that was joined can still be about to take mmap_lock, which would end VFR_HOLD. */
static void await_exits(void)
{
	struct stat st;

	while (!stat("/proc/self/task", &st) && st.st_nlink > 3)
		usleep(1000);
}

static struct outcome fault_beside(const struct vfr_script *s, struct beside *b)
{
	struct outcome o;

	if (b->func)
		await_exits();
	b->fd = vfr_open(s);
	b->map = vfr_map(b->fd);
	b->faulting = pthread_self();
	if (b->func && pthread_create(&b->thread, NULL, run_beside, b))
		die("pthread_create");
	if (b->at_once)
		vfr_await(b->fd, true);
	o = touch_page(b->map, b->write);
	vfr_read_log(b->fd, &o);
	vfr_unmap(b->map);	/* VFR_HOLD ends, if only now */
	if (b->func)
		pthread_join(b->thread, NULL);
	close(b->fd);
	return o;
}

static struct outcome fault(int nr, ...)
{
	struct vfr_script s = { .nr = nr, .wait_ms = 2 };
	struct beside nothing = { 0 };
	va_list ap;

	va_start(ap, nr);
	for (int i = 0; i < nr; i++)
		s.action[i] = va_arg(ap, int);
	va_end(ap);
	return fault_beside(&s, &nothing);
}

static const char *what_came(const struct outcome *o)
{
	return o->sig ? strsignal(o->sig) : o->byte == 'V' ? "page" : "wrong data";
}

static void expect_page(const char *name, struct outcome o,
			const char *attempts, long maj, long min)
{
	result(!strcmp(o.attempts, attempts) && !o.sig && o.byte == 'V' &&
	       o.maj == maj && o.min == min, name, "%s, %s, maj %ld min %ld",
	       o.attempts, what_came(&o), o.maj, o.min);
}

static void expect_sigbus(const char *name, struct outcome o,
			  const char *attempts, unsigned long reads)
{
	result(!strcmp(o.attempts, attempts) && o.sig == SIGBUS && o.code == BUS_ADRERR &&
	       o.reads == reads && !o.maj && !o.min, name,
	       "%s, %s, %lu reads, maj %ld min %ld", o.attempts,
	       what_came(&o), o.reads, o.maj, o.min);
}

static void one_fault(void)
{
	/* What the way back from a signal touches is not to be counted below. */
	fault(1, VFR_SIGBUS);
	expect_page("B0 there at once",
		    fault(1, VFR_PAGE), "V", 0, 1);
	expect_page("B1 waits for storage once",
		    fault(2, VFR_READ, VFR_PAGE), "V V", 1, 0);
	expect_page("B2 waits for a lock once",
		    fault(2, VFR_WAIT, VFR_PAGE), "V V", 0, 1);
	expect_sigbus("B3 lasting error at once",
		      fault(1, VFR_SIGBUS), "V", 1);
	expect_sigbus("B3 lasting error, drops the lock whenever it may",
		      fault(1, VFR_FAIL), "V V V Mt", 4);
	expect_sigbus("B3 the same after I/O",
		      fault(1, VFR_FAIL_MAJOR), "V V V Mt", 4);
	expect_page("B4 plain RETRY asks for mmap_lock",
		    fault(1, VFR_OLD_HARD), "V V V Mt", 1, 0);
	expect_page("B6 HARD at the first attempt",
		    fault(1, VFR_HARD), "V M", 0, 1);
	expect_page("B6 HARD at the first attempt, after I/O",
		    fault(1, VFR_HARD_MAJOR), "V Mt", 1, 0);
	expect_page("B6 HARD at the second attempt",
		    fault(2, VFR_WAIT, VFR_HARD), "V V M", 0, 1);
	expect_page("B6 HARD at the second attempt, after I/O",
		    fault(2, VFR_READ, VFR_HARD), "V V Mt", 1, 0);
	expect_page("B6 HARD at the third attempt",
		    fault(3, VFR_WAIT, VFR_WAIT, VFR_HARD), "V V V Mt", 1, 0);
	expect_page("B6 HARD, then a wait",
		    fault(3, VFR_HARD, VFR_WAIT, VFR_PAGE), "V M V", 1, 0);
	expect_page("B6 HARD, then a wait, then HARD",
		    fault(3, VFR_HARD, VFR_WAIT, VFR_HARD), "V M V Mt", 1, 0);
	expect_page("B8 two waits for a lock",
		    fault(3, VFR_WAIT, VFR_WAIT, VFR_PAGE), "V V V", 1, 0);
	expect_page("B8 three waits for a lock",
		    fault(4, VFR_WAIT, VFR_WAIT, VFR_WAIT, VFR_PAGE), "V V V Mt", 1, 0);
	expect_page("B8 four waits for a lock",
		    fault(5, VFR_WAIT, VFR_WAIT, VFR_WAIT, VFR_WAIT, VFR_PAGE),
		    "V V V Mt Mt", 1, 0);
	expect_page("B8 five waits for a lock",
		    fault(6, VFR_WAIT, VFR_WAIT, VFR_WAIT, VFR_WAIT, VFR_WAIT, VFR_PAGE),
		    "V V V Mt Mt Mt", 1, 0);
}

/* ---- every sequence of answers ---- */

#define MAX_WAITS	5
#define BOUND		3	/* attempts that may wait, until one has TRIED */

/*
 * Whether this is a major fault, by the rules of the base kernel: it makes the first attempt
 * under the VMA lock and all others under mmap_lock, the second with TRIED if the first said
 * MAJOR, all later ones with it.
 */
static bool is_major(const struct vfr_script *s)
{
	bool by_vma_lock = true, tried = false, did_io = false;

	for (unsigned int i = 0; ; i++) {
		__u32 action = s->action[i];

		did_io |= action == VFR_READ || action == VFR_HARD_MAJOR ||
			  action == VFR_PAGE_MAJOR;
		if (action == VFR_PAGE || action == VFR_PAGE_MAJOR)
			return tried || did_io;
		if (!by_vma_lock && (action == VFR_HARD || action == VFR_HARD_MAJOR))
			continue;	/* the same attempt goes on */
		tried |= did_io || !by_vma_lock;
		by_vma_lock = did_io = false;
	}
}

/*
 * The attempts that the series promises: under the VMA lock, but after a hard retry and after
 * BOUND waits. An attempt under mmap_lock has TRIED if the fault is a major one by then; and
 * so have all attempts after it.
 */
static void promised(const struct vfr_script *s, char *attempts)
{
	bool hard = false, tried = false, major = false;
	unsigned int waits = 0;

	for (unsigned int i = 0; ; i++) {
		bool by_vma_lock = !hard && !tried && waits < BOUND;
		__u32 action = s->action[i];

		if (!by_vma_lock && major)
			tried = true;
		attempts += sprintf(attempts, "%s%s", i ? " " : "",
				    by_vma_lock ? "V" : tried ? "Mt" : "M");
		/* Under mmap_lock, it goes on to what it needs that lock for. */
		while (!by_vma_lock && (action == VFR_HARD || action == VFR_HARD_MAJOR)) {
			major |= action == VFR_HARD_MAJOR;
			action = s->action[++i];
		}
		if (action == VFR_PAGE || action == VFR_PAGE_MAJOR)
			return;
		hard = action == VFR_HARD || action == VFR_HARD_MAJOR;
		major |= action == VFR_READ || action == VFR_HARD_MAJOR || !by_vma_lock ||
			 (!hard && waits);
		waits += !hard;
	}
}

static void every_sequence(void)
{
	static const char letter[] = {
		[VFR_PAGE] = 'p', [VFR_PAGE_MAJOR] = 'P', [VFR_WAIT] = 'w',
		[VFR_READ] = 'r', [VFR_HARD] = 'h', [VFR_HARD_MAJOR] = 'H'
	};
	static const int answer[] = { VFR_WAIT, VFR_READ, VFR_HARD, VFR_HARD_MAJOR };
	static const int last[] = { VFR_PAGE, VFR_PAGE_MAJOR };
	char wrong_count[160] = "", wrong_attempts[240] = "", want[VFR_LOG * 4];
	unsigned int nr = 0, bad_count = 0, bad_attempts = 0;
	struct vfr_script s = { .nr = 1 };
	int fd = vfr_open(&s);

	for (unsigned int waits = 0; waits <= MAX_WAITS; waits++) {
		for (unsigned int k = 0; k < 2U << 2 * waits; k++) {
			char text[VFR_STEPS + 1] = "", *map;
			struct outcome o;
			bool major;

			for (unsigned int i = 0; i < waits; i++)
				s.action[i] = answer[k >> (2 * i + 1) & 3];
			s.action[waits] = last[k & 1];
			s.nr = waits + 1;
			for (unsigned int i = 0; i < s.nr; i++)
				text[i] = letter[s.action[i]];
			if (ioctl(fd, VFR_SET, &s))
				die("VFR_SET");
			map = vfr_map(fd);
			o = touch_page(map, false);
			vfr_read_log(fd, &o);
			vfr_unmap(map);
			nr++;
			major = is_major(&s);
			if (o.sig || o.byte != 'V' || o.maj != major || o.min != !major) {
				if (!bad_count++)
					sprintf(wrong_count, ", e.g. %s: %s, maj %ld min %ld",
						text, what_came(&o), o.maj, o.min);
			}
			promised(&s, want);
			if (strcmp(o.attempts, want) && !bad_attempts++)
				sprintf(wrong_attempts, ", e.g. %s: %s, not %s", text,
					o.attempts, want);
		}
	}
	close(fd);
	result(!bad_count, "B8 maj and min of every sequence of answers",
	       "%u sequences, %u wrong%s", nr, bad_count, wrong_count);
	result(!bad_attempts, "B8 attempts of every sequence of answers",
	       "%u sequences, %u wrong%s", nr, bad_attempts, wrong_attempts);
}

/* ---- what changes while a fault waits ---- */

static void unmap_it(const struct beside *b)
{
	munmap(b->map, page_size);
}

static void replace_it(const struct beside *b)
{
	char *map = mmap(b->map, page_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (map != b->map)
		die("mmap");
	*map = 'V';
}

static void protect_it(const struct beside *b)
{
	if (mprotect(b->map, page_size, b->write ? PROT_READ : PROT_NONE))
		die("mprotect");
}

static void protect_and_back(const struct beside *b)
{
	if (mprotect(b->map, page_size, PROT_NONE) ||
	    mprotect(b->map, page_size, PROT_READ | PROT_WRITE))
		die("mprotect");
}

static void move_it(const struct beside *b)
{
	char *to = mmap(NULL, page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mremap(b->map, page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		die("mremap");
	munmap(to, page_size);
}

static void unmap_around_it(const struct beside *b)
{
	munmap(b->map - page_size, page_size);
	munmap(b->map + page_size, page_size);
}

static void hold_mmap_lock(const struct beside *b)
{
	struct vfr_hold hold = { .limit_ms = PATIENCE * 1000 };

	if (ioctl(b->fd, VFR_HOLD, &hold))
		die("VFR_HOLD");
}

static void write_lock_it(const struct beside *b)
{
	struct vfr_hold hold = { .addr = (unsigned long)b->map, .limit_ms = PATIENCE * 1000 };

	if (ioctl(b->fd, VFR_HOLD, &hold))
		die("VFR_HOLD");
}

static void signal_it(const struct beside *b)
{
	pthread_kill(b->faulting, SIGUSR1);
}

/* A fault that waits so often, and then for something to happen to its VMA. */
static void changed_while_waiting(void)
{
	static const struct {
		const char *what;
		void (*func)(const struct beside *b);
		bool write;
		int sig, code;
	} c[] = {
		{ "unmapped", unmap_it, false, SIGSEGV, SEGV_MAPERR },
		{ "replaced", replace_it, false, 0, 0 },
		{ "mprotected", protect_it, false, SIGSEGV, SEGV_ACCERR },
		{ "made read-only, a write", protect_it, true, SIGSEGV, SEGV_ACCERR },
		{ "mprotected and back", protect_and_back, false, 0, 0 },
		{ "moved away", move_it, false, SIGSEGV, SEGV_MAPERR },
		{ "cut out", unmap_around_it, false, 0, 0 },
		{ "write-locked", write_lock_it, false, 0, 0 },
	};

	for (unsigned int i = 0; i < sizeof(c) / sizeof(*c); i++) {
		char name[80], wrong[160] = "";

		for (unsigned int n = 0; n < 4; n++) {
			struct vfr_script s = { .nr = n + 2 };
			struct beside b = { .func = c[i].func, .write = c[i].write };
			long maj = !c[i].sig && n, min = !c[i].sig && !n;
			struct outcome o;

			for (unsigned int k = 0; k < n; k++)
				s.action[k] = VFR_WAIT;
			s.action[n] = VFR_WAIT_GO;
			s.action[n + 1] = VFR_PAGE;
			o = fault_beside(&s, &b);
			if (o.sig != c[i].sig || o.code != c[i].code ||
			    (!o.sig && o.byte != 'V') || o.maj != maj || o.min != min)
				sprintf(wrong, "wait %u: %s, %s, si_code %d, maj %ld min %ld",
					n + 1, o.attempts, what_came(&o), o.code, o.maj, o.min);
		}
		sprintf(name, "B7 %s in any of four waits", c[i].what);
		result(!*wrong, name, "%s", *wrong ? wrong : "as it should be");
	}
}

/* The look-up under the VMA lock fails, since a writer has it. */
static void look_up_fails(void)
{
	static const struct {
		const char *name;
		struct vfr_script s;
		bool at_once;
		const char *attempts;
		bool major;
	} c[] = {
		{ "C3 look-up fails, no wait",
		  { 1, { VFR_PAGE }, 0 }, true, "M", false },
		{ "C3 look-up fails, then a wait",
		  { 2, { VFR_WAIT, VFR_PAGE }, 0 }, true, "M V", true },
		{ "C3 look-up fails, then two waits",
		  { 3, { VFR_WAIT, VFR_WAIT, VFR_PAGE }, 0 }, true, "M V V", true },
		{ "C3 look-up fails, then four waits",
		  { 5, { VFR_WAIT, VFR_WAIT, VFR_WAIT, VFR_WAIT, VFR_PAGE }, 0 }, true,
		  "M V V Mt Mt", true },
		{ "C3 look-up fails, then HARD after a wait",
		  { 2, { VFR_WAIT, VFR_HARD }, 0 }, true, "M V Mt", true },
		{ "C3 look-up fails after a wait",
		  { 2, { VFR_WAIT_GO, VFR_PAGE }, 0 }, false, "V M", false },
		{ "C3 look-up fails after a wait, then three",
		  { 5, { VFR_WAIT_GO, VFR_WAIT, VFR_WAIT, VFR_WAIT, VFR_PAGE }, 0 }, false,
		  "V M V Mt Mt", true },
		{ "C3 look-up fails after two waits, then two",
		  { 5, { VFR_WAIT, VFR_WAIT_GO, VFR_WAIT, VFR_WAIT, VFR_PAGE }, 0 }, false,
		  "V V M Mt Mt", true },
	};
	struct vfr_script script = { 2, { VFR_READ, VFR_PAGE }, 2 };
	struct beside b = { .func = hold_mmap_lock, .at_once = true };
	struct outcome o;

	for (unsigned int i = 0; i < sizeof(c) / sizeof(*c); i++) {
		struct beside writer = { .func = write_lock_it, .at_once = c[i].at_once };

		/* Whoever else takes mmap_lock, for vvar say, ends VFR_HOLD: then once more. */
		for (int tries = 0; tries < 3; tries++) {
			o = fault_beside(&c[i].s, &writer);
			if (!strcmp(o.attempts, c[i].attempts))
				break;
		}
		expect_page(c[i].name, o, c[i].attempts, c[i].major, !c[i].major);
	}
	/* The whole point: another VMA's writer is not waited for. */
	for (int tries = 0; tries < 3; tries++) {
		o = fault_beside(&script, &b);
		if (o.held)
			break;
	}
	result(!strcmp(o.attempts, "V V") && o.byte == 'V' && o.held,
	       "B1 waits for storage once, a writer holds mmap_lock", "%s, %s, %s", o.attempts,
	       what_came(&o), o.held ? "the writer still has it" : "waited for the writer");
}

/* ---- C11: the counters ---- */

static void counters(void)
{
	static const char * const name[] = {
		"vma_lock_retry", "vma_lock_retry_hard", "vma_lock_fallback"
	};
	static const struct {
		const char *what;
		int nr, action[4];
		int delta[3];
	} c[] = {
		{ "C11 counters of a success",
		  1, { VFR_PAGE }, { 0, 0, 0 } },
		{ "C11 counters of one wait",
		  2, { VFR_WAIT, VFR_PAGE }, { 1, 0, 0 } },
		{ "C11 counters of three waits",
		  4, { VFR_WAIT, VFR_WAIT, VFR_WAIT, VFR_PAGE }, { 3, 0, 1 } },
		{ "C11 counters of a hard retry",
		  1, { VFR_HARD }, { 1, 1, 1 } },
		{ "C11 counters of a wait and a hard retry",
		  2, { VFR_WAIT, VFR_HARD }, { 2, 1, 1 } },
	};

	for (unsigned int i = 0; i < sizeof(c) / sizeof(*c); i++) {
		long before[3], delta[3];
		bool ok = true;

		for (int k = 0; k < 3; k++)
			before[k] = vmstat(name[k]);
		fault(c[i].nr, c[i].action[0], c[i].action[1], c[i].action[2], c[i].action[3]);
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

/* ---- B5: signals, and RETRY for ever ---- */

static void handler(int sig)
{
	(void)sig;
	_exit(42);
}

/*
 * A child that faults, from user mode or from within write(2), must end by the signal. It
 * gets that after so many attempts, the last of which waits.
 */
static struct outcome b5_child(const struct vfr_script *s, unsigned long attempts,
			       bool kernel_mode, int sig, bool *ended)
{
	struct outcome o = { 0 };
	int fd, status = 0, p[2];
	double t0;
	char *map;
	pid_t pid;

	fd = vfr_open(s);
	map = vfr_map(fd);
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
		msleep(20);
		vfr_read_log(fd, &o);
	} while (o.nr < attempts && now() - t0 < PATIENCE);
	msleep(20);
	kill(pid, sig);
	t0 = now();
	while (waitpid(pid, &status, WNOHANG) == 0 && now() - t0 < PATIENCE)
		msleep(1);
	*ended = now() - t0 < PATIENCE;
	if (!*ended) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	*ended &= sig == SIGUSR1 ? WIFEXITED(status) && WEXITSTATUS(status) == 42
				 : WIFSIGNALED(status) && WTERMSIG(status) == sig;
	vfr_read_log(fd, &o);
	close(p[0]);
	close(p[1]);
	vfr_unmap(map);
	close(fd);
	return o;
}

/* A signal in one of its waits: the attempt that waits is the last one. */
static void signal_in_wait(void)
{
	static const struct {
		const char *name;
		int sig;
	} c[] = {
		{ "B5 handled signal in any of five waits", SIGUSR1 },
		{ "B5 SIGTERM in any of five waits", SIGTERM },
		{ "B5 SIGKILL in any of five waits", SIGKILL },
		{ "B5 maj and min when a handler jumps out of the fault", 0 }
	};

	for (unsigned int i = 0; i < sizeof(c) / sizeof(*c); i++) {
		char wrong[160] = "";

		for (unsigned int n = 0; n < 5; n++) {
			struct vfr_script s = { .nr = n + 2 };
			struct beside b = { .func = signal_it };
			struct outcome o;
			bool ended = true;

			for (unsigned int k = 0; k < n; k++)
				s.action[k] = VFR_WAIT;
			s.action[n] = VFR_WAIT_GO;
			s.action[n + 1] = VFR_PAGE;
			/* What the handler itself touches first is not to be counted. */
			if (!c[i].sig && !n)
				fault_beside(&s, &b);
			o = c[i].sig ? b5_child(&s, n + 1, false, c[i].sig, &ended) :
				       fault_beside(&s, &b);
			if (!ended || o.nr != n + 1 || o.maj || o.min ||
			    (!c[i].sig && o.sig != SIGUSR1))
				sprintf(wrong, "wait %u: %s, %s, maj %ld min %ld", n + 1,
					o.attempts, ended ? "ended" : "did not end",
					o.maj, o.min);
		}
		result(!*wrong, c[i].name, "%s", *wrong ? wrong : "ended by it");
	}
}

static void b5_ever(const char *name, int action, bool kernel_mode, int sig)
{
	struct vfr_script s = { .nr = 1, .action = { action } };
	const char *want = kernel_mode ? "M Mt Mt Mt" : "V V V Mt Mt Mt";
	bool ended;
	struct outcome o = b5_child(&s, 6, kernel_mode, sig, &ended);

	/* No attempt under the VMA lock after those; none at all from kernel mode. */
	o.attempts[strlen(want)] = 0;
	result(ended && !strcmp(o.attempts, want), name, "%s ..., %s", o.attempts,
	       ended ? "ended" : "did not end");
}

static void b5(void)
{
	b5_ever("B5 RETRY for ever, SIGKILL", VFR_EVER, false, SIGKILL);
	b5_ever("B5 RETRY for ever, SIGTERM", VFR_EVER, false, SIGTERM);
	b5_ever("B5 RETRY for ever, handled signal", VFR_EVER, false, SIGUSR1);
	b5_ever("B5 RETRY for ever asleep, SIGKILL", VFR_EVER_SLEEP, false, SIGKILL);
	b5_ever("B5 RETRY for ever asleep, handled signal", VFR_EVER_SLEEP, false, SIGUSR1);
	b5_ever("B5 RETRY for ever in write(2), SIGKILL", VFR_EVER, true, SIGKILL);
	signal_in_wait();
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
	atomic_int tid;
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

	atomic_store(&t->tid, syscall(SYS_gettid));
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

/* Woken without a page so often, then given one. */
static void uffd_waits(int waits, long maj, long min, long retries)
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
		if (!uffd_read(fd, &msg, PATIENCE * 1000))
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
	snprintf(name, sizeof(name), "B9 userfaultfd, %d wait%s", waits,
		 waits > 1 ? "s" : "");
	result(t.maj == maj && t.min == min && *map == 7 && retry == retries, name,
	       "maj %ld min %ld, %ld retries under the VMA lock",
	       t.maj, t.min, retry);
	munmap(map, page_size);
	close(fd);
	free(src);
}

/* ---- B11: a fault keeps the CPU from who closes its userfaultfd ---- */

/**
 * struct b11 - who closes the userfaultfd, and who faults, both on one CPU
 * @uffd: to be closed
 * @map: registered with it
 * @go: what the fault waits for, and what the closer waits for
 * @closed: it is
 * @cpu: seconds the fault took of the CPU
 */
struct b11 {
	int uffd;
	char *map;
	int go[2][2];
	atomic_bool closed, done;
	double cpu;
};

struct hold_args {
	int fd;
	struct vfr_hold hold;
};

static void *b11_hold(void *arg)
{
	struct hold_args *h = arg;

	if (ioctl(h->fd, VFR_HOLD, &h->hold))
		die("VFR_HOLD");
	return NULL;
}

static double cpu_time(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void await_byte(int fd)
{
	char c;

	if (read(fd, &c, 1) != 1)
		die("read");
}

static void *b11_close(void *arg)
{
	struct b11 *b = arg;

	pin(0);
	await_byte(b->go[0][0]);
	close(b->uffd);
	atomic_store(&b->closed, true);
	return NULL;
}

static void *b11_fault(void *arg)
{
	struct sched_param sp = { .sched_priority = 10 };
	struct b11 *b = arg;
	double t;

	pin(0);
	if (sched_setscheduler(0, SCHED_FIFO, &sp))
		die("SCHED_FIFO");
	await_byte(b->go[1][0]);
	t = cpu_time();
	(void)*(volatile char *)b->map;
	b->cpu = cpu_time() - t;
	atomic_store(&b->done, true);
	return NULL;
}

/*
 * The closer has released the userfaultfd and waits for mmap_lock, which a third task holds,
 * to take it off the VMA. Faults in this VMA are to be retried until then: not for ever under
 * the VMA lock, which waits for nobody.
 */
static void b11(void)
{
	struct vfr_hold hold = { .limit_ms = 5000, .more_ms = 300 };
	struct vfr_script s = { 1, { VFR_PAGE }, 0 };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct b11 b = { .uffd = uffd_open(0) };
	pthread_t closer, faulting, holder;
	struct hold_args h = { .fd = vfr_open(&s), .hold = hold };
	long retries;
	double t0;

	await_exits();
	b.map = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = (unsigned long)b.map;
	reg.range.len = page_size;
	if (b.map == MAP_FAILED || ioctl(b.uffd, UFFDIO_REGISTER, &reg) ||
	    pipe(b.go[0]) || pipe(b.go[1]))
		die("UFFDIO_REGISTER");
	if (pthread_create(&closer, NULL, b11_close, &b) ||
	    pthread_create(&faulting, NULL, b11_fault, &b))
		die("pthread_create");
	msleep(50);
	if (pthread_create(&holder, NULL, b11_hold, &h))
		die("pthread_create");
	vfr_await(h.fd, true);
	write(b.go[0][1], "", 1);
	msleep(100);		/* the closer waits */
	retries = vmstat("vma_lock_retry");
	write(b.go[1][1], "", 1);
	for (t0 = now(); now() - t0 < 5 && !atomic_load(&b.done); msleep(10))
		;
	if (!atomic_load(&b.done)) {
		struct sched_param sp = { 0 };

		pthread_setschedparam(faulting, SCHED_OTHER, &sp);
	}
	pthread_join(faulting, NULL);
	pthread_join(closer, NULL);
	pthread_join(holder, NULL);
	retries = vmstat("vma_lock_retry") - retries;
	/* Without any retry it did not meet the closer. */
	result(retries >= 1 && retries <= BOUND,
	       "B11 fault of SCHED_FIFO, its userfaultfd is being closed",
	       "%ld retries under the VMA lock, %.3f s of the CPU", retries, b.cpu);
	munmap(b.map, page_size);
	close(h.fd);
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

/* A fault that waits on is asleep; one that does not get a busy host's CPU is not. */
static bool asleep(const struct toucher *t)
{
	char path[64], state = 0;
	FILE *f;

	sprintf(path, "/proc/self/task/%d/stat", atomic_load(&t->tid));
	f = fopen(path, "r");
	if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 0;
	if (f)
		fclose(f);
	return state == 'S';
}

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
	while (nr_waiters < B12_WAITERS && uffd_read(fd, &msg, PATIENCE * 1000))
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
		while (!atomic_load(&t[i].done) && now() - t0 < PATIENCE &&
		       !(now() - t0 > 1 && asleep(&t[i])))
			msleep(1);
		lost += !atomic_load(&t[i].done);
	}
	/* The range is not registered any more: this wakes them for good. */
	for (int i = 0; i < nr; i++) {
		while (!atomic_load(&t[i].done)) {
			if (!closing)
				ioctl(fd, UFFDIO_WAKE, &reg.range);
			else if (now() - t0 > 2 * PATIENCE)
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

/* A handler that breaks the contract: the console must tell. The program itself is fine. */
static int break_contract(const char *how)
{
	struct vfr_script s = { 2, { VFR_BAD_HELD, VFR_PAGE }, 0 };
	char *map;
	int fd;

	if (!strcmp(how, "bad-alone"))
		return fault(1, VFR_BAD_ALONE).byte != 'V';
	if (!strcmp(how, "bad-mmap"))
		return fault(1, VFR_BAD_MMAP).byte != 'V';
	if (strcmp(how, "bad-tried") && strcmp(how, "bad-held"))
		return 3;
	if (!strcmp(how, "bad-tried"))
		s.action[0] = VFR_PAGE;
	fd = vfr_open(&s);
	map = vfr_map(fd);
	if (!strcmp(how, "bad-tried"))
		return !!ioctl(fd, VFR_BAD_TRIED, map);
	if (*(volatile char *)map != 'V')
		return 1;
	return !!ioctl(fd, VFR_MEND);
}

int main(int argc, char **argv)
{
	all_rounds = argc > 1 && !strcmp(argv[1], "all");
	setvbuf(stdout, NULL, _IOLBF, 0);
	page_size = sysconf(_SC_PAGESIZE);
	catch_signals();
	if (argc > 1 && !all_rounds)
		return break_contract(argv[1]);
	printf("KTAP version 1\n");
	one_fault();
	every_sequence();
	look_up_fails();
	changed_while_waiting();
	counters();
	b5();
	uffd_waits(1, 0, 1, 1);
	uffd_waits(2, 1, 0, 2);
	uffd_waits(3, 1, 0, 3);
	uffd_waits(4, 1, 0, 3);
	b11();
	b12();
	printf("1..%d\n", nr_tests);
	return nr_failed != 0;
}
