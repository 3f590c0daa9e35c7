/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What contend.c, thrash.c and integrity.c share: disks of null_blk, swap, counters, a
 * clock.
 * Everything that goes wrong ends the program with a line that says what.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <time.h>
#include <unistd.h>

#define CGROUPS		"/sys/fs/cgroup/"
#define NULLB		"/sys/kernel/config/nullb/"

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
		if (!clock_getres(CLOCK_MONOTONIC, &res) && !res.tv_sec &&
		    res.tv_nsec <= 1000)
			return;
	die("no high-resolution timers in this guest");
}

static inline ssize_t vput(const char *path, const char *fmt, va_list ap)
{
	int fd = open(path, O_WRONLY | O_TRUNC);
	char text[128];
	ssize_t ret = -1;

	vsnprintf(text, sizeof(text), fmt, ap);
	if (fd >= 0) {
		ret = write(fd, text, strlen(text));
		close(fd);
	}
	return ret;
}

/* Write to a file; false if that fails. */
static inline int try_put(const char *path, const char *fmt, ...)
{
	va_list ap;
	ssize_t ret;

	va_start(ap, fmt);
	ret = vput(path, fmt, ap);
	va_end(ap);
	return ret >= 0;
}

/* The same, but it has to succeed. */
static inline void put(const char *path, const char *fmt, ...)
{
	va_list ap;
	ssize_t ret;

	va_start(ap, fmt);
	ret = vput(path, fmt, ap);
	va_end(ap);
	if (ret < 0)
		die("%s", path);
}

/* The number behind a name in a file like /proc/vmstat; 0 if it is not there. */
static inline long counter(const char *path, const char *name)
{
	size_t len = strlen(name);
	char line[128];
	long val = 0;
	FILE *f = fopen(path, "r");

	if (!f)
		die("%s", path);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, name, len) && line[len] == ' ')
			val = atol(line + len + 1);
	fclose(f);
	return val;
}

static inline void mount_cgroups(void)
{
	if (mount("cgroup2", CGROUPS, "cgroup2", 0, NULL) && errno != EBUSY)
		die("cgroup2");
}

static inline void set_disk(const char *name, const char *what, unsigned long value)
{
	char path[128];

	snprintf(path, sizeof(path), NULLB "%s/%s", name, what);
	put(path, "%lu", value);
}

/* A disk /dev/NAME that keeps what is written, and takes delay_ms a request. */
static inline void make_disk(const char *name, unsigned int mb, unsigned int delay_ms)
{
	char dir[96];

	if (mount("configfs", "/sys/kernel/config", "configfs", 0, NULL) && errno != EBUSY)
		die("configfs");
	snprintf(dir, sizeof(dir), NULLB "%s", name);
	if (mkdir(dir, 0755))
		die("%s", dir);
	set_disk(name, "size", mb);
	set_disk(name, "memory_backed", 1);
	set_disk(name, "irqmode", 2);
	set_disk(name, "hw_queue_depth", 256);
	set_disk(name, "completion_nsec", delay_ms * 1000000UL);
	set_disk(name, "power", 1);
}

/* /fs.blocks, an empty ext2 file system, on /dev/data, mounted as ext4. */
static inline void make_fs(void)
{
	int in = open("/fs.blocks", O_RDONLY), out = open("/dev/data", O_WRONLY);
	static char block[4096];
	uint32_t nr;

	if (in < 0 || out < 0)
		die("/fs.blocks or /dev/data");
	while (read(in, &nr, sizeof(nr)) == sizeof(nr))
		if (read(in, block, sizeof(block)) != sizeof(block) ||
		    pwrite(out, block, sizeof(block), (off_t)nr * sizeof(block)) < 0)
			die("copying /fs.blocks");
	if (fsync(out) || close(out))
		die("/dev/data");
	close(in);
	mkdir("/tmp/data", 0755);
	if (mount("/dev/data", "/tmp/data", "ext4", 0, ""))
		die("mount");
}

static inline void remove_disk(const char *name)
{
	char dir[96];

	snprintf(dir, sizeof(dir), NULLB "%s", name);
	set_disk(name, "power", 0);
	if (rmdir(dir))
		die("%s", dir);
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

/* 256 MiB of swap on a disk of its own, without readahead. */
static inline void make_swap(unsigned int delay_ms)
{
	make_disk("swap", 256, delay_ms);
	swap_on("/dev/swap", 256, 0);
	put("/proc/sys/vm/page-cluster", "0");
}
