/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Faults that wait for a userfaultfd while their range is unregistered, or the
 * userfaultfd closed: none of them may sleep on (C12). Nobody resolves them: they
 * are woken, by UFFDIO_WAKE any number of times, or end since the range is not
 * registered any more.
 *
 * spin -DN=1: one attempt is made under the VMA lock, as in base.
 * spin -DALL_WAIT: every fault waits already when UFFDIO_UNREGISTER begins.
 */
#define NFAULT 2
#define NPROC (NFAULT + 1)

#include "locks.pml"

/* What is wrong with the model, see check.sh: spin -DMUTANT=name */
#define NOTHING		0
#define WAKE_FIRST	1	/* UFFDIO_UNREGISTER wakes before it locks the VMA */
#define QUEUE_LATE	2	/* a fault drops the lock, then queues */
#define CLOSE_NO_WAKE	3	/* whoever waits at the close is left */
#define MISSING_ONLY	4	/* UFFDIO_UNREGISTER wakes in that mode only */
#ifndef MUTANT
#define MUTANT NOTHING
#endif
#define is(mutant) (MUTANT == mutant)

#ifndef N
#define N 3
#endif

bool registered = true;		/* vma->vm_userfaultfd_ctx */
bool released;			/* ctx->released */
bool queued[NFAULT];		/* on the waitqueue: asleep, or about to be */
byte nr_ended;

ltl no_fault_sleeps_on { <> (nr_ended == NFAULT) }

inline wake_userfault()
{
	d_step {
		queued[0] = false;
		queued[1] = false
	}
}

/* After the lock has been dropped. @released is not looked at again. */
inline sleep(me)
{
	if
	:: is(QUEUE_LATE) -> queued[me] = true
	:: else
	fi;
	if
	:: released
	:: else -> !queued[me]		/* schedule() */
	fi;
	queued[me] = false
}

proctype thread(byte me)
{
	byte vma_held, mmap_held;
	byte nr_attempts = 1;

retry_vma_lock:
	if
	:: atomic { !vma_excluded -> vma_readers++; vma_held++ }
	:: goto lock_mmap		/* the look-up may fail at any time */
	fi;
	if
	:: !registered -> vma_end_read(); goto done
	:: registered && released -> vma_end_read()	/* RETRY, without waiting */
	:: else ->
		queued[me] = !is(QUEUE_LATE);
		vma_end_read();
		sleep(me)
	fi;

waited:
	if
	:: nr_attempts < N -> nr_attempts++; goto retry_vma_lock
	:: else
	fi;

lock_mmap:
	mmap_read_lock(me);
	if
	:: !registered -> mmap_read_unlock(); goto done
	:: registered && released -> mmap_read_unlock()
	:: else ->
		queued[me] = !is(QUEUE_LATE);
		mmap_read_unlock();
		sleep(me)
	fi;
	goto waited;

done:
	nr_ended++
}

/* userfaultfd_unregister() or userfaultfd_release() */
proctype unregister(byte me)
{
	if
	:: released = true;
		mmap_write_lock(me);
		vma_start_write();
		registered = false;
		mmap_write_unlock();
		if
		:: !is(CLOSE_NO_WAKE) -> wake_userfault()
		:: else
		fi
	:: true ->
#ifdef ALL_WAIT
		queued[0] && queued[1];
#endif
		mmap_write_lock(me);
		if
		:: !is(WAKE_FIRST) -> vma_start_write()
		:: else
		fi;
		if
		:: true -> wake_userfault()
		:: is(MISSING_ONLY)
		fi;
		vma_start_write();	/* userfaultfd_clear_vma() */
		registered = false;
		mmap_write_unlock()
	fi
}

/* UFFDIO_WAKE: the page is still not there. */
proctype monitor()
{
	do
	:: wake_userfault()
	:: break
	od
}

init {
	atomic {
		run thread(0);
		run thread(1);
		run unregister(NFAULT);
		run monitor()
	}
}
