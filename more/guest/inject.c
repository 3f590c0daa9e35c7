// SPDX-License-Identifier: GPL-2.0-only
/*
 * inject - page faults whose memory or disk fails while they wait
 *
 * Runs in the guest and prints KTAP:
 *
 *	inject [CASE...]	all, or those named; "broken": those that must not be ok
 *
 * 8 threads fault on the pages of a region, which wait for a slow disk, while allocations or
 * I/O are made to fail, or the disk goes away. Each page must be there with its own data, or
 * there is a SIGBUS with BUS_ADRERR and its address, where I/O failed; never wrong data, another
 * signal or a hang. When the injection is off, all pages must be there. A case that saw no
 * failure proves nothing, and is not ok.
 *
 *  badblocks_*	null_blk with bad blocks: exactly the pages there fail
 *  remove_*	null_blk is removed while faults wait
 *  request_*	fail_make_request, one of two
 *  timeout_*	null_blk's requests time out, one of eight
 *  requeue_*	null_blk's requests are requeued: no fault may fail
 *  dm_error	the disk becomes dm-error and linear again
 *  dm_flakey	dm-flakey, down every other second
 *  scsi_medium, scsi_delete	scsi_debug: a medium error; the disk is deleted
 *  alloc_*, slab_*	fail_page_alloc and failslab for the faulting threads: no fault may fail
 * of: shared, private (a read-only mapping of a file), cow (written), swap, anon, shmem
 */
#define _GNU_SOURCE
#include <linux/dm-ioctl.h>
#include <sys/sysmacros.h>

#include "case.h"

#define NR_THREADS	8
#define PAGES		512
#define DELAY_MS	10
#define DEBUGFS		"/sys/kernel/debug/"

enum kind { SHARED, PRIVATE, COW, SWAP, ANON, SHMEM };

static char *map;
static bool writing, failing;	/* the threads write; their allocations fail */
static bool zeroes;		/* what is to be read: not tags */
static unsigned int delay_ms = DELAY_MS;
static int outcome[PAGES];	/* of each page: as touch_word() says */
static atomic_int touched;

static void *touch_some(void *arg)
{
	size_t nr = (size_t)arg;
	uint64_t got;

	be("fault", 0);
	if (failing)
		put("/proc/thread-self/make-it-fail", "1");
	for (size_t i = nr; i < PAGES; i += NR_THREADS) {
		uint64_t want = zeroes ? 0 : tag(1, i);
		int code = touch_word((uint64_t *)(map + i * page_size), writing, &got);

		if (!code && got != want)
			fail("wrong data: page %zu has %llx", i, (unsigned long long)got);
		if (code && code != BUS_ADRERR)
			fail("SIGBUS of page %zu with si_code or si_addr wrong (%d)", i, code);
		outcome[i] = code;
		atomic_fetch_add(&touched, 1);
	}
	/* This, too, is made to fail. */
	while (failing && !try_put("/proc/thread-self/make-it-fail", "0"))
		;
	return NULL;
}

static pthread_t threads[NR_THREADS];

static void start_all(void)
{
	atomic_store(&touched, 0);
	for (size_t i = 0; i < NR_THREADS; i++)
		if (pthread_create(&threads[i], NULL, touch_some, (void *)i))
			die("pthread_create");
}

/* The number of SIGBUSes. */
static int join_all(void)
{
	int bus = 0;

	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < PAGES; i++)
		bus += !!outcome[i];
	return bus;
}

static int touch_all(void)
{
	start_all();
	return join_all();
}

static char *map_path(const char *path, enum kind kind)
{
	int fd = open(path, O_RDWR);
	char *p = mmap(NULL, PAGES * page_size, kind == COW ? PROT_READ | PROT_WRITE : PROT_READ,
		       kind == SHARED ? MAP_SHARED : MAP_PRIVATE, fd, 0);

	if (fd < 0 || p == MAP_FAILED || madvise(p, PAGES * page_size, MADV_RANDOM))
		die("%s", path);
	close(fd);
	return p;
}

static void map_anon(void)
{
	map = mmap(NULL, PAGES * page_size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED || madvise(map, PAGES * page_size, MADV_NOHUGEPAGE))
		die("mmap");
}

/* Out of the page tables and the swap cache, by the cgroup's reclaim (see lab/guest/writer.c). */
static void swap_out(void)
{
	unsigned char vec[PAGES];
	int resident = PAGES;

	for (int try = 0; try < 100 && resident; try++) {
		try_put(CGROUPS "inject/memory.reclaim", "%lu", PAGES * page_size);
		if (mincore(map, PAGES * page_size, vec))
			die("mincore");
		resident = 0;
		for (int i = 0; i < PAGES; i++)
			resident += vec[i] & 1;
		if (resident)
			usleep(20000);
	}
	if (resident)
		fail("%d of %d pages do not get swapped out", resident, PAGES);
}

/* A slow disk with PAGES tagged pages, or swap full of them, and the mapping. */
static void set_up(const char *disk, enum kind kind)
{
	char path[64];

	writing = kind == COW;
	if (kind == SWAP) {
		if (!access(NULLB "swap", F_OK)) {
			swapoff("/dev/swap");
			remove_disk("swap");
		}
		make_swap(delay_ms);
		mount_cgroups();
		put(CGROUPS "cgroup.subtree_control", "+memory");
		if (mkdir(CGROUPS "inject", 0755) && errno != EEXIST)
			die("cgroup");
		put(CGROUPS "inject/cgroup.procs", "%d", getpid());
		map_anon();
		for (size_t i = 0; i < PAGES; i++)
			*(uint64_t *)(map + i * page_size) = tag(1, i);
		swap_out();
		return;
	}
	make_disk(disk, 4, delay_ms);
	no_readahead(disk);
	snprintf(path, sizeof(path), "/dev/%s", disk);
	write_tags(path, 1, PAGES);
	map = map_path(path, kind);
}

/* The end of a case: bus is what was seen, least..most is right; then all must be there. */
static void finish(enum kind kind, int bus, int least, int most, const char *injected)
{
	int after;

	/* What could not be read stays in the swap cache, as not up to date, until reclaimed. */
	if (kind == SWAP)
		swap_out();
	after = touch_all();
	judge(bus >= least && bus <= most && !after,
	      "%d pages, %d SIGBUS (%d to %d wanted), then %d SIGBUS (0 wanted)%s%s",
	      PAGES, bus, least, most, after, *injected ? "; injected " : "", injected);
}

/* ---- null_blk's own errors ---- */

static void bad_blocks(const char *disk, char sign, size_t first, size_t nr)
{
	const unsigned int sectors = page_size / 512;
	char path[80];

	snprintf(path, sizeof(path), NULLB "%s/badblocks", disk);
	put(path, "%c%zu-%zu", sign, first * sectors, (first + nr) * sectors - 1);
}

static void badblocks(const char *disk, enum kind kind)
{
	int bus;

	set_up(disk, kind);
	/* Which page is where in the swap space is not known: a part of what it fills. */
	bad_blocks(disk, '+', kind == SWAP ? 64 : 100, 64);
	bus = touch_all();
	for (int i = 0; i < PAGES && kind != SWAP; i++)
		if (!!outcome[i] != (i >= 100 && i < 164))
			fail("page %d: %s", i, outcome[i] ? "SIGBUS" : "no SIGBUS");
	bad_blocks(disk, '-', kind == SWAP ? 64 : 100, 64);
	finish(kind, bus, kind == SWAP ? 1 : 64, 64, "");
}

static void badblocks_shared(void)
{
	badblocks("badshared", SHARED);
}

static void badblocks_private(void)
{
	badblocks("badprivate", PRIVATE);
}

static void badblocks_cow(void)
{
	badblocks("badcow", COW);
}

static void badblocks_swap(void)
{
	badblocks("swap", SWAP);
}

static void wait_for_half(void)
{
	while (atomic_load(&touched) < PAGES / 3)
		usleep(1000);
}

static void remove_while_waiting(const char *disk, enum kind kind)
{
	char again[32], path[64];
	int bus;

	set_up(disk, kind);
	start_all();
	wait_for_half();
	set_disk(disk, "power", 0);
	bus = join_all();
	if (kind == SWAP)
		judge(bus > 0 && bus < PAGES, "%d pages, %d SIGBUS; no swap any more", PAGES, bus);
	munmap(map, PAGES * page_size);
	/* Its data are gone with it: another one. */
	snprintf(again, sizeof(again), "%s2", disk);
	make_disk(again, 4, 1);
	no_readahead(again);
	snprintf(path, sizeof(path), "/dev/%s", again);
	write_tags(path, 1, PAGES);
	map = map_path(path, kind);
	finish(kind, bus, 1, PAGES - 1, "");
}

static void remove_shared(void)
{
	remove_while_waiting("goneshared", SHARED);
}

static void remove_cow(void)
{
	remove_while_waiting("gonecow", COW);
}

static void remove_swap(void)
{
	remove_while_waiting("swap", SWAP);
}

/* ---- the kernel's fault injection ---- */

#define TIMES	1000000

/* dir: of the attributes; per cent of all, or of what the marked tasks do. */
static void inject(const char *dir, unsigned int percent, bool tasks)
{
	char path[160];

	static const char * const names[] = {
		"interval", "space", "verbose", "times", "task-filter", "probability"
	};
	const int values[] = { 1, 0, 0, TIMES, tasks, percent };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		put(path, "%d", values[i]);
	}
}

/* Off again; says how often it struck. */
static const char *injected(const char *dir)
{
	static char text[24];
	char path[160], buf[24];

	snprintf(path, sizeof(path), "%s/probability", dir);
	put(path, "0");
	snprintf(path, sizeof(path), "%s/times", dir);
	read_file(path, buf, sizeof(buf));
	snprintf(text, sizeof(text), "%d", TIMES - atoi(buf));
	return text;
}

static void need(const char *path, const char *option)
{
	if (access(path, F_OK))
		skip("no %s in this kernel", option);
}

static void request(const char *disk, enum kind kind)
{
	const char *dir = DEBUGFS "fail_make_request", *n;
	char path[64];
	int bus;

	need(dir, "CONFIG_FAIL_MAKE_REQUEST");
	set_up(disk, kind);
	snprintf(path, sizeof(path), "/sys/block/%s/make-it-fail", disk);
	put(path, "1");
	/* So often that some pages cannot be read: a fault reads four times. */
	inject(dir, 50, false);
	bus = touch_all();
	n = injected(dir);
	put(path, "0");
	finish(kind, bus, 1, PAGES - 1, n);
}

static void request_shared(void)
{
	request("reqshared", SHARED);
}

static void request_cow(void)
{
	request("reqcow", COW);
}

static void request_swap(void)
{
	request("swap", SWAP);
}

/* null_blk's groups of attributes; they are there after the disk's directory is. */
static void null_blk_inject(const char *disk, enum kind kind, const char *group, int percent,
			    int least, int most)
{
	char dir[128], path[80];
	const char *n;
	int bus;

	set_up(disk, kind);
	snprintf(dir, sizeof(dir), NULLB "%s/%s", disk, group);
	need(dir, "CONFIG_BLK_DEV_NULL_BLK_FAULT_INJECTION");
	snprintf(path, sizeof(path), "/sys/block/%s/queue/io_timeout", disk);
	put(path, "200");
	inject(dir, percent, false);
	bus = touch_all();
	n = injected(dir);
	if (!atoi(n))
		fail("nothing was injected");
	finish(kind, bus, least, most, n);
}

static void timeout_shared(void)
{
	/* A timeout takes a second, so they must be few: a later read of the fault may do. */
	null_blk_inject("tmoshared", SHARED, "timeout_inject", 12, 0, PAGES - 1);
}

static void requeue_shared(void)
{
	null_blk_inject("rqshared", SHARED, "requeue_inject", 50, 0, 0);
}

static void requeue_swap(void)
{
	null_blk_inject("swap", SWAP, "requeue_inject", 50, 0, 0);
}

/* ---- allocations ---- */

static void alloc(const char *attr, const char *option, const char *disk, enum kind kind)
{
	char dir[80], path[120];
	const char *n;
	int bus, fd;

	snprintf(dir, sizeof(dir), DEBUGFS "%s", attr);
	need(dir, option);
	if (kind == ANON) {
		map_anon();
		zeroes = writing = true;
	} else if (kind == SHMEM) {
		fd = memfd_create("inject", 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (fd < 0 || ftruncate(fd, PAGES * page_size))
			die("memfd");
		map = map_path(path, SHARED);
		zeroes = true;
	} else {
		set_up(disk, kind);
	}
	/* Also those that may wait, which would not fail by themselves. */
	snprintf(path, sizeof(path), "%s/ignore-gfp-wait", dir);
	put(path, "0");
	if (!strcmp(attr, "fail_page_alloc")) {
		snprintf(path, sizeof(path), "%s/min-order", dir);
		put(path, "0");
		snprintf(path, sizeof(path), "%s/ignore-gfp-highmem", dir);
		put(path, "0");
	}
	inject(dir, 20, true);
	failing = true;
	bus = touch_all();
	failing = false;
	n = injected(dir);
	if (!atoi(n))
		fail("nothing was injected");
	finish(kind, bus, 0, 0, n);
}

#define ALLOC_CASE(kind_name, disk, kind)						\
static void alloc_##kind_name(void)							\
{											\
	alloc("fail_page_alloc", "CONFIG_FAIL_PAGE_ALLOC", "a" disk, kind);		\
}											\
											\
static void slab_##kind_name(void)							\
{											\
	alloc("failslab", "CONFIG_FAILSLAB", "s" disk, kind);				\
}

ALLOC_CASE(shared, "shared", SHARED)
ALLOC_CASE(cow, "cow", COW)
ALLOC_CASE(anon, "", ANON)
ALLOC_CASE(shmem, "", SHMEM)

static void alloc_swap(void)
{
	alloc("fail_page_alloc", "CONFIG_FAIL_PAGE_ALLOC", "swap", SWAP);
}

/* ---- device mapper ---- */

static int dm_fd;
static const char *dm_name;

static struct dm_ioctl *dm(unsigned long cmd, const char *target, const char *params,
			   unsigned long sectors)
{
	static union {
		struct dm_ioctl io;
		char room[4096];
	} u;
	struct dm_target_spec *spec = (void *)(u.room + sizeof(u.io));

	memset(&u, 0, sizeof(u));
	u.io.version[0] = DM_VERSION_MAJOR;
	u.io.data_size = sizeof(u);
	u.io.data_start = sizeof(u.io);
	strcpy(u.io.name, dm_name);
	if (target) {
		u.io.target_count = 1;
		spec->length = sectors;
		strcpy(spec->target_type, target);
		strcpy((char *)(spec + 1), params);
		spec->next = sizeof(*spec) + strlen(params) + 1;
	}
	if (ioctl(dm_fd, cmd, &u))
		die("device mapper %s", target ?: "");
	return &u.io;
}

/* Another table, at once: I/O waits meanwhile. */
static void dm_table(const char *target, const char *params)
{
	dm(DM_TABLE_LOAD, target, params, PAGES * page_size / 512);
	dm(DM_DEV_SUSPEND, NULL, NULL, 0);	/* without its flag: resume */
}

static void dm_case(const char *disk, bool flakey)
{
	char path[64], linear[64], params[128];
	int bus, control = open("/dev/mapper/control", O_RDWR);

	if (control < 0)
		skip("no CONFIG_BLK_DEV_DM in this kernel");
	dm_fd = control;
	dm_name = disk;
	delay_ms = 40;	/* slow enough for dm-flakey to go down */
	set_up(disk, SHARED);
	munmap(map, PAGES * page_size);
	snprintf(linear, sizeof(linear), "/dev/%s 0", disk);
	snprintf(path, sizeof(path), "/dev/dm-%u", minor(dm(DM_DEV_CREATE, NULL, NULL, 0)->dev));
	dm_table("linear", linear);
	for (int i = 0; i < 100 && access(path, R_OK); i++)
		usleep(10000);
	no_readahead(path + 5);
	map = map_path(path, SHARED);
	start_all();
	if (flakey) {
		snprintf(params, sizeof(params), "%s 1 1 1 error_reads", linear);
		dm_table("flakey", params);
	} else {
		wait_for_half();
		dm_table("error", "");
		usleep(300000);
	}
	if (flakey)
		bus = join_all();
	dm_table("linear", linear);
	if (!flakey)
		bus = join_all();
	finish(SHARED, bus, 1, PAGES - 1, "");
}

static void dm_error(void)
{
	dm_case("dmerror", false);
}

static void dm_flakey(void)
{
	dm_case("dmflakey", true);
}

/* ---- SCSI ---- */

#define SCSI_DEBUG	"/sys/bus/pseudo/drivers/scsi_debug/"

static void scsi_set_up(void)
{
	need(SCSI_DEBUG "ndelay", "CONFIG_SCSI_DEBUG");
	for (int i = 0; i < 100 && access("/dev/sda", R_OK); i++)
		usleep(20000);
	write_tags("/dev/sda", 1, PAGES);
	no_readahead("sda");
	put(SCSI_DEBUG "ndelay", "%d", DELAY_MS * 1000000);
	map = map_path("/dev/sda", SHARED);
}

static void scsi_medium(void)
{
	const int first = 100, last = 101;
	int bus;

	scsi_set_up();
	put("/sys/module/scsi_debug/parameters/medium_error_start", "%ld",
	    first * page_size / 512);
	put("/sys/module/scsi_debug/parameters/medium_error_count", "%ld", 2 * page_size / 512);
	put(SCSI_DEBUG "opts", "2");
	bus = touch_all();
	put(SCSI_DEBUG "opts", "0");
	for (int i = 0; i < PAGES; i++)
		if (!!outcome[i] != (i >= first && i <= last))
			fail("page %d: %s", i, outcome[i] ? "SIGBUS" : "no SIGBUS");
	finish(SHARED, bus, last - first + 1, last - first + 1, "");
}

static void scsi_delete(void)
{
	char path[64];
	int bus;

	scsi_set_up();
	start_all();
	wait_for_half();
	put("/sys/block/sda/device/delete", "1");
	bus = join_all();
	munmap(map, PAGES * page_size);
	for (int host = 0; host < 4; host++) {
		snprintf(path, sizeof(path), "/sys/class/scsi_host/host%d/scan", host);
		try_put(path, "- - -");
	}
	/* It comes back under one of two names, and its node before it can be opened. */
	for (int i = 0; i < 1000; i++, usleep(20000)) {
		int fd;

		snprintf(path, sizeof(path), "/dev/sd%c", 'a' + i % 2);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (lseek(fd, 0, SEEK_END) > 0) {
			close(fd);
			break;
		}
		close(fd);
	}
	map = map_path(path, SHARED);
	finish(SHARED, bus, 1, PAGES - 1, "");
}

/* ---- what must be noticed ---- */

static void broken_data(void)
{
	uint64_t bad = tag(1, 7);
	int fd;

	set_up("wrong", SHARED);
	fd = open("/dev/wrong", O_RDWR);
	if (fd < 0 || pwrite(fd, &bad, sizeof(bad), 77 * page_size) != sizeof(bad))
		die("/dev/wrong");
	finish(SHARED, touch_all(), 0, 0, "");
}

/* Bad blocks that no fault meets. */
static void broken_nothing(void)
{
	set_up("nothing", SHARED);
	bad_blocks("nothing", '+', 100, 64);
	bad_blocks("nothing", '-', 100, 64);
	finish(SHARED, touch_all(), 64, 64, "");
}

/* An injection that is not switched off. */
static void broken_after(void)
{
	set_up("after", SHARED);
	bad_blocks("after", '+', 100, 64);
	finish(SHARED, touch_all(), 64, 64, "");
}

/* A disk that takes a second a page: 64 for each thread. */
static void broken_hang(void)
{
	make_disk("hang", 4, 1000);
	no_readahead("hang");
	map = map_path("/dev/hang", SHARED);
	zeroes = true;
	finish(SHARED, touch_all(), 0, 0, "");
}

static const struct test_case cases[] = {
	{ "badblocks_shared", badblocks_shared, 40, false },
	{ "badblocks_private", badblocks_private, 40, false },
	{ "badblocks_cow", badblocks_cow, 40, false },
	{ "remove_shared", remove_shared, 40, false },
	{ "remove_cow", remove_cow, 40, false },
	{ "request_shared", request_shared, 40, false },
	{ "request_cow", request_cow, 40, false },
	{ "timeout_shared", timeout_shared, 60, false },
	{ "requeue_shared", requeue_shared, 40, false },
	{ "dm_error", dm_error, 40, false },
	{ "dm_flakey", dm_flakey, 40, false },
	{ "scsi_medium", scsi_medium, 40, false },
	{ "scsi_delete", scsi_delete, 40, false },
	{ "alloc_shared", alloc_shared, 40, false },
	{ "alloc_cow", alloc_cow, 40, false },
	{ "alloc_anon", alloc_anon, 40, false },
	{ "alloc_shmem", alloc_shmem, 40, false },
	{ "slab_shared", slab_shared, 40, false },
	{ "slab_cow", slab_cow, 40, false },
	{ "slab_anon", slab_anon, 40, false },
	{ "slab_shmem", slab_shmem, 40, false },
	{ "badblocks_swap", badblocks_swap, 60, false },
	{ "request_swap", request_swap, 60, false },
	{ "requeue_swap", requeue_swap, 60, false },
	{ "alloc_swap", alloc_swap, 60, false },
	{ "remove_swap", remove_swap, 60, false },	/* swap is dead from here on */
	{ "broken_data", broken_data, 40, true },
	{ "broken_nothing", broken_nothing, 40, true },
	{ "broken_after", broken_after, 40, true },
	{ "broken_hang", broken_hang, 25, true },
};

int main(int argc, char **argv)
{
	(void)argc;
	page_size = sysconf(_SC_PAGESIZE);
	wait_for_clock();
	catch_sigbus();
	return run_cases(cases, ARRAY_SIZE(cases), argv + 1);
}
