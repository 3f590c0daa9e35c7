/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Between the test driver (driver/vfr.c) and the programs that use it.
 *
 * The driver's ->fault gives its answers to the attempts one after the other, the last one for
 * ever, and logs with which lock and flags each attempt came.
 */
#ifndef VFR_H
#define VFR_H

#include <linux/ioctl.h>
#include <linux/types.h>

enum vfr_action {
	VFR_PAGE = 'p',		/* here is the page */
	VFR_PAGE_MAJOR = 'P',	/* the same, after I/O that kept the lock: MAJOR */
	VFR_SIGBUS = 'e',	/* a lasting error; reads the device */
	VFR_WAIT = 'w',		/* drop the lock, wait, RETRY: a folio lock or so */
	VFR_WAIT_GO = 'g',	/* the same; waits for VFR_GO, or for a signal */
	VFR_READ = 'r',		/* drop the lock, read the device, RETRY | MAJOR */
	VFR_HARD = 'h',		/* mmap_lock is needed. Under the VMA lock: drop it,
				 * RETRY | RETRY_HARD; under mmap_lock: the next answer, or
				 * the page if this is the last
				 */
	VFR_HARD_MAJOR = 'H',	/* the same with MAJOR, under either lock */
	VFR_OLD_HARD = 'o',	/* under the VMA lock: drop it, a plain RETRY; under
				 * mmap_lock: here is the page. The old convention
				 */
	VFR_FAIL = 'f',		/* read the device; while the lock may be dropped (no
				 * TRIED): drop it, RETRY; then SIGBUS
				 */
	VFR_FAIL_MAJOR = 'F',	/* the same, RETRY | MAJOR */
	VFR_EVER = '*',		/* drop the lock, wait, RETRY as long as ALLOW_RETRY is set */

	/* Against the contract; the patched kernel must warn of each. */
	VFR_BAD_ALONE = '1',	/* RETRY_HARD without RETRY, and the page */
	VFR_BAD_MMAP = '2',	/* RETRY_HARD under mmap_lock, at the first try there */
	VFR_BAD_HELD = '3',	/* RETRY with the VMA lock still held, until VFR_MEND */
};

#define VFR_STEPS	8
#define VFR_LOG		16

struct vfr_script {
	__u32 nr;			/* 1..VFR_STEPS */
	__u32 action[VFR_STEPS];	/* enum vfr_action */
	__u32 wait_ms;			/* of VFR_WAIT, READ, FAIL* and EVER */
};

/* What one attempt looked like. */
#define VFR_BY_VMA_LOCK	1
#define VFR_TRIED	2

struct vfr_log {
	__u64 attempts;			/* all of them */
	__u64 reads;			/* of the device */
	__u32 waiting;			/* attempts that wait for VFR_GO just now */
	__u32 held;			/* VFR_HOLD holds its lock just now */
	__u8 attempt[VFR_LOG];		/* VFR_BY_VMA_LOCK | VFR_TRIED, the first ones */
};

/* Set the script of this open file and forget the log. */
#define VFR_SET		_IOW('V', 1, struct vfr_script)
#define VFR_GET		_IOR('V', 2, struct vfr_log)

/* End the waits of VFR_WAIT_GO, those to come until VFR_SET, too. */
#define VFR_GO		_IO('V', 4)

/* Hold mmap_lock for writing, and end the waits of VFR_WAIT_GO as soon as it is held. */
struct vfr_hold {
	__u64 addr;			/* write-lock the VMA there, too; or 0 */
	__u32 limit_ms;			/* until someone waits for it, or so long */
	__u32 more_ms;			/* and so long afterwards */
};

#define VFR_HOLD	_IOW('V', 5, struct vfr_hold)

/* Drop the VMA lock that VFR_BAD_HELD has left. */
#define VFR_MEND	_IO('V', 6)

/* Make an attempt at the address with the VMA lock and TRIED, against the contract. */
#define VFR_BAD_TRIED	_IO('V', 7)

/* Lock the folio of a page that is in a file's page cache, over and over. */
struct vfr_folio {
	__s32 fd;			/* the file */
	__u32 times;			/* until a signal comes, at the latest */
	__u64 index;			/* of the page */
	__u32 hold_us, gap_us;		/* locked; from unlocking to the next time */
	__u32 spin;			/* hold it on the CPU, not asleep */
};

/* Takes as long as that takes; ENOENT if the page is not there. */
#define VFR_FOLIO	_IOW('V', 3, struct vfr_folio)

#endif
