// SPDX-License-Identifier: GPL-2.0-only
/*
 * insns - guest instructions of a page fault that succeeds at once
 *
 * For QEMU with -icount shift=0, where the time stamp counter counts executed
 * instructions. Takes the fault many times and prints the smallest count: that
 * is the path without an interrupt in it, and the same in every run.
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
#include <unistd.h>

#include "vfr.h"

#define ROUNDS	2000

static inline uint64_t insns(void)
{
#ifdef __x86_64__
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) :: "memory");
	return (uint64_t)hi << 32 | lo;
#else
#error "which register counts instructions under -icount here?"
#endif
}

static uint64_t touch(volatile char *p, int write)
{
	uint64_t t = insns();

	if (write)
		*p = 1;
	else
		(void)*p;
	return insns() - t;
}

int main(void)
{
	struct vfr_script s = { .nr = 1, .action = { VFR_PAGE } };
	uint64_t none = -1, anon = -1, file = -1, n;
	long page_size = sysconf(_SC_PAGESIZE);
	int fd = open("/dev/vfr", O_RDWR);
	char *a, *f;

	a = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	f = mmap(NULL, page_size, PROT_READ, MAP_SHARED, fd, 0);
	if (a == MAP_FAILED || f == MAP_FAILED || ioctl(fd, VFR_SET, &s)) {
		perror("insns");
		return 1;
	}
	*a = 1;
	for (int i = 0; i < ROUNDS; i++) {
		n = touch(a, 1);
		none = n < none ? n : none;
		madvise(a, page_size, MADV_DONTNEED);
		n = touch(a, 1);
		anon = n < anon ? n : anon;
		madvise(f, page_size, MADV_DONTNEED);
		n = touch(f, 0);
		file = n < file ? n : file;
	}
	printf("R w=insns how=anon insns=%llu\n", (unsigned long long)(anon - none));
	printf("R w=insns how=file insns=%llu\n", (unsigned long long)(file - none));
	return 0;
}
