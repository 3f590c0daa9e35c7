// SPDX-License-Identifier: GPL-2.0-only
/*
 * thrash - the throughput of page faults, with I/O to wait for and without
 *
 * Runs in the guest and prints one line "R key=value ..." a workload. All rates
 * are of an emulated machine: compare them with each other only.
 *
 *	thrash SECONDS workload...
 *
 *  e4   48 threads read their 16 MiB of a file each, over and over, through
 *       mappings and under a memory limit of 64 MiB; a read takes 1 ms
 *  e4s  the same with 10 ms
 *  e4r  e4 without readahead, so that every page is waited for
 *  er   e4 at random, with readahead, which the kernel gives up when it misses
 *  e5   4 threads read pages of 100 MiB of anonymous memory at random, 2 others
 *       page it out; the swap device takes 1 ms
 *  pf1, pf2, pf3  what page_fault1 to 3 of will-it-scale do, with nothing to wait
 *       for: first writes to an anonymous mapping, to a private and to a shared
 *       one of a file on tmpfs; by 1 and by 2 threads
 *
 * What is read is checked. e4 wants a memory of 3 GiB, and /fs.blocks, an empty
 * ext2 file system as scripts/guest.sh leaves it: numbered blocks of 4096 bytes.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "bench.h"

#define NR_FILES	48
#define FILE_SIZE	(16UL << 20)
#define LIMIT		(64UL << 20)
#define ANON_SIZE	(100UL << 20)
#define FAULT_SIZE	(16UL << 20)	/* a thread's, of pf1 to pf3 */

struct thread {
	pthread_t thread;
	int nr;
	char *map;
	_Atomic unsigned long pages;
};

static struct thread threads[NR_FILES];
static atomic_bool stop;
static atomic_int ready;
static atomic_bool go;
static long page_size;

static double now(void)
{
	return now_ns() / 1e9;
}

static long sectors_read(const char *disk)
{
	char path[64];
	long val;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/block/%s/stat", disk);
	f = fopen(path, "r");
	if (!f || fscanf(f, "%*d %*d %ld", &val) != 1)
		die("%s", path);
	fclose(f);
	return val;
}

/* The tag of a page: which it is. */
static uint64_t tag(int file, size_t page)
{
	return (uint64_t)(file + 1) << 32 | page;
}

static void wait_for_go(void)
{
	atomic_fetch_add(&ready, 1);
	while (!atomic_load(&go))
		usleep(1000);
}

static void check_page(struct thread *t, size_t i)
{
	uint64_t got = *(volatile uint64_t *)(t->map + i * page_size);

	if (got != tag(t->nr, i))
		die("page %zu of %d has wrong data: %llx", i, t->nr,
		    (unsigned long long)got);
	atomic_fetch_add_explicit(&t->pages, 1, memory_order_relaxed);
}

static void start(int nr, void *(*func)(void *))
{
	for (int i = 0; i < nr; i++)
		if (pthread_create(&threads[i].thread, NULL, func, &threads[i]))
			die("pthread_create");
	while (atomic_load(&ready) < nr)
		usleep(1000);
}

static unsigned long total(int nr)
{
	unsigned long sum = 0;

	for (int i = 0; i < nr; i++)
		sum += atomic_load(&threads[i].pages);
	return sum;
}

static const char * const vm_counters[] = {
	"pgmajfault", "vma_lock_success", "vma_lock_abort", "vma_lock_retry",
	"vma_lock_retry_hard", "vma_lock_fallback", "pswpin",
};
#define NR_VM (sizeof(vm_counters) / sizeof(*vm_counters))

static void vm_report(const long *before)
{
	for (size_t i = 0; i < NR_VM; i++)
		printf(" %s=%ld", vm_counters[i],
		       counter("/proc/vmstat", vm_counters[i]) - before[i]);
}

static void vm_sample(long *before)
{
	for (size_t i = 0; i < NR_VM; i++)
		before[i] = counter("/proc/vmstat", vm_counters[i]);
}

static size_t next_random(uint64_t *seed, size_t below)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (*seed >> 33) % below;
}

/* ---- e4 ---- */

static void open_name(char *name, size_t len, int nr)
{
	snprintf(name, len, "/tmp/data/%d", nr);
}

static void make_files(void)
{
	static char buf[1 << 20];
	char name[32];

	for (int f = 0; f < NR_FILES; f++) {
		int fd;

		open_name(name, sizeof(name), f);
		fd = open(name, O_CREAT | O_WRONLY, 0644);
		for (size_t at = 0; at < FILE_SIZE; at += sizeof(buf)) {
			for (size_t i = 0; i < sizeof(buf); i += page_size)
				*(uint64_t *)(buf + i) = tag(f, (at + i) / page_size);
			if (write(fd, buf, sizeof(buf)) != sizeof(buf))
				die("%s", name);
		}
		if (fsync(fd) || close(fd))
			die("%s", name);
	}
	put("/proc/sys/vm/drop_caches", "3");
}

static bool at_random;

static void *file_reader(void *arg)
{
	const size_t nr = FILE_SIZE / page_size;
	struct thread *t = arg;
	uint64_t seed = t->nr;

	wait_for_go();
	for (size_t i = 0; !atomic_load(&stop); i++)
		check_page(t, at_random ? next_random(&seed, nr) : i % nr);
	return NULL;
}

/* What a read takes in this workload, or 0 if it is none of e4's. */
static int e4_delay_ms(const char *name)
{
	if (!strcmp(name, "e4") || !strcmp(name, "e4r") || !strcmp(name, "er"))
		return 1;
	return strcmp(name, "e4s") ? 0 : 10;
}

static void e4(const char *name, double seconds)
{
	static const char * const stats[] = {
		"workingset_refault_file", "pgscan_direct", "pgsteal_direct",
	};
	const bool no_readahead = !strcmp(name, "e4r");
	long before[3], vm[NR_VM], sectors;
	unsigned long pages;
	char file[32];
	double t;

	at_random = !strcmp(name, "er");
	mkdir(CGROUPS "run", 0755);
	put(CGROUPS "run/memory.max", "%lu", LIMIT);
	put(CGROUPS "run/cgroup.procs", "%d", getpid());
	for (int i = 0; i < NR_FILES; i++) {
		int fd;

		open_name(file, sizeof(file), i);
		fd = open(file, O_RDONLY);
		threads[i].nr = i;
		threads[i].map = mmap(NULL, FILE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
		if (fd < 0 || threads[i].map == MAP_FAILED)
			die("%s", file);
		if (no_readahead && madvise(threads[i].map, FILE_SIZE, MADV_RANDOM))
			die("MADV_RANDOM");
		close(fd);
	}
	start(NR_FILES, file_reader);
	for (int i = 0; i < 3; i++)
		before[i] = counter(CGROUPS "run/memory.stat", stats[i]);
	vm_sample(vm);
	sectors = sectors_read("data");
	t = now();
	atomic_store(&go, true);
	usleep(seconds * 1e6);
	pages = total(NR_FILES);
	t = now() - t;
	sectors = sectors_read("data") - sectors;
	printf("R w=%s how=own took=%.2f pages=%lu rounds_s=%.4f mb_round=%.2f",
	       name, t, pages, pages * page_size / (double)FILE_SIZE / t,
	       sectors / 2048.0 / (pages * page_size / (double)FILE_SIZE));
	for (int i = 0; i < 3; i++)
		printf(" %s=%ld", stats[i],
		       counter(CGROUPS "run/memory.stat", stats[i]) - before[i]);
	vm_report(vm);
	printf("\n");
	fflush(stdout);
	atomic_store(&stop, true);
	_exit(0);
}

/* ---- e5 ---- */

static char *anon;

/*
 * At random: threads that all read one page after the other meet sooner or later,
 * wait for each page together from then on, and the rate is that of this accident.
 */
static void *anon_reader(void *arg)
{
	struct thread *t = arg;
	uint64_t seed = t - threads;

	wait_for_go();
	while (!atomic_load(&stop)) {
		size_t i = next_random(&seed, ANON_SIZE / page_size);

		check_page(t, i);
	}
	return NULL;
}

static void *evictor(void *arg)
{
	uint64_t seed = (unsigned long)arg;

	while (!atomic_load(&stop)) {
		size_t i = next_random(&seed, ANON_SIZE >> 20);

		if (atomic_load(&go) && madvise(anon + (i << 20), 1 << 20, MADV_PAGEOUT))
			die("MADV_PAGEOUT");
		usleep(1000);
	}
	return NULL;
}

static void e5(double seconds)
{
	enum { READERS = 4, EVICTORS = 2 };
	unsigned long pages;
	pthread_t thread;
	long vm[NR_VM];
	double t;

	anon = mmap(NULL, ANON_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (anon == MAP_FAILED || madvise(anon, ANON_SIZE, MADV_NOHUGEPAGE))
		die("mmap");
	for (size_t i = 0; i < ANON_SIZE / page_size; i++)
		*(uint64_t *)(anon + i * page_size) = tag(0, i);
	for (int i = 0; i < READERS; i++)
		threads[i].map = anon;
	for (unsigned long i = 0; i < EVICTORS; i++)
		if (pthread_create(&thread, NULL, evictor, (void *)(i + 1)))
			die("pthread_create");
	/* The first time writes the pages, the second frees them. */
	for (int i = 0; i < 2; i++, sleep(1))
		if (madvise(anon, ANON_SIZE, MADV_PAGEOUT))
			die("MADV_PAGEOUT");
	start(READERS, anon_reader);
	atomic_store(&go, true);
	sleep(1);
	vm_sample(vm);
	pages = total(READERS);
	t = now();
	usleep(seconds * 1e6);
	pages = total(READERS) - pages;
	t = now() - t;
	printf("R w=e5 how=own took=%.2f pages=%lu passes_s=%.4f", t, pages,
	       pages * page_size / (double)ANON_SIZE / t);
	vm_report(vm);
	printf("\n");
	fflush(stdout);
	atomic_store(&stop, true);
	_exit(0);
}

/* ---- pf1, pf2, pf3 ---- */

static int pf_kind;

static void *faulter(void *arg)
{
	struct thread *t = arg;
	int fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS;

	if (pf_kind > 1) {
		char name[] = "/tmp/pfXXXXXX";

		fd = mkstemp(name);
		if (fd < 0 || unlink(name) || ftruncate(fd, FAULT_SIZE))
			die("%s", name);
		flags = pf_kind == 2 ? MAP_PRIVATE : MAP_SHARED;
	}
	wait_for_go();
	while (!atomic_load(&stop)) {
		char *p = mmap(NULL, FAULT_SIZE, PROT_READ | PROT_WRITE, flags, fd, 0);

		if (p == MAP_FAILED || madvise(p, FAULT_SIZE, MADV_NOHUGEPAGE))
			die("mmap");
		for (size_t i = 0; i < FAULT_SIZE && !atomic_load(&stop); i += page_size) {
			*(volatile char *)(p + i) = 1;
			atomic_fetch_add_explicit(&t->pages, 1, memory_order_relaxed);
		}
		munmap(p, FAULT_SIZE);
	}
	return NULL;
}

static void pf(int kind, int nr, double seconds)
{
	unsigned long pages;
	double t;

	pf_kind = kind;
	start(nr, faulter);
	atomic_store(&go, true);
	/* Let the first round of shared pages be over. */
	usleep(300000);
	pages = total(nr);
	t = now();
	usleep(seconds * 1e6);
	pages = total(nr) - pages;
	t = now() - t;
	printf("R w=pf%d how=%dt took=%.2f faults_s=%.0f\n", kind, nr, t, pages / t);
	fflush(stdout);
	_exit(0);
}

/* ---- */

static bool wait_ok(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && !status;
}

/* A process of its own for each. */
#define IN_CHILD(call) do {						\
	pid_t pid = fork();						\
	if (!pid)							\
		call;							\
	if (pid < 0 || !wait_ok(pid)) {					\
		printf("thrash: %s failed\n", #call);			\
		exit(1);						\
	}								\
} while (0)

int main(int argc, char **argv)
{
	double seconds = argc > 2 ? atof(argv[1]) : 0;
	bool has_swap = false;

	if (seconds <= 0) {
		printf("thrash SECONDS workload...\n");
		return 2;
	}
	wait_for_clock();
	page_size = sysconf(_SC_PAGESIZE);
	setvbuf(stdout, NULL, _IOFBF, 65536);
	mount_cgroups();
	put(CGROUPS "cgroup.subtree_control", "+memory");

	for (int i = 2; i < argc; i++) {
		const char *w = argv[i];

		if (e4_delay_ms(w)) {
			make_disk("data", 1024, e4_delay_ms(w));
			make_fs();
			make_files();
			for (;; i++) {
				IN_CHILD(e4(argv[i], seconds));
				for (int k = 0; k < 100 && rmdir(CGROUPS "run"); k++)
					usleep(20000);
				/* The next one has the same disk: the files are there. */
				if (i + 1 == argc || e4_delay_ms(argv[i + 1]) != e4_delay_ms(w))
					break;
				put("/proc/sys/vm/drop_caches", "3");
			}
			for (int k = 0; k < 100 && umount("/tmp/data"); k++)
				usleep(20000);
			remove_disk("data");
		} else if (!strcmp(w, "e5")) {
			if (!has_swap)
				make_swap(1);
			has_swap = true;
			IN_CHILD(e5(seconds));
		} else if (w[0] == 'p' && w[1] == 'f' && w[2] >= '1' && w[2] <= '3' && !w[3]) {
			for (int n = 1; n <= 2; n++)
				IN_CHILD(pf(w[2] - '0', n, 2));
		} else {
			printf("thrash: no workload '%s'\n", w);
			return 2;
		}
	}
	return 0;
}
