/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The two locks of a page fault, of one mm with one VMA. Each process counts in
 * vma_held and mmap_held what it holds itself, as lockdep does in the kernel.
 *
 * The mmap_lock is served in the order of arrival, so that neither readers nor
 * writers starve: an rwsem's handoff sees to that.
 */
chan mmap_queue = [NPROC] of { byte };
byte mmap_readers;
bool mmap_writer;

byte vma_readers;	/* vm_refcnt, less one for being attached */
bool vma_excluded;	/* readers are being excluded, or the VMA is write-locked */

/* An atomic sequence that has to wait is left, and resumed at that point. */
inline mmap_read_lock(me)
{
	atomic {
		mmap_queue!me;
		mmap_queue?[eval(me)] && !mmap_writer ->
		mmap_queue?eval(me);
		mmap_readers++;
		mmap_held++
	}
}

inline mmap_read_unlock()
{
	d_step {
		assert(mmap_held > 0);
		mmap_held--;
		mmap_readers--
	}
}

inline mmap_write_lock(me)
{
	atomic {
		mmap_queue!me;
		mmap_queue?[eval(me)] && !mmap_writer && mmap_readers == 0 ->
		mmap_queue?eval(me);
		mmap_writer = true
	}
}

/* First vma_end_write_all(): look-ups succeed while the mmap_lock is still held. */
inline mmap_write_unlock()
{
	vma_excluded = false;
	mmap_writer = false
}

inline vma_end_read()
{
	d_step {
		assert(vma_held > 0);
		vma_held--;
		vma_readers--
	}
}

/* Look-ups fail from the first step on. */
inline vma_start_write()
{
	vma_excluded = true;
	vma_readers == 0;
	assert(mmap_writer && mmap_readers == 0)
}
