/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the guest's programs share: a clock, files and counters of the kernel, disks of null_blk,
 * swap, threads that begin together.
 * Everything that goes wrong ends the program with a line that says what.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <time.h>
#include <unistd.h>

#define CGROUPS		"/sys/fs/cgroup/"
#define NULLB		"/sys/kernel/config/nullb/"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof(*(a)))

#define die(...) do {							\
	printf("%s: ", program_invocation_short_name);			\
	printf(__VA_ARGS__);						\
	printf(": %s\n", strerror(errno));				\
	fflush(stdout);							\
	_exit(1);							\
} while (0)

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/*
 * A clock that ticks in milliseconds would measure nothing. The good one takes a
 * second or two to be calibrated.
 */
static inline void wait_for_clock(void)
{
	struct timespec res;

	for (int i = 0; i < 200; i++, usleep(100000))
		if (!clock_getres(CLOCK_MONOTONIC, &res) && !res.tv_sec && res.tv_nsec <= 1000)
			return;
	die("no high-resolution timers in this guest");
}

/* A number below a bound, by splitmix64. */
static inline size_t random_below(uint64_t *state, size_t bound)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (z ^ z >> 31) % bound;
}

/* The tag of a page: never that of another one, and never zero. */
static inline uint64_t tag(unsigned int what, size_t page)
{
	return (uint64_t)(what + 1) << 32 | page;
}

/* ---- files of the kernel ---- */

/* Write to a file; false if that fails. */
static inline bool try_put(const char *path, const char *fmt, ...)
{
	int fd = open(path, O_WRONLY | O_TRUNC);
	ssize_t ret = -1;
	char text[128];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (fd >= 0) {
		ret = write(fd, text, strlen(text));
		close(fd);
	}
	return ret >= 0;
}

/* The same, but it has to succeed. */
#define put(path, ...) do {						\
	if (!try_put(path, __VA_ARGS__))				\
		die("%s", path);					\
} while (0)

/* The number behind a name in a file like /proc/vmstat; -1 if it is not there. */
static inline long counter(const char *path, const char *name)
{
	size_t len = strlen(name);
	char line[128];
	long value = -1;
	FILE *f = fopen(path, "r");

	if (!f)
		die("%s", path);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, name, len) && line[len] == ' ')
			value = atol(line + len + 1);
	fclose(f);
	return value;
}

/* What a file holds, by scanf(). */
static inline void scan_file(const char *path, const char *fmt, void *value)
{
	FILE *f = fopen(path, "r");

	if (!f || fscanf(f, fmt, value) != 1)
		die("%s", path);
	fclose(f);
}

/* What the figures tell of page faults, of /proc/vmstat. */
static const char * const fault_counters[] = {
	"pgmajfault", "vma_lock_success", "vma_lock_abort", "vma_lock_retry",
	"vma_lock_retry_hard", "vma_lock_fallback", "pswpin",
};

/* Print " NAME=VALUE ..." of counters, since before; with none to print, only sample them. */
static inline void sample_counters(const char *path, const char * const *names, size_t nr,
				   long *before, bool print)
{
	for (size_t i = 0; i < nr; i++) {
		long value = counter(path, names[i]);

		if (print)
			printf(" %s=%ld", names[i], value - before[i]);
		before[i] = value;
	}
}

/* What all programs need; lru_gen=y of the kernel's command line comes as a variable. */
static inline void set_up_guest(void)
{
	wait_for_clock();
	if (getenv("lru_gen"))
		put("/sys/kernel/mm/lru_gen/enabled", "%s", getenv("lru_gen"));
}

static inline void mount_cgroups(void)
{
	if (mount("cgroup2", CGROUPS, "cgroup2", 0, NULL) && errno != EBUSY)
		die("cgroup2");
}

/* Enter a cgroup of our own, which may be given limits. */
static inline void enter_cgroup(void)
{
	put(CGROUPS "cgroup.subtree_control", "+memory +io");
	mkdir(CGROUPS "run", 0755);
	put(CGROUPS "run/cgroup.procs", "%d", getpid());
}

/* ---- disks ---- */

static inline void set_disk(const char *name, const char *what, unsigned long value)
{
	char path[128];

	snprintf(path, sizeof(path), NULLB "%s/%s", name, what);
	put(path, "%lu", value);
}

/* A disk /dev/NAME that takes delay_us a request; keeps: what is written, in memory. */
static inline void make_null_disk(const char *name, unsigned long mb, unsigned int delay_us,
				  bool keeps)
{
	char dir[96];

	if (mount("configfs", "/sys/kernel/config", "configfs", 0, NULL) && errno != EBUSY)
		die("configfs");
	snprintf(dir, sizeof(dir), NULLB "%s", name);
	if (mkdir(dir, 0755))
		die("%s", dir);
	set_disk(name, "size", mb);
	set_disk(name, "memory_backed", keeps);
	set_disk(name, "irqmode", 2);
	set_disk(name, "hw_queue_depth", 256);
	set_disk(name, "completion_nsec", delay_us * 1000UL);
	set_disk(name, "power", 1);
}

static inline void make_disk(const char *name, unsigned int mb, unsigned int delay_ms)
{
	make_null_disk(name, mb, delay_ms * 1000, true);
}

/* A disk /dev/data with fs.blocks, an empty ext2 file system, mounted as ext4 on /tmp/data. */
static inline void make_fs(unsigned int delay_ms)
{
	static char block[4096];
	uint32_t number;
	int in, out;

	make_disk("data", 1024, delay_ms);
	in = open("fs.blocks", O_RDONLY);
	out = open("/dev/data", O_WRONLY);
	if (in < 0 || out < 0)
		die("fs.blocks or /dev/data");
	while (read(in, &number, sizeof(number)) == sizeof(number))
		if (read(in, block, sizeof(block)) != sizeof(block) ||
		    pwrite(out, block, sizeof(block), (off_t)number * sizeof(block)) < 0)
			die("copying fs.blocks");
	if (fsync(out) || close(out))
		die("/dev/data");
	close(in);
	mkdir("/tmp/data", 0755);
	if (mount("/dev/data", "/tmp/data", "ext4", 0, ""))
		die("mount");
}

/* Make swap of the first mb MiB of a disk; flags: see swapon(2). */
static inline void swap_on(const char *path, unsigned int mb, int flags)
{
	const long page_size = sysconf(_SC_PAGESIZE);
	/* version, last_page and nr_badpages of union swap_header */
	const uint32_t header[3] = { 1, ((unsigned long)mb << 20) / page_size - 1, 0 };
	int fd = open(path, O_RDWR);

	if (fd < 0 || pwrite(fd, header, sizeof(header), 1024) < 0 ||
	    pwrite(fd, "SWAPSPACE2", 10, page_size - 10) != 10 || fsync(fd) ||
	    close(fd) || swapon(path, flags))
		die("swap on %s", path);
}

/* 256 MiB of swap on a disk of its own, or in memory (0 ms); without readahead. */
static inline void make_swap(unsigned int delay_ms)
{
	if (delay_ms)
		make_disk("swap", 256, delay_ms);
	else
		put("/sys/block/zram0/disksize", "256M");
	swap_on(delay_ms ? "/dev/swap" : "/dev/zram0", 256, 0);
	put("/proc/sys/vm/page-cluster", "0");
}

/* Memory of our own in pages of the smallest size. */
static inline char *map_memory(size_t size)
{
	char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		die("mmap");
	madvise(map, size, MADV_NOHUGEPAGE);
	return map;
}

/* ---- threads that begin together, and stop together ---- */

struct gate {
	atomic_int ready;
	atomic_bool go, stop;
};

static inline void wait_for_go(struct gate *gate)
{
	atomic_fetch_add(&gate->ready, 1);
	while (!atomic_load(&gate->go))
		usleep(1000);
}

static inline void await_ready(struct gate *gate, int nr)
{
	while (atomic_load(&gate->ready) < nr)
		usleep(1000);
}

static inline pthread_t start_thread(void *(*func)(void *), void *arg)
{
	pthread_t thread;

	errno = pthread_create(&thread, NULL, func, arg);
	if (errno)
		die("pthread_create");
	return thread;
}
