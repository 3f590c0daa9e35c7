/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What progress.c, inject.c and troubles.c share: cases that run in a process of their own, each
 * with a time limit, and a watchdog above them all that says where the tasks of a late one are.
 */
#include <ctype.h>
#include <dirent.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "bench.h"

/**
 * struct test_case - one test
 * @name: of the test, one word
 * @func: runs in a child and ends by pass(), fail() or skip(); die() is a failure, too
 * @limit: seconds until it counts as stuck
 * @broken: wrong on purpose, and to be noticed; only run when named
 */
struct test_case {
	const char *name;
	void (*func)(void);
	int limit;
	bool broken;
};

static const struct test_case *this_case;

enum verdict { NO_VERDICT, PASSED, FAILED, SKIPPED };

/* How the child tells the watchdog. */
static struct {
	enum verdict verdict;
	char text[512];
} *report;

static int nr_tests, nr_failed;
static long page_size;

static __attribute__((noreturn, format(printf, 2, 3))) void
give(enum verdict verdict, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(report->text, sizeof(report->text), fmt, ap);
	va_end(ap);
	report->verdict = verdict;
	_exit(0);
}

#define pass(...)	give(PASSED, __VA_ARGS__)
#define fail(...)	give(FAILED, __VA_ARGS__)
#define skip(...)	give(SKIPPED, __VA_ARGS__)
/* pass() or fail() with the same text. */
#define judge(ok, ...)	give((ok) ? PASSED : FAILED, __VA_ARGS__)

/* A thread of a case: its name is what the watchdog shows. prio: of SCHED_FIFO, 0 for none. */
static inline void be(const char *name, int prio)
{
	struct sched_param sp = { .sched_priority = prio };

	prctl(PR_SET_NAME, name);
	if (sched_setscheduler(0, prio ? SCHED_FIFO : SCHED_OTHER, &sp))
		die("sched_setscheduler");
}

static inline size_t read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	if (fd >= 0)
		close(fd);
	if (n < 0)
		n = 0;
	buf[n] = 0;
	return n;
}

/* "NAME/TID STATE func < func < ..." of one task; the innermost functions first. */
static inline void show_task(int pid, int tid)
{
	char path[80], comm[32], stat[256], stack[2048], *p, *line;
	int shown = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", pid, tid);
	comm[strcspn(comm, "\n")] = read_file(path, comm, sizeof(comm)) ? 0 : '?';
	comm[strcspn(comm, "\n")] = 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	read_file(path, stat, sizeof(stat));
	p = strrchr(stat, ')');
	printf("%s/%d %c", comm, tid, p && p[1] ? p[2] : '?');
	snprintf(path, sizeof(path), "/proc/%d/task/%d/stack", pid, tid);
	read_file(path, stack, sizeof(stack));
	for (line = strtok_r(stack, "\n", &p); line && shown < 6; line = strtok_r(NULL, "\n", &p)) {
		line = strstr(line, "] ");
		if (!line)
			continue;
		line[strcspn(line, "+")] = 0;
		printf("%s%s", shown++ ? " < " : " ", line + 2);
	}
	if (!shown) {
		snprintf(path, sizeof(path), "/proc/%d/task/%d/wchan", pid, tid);
		read_file(path, stack, sizeof(stack));
		printf(" %s", strcmp(stack, "0") && *stack ? stack : "(in user mode)");
	}
}

/* All tasks of a process group, by show_task(). */
static inline void show_group(pid_t group)
{
	char path[64], stat[256], *p;
	struct dirent *d, *t;
	bool first = true;
	DIR *proc = opendir("/proc"), *tasks;
	int pgrp;

	while (proc && (d = readdir(proc))) {
		if (!isdigit(d->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/stat", atoi(d->d_name));
		read_file(path, stat, sizeof(stat));
		p = strrchr(stat, ')');
		if (!p || sscanf(p + 1, " %*c %*d %d", &pgrp) != 1 || pgrp != group)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task", atoi(d->d_name));
		tasks = opendir(path);
		while (tasks && (t = readdir(tasks))) {
			if (!isdigit(t->d_name[0]))
				continue;
			printf("%s", first ? "" : "; ");
			first = false;
			show_task(atoi(d->d_name), atoi(t->d_name));
		}
		if (tasks)
			closedir(tasks);
	}
	if (proc)
		closedir(proc);
}

static inline bool ended(pid_t pid, int *status, double seconds)
{
	uint64_t t = now_ns();

	for (;;) {
		if (waitpid(pid, status, WNOHANG) == pid)
			return true;
		if (now_ns() - t > seconds * 1e9)
			return false;
		usleep(10000);
	}
}

static inline void run_case(const struct test_case *c)
{
	uint64_t t = now_ns();
	int status = 0;
	pid_t pid;

	memset(report, 0, sizeof(*report));
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		setpgid(0, 0);
		be(c->name, 0);
		this_case = c;
		c->func();
		_exit(3);
	}
	setpgid(pid, pid);
	nr_tests++;
	if (!ended(pid, &status, c->limit)) {
		nr_failed++;
		printf("not ok %d %s # stuck after %d s in: ", nr_tests, c->name, c->limit);
		show_group(pid);
		printf("\n");
		kill(-pid, SIGKILL);
		if (!ended(pid, &status, 10)) {
			printf("Bail out! %s does not even die: ", c->name);
			show_group(pid);
			printf("\n");
			exit(2);
		}
		return;
	}
	/* What the case has started in other processes. */
	kill(-pid, SIGKILL);
	if (report->verdict == SKIPPED) {
		printf("ok %d %s # SKIP %s\n", nr_tests, c->name, report->text);
		return;
	}
	if (report->verdict == NO_VERDICT)
		snprintf(report->text, sizeof(report->text), "no verdict: %s %d",
			 WIFSIGNALED(status) ? "signal" : "status",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	nr_failed += report->verdict != PASSED;
	printf("%sok %d %s # %s (%.1f s)\n", report->verdict == PASSED ? "" : "not ",
	       nr_tests, c->name, report->text, (now_ns() - t) / 1e9);
}

/**
 * run_cases - run the cases named on the command line
 * @cases: all there are
 * @nr: how many
 * @names: NULL-terminated; "broken" for all that are wrong on purpose, none for all others
 * Return: the exit status: 0 if none failed.
 */
static inline int run_cases(const struct test_case *cases, size_t nr, char **names)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	/* The watchdog waits for nothing that a case can keep from it. */
	if (report == MAP_FAILED || mlockall(MCL_CURRENT | MCL_FUTURE))
		die("mlockall");
	be("watchdog", 50);
	printf("KTAP version 1\n");
	for (char **n = names; *n; n++) {
		bool known = !strcmp(*n, "broken");

		for (size_t i = 0; i < nr; i++)
			known |= !strcmp(*n, cases[i].name);
		if (!known) {
			printf("Bail out! no case '%s'\n", *n);
			return 2;
		}
	}
	for (size_t i = 0; i < nr; i++) {
		bool wanted = !*names && !cases[i].broken;

		for (char **n = names; *n; n++)
			wanted |= !strcmp(*n, cases[i].name) ||
				  (!strcmp(*n, "broken") && cases[i].broken);
		if (wanted)
			run_case(&cases[i]);
	}
	printf("1..%d\n", nr_tests);
	return nr_failed != 0;
}

static inline void remove_disk(const char *name)
{
	char dir[96];

	snprintf(dir, sizeof(dir), NULLB "%s", name);
	set_disk(name, "power", 0);
	if (rmdir(dir))
		die("%s", dir);
}

/* Tag all pages of a file or disk, write them out and drop them from the page cache. */
static inline void write_tags(const char *path, unsigned int what, size_t pages)
{
	const long page_size = sysconf(_SC_PAGESIZE);
	char *buf = calloc(64, page_size);
	int fd = open(path, O_RDWR);

	if (!buf || fd < 0)
		die("%s", path);
	for (size_t i = 0; i < pages; i += 64) {
		size_t n = pages - i < 64 ? pages - i : 64;

		for (size_t k = 0; k < n; k++)
			*(uint64_t *)(buf + k * page_size) = tag(what, i + k);
		if (pwrite(fd, buf, n * page_size, i * page_size) != (ssize_t)(n * page_size))
			die("write %s", path);
	}
	if (fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) || close(fd))
		die("%s", path);
	free(buf);
}

/* The pages of a file, none of them read ahead. */
static inline char *map_file(const char *path, size_t pages, int *fdp)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char *map = mmap(NULL, pages * page_size, PROT_READ, MAP_SHARED, fd, 0);

	if (fd < 0 || map == MAP_FAILED || madvise(map, pages * page_size, MADV_RANDOM))
		die("%s", path);
	if (fdp)
		*fdp = fd;
	else
		close(fd);
	return map;
}

/* No readahead: a page more than asked for would be read before its time. */
static inline void no_readahead(const char *disk)
{
	char path[80];

	snprintf(path, sizeof(path), "/sys/block/%s/queue/read_ahead_kb", disk);
	put(path, "0");
}

/* A disk of so many pages with tags, 1 ms a request, and its mapping. */
static inline char *map_disk(const char *name, size_t pages, int *fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/%s", name);
	make_disk(name, pages * page_size >> 20, 1);
	write_tags(path, 1, pages);
	no_readahead(name);
	return map_file(path, pages, fd);
}

static inline int uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		die("userfaultfd");
	return fd;
}

/* Have missing pages of a mapping served. */
static inline void uffd_register(int fd, char *map, size_t size)
{
	struct uffdio_register reg = { .range = { (unsigned long)map, size },
				       .mode = UFFDIO_REGISTER_MODE_MISSING };

	if (ioctl(fd, UFFDIO_REGISTER, &reg))
		die("UFFDIO_REGISTER");
}

static inline char *uffd_map(int fd, size_t pages)
{
	char *map = map_memory(pages * page_size);

	uffd_register(fd, map, pages * page_size);
	return map;
}

/* Enter a cgroup that may have so much memory. */
static inline void limit_memory(const char *group, unsigned int mb)
{
	char path[96];

	mount_cgroups();
	put(CGROUPS "cgroup.subtree_control", "+memory");
	snprintf(path, sizeof(path), CGROUPS "%s", group);
	if (mkdir(path, 0755) && errno != EEXIST)
		die("%s", path);
	snprintf(path, sizeof(path), CGROUPS "%s/memory.max", group);
	put(path, "%lu", (unsigned long)mb << 20);
	snprintf(path, sizeof(path), CGROUPS "%s/cgroup.procs", group);
	put(path, "%d", getpid());
}

static __thread sigjmp_buf on_sigbus;
static __thread void *sigbus_at;

static void sigbus(int sig, siginfo_t *info, void *context)
{
	(void)context;
	sigbus_at = info->si_addr;
	siglongjmp(on_sigbus, sig == SIGSEGV ? 100 + info->si_code : info->si_code);
}

static inline void catch_sigbus(void)
{
	struct sigaction sa = { .sa_sigaction = sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER };

	if (sigaction(SIGBUS, &sa, NULL))
		die("sigaction");
}

/* For touch_word(), where a page may be gone, too. */
static inline void catch_signals(void)
{
	struct sigaction sa;

	catch_sigbus();
	if (sigaction(SIGBUS, NULL, &sa) || sigaction(SIGSEGV, &sa, NULL))
		die("sigaction");
}

/**
 * touch_word - read the first word of a page
 * @p: where
 * @write: write it back, too
 * @got: what was read
 * Return: 0, or the si_code of the SIGBUS that came instead, or -1 if its si_addr was wrong. Of a
 * SIGSEGV 100 and the si_code.
 */
static __attribute__((noinline, unused)) int touch_word(volatile uint64_t *p, bool write,
							uint64_t *got)
{
	int code = sigsetjmp(on_sigbus, 1);

	if (code)
		return sigbus_at == (void *)p ? code : -1;
	*got = *p;
	if (write)
		*p = *got;
	return 0;
}
