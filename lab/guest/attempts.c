// SPDX-License-Identifier: GPL-2.0-only
/*
 * attempts - the behaviours B0 to B12, C3 and C11 of the retry, with real faults.
 *
 * Runs in the guest and prints KTAP: one line a behaviour, judged by what the series promises,
 * and behind the # what was seen. On the base kernel some of them must fail; the host knows
 * which (lab/expect/base-fails).
 *
 * Attempts are written as V (under the VMA lock) or M (under mmap_lock), with a t where
 * FAULT_FLAG_TRIED was set. The number of attempts is the series' promise; data, signals,
 * si_code, maj and min must be base's.
 *
 * Most faults are those of the test driver, which gives its answers to the attempts one after
 * the other, and the last one for ever:
 *	p, P	here is the page; P: after I/O, MAJOR
 *	w, r	drop the lock, wait, RETRY; r: for the device, MAJOR
 *	g	as w, but wait until the test says so
 *	h, H	mmap_lock is needed: under the VMA lock RETRY | RETRY_HARD, under mmap_lock the
 *		next answer; H: after I/O, MAJOR
 *	o	mmap_lock is needed, by the old convention: under the VMA lock a plain RETRY
 *	e	a lasting error
 *	f, F	the same, but drop the lock and RETRY whenever that is allowed; F: MAJOR
 *	*	drop the lock and RETRY whenever ALLOW_RETRY is set
 * More of them is said in vfr.h, where they have names.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "bench.h"
#include "vfr.h"

#define BOUND		3	/* attempts that may wait, until one has TRIED */
#define PATIENCE	30	/* seconds: the CPUs of a busy host's guest */

/* How a fault ends. */
enum end { MINOR, MAJOR, ERROR };

/* Who else is there, and holds a lock for writing. */
enum writer {
	NONE,
	AT_FIRST,	/* has the VMA lock when the fault begins */
	IN_WAIT,	/* takes the VMA lock while an attempt waits by 'g' */
	ELSEWHERE,	/* has mmap_lock until the fault is over, but not this VMA */
};

static const struct behaviour {
	const char *name, *answers, *attempts;
	enum end end;
	enum writer writer;
} behaviours[] = {
	{ "B0 there at once", "p", "V", MINOR, NONE },
	{ "B1 waits for storage once", "rp", "V V", MAJOR, NONE },
	{ "B1 waits for storage once, a writer holds mmap_lock", "rp", "V V", MAJOR, ELSEWHERE },
	{ "B2 waits for a lock once", "wp", "V V", MINOR, NONE },
	{ "B3 lasting error at once", "e", "V", ERROR, NONE },
	{ "B3 lasting error, drops the lock whenever it may", "f", "V V V Mt", ERROR, NONE },
	{ "B3 the same after I/O", "F", "V V V Mt", ERROR, NONE },
	{ "B4 plain RETRY asks for mmap_lock", "o", "V V V Mt", MAJOR, NONE },
	{ "B6 HARD at the first attempt", "hp", "V M", MINOR, NONE },
	{ "B6 HARD at the first attempt, after I/O", "Hp", "V Mt", MAJOR, NONE },
	{ "B6 HARD at the second attempt", "whp", "V V M", MINOR, NONE },
	{ "B6 HARD at the second attempt, after I/O", "rhp", "V V Mt", MAJOR, NONE },
	{ "B6 HARD at the third attempt", "wwhp", "V V V Mt", MAJOR, NONE },
	{ "B6 HARD, then a wait", "hwp", "V M V", MAJOR, NONE },
	{ "B6 HARD, then a wait, then HARD", "hwhp", "V M V Mt", MAJOR, NONE },
	{ "B8 two waits for a lock", "wwp", "V V V", MAJOR, NONE },
	{ "B8 three waits for a lock", "wwwp", "V V V Mt", MAJOR, NONE },
	{ "B8 four waits for a lock", "wwwwp", "V V V Mt Mt", MAJOR, NONE },
	{ "B8 five waits for a lock", "wwwwwp", "V V V Mt Mt Mt", MAJOR, NONE },
	{ "C3 look-up fails, no wait", "p", "M", MINOR, AT_FIRST },
	{ "C3 look-up fails, then a wait", "wp", "M V", MAJOR, AT_FIRST },
	{ "C3 look-up fails, then two waits", "wwp", "M V V", MAJOR, AT_FIRST },
	{ "C3 look-up fails, then four waits", "wwwwp", "M V V Mt Mt", MAJOR, AT_FIRST },
	{ "C3 look-up fails, then HARD after a wait", "whp", "M V Mt", MAJOR, AT_FIRST },
	{ "C3 look-up fails after a wait", "gp", "V M", MINOR, IN_WAIT },
	{ "C3 look-up fails after a wait, then three", "gwwwp", "V M V Mt Mt", MAJOR, IN_WAIT },
	{ "C3 look-up fails after two waits, then two", "wgwwp", "V V M Mt Mt", MAJOR, IN_WAIT },
};

static const struct {
	const char *name, *answers;
	int retry, hard, fallback;	/* so much is added to these vma_lock_* of /proc/vmstat */
} counters[] = {
	{ "C11 counters of a success", "p", 0, 0, 0 },
	{ "C11 counters of one wait", "wp", 1, 0, 0 },
	{ "C11 counters of three waits", "wwwp", 3, 0, 1 },
	{ "C11 counters of a hard retry", "hp", 1, 1, 1 },
	{ "C11 counters of a wait and a hard retry", "whp", 2, 1, 1 },
};

static long page_size;
static int nr_tests, nr_failed;

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

static double now(void)
{
	return now_ns() / 1e9;
}

static void msleep(int ms)
{
	usleep(ms * 1000);
}

static long vmstat(const char *name)
{
	return counter("/proc/vmstat", name);
}

/* ---- one fault of the test driver ---- */

static __thread sigjmp_buf on_signal;
static volatile int si_code;

static void jump(int sig, siginfo_t *info, void *context)
{
	(void)context;
	si_code = info->si_code;
	siglongjmp(on_signal, sig);
}

static void catch_signals(void)
{
	static const int caught[] = { SIGBUS, SIGSEGV, SIGALRM, SIGUSR1 };
	struct sigaction sa = { .sa_sigaction = jump, .sa_flags = SA_SIGINFO };

	for (size_t i = 0; i < ARRAY_SIZE(caught); i++)
		sigaction(caught[i], &sa, NULL);
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

static void vfr_set(int fd, const char *answers, unsigned int wait_ms)
{
	struct vfr_script script = { .nr = strlen(answers), .wait_ms = wait_ms };

	for (unsigned int i = 0; i < script.nr; i++)
		script.action[i] = answers[i];
	if (ioctl(fd, VFR_SET, &script))
		die("VFR_SET");
}

static int vfr_open(const char *answers, unsigned int wait_ms)
{
	int fd = open("/dev/vfr", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("/dev/vfr");
	vfr_set(fd, answers, wait_ms);
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

/* Wait until an attempt waits by 'g', or until VFR_HOLD holds its lock. */
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

/* Access a page; attempts, reads and held are left to the caller. */
static struct outcome touch_page(char *map, bool write)
{
	struct outcome o = { 0 };
	struct rusage before, after;

	getrusage(RUSAGE_THREAD, &after);	/* nothing below faults but the access */
	getrusage(RUSAGE_THREAD, &before);
	o.sig = sigsetjmp(on_signal, 1);
	if (!o.sig && write)
		*(volatile char *)map = 'V';
	if (!o.sig)
		o.byte = *(volatile char *)map;
	getrusage(RUSAGE_THREAD, &after);
	o.code = o.sig ? si_code : 0;
	o.maj = after.ru_majflt - before.ru_majflt;
	o.min = after.ru_minflt - before.ru_minflt;
	return o;
}

/* Access the driver's page, which is unmapped then. */
static struct outcome touch_vfr(int fd, char *map, bool write)
{
	struct outcome o;

	alarm(2 * PATIENCE);	/* no fault is kept for ever */
	o = touch_page(map, write);
	alarm(0);
	vfr_read_log(fd, &o);
	vfr_unmap(map);
	return o;
}

/* What another thread does beside a fault. */
struct beside {
	void (*func)(const struct beside *b);
	/*
	 * Before the fault, which begins when VFR_HOLD holds its lock; or else while an attempt
	 * waits by 'g', which then ends.
	 */
	bool at_first;
	bool write;		/* it is a write fault */

	int fd;
	char *map;
	pthread_t faulting;
};

static void *run_beside(void *arg)
{
	const struct beside *b = arg;
	sigset_t alarms;

	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarms, NULL);
	if (!b->at_first)
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

static struct outcome fault_beside(const char *answers, struct beside b)
{
	pthread_t thread = 0;
	struct outcome o;

	await_exits();
	b.fd = vfr_open(answers, 2);
	b.map = vfr_map(b.fd);
	b.faulting = pthread_self();
	if (b.func)
		thread = start_thread(run_beside, &b);
	if (b.at_first)
		vfr_await(b.fd, true);
	o = touch_vfr(b.fd, b.map, b.write);	/* VFR_HOLD ends, if only now */
	if (b.func)
		pthread_join(thread, NULL);
	close(b.fd);
	return o;
}

static struct outcome fault(const char *answers)
{
	return fault_beside(answers, (struct beside){ .func = NULL });
}

static const char *what_came(const struct outcome *o)
{
	return o->sig ? strsignal(o->sig) : o->byte == 'V' ? "page" : "wrong data";
}

/* ---- what is done beside it ---- */

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

static void protect(const struct beside *b, int prot)
{
	if (mprotect(b->map, page_size, prot))
		die("mprotect");
}

static void protect_it(const struct beside *b)
{
	protect(b, b->write ? PROT_READ : PROT_NONE);
}

static void protect_and_back(const struct beside *b)
{
	protect(b, PROT_NONE);
	protect(b, PROT_READ | PROT_WRITE);
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

static void hold(int fd, char *map, unsigned int limit_ms, unsigned int more_ms)
{
	struct vfr_hold hold = { (unsigned long)map, limit_ms, more_ms };

	if (ioctl(fd, VFR_HOLD, &hold))
		die("VFR_HOLD");
}

static void hold_mmap_lock(const struct beside *b)
{
	hold(b->fd, NULL, PATIENCE * 1000, 0);
}

static void write_lock_it(const struct beside *b)
{
	hold(b->fd, b->map, PATIENCE * 1000, 0);
}

static void signal_it(const struct beside *b)
{
	pthread_kill(b->faulting, SIGUSR1);
}

/* ---- the tables ---- */

static void judge(const struct behaviour *c)
{
	struct beside b = { .at_first = c->writer == AT_FIRST || c->writer == ELSEWHERE };
	struct outcome o;
	bool ok;

	if (c->writer != NONE)
		b.func = c->writer == ELSEWHERE ? hold_mmap_lock : write_lock_it;
	/* Whoever else takes mmap_lock, for vvar say, ends VFR_HOLD: then once more. */
	for (int tries = 0; tries < 3; tries++) {
		o = fault_beside(c->answers, b);
		ok = !strcmp(o.attempts, c->attempts);
		/* The whole point: another VMA's writer is not waited for. */
		ok &= c->writer != ELSEWHERE || o.held;
		if (ok || !b.func)
			break;
	}
	ok &= o.maj == (c->end == MAJOR) && o.min == (c->end == MINOR);
	if (c->end == ERROR)
		ok &= o.sig == SIGBUS && o.code == BUS_ADRERR && o.reads == o.nr;
	else
		ok &= !o.sig && o.byte == 'V';
	result(ok, c->name, "%s, %s, %lu reads, maj %ld min %ld%s", o.attempts, what_came(&o),
	       o.reads, o.maj, o.min, o.held ? ", the writer still has the lock" : "");
}

static void count_retries(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(counters); i++) {
		bool has_all = vmstat("vma_lock_fallback") >= 0;
		long retry = vmstat("vma_lock_retry");
		long hard = vmstat("vma_lock_retry_hard");
		long fallback = vmstat("vma_lock_fallback");

		fault(counters[i].answers);
		retry = vmstat("vma_lock_retry") - retry;
		hard = vmstat("vma_lock_retry_hard") - hard;
		fallback = vmstat("vma_lock_fallback") - fallback;
		result(has_all && retry == counters[i].retry && hard == counters[i].hard &&
		       fallback == counters[i].fallback, counters[i].name,
		       "retry +%ld, hard +%ld, fallback +%ld%s", retry, hard, fallback,
		       has_all ? "" : ", not all are there");
	}
}

/* Answers: so many waits for a lock, then one for what happens beside it, then the page. */
static const char *waits(unsigned int nr)
{
	return &"wwwwwgp"[5 - nr];
}

static void changed_while_waiting(void)
{
	static const struct {
		const char *what;
		void (*func)(const struct beside *b);
		bool write;	/* it is a write fault */
		int sig, code;	/* that the access meets, and its si_code */
	} changes[] = {
		{ "unmapped", unmap_it, false, SIGSEGV, SEGV_MAPERR },
		{ "replaced", replace_it, false, 0, 0 },
		{ "mprotected", protect_it, false, SIGSEGV, SEGV_ACCERR },
		{ "made read-only, a write", protect_it, true, SIGSEGV, SEGV_ACCERR },
		{ "mprotected and back", protect_and_back, false, 0, 0 },
		{ "moved away", move_it, false, SIGSEGV, SEGV_MAPERR },
		{ "cut out", unmap_around_it, false, 0, 0 },
		{ "write-locked", write_lock_it, false, 0, 0 },
	}, *c;

	for (c = changes; c < changes + ARRAY_SIZE(changes); c++) {
		char name[80], wrong[160] = "";

		for (unsigned int n = 0; n < 4; n++) {
			struct beside b = { .func = c->func, .write = c->write };
			struct outcome o = fault_beside(waits(n), b);
			long maj = !c->sig && n > 0, min = !c->sig && n == 0;

			if (o.sig != c->sig || o.code != c->code || o.maj != maj ||
			    o.min != min || (!o.sig && o.byte != 'V'))
				sprintf(wrong, "wait %u: %s, %s, si_code %d, maj %ld min %ld",
					n + 1, o.attempts, what_came(&o), o.code, o.maj, o.min);
		}
		sprintf(name, "B7 %s in any of four waits", c->what);
		result(!*wrong, name, "%s", *wrong ? wrong : "as it should be");
	}
}

/* ---- every sequence of answers ---- */

#define MAX_WAITS	5

/*
 * Whether this is a major fault, by the rules of the base kernel: it makes the first attempt
 * under the VMA lock and all others under mmap_lock, the second with TRIED if the first said
 * MAJOR, all later ones with it.
 */
static bool is_major(const char *answer)
{
	bool by_vma_lock = true, tried = false, did_io = false;

	for (; ; answer++) {
		did_io |= strchr("rHP", *answer) != NULL;
		if (toupper(*answer) == 'P')
			return tried || did_io;
		if (!by_vma_lock && toupper(*answer) == 'H')
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
static void promise(const char *answer, char *attempts)
{
	bool hard = false, tried = false, major = false;
	const char *space = "";
	int waited = 0;

	for (; ; answer++) {
		bool by_vma_lock = !hard && !tried && waited < BOUND;

		tried |= !by_vma_lock && major;
		attempts += sprintf(attempts, "%s%s", space,
				    by_vma_lock ? "V" : tried ? "Mt" : "M");
		space = " ";
		/* Under mmap_lock, it goes on to what it needs that lock for. */
		while (!by_vma_lock && toupper(*answer) == 'H')
			major |= *answer++ == 'H';
		if (toupper(*answer) == 'P')
			return;
		hard = toupper(*answer) == 'H';
		major |= strchr("rH", *answer) || !by_vma_lock || (!hard && waited);
		waited += !hard;
	}
}

static void every_sequence(void)
{
	char wrong_count[160] = "", wrong_attempts[240] = "", want[VFR_LOG * 4];
	unsigned int nr = 0, bad_count = 0, bad_attempts = 0;
	int fd = vfr_open("p", 0);

	for (unsigned int last = 0; last <= MAX_WAITS; last++) {
		for (unsigned int k = 0; k < 2U << 2 * last; k++) {
			char answers[VFR_STEPS + 1] = "";
			struct outcome o;
			bool major;

			for (unsigned int i = 0; i < last; i++)
				answers[i] = "wrhH"[k >> (2 * i + 1) & 3];
			answers[last] = "pP"[k & 1];
			vfr_set(fd, answers, 0);
			o = touch_vfr(fd, vfr_map(fd), false);
			nr++;
			major = is_major(answers);
			if ((o.sig || o.byte != 'V' || o.maj != major || o.min != !major) &&
			    !bad_count++)
				sprintf(wrong_count, ", e.g. %s: %s, maj %ld min %ld", answers,
					what_came(&o), o.maj, o.min);
			promise(answers, want);
			if (strcmp(o.attempts, want) && !bad_attempts++)
				sprintf(wrong_attempts, ", e.g. %s: %s, not %s", answers,
					o.attempts, want);
		}
	}
	close(fd);
	result(!bad_count, "B8 maj and min of every sequence of answers",
	       "%u sequences, %u wrong%s", nr, bad_count, wrong_count);
	result(!bad_attempts, "B8 attempts of every sequence of answers",
	       "%u sequences, %u wrong%s", nr, bad_attempts, wrong_attempts);
}

/* ---- B5: signals, and RETRY for ever ---- */

static void handler(int sig)
{
	(void)sig;
	_exit(42);
}

/*
 * A child that faults, from user mode or from within write(2), must end by the signal, which
 * it gets after so many attempts.
 */
static struct outcome signal_child(int fd, unsigned long attempts, bool in_write, int sig,
				   bool *ended)
{
	char *map = vfr_map(fd);
	struct outcome o = { 0 };
	int status = 0, p[2];
	double t0 = now();
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid) {
		signal(SIGUSR1, handler);
		if (!in_write)
			(void)*(volatile char *)map;
		else if (!pipe(p))
			write(p[1], map, 1);
		_exit(1);
	}
	/* Not before it is well on its way, however slow the machine is. */
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
	vfr_unmap(map);
	close(fd);
	return o;
}

static void retry_for_ever(const char *name, int sig, unsigned int wait_ms, bool in_write)
{
	const char *want = in_write ? "M Mt Mt Mt" : "V V V Mt Mt Mt";
	bool ended;
	struct outcome o = signal_child(vfr_open("*", wait_ms), 6, in_write, sig, &ended);

	/* No attempt under the VMA lock after those; none at all from kernel mode. */
	o.attempts[strlen(want)] = 0;
	result(ended && !strcmp(o.attempts, want), name, "%s ..., %s", o.attempts,
	       ended ? "ended" : "did not end");
}

/* The attempt that waits is the last one. sig: of a child; or 0: of us, its handler jumps. */
static void signal_in_wait(const char *name, int sig)
{
	const struct beside b = { .func = signal_it };
	char wrong[160] = "";

	/* What the handler itself touches first is not to be counted. */
	if (!sig)
		fault_beside(waits(0), b);
	for (unsigned int n = 0; n < 5; n++) {
		struct outcome o;
		bool ended;

		if (sig) {
			o = signal_child(vfr_open(waits(n), 2), n + 1, false, sig, &ended);
		} else {
			o = fault_beside(waits(n), b);
			ended = o.sig == SIGUSR1;
		}
		if (!ended || o.nr != n + 1 || o.maj || o.min)
			sprintf(wrong, "wait %u: %s, %s, maj %ld min %ld", n + 1, o.attempts,
				ended ? "ended" : "did not end", o.maj, o.min);
	}
	result(!*wrong, name, "%s", *wrong ? wrong : "ended by it");
}

static void signals(void)
{
	retry_for_ever("B5 RETRY for ever, SIGKILL", SIGKILL, 0, false);
	retry_for_ever("B5 RETRY for ever, SIGTERM", SIGTERM, 0, false);
	retry_for_ever("B5 RETRY for ever, handled signal", SIGUSR1, 0, false);
	retry_for_ever("B5 RETRY for ever asleep, SIGKILL", SIGKILL, 10, false);
	retry_for_ever("B5 RETRY for ever asleep, handled signal", SIGUSR1, 10, false);
	retry_for_ever("B5 RETRY for ever in write(2), SIGKILL", SIGKILL, 0, true);
	signal_in_wait("B5 handled signal in any of five waits", SIGUSR1);
	signal_in_wait("B5 SIGTERM in any of five waits", SIGTERM);
	signal_in_wait("B5 SIGKILL in any of five waits", SIGKILL);
	signal_in_wait("B5 maj and min when a handler jumps out of the fault", 0);
}

/* ---- userfaultfd ---- */

/* Newer than the libc's headers. The structure of UFFDIO_RWPROTECT is that of WRITEPROTECT. */
#ifndef UFFDIO_REGISTER_MODE_RWP
#define UFFD_FEATURE_RWP		(1 << 17)
#define UFFDIO_REGISTER_MODE_RWP	((__u64)1 << 3)
#define UFFDIO_RWPROTECT		_IOWR(UFFDIO, 0x09, struct uffdio_writeprotect)
#endif
#define UFFD_ANY_WP	(UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_RWP)

/* Returns -1 where the kernel lacks one of the features. */
static int uffd_open(__u64 features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		die("userfaultfd");
	if (!ioctl(fd, UFFDIO_API, &api))
		return fd;
	close(fd);
	return -1;
}

static struct uffdio_range uffd_register(int fd, char *map, size_t len, __u64 mode)
{
	struct uffdio_register reg = { .range = { (unsigned long)map, len }, .mode = mode };

	if (ioctl(fd, UFFDIO_REGISTER, &reg))
		die("UFFDIO_REGISTER, mode %llu", (unsigned long long)mode);
	return reg.range;
}

/* Wait for a fault. */
static void uffd_await(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct uffd_msg msg;

	do {
		if (poll(&pfd, 1, PATIENCE * 1000) != 1)
			die("no userfaultfd message");
	} while (read(fd, &msg, sizeof(msg)) != sizeof(msg));
}

/* A thread that touches a page. */
struct toucher {
	char *addr;
	bool write;
	bool fifo;		/* it is SCHED_FIFO, on the first CPU */
	atomic_bool *go;	/* if set, it waits until this is true... */
	int delay;		/* ...and then so many loops */

	pthread_t thread;
	atomic_int tid;
	atomic_bool done;
	long maj, min;
};

/* Run on this CPU, or with -1 on all. */
static void pin(int cpu)
{
	cpu_set_t set;

	memset(&set, 0xff, sizeof(set));
	if (cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
	}
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

static void set_scheduler(pthread_t thread, int policy, int priority)
{
	struct sched_param param = { .sched_priority = priority };

	errno = pthread_setschedparam(thread, policy, &param);
	if (errno)
		die("pthread_setschedparam");
}

static void *touch(void *arg)
{
	struct toucher *t = arg;
	struct outcome o;

	atomic_store(&t->tid, syscall(SYS_gettid));
	if (t->fifo) {
		pin(0);
		set_scheduler(pthread_self(), SCHED_FIFO, 10);
	}
	while (t->go && !atomic_load(t->go))
		if (t->fifo)
			usleep(1000);
	for (volatile int i = 0; i < t->delay; i++)
		;
	o = touch_page(t->addr, t->write);
	t->maj = o.maj;
	t->min = o.min;
	atomic_store(&t->done, true);
	return NULL;
}

/* Woken without a page until so many waits are over, then given one. */
static void uffd_waits(int nr)
{
	struct toucher t = { .addr = map_memory(page_size) };
	char *page = map_memory(page_size), name[64];
	struct uffdio_copy copy = { (unsigned long)t.addr, (unsigned long)page, page_size, 0, 0 };
	int fd = uffd_open(0);
	struct uffdio_range range;
	long retries = vmstat("vma_lock_retry");

	*page = 7;
	range = uffd_register(fd, t.addr, page_size, UFFDIO_REGISTER_MODE_MISSING);
	t.thread = start_thread(touch, &t);
	for (int i = 1; i <= nr; i++) {
		uffd_await(fd);
		/* Let it go to sleep. */
		msleep(20);
		if (i < nr && ioctl(fd, UFFDIO_WAKE, &range))
			die("UFFDIO_WAKE");
	}
	if (ioctl(fd, UFFDIO_COPY, &copy))
		die("UFFDIO_COPY");
	pthread_join(t.thread, NULL);
	retries = vmstat("vma_lock_retry") - retries;
	snprintf(name, sizeof(name), "B9 userfaultfd, %d wait%s", nr, nr > 1 ? "s" : "");
	result(t.maj == (nr > 1) && t.min == (nr == 1) && *t.addr == 7 &&
	       retries == (nr < BOUND ? nr : BOUND), name,
	       "maj %ld min %ld, %ld retries under the VMA lock", t.maj, t.min, retries);
	munmap(t.addr, page_size);
	munmap(page, page_size);
	close(fd);
}

/* ---- B11: a fault keeps the CPU from who closes its userfaultfd ---- */

static atomic_bool b11_close, b11_fault;

static void *b11_closer(void *arg)
{
	pin(0);
	while (!atomic_load(&b11_close))
		usleep(1000);
	close((long)arg);
	return NULL;
}

static void *b11_holder(void *arg)
{
	hold((long)arg, NULL, 5000, 300);
	return NULL;
}

/*
 * The closer has released the userfaultfd and waits for mmap_lock, which a third task holds,
 * to take it off the VMA. Faults in this VMA are to be retried until then: not for ever under
 * the VMA lock, which waits for nobody.
 */
static void b11(void)
{
	struct toucher t = { .addr = map_memory(page_size), .fifo = true, .go = &b11_fault };
	long fd = vfr_open("p", 0), uffd = uffd_open(0), retries;
	pthread_t closer, holder;
	double t0;

	await_exits();
	uffd_register(uffd, t.addr, page_size, UFFDIO_REGISTER_MODE_MISSING);
	closer = start_thread(b11_closer, (void *)uffd);
	t.thread = start_thread(touch, &t);
	msleep(50);
	holder = start_thread(b11_holder, (void *)fd);
	vfr_await(fd, true);
	atomic_store(&b11_close, true);
	msleep(100);		/* the closer waits */
	retries = vmstat("vma_lock_retry");
	atomic_store(&b11_fault, true);
	for (t0 = now(); now() - t0 < 5 && !atomic_load(&t.done); )
		msleep(10);
	if (!atomic_load(&t.done))
		set_scheduler(t.thread, SCHED_OTHER, 0);
	pthread_join(t.thread, NULL);
	pthread_join(closer, NULL);
	pthread_join(holder, NULL);
	retries = vmstat("vma_lock_retry") - retries;
	/* Without any retry it did not meet the closer. */
	result(retries >= 1 && retries <= BOUND,
	       "B11 fault of SCHED_FIFO, its userfaultfd is being closed",
	       "%ld retries under the VMA lock", retries);
	munmap(t.addr, page_size);
	close(fd);
}

/* ---- B12: the last chance to be woken ---- */

#define B12_WAITERS	3
#define B12_FRESH	3

static const struct b12 {
	const char *name;
	__u64 mode, features;
	int pages;
	int populate;		/* before that, every page or every other one */
	int delay;		/* spreads those that arrive over the time the ioctl takes */
	int rounds;
	bool shmem, write;
	bool fifo;		/* the waiters preempt who wakes them; nobody arrives */
} b12_modes[] = {
	{ "missing", UFFDIO_REGISTER_MODE_MISSING, 0, 64, 0, 100, .rounds = 10 },
	{ "missing on shmem", UFFDIO_REGISTER_MODE_MISSING, UFFD_FEATURE_MISSING_SHMEM,
	  64, 0, 100, .rounds = 10, .shmem = true },
	{ "wp", UFFDIO_REGISTER_MODE_WP, UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	  64, 1, 100, .rounds = 10, .write = true },
	{ "minor", UFFDIO_REGISTER_MODE_MINOR, UFFD_FEATURE_MINOR_SHMEM,
	  64, 1, 100, .rounds = 10, .shmem = true },
	{ "rwp", UFFDIO_REGISTER_MODE_RWP, UFFD_FEATURE_RWP, 64, 1, 100, .rounds = 10 },
	{ "missing, SCHED_FIFO waiters", UFFDIO_REGISTER_MODE_MISSING, 0,
	  64, 0, 0, .rounds = 10, .fifo = true },
	/* Every other page is there, so that clearing the protection takes long. */
	{ "missing|wp, many pages", UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	  UFFD_FEATURE_PAGEFAULT_FLAG_WP, 4096, 2, 2000, .rounds = 20 },
};

/* A fault that waits on is asleep; one that does not get a busy host's CPU is not. */
static bool asleep(struct toucher *t)
{
	char path[64], state;

	sprintf(path, "/proc/self/task/%d/stat", atomic_load(&t->tid));
	scan_file(path, "%*d (%*[^)]) %c", &state);
	return state == 'S';
}

static char *b12_map(const struct b12 *m)
{
	size_t len = (size_t)m->pages * page_size;
	int memfd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	char *map;

	if (m->shmem) {
		memfd = memfd_create("b12", 0);
		flags = MAP_SHARED;
		if (memfd < 0 || ftruncate(memfd, len))
			die("memfd");
	}
	map = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, memfd, 0);
	if (map == MAP_FAILED)
		die("mmap");
	close(memfd);
	madvise(map, len, MADV_NOHUGEPAGE);
	for (int i = m->populate - 1; i >= 0 && i < m->pages; i += m->populate)
		map[(size_t)i * page_size] = 1;
	/* In the page cache, but not in the page table. */
	if (m->mode & UFFDIO_REGISTER_MODE_MINOR)
		madvise(map, len, MADV_DONTNEED);
	return map;
}

/*
 * One round: threads wait in the range and others arrive just now, while it is
 * unregistered or the userfaultfd is closed. Return how many sleep on.
 */
static int b12_round(const struct b12 *m, bool closing, int fd, int round)
{
	struct toucher t[B12_WAITERS + B12_FRESH] = { 0 };
	int nr = B12_WAITERS + (m->fifo ? 0 : B12_FRESH), lost = 0;
	size_t len = (size_t)m->pages * page_size;
	char *map = b12_map(m);
	struct uffdio_range range = uffd_register(fd, map, len, m->mode);
	struct uffdio_writeprotect wp = { range, UFFDIO_WRITEPROTECT_MODE_WP };
	bool rwp = m->mode & UFFDIO_REGISTER_MODE_RWP;
	static atomic_bool go;
	double t0;

	if (m->mode & UFFD_ANY_WP && ioctl(fd, rwp ? UFFDIO_RWPROTECT : UFFDIO_WRITEPROTECT, &wp))
		die("UFFDIO_WRITEPROTECT");
	atomic_store(&go, false);
	for (int i = 0; i < nr; i++) {
		t[i].addr = map + (size_t)i * 2 * page_size;
		t[i].write = m->write;
		t[i].fifo = m->fifo;
		if (i >= B12_WAITERS) {
			t[i].go = &go;
			t[i].delay = (round * 7 + i * 3) % 23 * m->delay;
		}
		t[i].thread = start_thread(touch, &t[i]);
	}
	for (int i = 0; i < B12_WAITERS; i++)
		uffd_await(fd);

	if (m->fifo)
		pin(0);
	atomic_store(&go, true);
	if (closing)
		close(fd);
	else if (ioctl(fd, UFFDIO_UNREGISTER, &range))
		die("UFFDIO_UNREGISTER");
	pin(-1);

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
				ioctl(fd, UFFDIO_WAKE, &range);
			else if (now() - t0 > 2 * PATIENCE)
				die("lost after close");
			msleep(1);
		}
		pthread_join(t[i].thread, NULL);
	}
	munmap(map, len);
	return lost;
}

static void b12(const struct b12 *m, bool closing)
{
	int lost = 0, total = 0, fd;
	char name[80];

	snprintf(name, sizeof(name), "B12 %s, %s", closing ? "close" : "UFFDIO_UNREGISTER",
		 m->name);
	/* More than two are proof enough, and each such round costs a second. */
	for (int round = 0; round < m->rounds && lost <= 2; round++) {
		fd = uffd_open(m->features);
		if (fd < 0) {
			printf("ok %d %s # SKIP the kernel lacks the userfaultfd feature\n",
			       ++nr_tests, name);
			return;
		}
		lost += b12_round(m, closing, fd, round);
		total += B12_WAITERS + (m->fifo ? 0 : B12_FRESH);
		if (!closing)
			close(fd);
	}
	result(!lost, name, "%d of %d faults slept on", lost, total);
}

/* A handler that breaks the contract: the console must tell. The program itself is fine. */
static int break_contract(const char *how)
{
	char *map;
	int fd;

	if (!strcmp(how, "bad-alone"))
		return fault("1").byte != 'V';
	if (!strcmp(how, "bad-mmap"))
		return fault("2").byte != 'V';
	if (strcmp(how, "bad-tried") && strcmp(how, "bad-held"))
		return 3;
	fd = vfr_open(strcmp(how, "bad-held") ? "p" : "3p", 0);
	map = vfr_map(fd);
	if (!strcmp(how, "bad-tried"))
		return !!ioctl(fd, VFR_BAD_TRIED, map);
	return *(volatile char *)map != 'V' || ioctl(fd, VFR_MEND);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	page_size = sysconf(_SC_PAGESIZE);
	catch_signals();
	if (argc > 1)
		return break_contract(argv[1]);
	printf("KTAP version 1\n");
	/* What the way back from a signal touches is not to be counted below. */
	fault("e");
	for (size_t i = 0; i < ARRAY_SIZE(behaviours); i++)
		judge(&behaviours[i]);
	every_sequence();
	changed_while_waiting();
	count_retries();
	signals();
	for (int nr = 1; nr <= 4; nr++)
		uffd_waits(nr);
	b11();
	for (size_t i = 0; i < 2 * ARRAY_SIZE(b12_modes); i++)
		b12(&b12_modes[i / 2], i % 2);
	printf("1..%d\n", nr_tests);
	return nr_failed != 0;
}
