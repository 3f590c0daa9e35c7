// SPDX-License-Identifier: GPL-2.0-only
/*
 * trace-attempts - which attempts a page fault really made, by a tracer
 *
 *	trace-attempts TREE run PROGRAM [ARG...]	trace it in the guest, then judge
 *	trace-attempts TREE judge FILE		judge a trace that there is
 *
 * TREE is "series" or "base": what is allowed (C4 and C5 of the contract). A kretprobe on
 * handle_mm_fault() records each attempt of a fault from user mode with its flags and result,
 * the event page_fault_user where a fault begins. Prints the sequences seen, how often each,
 * and one line of KTAP. A sequence is written as
 *	V, M	an attempt under the VMA lock, under mmap_lock
 *	t	with FAULT_FLAG_TRIED
 *	+	it came back with VM_FAULT_RETRY, +maj: and MAJOR, !: and RETRY_HARD (!maj)
 *	*	the same again, so often
 *	:bus :segv :oom :err  ended so
 *	|	a signal came, or the trace ended, before the fault did
 * so "V+maj V" is one wait for the disk, "V+ V+ V+ Mt" three for a lock. Exit status: 0 if all
 * were allowed, 1 if not, 2 if nothing could be told. PROGRAM's own output comes first; its
 * failures fail this, too.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <sys/wait.h>

#include "bench.h"

#define TRACING		"/sys/kernel/tracing/"

/* include/linux/mm_types.h */
#define ALLOW_RETRY	0x0004
#define TRIED		0x0020
#define USER		0x0040
#define BY_VMA_LOCK	0x1000
#define MAJOR_FLAG	0x2000
#define OOM		0x0001
#define SIGBUS_		0x0002
#define MAJOR		0x0004
#define HWPOISON	0x0030
#define SEGV		0x0040
#define RETRY		0x0400
#define HARD		0x8000

#define BOUND		3	/* waits without TRIED, and attempts under the VMA lock */
#define MAX_TIDS	65536
#define MAX_SEQ		160
#define MAX_KINDS	512

/* A fault under way, by the task's number. */
static struct fault {
	bool open;
	unsigned int nr, by_vma_lock;	/* attempts so far */
	unsigned int untried, waits;	/* without TRIED; those of them retried, but not hard */
	unsigned int ret;		/* of the last one */
	bool tried;			/* one had TRIED */
	bool major;			/* base would set TRIED now */
	bool repeated;			/* the sequence has its * already */
	char seq[MAX_SEQ], last[16];
	const char *wrong;
} faults[MAX_TIDS];

static struct kind {
	char seq[MAX_SEQ];
	const char *wrong;
	unsigned long count;
} kinds[MAX_KINDS];

static bool series;
static unsigned int nr_kinds, max_attempts, max_by_vma_lock, max_untried;
static unsigned long nr_faults, nr_wrong, nr_retried, nr_outside, nr_no_user;

/* The end of a fault: count its sequence. */
static void end(struct fault *f)
{
	unsigned int i;

	if (f->open && f->nr) {
		if (f->ret & RETRY)
			strcat(f->seq, " |");
		for (i = 0; i < nr_kinds && (strcmp(kinds[i].seq, f->seq) ||
					     kinds[i].wrong != f->wrong); i++)
			;
		if (i == MAX_KINDS) {
			printf("Bail out! more than %d kinds of sequences\n", MAX_KINDS);
			exit(2);
		}
		if (i == nr_kinds) {
			nr_kinds++;
			strcpy(kinds[i].seq, f->seq);
			kinds[i].wrong = f->wrong;
		}
		kinds[i].count++;
		nr_faults++;
		nr_wrong += !!f->wrong;
		nr_retried += f->nr > 1;
		if (f->nr > max_attempts)
			max_attempts = f->nr;
		if (f->by_vma_lock > max_by_vma_lock)
			max_by_vma_lock = f->by_vma_lock;
		if (f->untried > max_untried)
			max_untried = f->untried;
	}
	memset(f, 0, sizeof(*f));
}

/*
 * What C3 to C6 say on an attempt with these flags, f being the attempts before it.
 * Return: what is wrong, or NULL.
 */
static const char *judge(const struct fault *f, unsigned int flags, unsigned int ret)
{
	bool v = flags & BY_VMA_LOCK, t = flags & TRIED, hard = f->ret & HARD;
	bool due = !series || f->waits >= BOUND || hard || f->tried;

	if (ret & HARD && !(ret & RETRY))
		return "RETRY_HARD without RETRY";
	if (ret & HARD && !v)
		return "RETRY_HARD under mmap_lock";
	if (ret & HARD && !series)
		return "RETRY_HARD in base";
	if (f->nr && !(f->ret & RETRY))
		return "an attempt after one that was not to be retried";
	if (v && t)
		return "TRIED under the VMA lock";
	if (v && !series && f->nr)
		return "under the VMA lock again in base";
	if (v && f->by_vma_lock >= BOUND)
		return "a fourth attempt under the VMA lock";
	if (v && hard)
		return "under the VMA lock again after a hard retry";
	if (v && f->tried)
		return "under the VMA lock after TRIED";
	if (!t && f->waits >= BOUND)
		return "without TRIED after three waits";
	if (!t && !v && f->major && due)
		return "without TRIED where base has it";
	if (t && !f->major)
		return "with TRIED where base has it not";
	if (t && !due)
		return "with TRIED before three waits";
	if (series && !(flags & (TRIED | MAJOR_FLAG)) == f->major)
		return "MAJOR is not where base has TRIED";
	return NULL;
}

static void attempt(struct fault *f, unsigned int flags, unsigned int ret)
{
	bool v = flags & BY_VMA_LOCK, soft = ret & RETRY && !(ret & HARD);
	char token[16];
	const char *wrong;

	/* A kernel-mode fault must not be under the VMA lock. */
	if (!(flags & USER)) {
		nr_no_user += !!(flags & BY_VMA_LOCK);
		return;
	}
	if (!f->open) {
		/* The trace began in the middle of it. */
		nr_outside++;
		return;
	}
	wrong = judge(f, flags, ret);
	/* The first thing wrong counts; but one attempt too many is worse than any flag. */
	if (wrong && (!f->wrong || (v && f->by_vma_lock == BOUND)))
		f->wrong = wrong;
	snprintf(token, sizeof(token), "%c%s%s%s", v ? 'V' : 'M',
		 flags & TRIED ? "t" : "",
		 ret & HARD ? "!" : ret & RETRY ? "+" : ret & SIGBUS_ ? ":bus" :
		 ret & SEGV ? ":segv" : ret & OOM ? ":oom" : ret & HWPOISON ? ":err" : "",
		 ret & RETRY && ret & MAJOR ? "maj" : "");
	if (!strcmp(token, f->last) && !v) {
		/* Ten repeats or a million: the same kind. */
		if (!f->repeated)
			strcat(f->seq, "*");
		f->repeated = true;
	} else if (strlen(f->seq) < MAX_SEQ - 24) {
		strcat(strcat(f->seq, f->nr ? " " : ""), token);
		f->repeated = false;
	}
	strcpy(f->last, token);
	/* A hard retry stands for the attempt that base makes under mmap_lock right away. */
	f->major |= ret & MAJOR || !v || (soft && f->nr);
	f->tried |= !!(flags & TRIED);
	f->untried += !(flags & TRIED);
	f->waits += soft && !(flags & TRIED);
	f->nr++;
	f->by_vma_lock += v;
	f->ret = ret;
}

/* The number behind "NAME=" in a line. */
static bool field(const char *line, const char *name, unsigned int *val)
{
	const char *p = strstr(line, name);

	if (!p)
		return false;
	*val = strtoul(p + strlen(name), NULL, 0);
	return true;
}

/* The lines are in order of time; "  COMM-TID  [CPU] FLAGS TIME: EVENT: ...". */
static bool read_trace(FILE *in)
{
	unsigned long starts = 0, attempts = 0;
	char line[512];

	while (fgets(line, sizeof(line), in)) {
		unsigned int flags, ret;
		char *p = strstr(line, " [");
		long tid;

		if (line[0] == '#' || !p)
			continue;
		while (p > line && *p == ' ')
			p--;
		while (p > line && *p >= '0' && *p <= '9')
			p--;
		tid = *p == '-' ? atol(p + 1) : -1;
		if (tid < 0 || tid >= MAX_TIDS) {
			printf("# not understood: %s", line);
			return false;
		}
		if (strstr(line, ": page_fault_user: ")) {
			end(&faults[tid]);
			faults[tid].open = true;
			starts++;
		} else if (strstr(line, ": attempt: ")) {
			if (!field(line, " flags=", &flags) || !field(line, " ret=", &ret)) {
				printf("# not understood: %s", line);
				return false;
			}
			attempt(&faults[tid], flags, ret);
			attempts++;
		}
	}
	for (int i = 0; i < MAX_TIDS; i++)
		end(&faults[i]);
	printf("# %lu faults begun, %lu attempts recorded\n", starts, attempts);
	return true;
}

static int by_count(const void *a, const void *b)
{
	const struct kind *x = a, *y = b;

	return (x->count < y->count) - (x->count > y->count);
}

/* incomplete: what is known to be missing from the trace, or NULL. Return: the exit status. */
static int verdict(bool readable, const char *incomplete)
{
	bool ok = readable && !incomplete && nr_faults && !nr_wrong && !nr_no_user;

	qsort(kinds, nr_kinds, sizeof(*kinds), by_count);
	for (unsigned int i = 0; i < nr_kinds; i++)
		printf("# %9lu  %s%s%s\n", kinds[i].count, kinds[i].seq,
		       kinds[i].wrong ? "  NOT ALLOWED: " : "", kinds[i].wrong ?: "");
	printf("%sok 1 attempts # %s%s%lu faults, %lu of more than one attempt; "
	       "at most %u attempts, %u without TRIED, %u under the VMA lock; %lu not allowed, "
	       "%lu from kernel mode under the VMA lock, "
	       "%lu attempts of faults begun before\n", ok ? "" : "not ", incomplete ?: "",
	       incomplete ? "; " : readable ? "" : "unreadable; ", nr_faults, nr_retried,
	       max_attempts, max_untried, max_by_vma_lock, nr_wrong, nr_no_user, nr_outside);
	if (!readable || incomplete || !nr_faults)
		return 2;
	return !ok;
}

/* What got lost while recording, or NULL. */
static const char *lost(void)
{
	static char what[128];
	char line[256], path[80];
	unsigned long missed = 1, n;
	FILE *f = fopen(TRACING "kprobe_profile", "r");

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, " attempt %*u %lu", &missed);
	if (f)
		fclose(f);
	if (missed) {
		snprintf(what, sizeof(what), "%lu attempts missed by the probe", missed);
		return what;
	}
	for (int cpu = 0; cpu < sysconf(_SC_NPROCESSORS_CONF); cpu++) {
		snprintf(path, sizeof(path), TRACING "per_cpu/cpu%d/stats", cpu);
		f = fopen(path, "r");
		while (f && fgets(line, sizeof(line), f))
			if ((sscanf(line, "overrun: %lu", &n) == 1 ||
			     sscanf(line, "dropped events: %lu", &n) == 1) && n) {
				snprintf(what, sizeof(what), "%lu events lost on CPU %d", n, cpu);
				fclose(f);
				return what;
			}
		if (f)
			fclose(f);
	}
	return NULL;
}

static int run(char **program)
{
	char path[128];
	const char *gone;
	int status, rc;
	pid_t pid;
	FILE *f;

#ifndef __x86_64__
	printf("Bail out! no event known for the begin of a fault on this architecture\n");
	return 2;
#endif
	if (access(TRACING "kprobe_events", W_OK)) {
		printf("Bail out! no kprobe events in this kernel: config/trust.config has them\n");
		return 2;
	}
	put(TRACING "tracing_on", "0");
	put(TRACING "trace_clock", "mono");
	put(TRACING "buffer_size_kb", "49152");
	/* Many tasks sleep in it at the same time. */
	put(TRACING "kprobe_events",
	    "r512:vfr/attempt handle_mm_fault address=$arg2 flags=$arg3:x32 ret=$retval:x32");
	put(TRACING "events/vfr/attempt/filter", "flags & %d", USER | BY_VMA_LOCK);
	put(TRACING "events/vfr/attempt/enable", "1");
	put(TRACING "events/exceptions/page_fault_user/enable", "1");
	put(TRACING "trace", "");
	put(TRACING "tracing_on", "1");
	pid = fork();
	if (!pid) {
		snprintf(path, sizeof(path), "/bin/%s", *program);
		execv(path, program);
		die("%s", path);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("fork");
	put(TRACING "tracing_on", "0");
	put(TRACING "events/vfr/attempt/enable", "0");
	gone = lost();
	f = fopen(TRACING "trace", "r");
	rc = verdict(f && read_trace(f), gone);
	printf("# %s ended with %d\n", *program, WIFEXITED(status) ? WEXITSTATUS(status) :
	       128 + WTERMSIG(status));
	return rc ?: status != 0;
}

int main(int argc, char **argv)
{
	FILE *f;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 4 || (strcmp(argv[1], "series") && strcmp(argv[1], "base"))) {
		printf("trace-attempts series|base run PROGRAM [ARG...] | judge FILE\n");
		return 2;
	}
	series = !strcmp(argv[1], "series");
	if (!strcmp(argv[2], "run"))
		return run(argv + 3);
	f = fopen(argv[3], "r");
	if (strcmp(argv[2], "judge") || !f)
		die("%s", argv[3]);
	return verdict(read_trace(f), NULL);
}
