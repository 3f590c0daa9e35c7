// SPDX-License-Identifier: GPL-2.0-only
/*
 * filesystems - faults that wait, and fail, in ->read_folio of other file systems
 *
 * Runs in the guest, prints KTAP; what lockdep says of it is in the console:
 *
 *	filesystems [NAME...]	ext4 squashfs erofs btrfs f2fs 9p; "broken": one that must not be ok
 *
 * Each is mounted from NAME.blocks (see more/filesystems.sh) on a disk that takes 1 ms a request
 * and gives no data at times; 9p comes from the host. Threads fault in a file's pages and look
 * whether they are the right ones, while others call mprotect(), fork(), clear_refs and
 * drop_caches.
 */
#define _GNU_SOURCE
#include "case.h"

#define PAGES		1024		/* of each file; the first word says which one it is */
#define FAULTERS	6
#define SECONDS		20
#define BAD_SECTORS	(64UL << 11)	/* null_blk keeps no more than twice as many */

static struct {
	const char *name;
	char *map;
	int fd;
	atomic_bool stop;
	atomic_ulong faults, wrong, bus, segv, changes, forks, refs, drops, errors;
} fs;

static void *fault(void *arg)
{
	uint64_t seed = (uint64_t)arg, got;

	while (!atomic_load(&fs.stop)) {
		size_t i = random_below(&seed, PAGES);
		int code = touch_word((uint64_t *)(fs.map + i * page_size), false, &got);

		atomic_fetch_add(!code ? &fs.faults : code == BUS_ADRERR ? &fs.bus : &fs.segv, 1);
		if (!code && got != tag(1, i) + this_case->broken)
			atomic_fetch_add(&fs.wrong, 1);
	}
	return NULL;
}

static void *change(void *arg)
{
	for (; !atomic_load(&fs.stop); usleep(3000), atomic_fetch_add(&fs.changes, 1))
		if (mprotect(fs.map + PAGES / 2 * page_size, 64 * page_size, PROT_NONE) ||
		    mprotect(fs.map, PAGES * page_size, PROT_READ))
			die("mprotect");
	return arg;
}

static void *forks(void *arg)
{
	uint64_t seed = 99, got;
	pid_t pid;

	for (; !atomic_load(&fs.stop); usleep(20000), atomic_fetch_add(&fs.forks, 1)) {
		size_t i = random_below(&seed, PAGES);

		pid = fork();
		if (!pid) {
			touch_word((uint64_t *)(fs.map + i * page_size), false, &got);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
	return arg;
}

static void *take_away(void *arg)
{
	for (unsigned int n = 0; !atomic_load(&fs.stop); usleep(10000), n++) {
		posix_fadvise(fs.fd, 0, 0, POSIX_FADV_DONTNEED);
		if (n % 8 == 0) {
			put("/proc/sys/vm/drop_caches", "1");
			atomic_fetch_add(&fs.drops, 1);
		}
		put("/proc/self/clear_refs", "1");
		atomic_fetch_add(&fs.refs, 1);
	}
	return arg;
}

/* A disk of ours fails all reads for some milliseconds. */
static void *fail_reads(void *arg)
{
	char path[96];

	snprintf(path, sizeof(path), NULLB "%s/badblocks", fs.name);
	for (; !atomic_load(&fs.stop); usleep(80000), atomic_fetch_add(&fs.errors, 1)) {
		put(path, "+0-%lu", BAD_SECTORS - 1);
		usleep(10000);
		put(path, "-0-%lu", BAD_SECTORS - 1);
	}
	return arg;
}

static void mount_it(void)
{
	const bool p9 = !strcmp(fs.name, "9p");
	char path[64], block[4096];
	unsigned int mb;
	uint32_t number;
	FILE *in;
	int out;

	mkdir("/tmp/fs", 0755);
	if (!p9) {
		snprintf(path, sizeof(path), "/%s.blocks", fs.name);
		in = fopen(path, "r");
		if (!in || fread(&mb, sizeof(mb), 1, in) != 1)
			die("%s", path);
		make_disk(fs.name, mb, 1);
		snprintf(path, sizeof(path), "/dev/%s", fs.name);
		out = open(path, O_WRONLY);
		while (fread(&number, sizeof(number), 1, in) == 1)
			if (fread(block, sizeof(block), 1, in) != 1 ||
			    pwrite(out, block, sizeof(block), (off_t)number * sizeof(block)) < 0)
				die("%s", path);
		if (fsync(out) || close(out))
			die("%s", path);
		fclose(in);
		no_readahead(fs.name);
	}
	if (mount(p9 ? "share" : path, "/tmp/fs", fs.name, MS_RDONLY,
		  p9 ? "trans=virtio,version=9p2000.L,cache=loose" : ""))
		die("mount of %s", fs.name);
	fs.fd = open("/tmp/fs/file", O_RDONLY);
	fs.map = mmap(NULL, PAGES * page_size, PROT_READ, MAP_SHARED, fs.fd, 0);
	if (fs.fd < 0 || fs.map == MAP_FAILED || madvise(fs.map, PAGES * page_size, MADV_RANDOM))
		die("/tmp/fs/file");
}

/* lockdep's debug_locks: 0 once it has said something. */
static int read_locks(void)
{
	static char text[1 << 16];
	const char *at;

	read_file("/proc/lockdep_stats", text, sizeof(text));
	at = strstr(text, "debug_locks:");
	return at ? atoi(at + 12) : -1;
}

static void filesystem_case(void)
{
	void *(*beside[])(void *) = { change, forks, take_away, fail_reads };
	long before = counter("/proc/vmstat", "vma_lock_retry");
	pthread_t thread[FAULTERS + ARRAY_SIZE(beside)];
	int locks;
	int nr = 0;
	bool p9;

	fs.name = this_case->broken ? "ext4" : this_case->name;
	p9 = !strcmp(fs.name, "9p");
	mount_it();
	for (size_t i = 0; i < FAULTERS; i++)
		thread[nr++] = start_thread(fault, (void *)(i + 1));
	for (size_t i = 0; i < ARRAY_SIZE(beside) - p9; i++)
		thread[nr++] = start_thread(beside[i], NULL);
	sleep(this_case->broken ? 3 : SECONDS);
	atomic_store(&fs.stop, true);
	while (nr)
		pthread_join(thread[--nr], NULL);
	before = counter("/proc/vmstat", "vma_lock_retry") - before;
	locks = read_locks();
	judge(!fs.wrong && fs.faults > 500 && before > 0 && (p9 || (fs.bus && fs.errors)) &&
	      fs.changes && fs.forks && fs.refs && fs.drops && locks == 1,
	      "%lu pages read, %lu wrong, %ld retries, %lu SIGBUS, %lu SIGSEGV; %lu times no data, "
	      "%lu mprotect, %lu fork, %lu clear_refs, %lu drop_caches; debug_locks %d",
	      fs.faults, fs.wrong, before, fs.bus, fs.segv, fs.errors, fs.changes, fs.forks, fs.refs,
	      fs.drops, locks);
}

static const struct test_case cases[] = {
	{ "ext4", filesystem_case, 200, false },
	{ "squashfs", filesystem_case, 200, false },
	{ "erofs", filesystem_case, 200, false },
	{ "btrfs", filesystem_case, 200, false },
	{ "f2fs", filesystem_case, 200, false },
	{ "9p", filesystem_case, 200, false },
	{ "broken_filesystem", filesystem_case, 100, true },
};

int main(int argc, char **argv)
{
	(void)argc;
	page_size = sysconf(_SC_PAGESIZE);
	wait_for_clock();
	catch_signals();
	return run_cases(cases, ARRAY_SIZE(cases), argv + 1);
}
