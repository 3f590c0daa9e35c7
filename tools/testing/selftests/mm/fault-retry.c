// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page faults that have to wait and are then retried: what user space sees.
 *
 * A fault under the VMA lock drops that lock before it waits for I/O, for a
 * folio lock or for userfaultfd.  It is tried three times under the VMA lock at
 * most, and then under the mmap_lock.  A fault that cannot be handled under the
 * VMA lock takes the mmap_lock at once.
 *
 * Most tests are about what must not depend on the lock: data, signals, maj_flt
 * and min_flt, and changes to the mapping while the fault waits.  The tests
 * called *vma_lock are about the lock.  They run if /proc/vmstat has
 * vma_lock_retry_hard, or if FAULT_RETRY_EXPECTED is set in the environment.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/memfd.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/swap.h>
#include <time.h>

#include "uffd-common.h"

#define NR_FAULTS	32	/* of one measurement */
#define NR_ROUNDS	4	/* of those where a fault takes several steps */
#define SLACK		2	/* more by NUMA balancing or reclaim are no failure */
#define NR_ATTEMPTS	3	/* under the VMA lock */
#define MAX_WAITS	5	/* of one fault */
#define MAX_TRIES	10	/* on a busy machine */
#define NR_WAITERS	3	/* and pages, of a userfaultfd */
#define NR_HUGETLB	(2 * (NR_WAITERS + 1))
#define NR_MISSES	160	/* more than MMAP_LOTSAMISS of mm/filemap.c */
#define MISS_STRIDE	(256 << 10)	/* more than what is read around a miss */

/* A fault that is to be woken is late after LATE_MS, and lost WAIT_MS later. */
#define LATE_MS		2500
#define WAIT_MS		60000
/* A test is over before the harness kills all of it, and the disk stays. */
#define DISK_TIMEOUT	100
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	120

#define NULLB_DIR	"/sys/kernel/config/nullb"
#define DISK_NAME	"nullb_fault_retry"
#define DISK_DIR	NULLB_DIR "/" DISK_NAME
#define DISK_DEV	"/dev/" DISK_NAME
#define DISK_MB		48
/* Where files start, behind what partition scans and blkid read. */
#define DISK_DATA	(4 << 20)
/* Time of a request; the second is long enough to do something meanwhile. */
#define FAST_MS		10
#define SLOW_MS		200

#define PAGE_CLUSTER	"/proc/sys/vm/page-cluster"
#define ZSWAP		"/sys/module/zswap/parameters/enabled"
#define MMAP_LOCK_EVENT	"/sys/kernel/tracing/events/mmap_lock/mmap_lock_released/id"

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* ---- a thread that faults ---- */

/* It touches nr pages from addr on.  Its results are valid when it is done. */
struct toucher {
	char *addr;
	unsigned int nr;
	bool write;

	pthread_t thread;
	atomic_int tid;			/* set right before the first access */
	atomic_int laps;		/* how often it has touched all */
	int want;			/* how often it must, to have got through */
	double start;
	unsigned char val[NR_FAULTS];	/* what it has read */
	int sig, code;			/* the signal that ended it */
	void *sig_addr;
	long maj, min;
	long mmap_locks;		/* taken and released; -1: cannot tell */
};

static __thread sigjmp_buf fault_jmp;
static __thread atomic_bool fault_jmp_set;
static __thread siginfo_t fault_info;
static atomic_int nr_handled;

static void fault_handler(int sig, siginfo_t *info, void *ctx)
{
	if (!atomic_load(&fault_jmp_set)) {
		signal(sig, SIG_DFL);
		return;
	}
	fault_info = *info;
	siglongjmp(fault_jmp, 1);
}

static void count_handler(int sig)
{
	atomic_fetch_add(&nr_handled, 1);
}

/* Counts the mmap_locks that the calling thread releases, or is -1. */
static int open_mmap_lock_counter(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attr),
	};
	char id[24];

	if (!read_file(MMAP_LOCK_EVENT, id, sizeof(id)))
		return -1;
	attr.config = strtoul(id, NULL, 10);
	return syscall(__NR_perf_event_open, &attr, 0, -1, -1,
		       PERF_FLAG_FD_CLOEXEC);
}

static void touch_pages(struct toucher *t)
{
	for (unsigned int i = 0; i < t->nr; i++) {
		char *p = t->addr + i * psize();

		if (t->write)
			__atomic_store_n(p, 'w', __ATOMIC_RELAXED);
		else
			t->val[i] = FORCE_READ(*p);
	}
}

static void *touch(void *arg)
{
	const int counter = open_mmap_lock_counter();
	struct rusage ru[2] = {};
	__u64 locks[2] = {};
	struct toucher *t = arg;
	bool counts = true;

	/* The first round is for what the measurement itself faults in. */
	for (int i = 0; i < 2; i++) {
		memset(&fault_info, 0, sizeof(fault_info));
		getrusage(RUSAGE_THREAD, &ru[0]);
		counts &= read(counter, &locks[0], sizeof(locks[0])) > 0;
		t->start = now();
		atomic_store(&t->tid, i ? syscall(__NR_gettid) : 0);
		if (!sigsetjmp(fault_jmp, 1)) {
			atomic_store(&fault_jmp_set, true);
			if (i)
				touch_pages(t);
		}
		atomic_store(&fault_jmp_set, false);
		counts &= read(counter, &locks[1], sizeof(locks[1])) > 0;
		getrusage(RUSAGE_THREAD, &ru[1]);
	}
	t->sig = fault_info.si_signo;
	t->code = fault_info.si_code;
	t->sig_addr = fault_info.si_addr;
	t->maj = ru[1].ru_majflt - ru[0].ru_majflt;
	t->min = ru[1].ru_minflt - ru[0].ru_minflt;
	t->mmap_locks = counts ? locks[1] - locks[0] : -1;
	close(counter);
	atomic_store(&t->laps, 1);
	return NULL;
}

static bool start_touching(struct toucher *t, char *addr, unsigned int nr, bool write)
{
	*t = (struct toucher){ .addr = addr, .nr = nr, .write = write, .want = 1 };
	return !pthread_create(&t->thread, NULL, touch, t);
}

static bool wait_laps(struct toucher *t, int laps, unsigned int ms)
{
	double end = now() + ms / 1e3;

	while (atomic_load(&t->laps) < laps && now() < end)
		usleep(500);
	return atomic_load(&t->laps) >= laps;
}

/* Not just pthread_join(): the thread may be lost in a fault. */
static bool wait_done(struct toucher *t)
{
	return wait_laps(t, 1, WAIT_MS) && !pthread_join(t->thread, NULL);
}

/* Wait until the thread sleeps uninterruptibly. False if it is done before. */
static bool wait_disk_sleep(struct toucher *t)
{
	char path[64], stat[256], *p;

	while (!atomic_load(&t->laps)) {
		snprintf(path, sizeof(path), "/proc/self/task/%d/stat",
			 atomic_load(&t->tid));
		p = read_file(path, stat, sizeof(stat)) ? strrchr(stat, ')') : NULL;
		if (p && p[2] == 'D')
			return true;
		usleep(500);
	}
	return false;
}

/* The faults succeeded, so many of them as major and as minor ones. */
static void expect_faults(struct __test_metadata *_metadata,
			  const struct toucher *t, long maj, long min)
{
	EXPECT_EQ(t->sig, 0);
	EXPECT_EQ(t->maj, maj);
	EXPECT_GE(t->min, min);
	EXPECT_LE(t->min, min + SLACK);
}

/* The fault at the first page ended in a signal. */
static void expect_signal(struct __test_metadata *_metadata,
			  const struct toucher *t, int sig, int code)
{
	EXPECT_EQ(t->sig, sig);
	EXPECT_EQ(t->code, code);
	EXPECT_EQ(t->sig_addr, t->addr);
}

static bool in_vmstat(const char *name)
{
	FILE *f = fopen("/proc/vmstat", "r");
	char line[128];
	bool found;

	if (!f)
		return false;
	found = check_for_pattern(f, name, line, sizeof(line));
	fclose(f);
	return found;
}

/* Whether it can be tested under which lock faults are retried. */
static bool lock_test(struct __test_metadata *_metadata)
{
	int counter = open_mmap_lock_counter();

	if (!getenv("FAULT_RETRY_EXPECTED") && !in_vmstat("vma_lock_retry_hard"))
		SKIP(return false, "neither vma_lock_retry_hard nor FAULT_RETRY_EXPECTED");
	if (counter < 0)
		SKIP(return false, "cannot count mmap_lock events");
	close(counter);
	return true;
}

/* Whether the kernel is known to have VMA locks. */
static bool vma_locks(void)
{
	return getenv("FAULT_RETRY_EXPECTED") || in_vmstat("vma_lock_success");
}

static void fill(char *p, unsigned int nr, unsigned char first)
{
	for (unsigned int i = 0; i < nr; i++)
		memset(p + i * psize(), first + i, psize());
}

static bool filled(const char *p, unsigned int nr, unsigned char first)
{
	for (size_t i = 0; i < nr * psize(); i++)
		if ((unsigned char)p[i] != (unsigned char)(first + i / psize()))
			return false;
	return true;
}

/* ---- a slow disk, for files and for swap ---- */

enum backing {
	BY_FILE,
	BY_PRIVATE_FILE,
	BY_SWAP,
	BY_UFFD,
};

struct disk {
	unsigned int delay_ms;	/* of each request */
	bool made, mounted, swap, zswap;
	unsigned int next, last;	/* pages: not used yet, of the last mapping */
	unsigned long page_cluster;
};

/*
 * Make the disk.  This is done by the tests, not in FIXTURE_SETUP(): there is
 * no teardown after a setup that is killed.
 */
static bool disk_create(struct __test_metadata *_metadata, struct disk *d)
{
	if (d->made)
		return true;
	alarm(DISK_TIMEOUT);
	if (access(NULLB_DIR, F_OK))
		d->mounted = !mount("configfs", "/sys/kernel/config",
				    "configfs", 0, NULL);
	if (access(NULLB_DIR, F_OK))
		SKIP(return false, "no null_blk with configfs");
	/* A test that was killed may have left it, as swap that is in use. */
	if (!access(DISK_DIR, F_OK) &&
	    ((swapoff(DISK_DEV) && errno != EINVAL && errno != ENOENT) ||
	     rmdir(DISK_DIR)))
		SKIP(return false, "cannot remove " DISK_DIR);
	if (mkdir(DISK_DIR, 0755))
		SKIP(return false, "cannot make " DISK_DIR);
	d->made = true;
	if (write_sysfs(DISK_DIR "/size", DISK_MB) ||
	    write_sysfs(DISK_DIR "/memory_backed", 1) ||
	    write_sysfs(DISK_DIR "/irqmode", 2) ||
	    write_sysfs(DISK_DIR "/completion_nsec", d->delay_ms * 1000000UL) ||
	    write_sysfs(DISK_DIR "/power", 1) || access(DISK_DEV, R_OK | W_OK))
		SKIP(return false, "cannot set up null_blk");
	return true;
}

static void disk_remove(struct disk *d)
{
	bool in_use = d->swap && swapoff(DISK_DEV) && errno != EINVAL;

	if (d->swap)
		write_sysfs(PAGE_CLUSTER, d->page_cluster);
	if (d->zswap)
		write_sysfs(ZSWAP, 1);
	if (in_use)
		ksft_print_msg("%s stays: it is in use for swap\n", DISK_DEV);
	if (d->made && !in_use) {
		write_sysfs(DISK_DIR "/power", 0);
		rmdir(DISK_DIR);
	}
	if (d->mounted && !in_use)
		umount("/sys/kernel/config");
}

/* Have anonymous memory swapped out to the disk: not elsewhere, one by one. */
static bool disk_swapon(struct disk *d)
{
	const char magic[] = { "SWAPSPACE2" };
	char *page, zswap[4];
	__u32 *header;
	bool ok;
	int fd;

	if (d->swap)
		return true;
	page = calloc(1, psize());
	fd = open(DISK_DEV, O_RDWR | O_CLOEXEC);
	if (!page || fd < 0)
		return false;
	/* version and last_page of union swap_header */
	header = (__u32 *)(page + 1024);
	header[0] = 1;
	header[1] = (DISK_MB << 20) / psize() - 1;
	memcpy(page + psize() - strlen(magic), magic, strlen(magic));
	ok = write(fd, page, psize()) == psize() && !fsync(fd);
	close(fd);
	free(page);
	if (!ok || read_sysfs(PAGE_CLUSTER, &d->page_cluster))
		return false;

	d->swap = true;
	d->zswap = read_file(ZSWAP, zswap, sizeof(zswap)) && zswap[0] == 'Y';
	if (d->zswap && write_sysfs(ZSWAP, 0))
		return false;
	return !write_sysfs(PAGE_CLUSTER, 0) &&
	       !swapon(DISK_DEV, SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK);
}

static unsigned int nr_resident(char *map, unsigned int nr)
{
	unsigned char vec[64] = {};
	unsigned int n = 0;

	mincore(map, nr * psize(), vec);
	for (unsigned int i = 0; i < nr; i++)
		n += vec[i] & 1;
	return n;
}

/* The next pages of the disk, mapped, but not in memory. */
static char *map_cold_file(struct disk *d, unsigned int nr, unsigned char first,
			   int flags)
{
	const off_t off = DISK_DATA + d->next * psize();
	const size_t len = nr * psize();
	double end = now() + WAIT_MS / 1e3;
	char *map, *buf;
	bool ok;
	int fd;

	d->last = d->next;
	d->next += nr;
	fd = open(DISK_DEV, O_RDWR | O_CLOEXEC);
	buf = malloc(len);
	if (fd < 0 || !buf)
		return NULL;
	fill(buf, nr, first);
	ok = pwrite(fd, buf, len, off) == (ssize_t)len && !fsync(fd);
	free(buf);
	map = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, off);
	if (!ok || map == MAP_FAILED)
		return NULL;
	/* No readahead: each page is to be waited for. */
	madvise(map, len, MADV_RANDOM);
	while (nr_resident(map, nr)) {
		if (now() > end)
			return NULL;
		ioctl(fd, BLKFLSBUF, 0);
		posix_fadvise(fd, off, len, POSIX_FADV_DONTNEED);
		usleep(5000);
	}
	close(fd);
	return map;
}

static bool swap_out(char *map, unsigned int nr)
{
	double end = now() + WAIT_MS / 1e3;

	for (;;) {
		if (madvise(map, nr * psize(), MADV_PAGEOUT) || now() > end)
			return false;
		if (!nr_resident(map, nr))
			return true;
		/*
		 * MADV_PAGEOUT does not see pages that wait in the batch of
		 * another CPU for their way to the LRU lists.  This drains all
		 * batches.
		 */
		if (write_sysfs("/proc/sys/vm/drop_caches", 1))
			return false;
		/*
		 * Nor does it see pages that have been written and are in the
		 * swap cache only.  Map them again.
		 */
		for (unsigned int i = 0; i < nr; i++)
			if (nr_resident(map + i * psize(), 1))
				FORCE_READ(map[i * psize()]);
	}
}

static char *map_anon(size_t len)
{
	char *map = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return NULL;
	madvise(map, len, MADV_NOHUGEPAGE);
	return map;
}

/* Pages with known contents on the disk, mapped, but not in memory. */
static char *map_cold(struct __test_metadata *_metadata, struct disk *d,
		      enum backing by, unsigned int nr, unsigned char first)
{
	char *map;

	if (!disk_create(_metadata, d))
		return NULL;
	if (by == BY_SWAP) {
		map = map_anon(nr * psize());
		if (!map || !disk_swapon(d))
			SKIP(return NULL, "no swap");
		fill(map, nr, first);
		if (!swap_out(map, nr))
			SKIP(return NULL, "cannot swap out");
	} else {
		map = map_cold_file(d, nr, first, by == BY_FILE ?
				    MAP_SHARED : MAP_PRIVATE);
		if (!map)
			SKIP(return NULL, "the pages of the file stay in memory");
	}
	return map;
}

/* Have reads fail of page i of the last mapping ('+'), or no more ('-'). */
static bool disk_spoil(struct disk *d, enum backing by, char *map, int i, char how)
{
	unsigned long long sector;
	int fd, n, len;
	char buf[64];

	sector = (DISK_DATA + (d->last + i) * psize()) >> 9;
	if (by == BY_SWAP) {
		fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
		if (fd < 0 || !pagemap_is_swapped(fd, map + i * psize()))
			return false;
		/* Bits 5 to 54 are the offset in the swap file. */
		sector = pagemap_get_entry(fd, map + i * psize()) >> 5;
		sector &= (1ULL << 50) - 1;
		sector *= psize() >> 9;
		close(fd);
	}
	fd = open(DISK_DIR "/badblocks", O_WRONLY | O_CLOEXEC);
	len = snprintf(buf, sizeof(buf), "%c%llu-%llu", how, sector,
		       sector + (psize() >> 9) - 1);
	n = write(fd, buf, len);
	close(fd);
	return n == len;
}

/* No request completes before its time is over. */
static bool disk_waits(struct disk *d, struct toucher *t)
{
	return now() - t->start < d->delay_ms / 1e3;
}

FIXTURE(disk)
{
	struct disk disk;
};

FIXTURE_VARIANT(disk)
{
	enum backing by;
	bool write;
};

FIXTURE_VARIANT_ADD(disk, file) { .by = BY_FILE };
FIXTURE_VARIANT_ADD(disk, cow) { .by = BY_PRIVATE_FILE, .write = true };
FIXTURE_VARIANT_ADD(disk, swap) { .by = BY_SWAP };

FIXTURE_SETUP(disk)
{
	self->disk.delay_ms = FAST_MS;
}

FIXTURE_TEARDOWN_PARENT(disk)
{
	disk_remove(&self->disk);
}

/* Each page is waited for once: right data, one major fault. */
TEST_F(disk, read)
{
	const size_t len = NR_FAULTS * psize();
	struct toucher t = {};
	char *map;

	map = map_cold(_metadata, &self->disk, variant->by, NR_FAULTS, 1);
	if (!map)
		return;

	ASSERT_TRUE(start_touching(&t, map, NR_FAULTS, variant->write));
	ASSERT_TRUE(wait_done(&t));
	expect_faults(_metadata, &t, NR_FAULTS, 0);
	for (int i = 0; i < NR_FAULTS; i++) {
		char *p = map + i * psize();

		EXPECT_EQ(variant->write ? *p : t.val[i],
			  variant->write ? 'w' : i + 1);
		if (variant->write)
			*p = i + 1;
	}
	EXPECT_TRUE(filled(map, NR_FAULTS, 1));
	/* A write to a private mapping leaves the file alone. */
	if (variant->write) {
		ASSERT_EQ(madvise(map, len, MADV_DONTNEED), 0);
		EXPECT_TRUE(filled(map, NR_FAULTS, 1));
	}
}

/* They are completed under the VMA lock. */
TEST_F(disk, vma_lock)
{
	struct toucher t = {};
	char *map;

	if (!lock_test(_metadata))
		return;
	map = map_cold(_metadata, &self->disk, variant->by, NR_FAULTS + 1, 1);
	if (!map)
		return;
	/* The first write needs the mmap_lock, for the anon_vma. */
	if (variant->write)
		map[0] = 1;

	ASSERT_TRUE(start_touching(&t, map + psize(), NR_FAULTS, variant->write));
	ASSERT_TRUE(wait_done(&t));
	EXPECT_EQ(t.sig, 0);
	EXPECT_LE(t.mmap_locks, SLACK);
}

/*
 * The page cannot be read: SIGBUS.  Or it can the second time: one major fault.
 * Swap is not read again, as the page is in the swap cache.
 */
TEST_F(disk, error)
{
	struct disk *d = &self->disk;
	char *map;

	d->delay_ms = SLOW_MS;
	map = map_cold(_metadata, d, variant->by, 2, 1);
	if (!map)
		return;
	for (int i = 0; i <= 1; i++) {
		char *p = map + i * psize();
		struct toucher t = {};
		bool mended = false;

		ASSERT_TRUE(disk_spoil(d, variant->by, map, i, '+'));
		ASSERT_TRUE(start_touching(&t, p, 1, variant->write));
		/* The request that has started fails all the same. */
		if (i && wait_disk_sleep(&t)) {
			ASSERT_TRUE(disk_spoil(d, variant->by, map, i, '-'));
			mended = disk_waits(d, &t);
		}
		ASSERT_TRUE(wait_done(&t));
		if (!i || variant->by == BY_SWAP) {
			expect_signal(_metadata, &t, SIGBUS, BUS_ADRERR);
		} else if (mended) {
			expect_faults(_metadata, &t, 1, 0);
			*p = 2;
			EXPECT_TRUE(filled(p, 1, 2));
		}
	}
}

/*
 * A signal during the wait runs its handler between two attempts, and the fault
 * starts afresh: right data.
 */
TEST_F(disk, signals)
{
	struct toucher t = {};
	char *map;

	map = map_cold(_metadata, &self->disk, variant->by, NR_FAULTS, 1);
	if (!map)
		return;

	ASSERT_TRUE(start_touching(&t, map, NR_FAULTS, false));
	while (!atomic_load(&t.laps)) {
		pthread_kill(t.thread, SIGUSR1);
		usleep(3000);
	}
	EXPECT_EQ(t.sig, 0);
	EXPECT_GT(atomic_load(&nr_handled), 0);
	EXPECT_TRUE(filled(map, NR_FAULTS, 1));
}

/*
 * A thread changes the protection of the VMA all the time, so that some look-ups
 * fail because the VMA is write-locked: right data, and all faults complete.
 */
TEST_F(disk, mprotect_storm)
{
	const size_t len = NR_FAULTS * psize();
	struct toucher t = {};
	int rounds = 0;
	bool ok = true;
	char *map;

	map = map_cold(_metadata, &self->disk, variant->by, NR_FAULTS, 1);
	if (!map)
		return;

	ASSERT_TRUE(start_touching(&t, map, NR_FAULTS, false));
	while (!atomic_load(&t.laps))
		ok &= !mprotect(map, len, rounds++ & 1 ? PROT_READ :
				PROT_READ | PROT_WRITE);
	EXPECT_TRUE(ok);
	EXPECT_EQ(t.sig, 0);
	EXPECT_EQ(t.maj, NR_FAULTS);
	EXPECT_TRUE(filled(map, NR_FAULTS, 1));
}

/* ---- the mapping changes while a fault waits ---- */

/* A userfaultfd, or -1 if there is none or not with these features. */
static int open_uffd(__u64 features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = uffd_open(UFFD_FLAGS);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* A fault waits for the userfaultfd from here on. */
static bool uffd_wait_fault(int uffd, char *addr, size_t size)
{
	struct pollfd pfd = { .fd = uffd, .events = POLLIN };
	double end = now() + WAIT_MS / 1e3;
	struct uffd_msg msg;

	while (now() < end) {
		if (poll(&pfd, 1, 100) == 1 &&
		    read(uffd, &msg, sizeof(msg)) == sizeof(msg))
			return msg.event == UFFD_EVENT_PAGEFAULT &&
			       msg.arg.pagefault.address - (unsigned long)addr < size;
	}
	return false;
}

static int uffd_wake(int uffd, char *addr, size_t len)
{
	struct uffdio_range range = { (unsigned long)addr, len };

	return ioctl(uffd, UFFDIO_WAKE, &range);
}

static int uffd_copy(int uffd, char *addr, const char *src, size_t len)
{
	struct uffdio_copy copy = {
		.dst = (unsigned long)addr,
		.src = (unsigned long)src,
		.len = len,
	};

	return ioctl(uffd, UFFDIO_COPY, &copy);
}

enum change_op {
	OP_MUNMAP,
	OP_MMAP_OVER,
	OP_MPROTECT,
	OP_MREMAP,
	OP_DONTNEED,
	OP_FORK,
};

struct change {
	enum backing by;
	struct disk disk;
	struct toucher t;
	int uffd;
	char *map, *to, *src;	/* to: of mremap(); src: a page of 'f' */
	pid_t pid;		/* of fork() */
	atomic_bool ready, waited;
};

FIXTURE(change)
{
	struct change c;
};

FIXTURE_VARIANT(change)
{
	enum backing by;
};

FIXTURE_VARIANT_ADD(change, file) { .by = BY_FILE };
FIXTURE_VARIANT_ADD(change, swap) { .by = BY_SWAP };
FIXTURE_VARIANT_ADD(change, uffd) { .by = BY_UFFD };

FIXTURE_SETUP(change)
{
	struct change *c = &self->c;

	c->by = variant->by;
	c->disk.delay_ms = SLOW_MS;
	c->to = map_anon(psize());
	c->src = map_anon(psize());
	memset(c->src, 'f', psize());
}

FIXTURE_TEARDOWN_PARENT(change)
{
	disk_remove(&self->c.disk);
}

/* A new mapping of one page, and a thread that waits for the page. */
static bool fault_waits(struct __test_metadata *_metadata, struct change *c)
{
	if (c->by != BY_UFFD) {
		c->map = map_cold(_metadata, &c->disk, c->by, 1, 'f');
		if (!c->map)
			return false;
		ASSERT_TRUE(start_touching(&c->t, c->map, 1, false));
		c->waited = wait_disk_sleep(&c->t);
		return true;
	}
	c->uffd = open_uffd(0);
	if (c->uffd < 0)
		SKIP(return false, "no userfaultfd");
	c->map = map_anon(psize());
	ASSERT_EQ(uffd_register(c->uffd, c->map, psize(), true, false, false), 0);
	ASSERT_TRUE(start_touching(&c->t, c->map, 1, false));
	c->waited = uffd_wait_fault(c->uffd, c->map, psize());
	return true;
}

/* Whether the fault waited all the while. */
static bool waited_so_far(struct change *c)
{
	return c->waited && (c->by == BY_UFFD || disk_waits(&c->disk, &c->t));
}

static bool change(struct change *c, enum change_op op)
{
	/* The child shares *c, and may read it when it is the next try's. */
	char *map = c->map;
	pid_t pid;

	switch (op) {
	case OP_MUNMAP:
		return !munmap(c->map, psize());
	case OP_MMAP_OVER:
		return mmap(c->map, psize(), PROT_READ, MAP_FIXED |
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == c->map;
	case OP_MPROTECT:
		return !mprotect(c->map, psize(), PROT_NONE);
	case OP_MREMAP:
		return sys_mremap(c->map, psize(), psize(),
				  MREMAP_MAYMOVE | MREMAP_FIXED, c->to) == c->to;
	case OP_DONTNEED:
		return !madvise(c->map, psize(), MADV_DONTNEED);
	case OP_FORK:
		pid = fork();
		if (!pid) {
			alarm(DISK_TIMEOUT);
			_exit(FORCE_READ(*map));
		}
		c->pid = pid;
	}
	return c->pid > 0;
}

/*
 * Change the mapping while the fault waits, and let the fault go on: it ends in
 * a signal if val is not there, or finds val.  A busy machine may be too slow to
 * do that in time: then it is tried again.
 */
static bool change_meanwhile(struct __test_metadata *_metadata, struct change *c,
			     enum change_op op, int code, unsigned char val)
{
	int tries = 0;

	do {
		if (tries++ == MAX_TRIES)
			SKIP(return false, "the machine is too slow");
		if (!fault_waits(_metadata, c))
			return false;
		ASSERT_TRUE(change(c, op));
	} while (!waited_so_far(c));

	/* The retried fault waits again if it needs the page. */
	if (c->by == BY_UFFD)
		ASSERT_EQ(op < OP_DONTNEED ?
			  uffd_wake(c->uffd, c->map, psize()) :
			  uffd_copy(c->uffd, c->map, c->src, psize()), 0);
	ASSERT_TRUE(wait_done(&c->t));
	if (code) {
		expect_signal(_metadata, &c->t, SIGSEGV, code);
	} else {
		EXPECT_EQ(c->t.sig, 0);
		EXPECT_EQ(c->t.val[0], val);
		EXPECT_TRUE(filled(c->map, 1, val));
	}
	return true;
}

TEST_F(change, munmap)
{
	change_meanwhile(_metadata, &self->c, OP_MUNMAP, SEGV_MAPERR, 0);
}

/* New memory is mapped there: its empty page, and never the old one. */
TEST_F(change, mmap_over)
{
	change_meanwhile(_metadata, &self->c, OP_MMAP_OVER, 0, 0);
}

TEST_F(change, mprotect)
{
	change_meanwhile(_metadata, &self->c, OP_MPROTECT, SEGV_ACCERR, 0);
}

/* The page is found at its new place; userfaultfd has not filled it. */
TEST_F(change, mremap)
{
	if (change_meanwhile(_metadata, &self->c, OP_MREMAP, SEGV_MAPERR, 0))
		EXPECT_TRUE(filled(self->c.to, 1, variant->by == BY_UFFD ? 0 : 'f'));
}

/* The page of the file, or a new page of anonymous memory. */
TEST_F(change, dontneed)
{
	change_meanwhile(_metadata, &self->c, OP_DONTNEED, 0,
			 variant->by == BY_SWAP ? 0 : 'f');
}

/* Parent and child both get the page; userfaultfd fills the parent's only. */
TEST_F(change, fork)
{
	int status;

	if (!change_meanwhile(_metadata, &self->c, OP_FORK, 0, 'f'))
		return;
	ASSERT_EQ(waitpid(self->c.pid, &status, 0), self->c.pid);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), variant->by == BY_UFFD ? 0 : 'f');
}

/* A process dies of SIGKILL though its fault waits. */
TEST_F(change, kill)
{
	struct change *c = &self->c;
	int tries = 0, status;
	bool in_time;
	pid_t pid;

	alarm(DISK_TIMEOUT);
	do {
		if (tries++ == MAX_TRIES)
			SKIP(return, "the machine is too slow");
		c->ready = false;
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			c->ready = fault_waits(_metadata, c);
			if (c->ready)
				wait_done(&c->t);
			_exit(0);
		}
		while (!c->ready) {
			if (waitpid(pid, &status, WNOHANG))
				return;
			usleep(500);
		}
		kill(pid, SIGKILL);
		in_time = waited_so_far(c);
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
	} while (!in_time);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

/* ---- userfaultfd: exactly so many waits ---- */

struct uffd_kind {
	bool missing, minor, wp, shmem, hugetlb;
	__u64 features;
};

struct uffd_area {
	struct uffd_kind is;
	int uffd, memfd;
	char *map, *src;	/* src: a page of the data */
	size_t size, len;	/* of a page, of the registered range */
};

FIXTURE(uffd)
{
	struct uffd_area a;
};

FIXTURE_VARIANT(uffd)
{
	struct uffd_kind is;
};

FIXTURE_VARIANT_ADD(uffd, missing_anon) { .is.missing = true };
FIXTURE_VARIANT_ADD(uffd, missing_shmem) { .is.missing = true,
	.is.shmem = true, .is.features = UFFD_FEATURE_MISSING_SHMEM };
FIXTURE_VARIANT_ADD(uffd, missing_hugetlb) { .is.missing = true,
	.is.hugetlb = true, .is.features = UFFD_FEATURE_MISSING_HUGETLBFS };
FIXTURE_VARIANT_ADD(uffd, minor_shmem) { .is.minor = true,
	.is.shmem = true, .is.features = UFFD_FEATURE_MINOR_SHMEM };
FIXTURE_VARIANT_ADD(uffd, minor_hugetlb) { .is.minor = true,
	.is.hugetlb = true, .is.features = UFFD_FEATURE_MINOR_HUGETLBFS };
FIXTURE_VARIANT_ADD(uffd, wp_anon) { .is.wp = true,
	.is.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
FIXTURE_VARIANT_ADD(uffd, wp_shmem) { .is.wp = true,
	.is.shmem = true, .is.features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM };
FIXTURE_VARIANT_ADD(uffd, wp_hugetlb) { .is.wp = true,
	.is.hugetlb = true, .is.features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM };

static bool uffd_area_register(struct uffd_area *a)
{
	a->uffd = open_uffd(a->is.features);
	if (a->uffd < 0 || uffd_register(a->uffd, a->map, a->len, a->is.missing,
					 a->is.wp, a->is.minor))
		return false;
	if (a->is.wp)
		wp_range(a->uffd, (unsigned long)a->map, a->len, true);
	return true;
}

/*
 * NR_WAITERS pages that are registered, and one behind them that is there, so
 * that no anon_vma and no page table has to be made.  The pages hold 'f': those
 * of a minor or write-protect mode now, the others once resolved.
 */
static bool uffd_begin(struct __test_metadata *_metadata, struct uffd_area *a,
		       const struct uffd_kind *is)
{
	*a = (struct uffd_area){
		.is = *is,
		.size = is->hugetlb ? default_huge_page_size() : psize(),
		.memfd = -1,
	};
	a->len = NR_WAITERS * a->size;
	if (is->shmem || is->hugetlb) {
		a->memfd = memfd_create("fault-retry", MFD_CLOEXEC |
					(is->hugetlb ? MFD_HUGETLB : 0));
		ASSERT_EQ(ftruncate(a->memfd, a->len + a->size), 0);
	}
	a->map = mmap(NULL, a->len + a->size, PROT_READ | PROT_WRITE,
		      a->memfd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED,
		      a->memfd, 0);
	ASSERT_NE(a->map, MAP_FAILED);
	a->src = malloc(a->size);
	memset(a->src, 'f', a->size);
	madvise(a->map, a->len + a->size, MADV_NOHUGEPAGE);
	a->map[a->len] = 1;
	if (a->is.minor || a->is.wp)
		memset(a->map, 'f', a->len);
	/* In the file, but not in the page table. */
	if (a->is.minor)
		madvise(a->map, a->len, MADV_DONTNEED);
	return uffd_area_register(a);
}

FIXTURE_SETUP(uffd)
{
	if (variant->is.hugetlb && hugetlb_free_default_pages() < NR_HUGETLB)
		SKIP(return, "no huge pages");
	if (!uffd_begin(_metadata, &self->a, &variant->is))
		SKIP(return, "no userfaultfd of this kind");
}

FIXTURE_TEARDOWN(uffd)
{
}

static bool start_waiting(struct uffd_area *a, struct toucher *t, int page)
{
	return start_touching(t, a->map + page * a->size, 1, a->is.wp);
}

/* Give the fault at that page what it waits for. */
static int uffd_resolve(struct uffd_area *a, int page)
{
	char *p = a->map + page * a->size;
	struct uffdio_continue cont = { .range = { (unsigned long)p, a->size } };

	if (a->is.missing)
		return uffd_copy(a->uffd, p, a->src, a->size);
	if (a->is.minor)
		return ioctl(a->uffd, UFFDIO_CONTINUE, &cont);
	wp_range(a->uffd, (unsigned long)p, a->size, false);
	return 0;
}

/* Have the next access to that page wait again. */
static int uffd_renew(struct uffd_area *a, int page)
{
	const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	char *p = a->map + page * a->size;

	if (a->is.wp)
		wp_range(a->uffd, (unsigned long)p, a->size, true);
	else if (a->is.missing && a->memfd >= 0)
		return fallocate(a->memfd, mode, page * a->size, a->size);
	else
		return madvise(p, a->size, MADV_DONTNEED);
	return 0;
}

/* A fault is woken without the page until it has waited so often. */
static void uffd_wait_times(struct __test_metadata *_metadata,
			    struct uffd_area *a, int waits, struct toucher *t)
{
	ASSERT_TRUE(start_waiting(a, t, 0));
	for (int i = 1; i <= waits; i++) {
		ASSERT_TRUE(uffd_wait_fault(a->uffd, a->map, a->size));
		if (i < waits)
			ASSERT_EQ(uffd_wake(a->uffd, a->map, a->size), 0);
	}
	ASSERT_EQ(uffd_resolve(a, 0), 0);
	ASSERT_TRUE(wait_done(t));
	EXPECT_EQ(t->sig, 0);
	if (a->is.wp) {
		EXPECT_EQ(a->map[0], 'w');
		a->map[0] = 'f';
	} else {
		EXPECT_EQ(t->val[0], 'f');
	}
	EXPECT_EQ(memcmp(a->map, a->src, a->size), 0);
	ASSERT_EQ(uffd_renew(a, 0), 0);
}

/* One wait makes a minor fault if there are VMA locks, more make a major one. */
TEST_F(uffd, waits)
{
	for (int waits = 1; waits <= MAX_WAITS; waits++) {
		struct toucher t = {};
		long maj;

		uffd_wait_times(_metadata, &self->a, waits, &t);
		maj = waits > 1 || (!vma_locks() && t.maj);
		expect_faults(_metadata, &t, maj, !maj);
	}
}

/* The first attempts are made under the VMA lock, the others are not. */
TEST_F(uffd, waits_vma_lock)
{
	if (!lock_test(_metadata))
		return;
	for (int waits = 1; waits <= MAX_WAITS; waits++) {
		int want = waits < NR_ATTEMPTS ? 0 : waits + 1 - NR_ATTEMPTS;
		struct toucher t = {};
		long mmap_locks = 0;

		for (int i = 0; i < NR_ROUNDS; i++) {
			uffd_wait_times(_metadata, &self->a, waits, &t);
			mmap_locks += t.mmap_locks;
		}
		EXPECT_GE(mmap_locks, NR_ROUNDS * want);
		EXPECT_LE(mmap_locks, NR_ROUNDS * want + SLACK);
	}
}

/* A signal while the fault waits for the first time; then it waits again. */
static void uffd_wait_signal(struct __test_metadata *_metadata,
			     struct uffd_area *a, struct toucher *t)
{
	int handled = atomic_load(&nr_handled);

	ASSERT_TRUE(start_waiting(a, t, 0));
	ASSERT_TRUE(uffd_wait_fault(a->uffd, a->map, a->size));
	pthread_kill(t->thread, SIGUSR1);
	while (atomic_load(&nr_handled) == handled)
		usleep(500);
	ASSERT_TRUE(uffd_wait_fault(a->uffd, a->map, a->size));
	ASSERT_EQ(atomic_load(&t->laps), 0);
	ASSERT_EQ(uffd_resolve(a, 0), 0);
	ASSERT_TRUE(wait_done(t));
	EXPECT_EQ(t->sig, 0);
	EXPECT_EQ(a->map[0], a->is.wp ? 'w' : 'f');
	if (vma_locks())
		EXPECT_EQ(t->maj, 0);
	ASSERT_EQ(uffd_renew(a, 0), 0);
}

/* The handler runs between two attempts, and the fault starts afresh. */
TEST_F(uffd, signal)
{
	struct toucher t = {};

	uffd_wait_signal(_metadata, &self->a, &t);
}

/* No attempt is made between the signal and the handler. */
TEST_F(uffd, signal_vma_lock)
{
	struct toucher t = {};
	long mmap_locks = 0;

	if (!lock_test(_metadata))
		return;
	for (int i = 0; i < NR_ROUNDS; i++) {
		uffd_wait_signal(_metadata, &self->a, &t);
		mmap_locks += t.mmap_locks;
	}
	EXPECT_LE(mmap_locks, SLACK);
}

/* Show where a thread sleeps.  Returns how many faults userfaultfd has queued. */
static int show_waiter(struct __test_metadata *_metadata, struct toucher *t, int uffd)
{
	static const char * const files[] = { "wchan", "stat", "syscall", "stack" };
	struct pollfd pfd = { .fd = uffd, .events = POLLIN };
	char path[64], buf[1024];
	const char *total;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "/proc/self/task/%d/%s",
			 atomic_load(&t->tid), files[i]);
		if (read_file(path, buf, sizeof(buf)))
			TH_LOG("%s: %s", path, buf);
	}
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", uffd);
	if (uffd < 0 || !read_file(path, buf, sizeof(buf)))
		return 0;
	TH_LOG("userfaultfd: poll %d %#x, %s", poll(&pfd, 1, 0), pfd.revents, buf);
	total = strstr(buf, "total:");
	return total ? atoi(total + strlen("total:")) : 0;
}

/*
 * Whether all these faults get through now that the range is gone.  A fault that
 * comes late on a busy machine has not failed, but it is said.  One that is still
 * queued has not been woken, and nobody is left to do that: do not wait so long.
 */
static bool all_get_through(struct __test_metadata *_metadata, struct toucher *t,
			    int uffd)
{
	double start = now();

	for (int i = 0; i < NR_WAITERS; i++) {
		if (wait_laps(&t[i], t[i].want, LATE_MS))
			continue;
		if (!wait_laps(&t[i], t[i].want,
			       show_waiter(_metadata, &t[i], uffd) ? LATE_MS : WAIT_MS)) {
			show_waiter(_metadata, &t[i], uffd);
			TH_LOG("LOST: a fault sleeps after %.1f s", now() - start);
			return false;
		}
		TH_LOG("SLOW: a fault came back after %.1f s", now() - start);
	}
	return true;
}

static void start_all(struct __test_metadata *_metadata, struct uffd_area *a,
		      struct toucher *t)
{
	bool ok = true;

	for (int i = 0; i < NR_WAITERS; i++)
		ok &= start_waiting(a, &t[i], i);
	for (int i = 0; i < NR_WAITERS; i++)
		ok &= uffd_wait_fault(a->uffd, a->map, a->len);
	ASSERT_TRUE(ok);
}

/* End the registration, and see that the faults get through. */
static void expect_gone(struct __test_metadata *_metadata, struct uffd_area *a,
			struct toucher *t, bool closing)
{
	ASSERT_EQ(closing ? close(a->uffd) :
		  uffd_unregister(a->uffd, a->map, a->len), 0);
	ASSERT_TRUE(all_get_through(_metadata, t, closing ? -1 : a->uffd));
	for (int i = 0; i < NR_WAITERS; i++) {
		EXPECT_EQ(t[i].sig, 0);
		EXPECT_EQ(a->map[i * a->size],
			  a->is.wp ? 'w' : a->is.minor ? 'f' : 0);
	}
}

/* UFFDIO_UNREGISTER wakes all faults that wait for the range. */
TEST_F(uffd, gone_unregister)
{
	struct toucher t[NR_WAITERS];

	start_all(_metadata, &self->a, t);
	expect_gone(_metadata, &self->a, t, false);
}

/* So does the close of the userfaultfd. */
TEST_F(uffd, gone_close)
{
	struct toucher t[NR_WAITERS];

	start_all(_metadata, &self->a, t);
	expect_gone(_metadata, &self->a, t, true);
}

/*
 * The waiters preempt the thread that wakes them, so that their next attempt
 * comes before the thread gets any further.  If the range were still found
 * registered, they would wait again and for ever.
 */
TEST_F(uffd, gone_unregister_fifo)
{
	const struct sched_param sp = { .sched_priority = 10 }, normal = {};
	struct toucher t[NR_WAITERS];
	cpu_set_t set;
	int cpu = 0;

	if (sched_setscheduler(0, SCHED_FIFO, &sp))
		SKIP(return, "no SCHED_FIFO");
	/* All on the first CPU that is allowed. */
	ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
	while (!CPU_ISSET(cpu, &set))
		cpu++;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	ASSERT_EQ(sched_setaffinity(0, sizeof(set), &set), 0);

	start_all(_metadata, &self->a, t);
	ASSERT_EQ(sched_setscheduler(0, SCHED_OTHER, &normal), 0);
	expect_gone(_metadata, &self->a, t, false);
}

/*
 * Two userfaultfds in one process: the end of one wakes its own faults, and not
 * those that wait for the other, which can still be resolved.
 */
TEST_F(uffd, two_contexts)
{
	struct toucher t[NR_WAITERS], other[NR_WAITERS];
	struct uffd_area *a = &self->a, b;
	struct pollfd pfd;

	ASSERT_TRUE(uffd_begin(_metadata, &b, &variant->is));
	for (int closing = 0; closing <= 1; closing++) {
		start_all(_metadata, a, t);
		start_all(_metadata, &b, other);
		expect_gone(_metadata, a, t, closing);
		/* A fault that is woken waits again, and the other hears of it. */
		pfd = (struct pollfd){ .fd = b.uffd, .events = POLLIN };
		EXPECT_EQ(poll(&pfd, 1, 100), 0);
		for (int i = 0; i < NR_WAITERS; i++) {
			EXPECT_EQ(atomic_load(&other[i].laps), 0);
			ASSERT_EQ(uffd_resolve(&b, i), 0);
		}
		ASSERT_TRUE(all_get_through(_metadata, other, b.uffd));
		for (int i = 0; i < NR_WAITERS; i++) {
			EXPECT_EQ(b.map[i * b.size], b.is.wp ? 'w' : 'f');
			ASSERT_EQ(uffd_renew(&b, i), 0);
			if (!a->is.wp)
				ASSERT_EQ(uffd_renew(a, i), 0);
		}
		if (!closing)
			ASSERT_TRUE(uffd_area_register(a));
	}
}

struct storm {
	struct uffd_area *a;
	struct toucher t[NR_WAITERS];
	atomic_int started;
	atomic_bool stop;
};

static void *storm_touch(void *arg)
{
	struct storm *s = arg;
	int i = atomic_fetch_add(&s->started, 1);

	atomic_store(&s->t[i].tid, syscall(__NR_gettid));
	while (!atomic_load(&s->stop)) {
		touch_pages(&s->t[i]);
		if (!s->a->is.wp)
			uffd_renew(s->a, i);
		atomic_fetch_add(&s->t[i].laps, 1);
		usleep(rand() % 200);
	}
	return NULL;
}

/* Threads fault all the time while the range is registered and gone again. */
TEST_F(uffd, storm)
{
	struct uffd_area *a = &self->a;
	struct storm s = { .a = a };
	double end = now() + 1;
	int waited = 0;

	for (int i = 0; i < NR_WAITERS; i++) {
		s.t[i].addr = a->map + i * a->size;
		s.t[i].nr = 1;
		s.t[i].write = a->is.wp;
		ASSERT_EQ(pthread_create(&s.t[i].thread, NULL, storm_touch, &s), 0);
	}
	for (bool closing = false; now() < end; closing = !closing) {
		struct pollfd pfd = { .fd = a->uffd, .events = POLLIN };

		usleep(rand() % 1000);
		waited += poll(&pfd, 1, 0);
		ASSERT_EQ(closing ? close(a->uffd) :
			  uffd_unregister(a->uffd, a->map, a->len), 0);
		for (int i = 0; i < NR_WAITERS; i++)
			s.t[i].want = atomic_load(&s.t[i].laps) + 1;
		ASSERT_TRUE(all_get_through(_metadata, s.t, closing ? -1 : a->uffd));
		if (!closing)
			close(a->uffd);
		ASSERT_TRUE(uffd_area_register(a));
	}
	ASSERT_EQ(close(a->uffd), 0);
	atomic_store(&s.stop, true);
	for (int i = 0; i < NR_WAITERS; i++)
		pthread_join(s.t[i].thread, NULL);
	EXPECT_GT(waited, 0);
}

/* ---- others ---- */

FIXTURE(fault)
{
	struct disk disk;
};

FIXTURE_SETUP(fault)
{
	self->disk.delay_ms = FAST_MS;
}

FIXTURE_TEARDOWN_PARENT(fault)
{
	disk_remove(&self->disk);
}

/*
 * A write to a page that is swapped out and write-protected waits for the disk,
 * then for userfaultfd, and for both again if the page is swapped out meanwhile.
 * Only one wait for userfaultfd alone makes a minor fault.
 */
TEST_F(fault, swap_and_uffd)
{
	const int uffd = open_uffd(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	struct toucher t = {};
	char *map;

	if (uffd < 0)
		SKIP(return, "no write protection by userfaultfd");
	map = map_cold(_metadata, &self->disk, BY_SWAP, 1, 'f');
	if (!map)
		return;
	ASSERT_EQ(uffd_register(uffd, map, psize(), false, true, false), 0);
	for (int i = 1; i <= 6; i++) {
		const int waits = (i + 1) / 2;	/* for userfaultfd */
		const bool out = i & 1;		/* the first wait is for the disk */
		long maj;

		if (!out)
			FORCE_READ(map[0]);
		wp_range(uffd, (unsigned long)map, psize(), true);
		if (out)
			ASSERT_TRUE(swap_out(map, 1));
		ASSERT_TRUE(start_touching(&t, map, 1, true));
		for (int n = 1; n <= waits; n++) {
			ASSERT_TRUE(uffd_wait_fault(uffd, map, psize()));
			if (n < waits) {
				ASSERT_TRUE(swap_out(map, 1));
				ASSERT_EQ(uffd_wake(uffd, map, psize()), 0);
			}
		}
		wp_range(uffd, (unsigned long)map, psize(), false);
		ASSERT_TRUE(wait_done(&t));
		maj = waits > 1 || out || (!vma_locks() && t.maj);
		expect_faults(_metadata, &t, maj, !maj);
		EXPECT_EQ(map[0], 'w');
		map[0] = 'f';
		EXPECT_TRUE(filled(map, 1, 'f'));
	}
}

/*
 * A file that is read here and there is not read around any longer after a
 * hundred misses: the retry does not take back the miss of the first attempt.
 */
TEST_F(fault, read_around)
{
	struct disk *d = &self->disk;

	if (!disk_create(_metadata, d))
		return;
	for (int write = 0; write <= 1; write++) {
		const int fd = open(DISK_DEV, O_RDONLY | O_CLOEXEC);
		char *map, *p = NULL;

		ASSERT_GE(fd, 0);
		ioctl(fd, BLKFLSBUF, 0);
		map = mmap(NULL, NR_MISSES * MISS_STRIDE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE, fd, DISK_DATA);
		ASSERT_NE(map, MAP_FAILED);
		for (int i = 0; i < NR_MISSES; i++) {
			p = map + i * MISS_STRIDE;
			if (write)
				*p = 'w';
			else
				FORCE_READ(*p);
		}
		EXPECT_EQ(nr_resident(p - MISS_STRIDE / 2, MISS_STRIDE / psize()), 1);
		munmap(map, NR_MISSES * MISS_STRIDE);
		close(fd);
	}
}

/* A file is truncated while a fault at its page waits: SIGBUS. */
TEST_F(fault, truncate)
{
	const int uffd = open_uffd(UFFD_FEATURE_MISSING_SHMEM);
	const int memfd = memfd_create("fault-retry", MFD_CLOEXEC);
	struct toucher t = {};
	char *map;

	if (uffd < 0 || memfd < 0)
		SKIP(return, "no userfaultfd for shmem");
	ASSERT_EQ(ftruncate(memfd, psize()), 0);
	map = mmap(NULL, psize(), PROT_READ, MAP_SHARED, memfd, 0);
	ASSERT_NE(map, MAP_FAILED);
	ASSERT_EQ(uffd_register(uffd, map, psize(), true, false, false), 0);

	ASSERT_TRUE(start_touching(&t, map, 1, false));
	ASSERT_TRUE(uffd_wait_fault(uffd, map, psize()));
	ASSERT_EQ(ftruncate(memfd, 0), 0);
	ASSERT_EQ(uffd_wake(uffd, map, psize()), 0);
	ASSERT_TRUE(wait_done(&t));
	expect_signal(_metadata, &t, SIGBUS, BUS_ADRERR);
}

/*
 * The ->fault of memfd_secret() needs the mmap_lock, which is no wait: right
 * data, one minor fault, and the mmap_lock is taken once.
 */
TEST_F(fault, secretmem)
{
	const size_t len = NR_FAULTS * psize();
	struct toucher t = {};
	char *map;
	int fd = -1;

#ifdef __NR_memfd_secret
	fd = syscall(__NR_memfd_secret, 0);
#endif
	if (fd < 0)
		SKIP(return, "no memfd_secret()");
	ASSERT_EQ(ftruncate(fd, len), 0);
	map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		SKIP(return, "cannot map a memfd_secret()");

	ASSERT_TRUE(start_touching(&t, map, NR_FAULTS, true));
	ASSERT_TRUE(wait_done(&t));
	expect_faults(_metadata, &t, 0, NR_FAULTS);
	for (int i = 0; i < NR_FAULTS; i++) {
		EXPECT_EQ(map[i * psize()], 'w');
		EXPECT_EQ(map[(i + 1) * psize() - 1], 0);
	}
	if (t.mmap_locks >= 0) {
		EXPECT_GE(t.mmap_locks, NR_FAULTS);
		EXPECT_LE(t.mmap_locks, NR_FAULTS + SLACK);
	}
}

/*
 * Faults at a shmem range in which holes are punched wait for the end of that:
 * no page stays mapped that is no longer the file's.
 */
TEST_F(fault, punch_hole)
{
	const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	const int memfd = memfd_create("fault-retry", MFD_CLOEXEC);
	const size_t len = NR_FAULTS * psize();
	const double end = now() + 1;
	struct toucher t = {};
	char *map, c;

	ASSERT_EQ(ftruncate(memfd, len), 0);
	map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	ASSERT_NE(map, MAP_FAILED);
	while (now() < end) {
		bool punched = true;

		ASSERT_TRUE(start_touching(&t, map, NR_FAULTS, true));
		while (!atomic_load(&t.laps))
			punched &= !fallocate(memfd, mode, 0, len);
		ASSERT_TRUE(punched);
		ASSERT_TRUE(wait_done(&t));
		for (int i = 0; i < NR_FAULTS; i++) {
			map[i * psize()] = i;
			ASSERT_EQ(pread(memfd, &c, 1, i * psize()), 1);
			EXPECT_EQ(c, i);
		}
		ASSERT_EQ(fallocate(memfd, mode, 0, len), 0);
		for (int i = 0; i < NR_FAULTS; i++)
			EXPECT_EQ(map[i * psize()], 0);
	}
}

/*
 * A fault where a transparent huge page fits waits twice, and is left alone
 * then: an empty page, one major fault.
 */
TEST_F(fault, thp)
{
	const size_t size = thp_available() ? read_pmd_pagesize() : 0;
	const int uffd = open_uffd(0);
	struct toucher t = {};
	char *map;

	if (!size || size > 32 << 20)
		SKIP(return, "no transparent huge pages");
	map = map_anon(2 * size);
	ASSERT_NE(map, NULL);
	map = (char *)(((unsigned long)map + size - 1) & ~(size - 1));
	if (uffd < 0 || madvise(map, size, MADV_HUGEPAGE))
		SKIP(return, "no userfaultfd for transparent huge pages");
	ASSERT_EQ(uffd_register(uffd, map, size, true, false, false), 0);

	ASSERT_TRUE(start_touching(&t, map, 1, true));
	ASSERT_TRUE(uffd_wait_fault(uffd, map, size));
	ASSERT_EQ(uffd_wake(uffd, map, size), 0);
	ASSERT_TRUE(uffd_wait_fault(uffd, map, size));
	ASSERT_EQ(uffd_unregister(uffd, map, size), 0);
	ASSERT_TRUE(wait_done(&t));
	expect_faults(_metadata, &t, 1, 0);
	EXPECT_EQ(map[0], 'w');
	map[0] = 0;
	EXPECT_TRUE(filled(map, 1, 0));
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_sigaction = fault_handler,
				.sa_flags = SA_SIGINFO | SA_NODEFER };

	/* Kept open: to unregister the last user of a tracepoint takes long. */
	open_mmap_lock_counter();
	/* All this is for the tests, which are children. */
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	signal(SIGUSR1, count_handler);
	if (!access("/proc/sys/vm/nr_hugepages", W_OK))
		hugetlb_setup_default(NR_HUGETLB);
	return test_harness_run(argc, argv);
}
