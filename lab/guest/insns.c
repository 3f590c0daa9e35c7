// SPDX-License-Identifier: GPL-2.0-only
/*
 * insns - guest instructions of a page fault that succeeds at once
 *
 * For QEMU with -icount shift=0, where time is executed instructions. Takes the
 * fault many times and prints the smallest count: that is the path without an
 * interrupt in it, and the same in every run.
 *
 *	R w=insns how=<kind> insns=<n>
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vfr.h"

#define ROUNDS	500

/*
 * The clock counts instructions, too, but ticks more slowly on most machines:
 * hence many faults between two readings.
 */
#ifdef __x86_64__
#define BATCH	1
#else
#define BATCH	64
#endif

static inline uint64_t insns(void)
{
#ifdef __x86_64__
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) :: "memory");
	return (uint64_t)hi << 32 | lo;
#else
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
#endif
}

static long page_size;

static uint64_t touch(volatile char *p, int write)
{
	uint64_t t = insns();

	for (int i = 0; i < BATCH; i++, p += page_size) {
		if (write)
			*p = 1;
		else
			(void)*p;
	}
	return insns() - t;
}

static unsigned long long one(uint64_t with, uint64_t without)
{
	return (with - without + BATCH / 2) / BATCH;
}

int main(void)
{
	struct vfr_script s = { .nr = 1, .action = { VFR_PAGE } };
	uint64_t none = -1, anon = -1, file = -1, n;
	int fd = open("/dev/vfr", O_RDWR);
	char *a, *f;
	size_t len;

	page_size = sysconf(_SC_PAGESIZE);
	len = BATCH * page_size;
	a = mmap(NULL, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	f = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	if (a == MAP_FAILED || f == MAP_FAILED || ioctl(fd, VFR_SET, &s)) {
		perror("insns");
		return 1;
	}
	madvise(a, len, MADV_NOHUGEPAGE);
	touch(a, 1);
	for (int i = 0; i < ROUNDS; i++) {
		n = touch(a, 1);
		none = n < none ? n : none;
		madvise(a, len, MADV_DONTNEED);
		n = touch(a, 1);
		anon = n < anon ? n : anon;
		madvise(f, len, MADV_DONTNEED);
		n = touch(f, 0);
		file = n < file ? n : file;
	}
	printf("R w=insns how=anon insns=%llu\n", one(anon, none));
	printf("R w=insns how=file insns=%llu\n", one(file, none));
	return 0;
}
