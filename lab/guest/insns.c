// SPDX-License-Identifier: GPL-2.0-only
/*
 * insns - guest instructions of a page fault that succeeds at once
 *
 * For QEMU with -icount shift=0, where time is executed instructions. Takes the fault many
 * times and prints the smallest count: that is the path without an interrupt in it, and the
 * same in every run.
 *
 *	R w=insns how=<kind> insns=<n>
 */
#define _GNU_SOURCE
#include <sys/ioctl.h>

#include "bench.h"
#include "vfr.h"

#define ROUNDS	500

/*
 * The clock counts instructions, too, but ticks more slowly on most machines: hence many
 * faults between two readings.
 */
#ifdef __x86_64__
#define BATCH	1
#else
#define BATCH	64
#endif

static uint64_t insns(void)
{
#ifdef __x86_64__
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) :: "memory");
	return (uint64_t)high << 32 | low;
#else
	return now_ns();
#endif
}

/* Touch all pages; the fewest instructions that it took so far. */
static void touch(volatile char *map, bool write, uint64_t *fewest)
{
	const long page_size = sysconf(_SC_PAGESIZE);
	uint64_t begin = insns(), took;

	for (int i = 0; i < BATCH; i++, map += page_size) {
		if (write)
			*map = 1;
		else
			(void)*map;
	}
	took = insns() - begin;
	*fewest = took < *fewest ? took : *fewest;
}

static void print(const char *kind, uint64_t with, uint64_t without)
{
	printf("R w=insns how=%s insns=%llu\n", kind,
	       (unsigned long long)(with - without + BATCH / 2) / BATCH);
}

int main(void)
{
	struct vfr_script script = { .nr = 1, .action = { VFR_PAGE } };
	uint64_t none = -1, anon = -1, file = -1;
	size_t size = BATCH * sysconf(_SC_PAGESIZE);
	int fd = open("/dev/vfr", O_RDWR);
	char *memory = map_memory(size), *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED || ioctl(fd, VFR_SET, &script))
		die("/dev/vfr");
	for (int i = 0; i < ROUNDS; i++) {
		madvise(memory, size, MADV_DONTNEED);
		touch(memory, true, &anon);
		touch(memory, true, &none);
		madvise(map, size, MADV_DONTNEED);
		touch(map, false, &file);
	}
	print("anon", anon, none);
	print("file", file, none);
	return 0;
}
