// SPDX-License-Identifier: GPL-2.0-only
/*
 * throughput - how many page faults there are, with I/O to wait for and without
 *
 * Threads fault as fast as they can. Runs one workload of the table below in a guest, and
 * prints lines "R key=value ...". All rates are of an emulated machine: compare them with each
 * other only.
 *
 *	throughput WORKLOAD
 *
 * What is read is checked. A workload on files wants fs.blocks, an empty ext2 file system as
 * lab/fs-blocks.sh leaves it, and 3 GiB of memory.
 */
#define _GNU_SOURCE
#include "bench.h"

#define NR_FILES	48
#define FILE_SIZE	(16UL << 20)	/* what a thread reads of files */
#define FILE_LIMIT	(64UL << 20)	/* of memory, for NR_FILES of them */
#define ANON_SIZE	(100UL << 20)	/* what all threads read of swap */
#define NEW_SIZE	(16UL << 20)	/* what a thread maps, touches and unmaps */

static void map_files(void);
static void map_swapped(void);
static void *read_pages(void *arg);
static void *touch_new_pages(void *arg);

/* What touch_new_pages() maps: as page_fault1, 2 and 3 of will-it-scale. */
enum kind { ANONYMOUS, PRIVATE_FILE, SHARED_FILE };

static const struct workload {
	const char *name;
	void (*setup)(void);
	void *(*func)(void *arg);	/* of each thread */
	int threads, most;		/* so many, then one more as long as they are less */
	unsigned int settle_ms;		/* of faults, before the measurement */
	double seconds;			/* that it lasts */
	unsigned int delay_ms;		/* that the disk takes for a request */
	bool random;			/* pages are read at random, not one after the other */
	bool no_readahead;		/* every page is waited for */
	bool remap;			/* after each round */
	enum kind kind;			/* of new pages */
	const char *rate;		/* what is printed: how often a second... */
	size_t unit;			/* ...so many bytes, or one page, are touched */
} workloads[] = {
#define READ(nr)	.setup = map_files, .func = read_pages, .threads = nr,	\
			.rate = "rounds_s", .unit = FILE_SIZE
	/* 16 MiB each, over and over: 1 ms a read; 10 ms; no readahead */
	{ "e4", READ(NR_FILES), .seconds = 1.5, .delay_ms = 1 },
	{ "e4s", READ(NR_FILES), .seconds = 1.5, .delay_ms = 10 },
	{ "e4r", READ(NR_FILES), .seconds = 1.5, .delay_ms = 1, .no_readahead = true },
	/* As a program that was posted: files are mapped and unmapped each round */
	{ "e4m", READ(NR_FILES), .seconds = 1.5, .delay_ms = 1, .remap = true },
	/* With fewer threads; and at random */
	{ "es1", READ(1), .seconds = 3, .delay_ms = 1 },
	{ "es16", READ(16), .seconds = 3, .delay_ms = 1 },
	{ "er1", READ(1), .seconds = 3, .delay_ms = 1, .random = true },
	{ "er16", READ(16), .seconds = 3, .delay_ms = 1, .random = true },
	{ "er", READ(NR_FILES), .seconds = 3, .delay_ms = 1, .random = true },
	/*
	 * At random: threads that all read one page after the other meet sooner or later, wait
	 * for each page together from then on, and the rate is that of this accident.
	 */
	{ "e5", map_swapped, read_pages, .threads = 4, .settle_ms = 1000, .seconds = 1.5,
	  .delay_ms = 1, .random = true, .rate = "passes_s", .unit = ANON_SIZE },
	/* In order; and from zram, whose pages come at once */
	{ "e5s", map_swapped, read_pages, .threads = 4, .settle_ms = 1000, .seconds = 3,
	  .delay_ms = 1, .rate = "passes_s", .unit = ANON_SIZE },
	{ "e5z", map_swapped, read_pages, .threads = 4, .settle_ms = 1000, .seconds = 1.5,
	  .rate = "passes_s", .unit = ANON_SIZE },
	/* The first round of pages of a shared file is another one. */
#define NEW_PAGES	.func = touch_new_pages, .threads = 1, .most = 2, .settle_ms = 300,	\
			.seconds = 2, .rate = "faults_s"
	{ "pf1", NEW_PAGES, .kind = ANONYMOUS },
	{ "pf2", NEW_PAGES, .kind = PRIVATE_FILE },
	{ "pf3", NEW_PAGES, .kind = SHARED_FILE },
};

struct reader {
	char *map;
	size_t size;
	int fd;
	int number;		/* of its file */
	atomic_ulong pages;	/* touched */
};

static const struct workload *work;
static struct reader readers[NR_FILES];
static struct gate gate;
static long page_size;

static char *map_file(int fd)
{
	char *map = mmap(NULL, FILE_SIZE, PROT_READ, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED || (work->no_readahead && madvise(map, FILE_SIZE, MADV_RANDOM)))
		die("mmap");
	return map;
}

static void *read_pages(void *arg)
{
	struct reader *r = arg;
	uint64_t seed = r - readers, got;
	size_t pages = r->size / page_size, i;

	wait_for_go(&gate);
	for (size_t n = 0; ; n++) {
		i = work->random ? random_below(&seed, pages) : n % pages;
		if (work->remap && n && !i) {
			munmap(r->map, r->size);
			r->map = map_file(r->fd);
		}
		got = *(volatile uint64_t *)(r->map + i * page_size);
		if (got != tag(r->number, i))
			die("page %zu of %d has wrong data: %llx", i, r->number,
			    (unsigned long long)got);
		atomic_fetch_add_explicit(&r->pages, 1, memory_order_relaxed);
	}
	return NULL;
}

/* ---- files on a disk, under a limit of memory ---- */

/* A file with a tag in each page, but not in the page cache. */
static int make_file(int number)
{
	static char buf[1 << 20];
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "/tmp/data/%d", number);
	fd = open(name, O_CREAT | O_RDWR, 0644);
	for (size_t at = 0; at < FILE_SIZE; at += sizeof(buf)) {
		for (size_t i = 0; i < sizeof(buf); i += page_size)
			*(uint64_t *)(buf + i) = tag(number, (at + i) / page_size);
		if (write(fd, buf, sizeof(buf)) != sizeof(buf))
			die("%s", name);
	}
	if (fsync(fd))
		die("%s", name);
	return fd;
}

static void map_files(void)
{
	int fds[NR_FILES];

	make_fs(work->delay_ms);
	for (int i = 0; i < work->threads; i++)
		fds[i] = make_file(i);
	put("/proc/sys/vm/drop_caches", "3");
	enter_cgroup();
	/* Less than 4 MiB are not enough for the program. */
	put(CGROUPS "run/memory.max", "%lu",
	    work->threads == 1 ? 4UL << 20 : FILE_LIMIT * work->threads / NR_FILES);
	for (int i = 0; i < work->threads; i++) {
		readers[i].map = map_file(fds[i]);
		readers[i].size = FILE_SIZE;
		readers[i].fd = fds[i];
		readers[i].number = i;
	}
}

/* ---- swapped-out memory ---- */

static void *page_out(void *arg)
{
	uint64_t seed = (long)arg;

	for (;; usleep(1000)) {
		char *map = readers[0].map + (random_below(&seed, ANON_SIZE >> 20) << 20);

		if (atomic_load(&gate.go) && madvise(map, 1 << 20, MADV_PAGEOUT))
			die("MADV_PAGEOUT");
	}
	return NULL;
}

static void map_swapped(void)
{
	char *map;

	make_swap(work->delay_ms);
	map = map_memory(ANON_SIZE);
	for (size_t i = 0; i < ANON_SIZE / page_size; i++)
		*(uint64_t *)(map + i * page_size) = tag(0, i);
	for (int i = 0; i < work->threads; i++) {
		readers[i].map = map;
		readers[i].size = ANON_SIZE;
	}
	for (long i = 1; i <= 2; i++)
		start_thread(page_out, (void *)i);
	/* The first time writes the pages, the second frees them. */
	for (int i = 0; i < 2; i++, sleep(1))
		if (madvise(map, ANON_SIZE, MADV_PAGEOUT))
			die("MADV_PAGEOUT");
}

/* ---- new pages ---- */

static void *touch_new_pages(void *arg)
{
	int fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	char name[] = "/tmp/pfXXXXXX";
	struct reader *r = arg;

	if (work->kind != ANONYMOUS) {
		fd = mkstemp(name);
		if (fd < 0 || unlink(name) || ftruncate(fd, NEW_SIZE))
			die("%s", name);
		flags = work->kind == PRIVATE_FILE ? MAP_PRIVATE : MAP_SHARED;
	}
	wait_for_go(&gate);
	for (;;) {
		char *map = mmap(NULL, NEW_SIZE, PROT_READ | PROT_WRITE, flags, fd, 0);

		if (map == MAP_FAILED || madvise(map, NEW_SIZE, MADV_NOHUGEPAGE))
			die("mmap");
		for (size_t i = 0; i < NEW_SIZE; i += page_size) {
			*(volatile char *)(map + i) = 1;
			atomic_fetch_add_explicit(&r->pages, 1, memory_order_relaxed);
		}
		munmap(map, NEW_SIZE);
	}
	return NULL;
}

/* ---- */

static unsigned long total_pages(void)
{
	unsigned long sum = 0;

	for (int i = 0; i < NR_FILES; i++)
		sum += atomic_load(&readers[i].pages);
	return sum;
}

/* Sample the counters, or print what is new in them since. */
static void count(bool print)
{
	static const char * const limited[] = {
		"workingset_refault_file", "pgscan_direct", "pgsteal_direct",
	};
	static long faults[ARRAY_SIZE(fault_counters)], memory[ARRAY_SIZE(limited)];

	if (work->setup == map_files)
		sample_counters(CGROUPS "run/memory.stat", limited, ARRAY_SIZE(limited), memory,
				print);
	sample_counters("/proc/vmstat", fault_counters, ARRAY_SIZE(faults), faults, print);
}

static void measure(const char *how)
{
	double unit = work->unit ?: (size_t)page_size, units, took;
	long sectors = 0, before = 0;
	unsigned long pages;

	usleep(work->settle_ms * 1000);
	count(false);
	if (work->setup == map_files)
		scan_file("/sys/block/data/stat", "%*d %*d %ld", &before);
	pages = total_pages();
	took = now_ns() / 1e9;
	usleep(work->seconds * 1e6);
	pages = total_pages() - pages;
	took = now_ns() / 1e9 - took;
	units = pages * page_size / unit;
	printf("R w=%s how=%s took=%.2f pages=%lu %s=%.4f", work->name, how, took, pages,
	       work->rate, units / took);
	if (work->setup == map_files) {
		scan_file("/sys/block/data/stat", "%*d %*d %ld", &sectors);
		printf(" mb_round=%.2f", (sectors - before) / 2048.0 / units);
	}
	count(true);
	printf("\n");
}

int main(int argc, char **argv)
{
	const char *name = argc == 2 ? argv[1] : "";
	char how[16] = "own";
	int nr = 0, goal;

	for (size_t i = 0; i < ARRAY_SIZE(workloads); i++)
		if (!strcmp(name, workloads[i].name))
			work = &workloads[i];
	if (!work) {
		printf("throughput WORKLOAD; no workload '%s'\n", name);
		return 2;
	}
	set_up_guest();
	page_size = sysconf(_SC_PAGESIZE);
	mount_cgroups();
	if (work->setup)
		work->setup();
	goal = work->threads;
	do {
		while (nr < goal)
			start_thread(work->func, &readers[nr++]);
		await_ready(&gate, nr);
		atomic_store(&gate.go, true);
		if (work->most)
			snprintf(how, sizeof(how), "%dt", nr);
		measure(how);
	} while (++goal <= work->most);
	fflush(stdout);
	_exit(0);
}
