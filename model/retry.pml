/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The loop of attempts in the page fault handlers of the architectures, as in
 * do_user_addr_fault(), with fault_retry_vma_lock() of include/linux/mm.h.
 *
 * Threads fault on one VMA, again and again, while another one takes the mmap_lock
 * for writing and changes the VMA, and while fatal signals come. handle_mm_fault()
 * may answer anything that the contract allows, for ever.
 *
 * Beside each fault runs the handler of the base kernel, with the same answers:
 * what it would do is kept in the variables base_*, which decide nothing.
 */
#ifndef NFAULT
#define NFAULT 2
#endif
#define NPROC (NFAULT + 1)

#include "locks.pml"

/* What is wrong with the model, see check.sh: spin -DMUTANT=name */
#define NOTHING		0
#define UNBOUNDED	1	/* under the VMA lock for ever, as the posted draft */
#define HARD_IGNORED	2	/* under the VMA lock after a hard retry, too */
#define TRIED_ALWAYS	3	/* T after every retry */
#define TRIED_NO_MAJOR	4	/* no T after MAJOR */
#define TRIED_NOT_2ND	5	/* no T after the second attempt */
#define TRIED_2ND_HARD	6	/* T after a second attempt that got nowhere */
#define NO_SIGNALS	7	/* not looked at under the VMA lock */
#define NO_SIGNALS_MMAP	8	/* not looked at under the mmap_lock */
#define NO_LOOKUP	9	/* the VMA is not looked up again */
#define NO_ACCESS_CHECK	10	/* access is not checked again */
#define KEEP_LOCK	11	/* RETRY with the VMA lock held */
#define KEEP_MMAP_LOCK	12	/* RETRY with the mmap_lock held */
#define DROP_TWICE	13	/* vma_end_read() after COMPLETED */
#define HARD_ALWAYS	14	/* a hard retry without FAULT_FLAG_VMA_LOCK */
#define ANON_LOCK	15	/* __vmf_anon_prepare() waits for the mmap_lock */
#ifndef MUTANT
#define MUTANT NOTHING
#endif
#define is(mutant) (MUTANT == mutant)

mtype = { MAPPED, NO_ACCESS, GONE };
mtype vma = MAPPED;

bool fatal_signal[NFAULT];
bool writing;			/* from before the mmap_lock to after it */

/* For the properties only. */
bool in_fault[NFAULT];
bool on_mmap_lock[NFAULT];	/* the fault has come to the mmap_lock path */
bool waits[NFAULT];		/* an attempt has returned RETRY */

/*
 * Of thread 0, for all are alike. Every process goes on if it can (weak fairness), but
 * each may choose to stop between two faults, or changes, for good.
 */

/* Whatever the handlers answer, no fault stays in the loop under the VMA lock. */
ltl leaves_vma_lock { []<> (!in_fault[0] || on_mmap_lock[0]) }
/* Whatever they answer, a fatal signal ends the fault. */
ltl killable { []<> (!in_fault[0] || !fatal_signal[0]) }
/* A fault comes to its end unless its handler answers RETRY for ever. */
ltl ends { []<> (!in_fault[0] || waits[0]) }
/* Whatever the handlers answer, a writer gets both locks. */
ltl writer_proceeds { []<> !writing }

/* The first anonymous page of a VMA needs the mmap_lock, too: mmap_read_trylock(). */
inline vmf_anon_prepare(me)
{
	if
	:: atomic {
		vma_lock && !is(ANON_LOCK) && !mmap_writer && len(mmap_queue) == 0 ->
		mmap_readers++;
		mmap_held++
	   };
	   mmap_read_unlock()
	:: vma_lock && (mmap_writer || len(mmap_queue) > 0) && !is(ANON_LOCK) ->
		hard = true
	:: vma_lock && is(ANON_LOCK) ->
		mmap_read_lock(me);
		mmap_read_unlock()
	:: true				/* not that */
	fi
}

/* Atomic, as the locks are held before it, and what follows a retry is not. */
inline handle_mm_fault(me)
{
	/* C4, C3, C6 */
	nr_vma_lock = nr_vma_lock + (vma_lock && nr_vma_lock < 3);
	assert(nr_vma_lock <= 2);
	assert(!(vma_lock && (was_hard || on_mmap_lock[me])));
	assert(!was_killed);
	/* C2: the lock is held, that one alone, and access is allowed. */
	assert(vma_held == vma_lock && mmap_held == !vma_lock);
	assert(vma == MAPPED);
	/* C5 */
	assert(tried == base_tried);

	if
	:: hard -> retry = true
	:: !hard			/* a page, or an error */
	:: !hard -> completed = true	/* a page, with the lock dropped */
	:: !hard -> retry = true	/* waits */
	:: !hard -> retry = true; major = true
	:: !hard && (vma_lock || is(HARD_ALWAYS)) -> retry = true; hard = true
	:: !hard && (vma_lock || is(HARD_ALWAYS)) ->
		retry = true; hard = true; major = true
	fi;
	if
	:: completed || (retry && !(vma_lock -> is(KEEP_LOCK) : is(KEEP_MMAP_LOCK))) ->
		if
		:: vma_lock -> vma_end_read()
		:: else -> mmap_read_unlock()
		fi
	:: else
	fi;

	printf("thread %d: VMA lock %d, tried %d: retry %d, hard %d, major %d\n",
		me, vma_lock, tried, retry, hard, major);

	/* C1 */
	assert(!hard || (retry && vma_lock));
	assert(!retry || (vma_held == 0 && mmap_held == 0));
	if
	:: retry ->
		waits[me] = true;
		/* It can come at any time, but nobody looks at it before. */
		if
		:: fatal_signal[me] = true
		:: true
		fi;
		was_hard = hard;
		was_killed = fatal_signal[me];
		/* base: V, M, M+T ... An attempt that it lacks changes nothing. */
		if
		:: base_vma_lock -> base_vma_lock = false; base_tried = major
		:: else -> base_tried = base_tried || !hard
		fi
	:: else
	fi
}

inline fault_retry_vma_lock()
{
	if
	:: retried ->
		tried = tried || (!hard && !is(TRIED_NOT_2ND)) || is(TRIED_2ND_HARD);
		again = !hard && is(UNBOUNDED)
	:: else ->
		tried = tried || (major && !is(TRIED_NO_MAJOR)) || is(TRIED_ALWAYS);
		again = !hard || is(HARD_IGNORED);
		retried = again
	fi
}

/* The answer is used up. */
inline forget_answer(me)
{
	waits[me] = false;
	retry = false; hard = false; major = false; completed = false
}

proctype thread(byte me)
{
	byte vma_held, mmap_held;
	bool vma_lock;				/* FAULT_FLAG_VMA_LOCK */
	bool tried, retried;			/* FAULT_FLAG_TRIED, _VMA_RETRIED */
	bool retry, hard, major, completed;	/* VM_FAULT_... */
	bool again;
	/* For the properties only. */
	bool base_vma_lock, base_tried, was_hard, was_killed;
	byte nr_vma_lock;

end_no_fault:
	if
	:: atomic { !fatal_signal[me] -> in_fault[me] = true };
	:: goto end_for_good
	fi;
	if
	:: base_vma_lock = true
	:: goto lock_mmap		/* not from user mode */
	fi;

retry_vma_lock:
	atomic {
		if
		:: retried && is(NO_LOOKUP)
		:: !vma_excluded && vma != GONE ->	/* lock_vma_under_rcu() */
			vma_readers++;
			vma_held++
		:: goto lock_mmap		/* it may fail at any time */
		fi;
		vma_lock = true;
		if
		:: vma == NO_ACCESS && !(retried && is(NO_ACCESS_CHECK)) ->
			vma_end_read();
			goto done
		:: else
		fi
	}
	vmf_anon_prepare(me);
	atomic {
		handle_mm_fault(me);
		if
		:: !retry && (!completed || is(DROP_TWICE)) -> vma_end_read()
		:: else
		fi;
		if
		:: !retry -> goto done
		:: else
		fi
	}
	atomic {
		if
		:: fatal_signal[me] && !is(NO_SIGNALS) -> goto done
		:: else
		fi;
		fault_retry_vma_lock();
		forget_answer(me);
		if
		:: again -> again = false; goto retry_vma_lock
		:: else
		fi
	}

lock_mmap:
	atomic {
		on_mmap_lock[me] = true;
		vma_lock = false;
		base_vma_lock = false;		/* base is here, too, if not before */
		/* Nobody looks at these any more: fewer states. */
		retried = false; was_hard = false; nr_vma_lock = 0;
retry_mmap_lock:
		mmap_read_lock(me);
		if
		:: vma != MAPPED -> mmap_read_unlock(); goto done
		:: else
		fi
	}
	atomic {
		handle_mm_fault(me);
		if
		:: completed -> goto done
		:: !retry && !completed -> mmap_read_unlock(); goto done
		:: else
		fi
	}
	atomic {
		if
		:: fatal_signal[me] && !is(NO_SIGNALS_MMAP) -> goto done
		:: else
		fi;
		tried = true;
		forget_answer(me);
		goto retry_mmap_lock
	}

done:
	atomic {
		assert(vma_held == 0 && mmap_held == 0);
		forget_answer(me);
		in_fault[me] = false; on_mmap_lock[me] = false;
		vma_lock = false; tried = false; retried = false; again = false;
		base_vma_lock = false; base_tried = false;
		was_hard = false; was_killed = false; nr_vma_lock = 0;
		goto end_no_fault
	}
end_for_good:
	false
}

proctype writer(byte me)
{
end_no_change:
	if
	:: writing = true
	:: goto end_for_good
	fi;
	mmap_write_lock(me);
	if
	:: skip				/* changes another VMA */
	:: vma_start_write();
		if			/* munmap(), mprotect(), mmap() */
		:: vma = GONE
		:: vma = NO_ACCESS
		:: vma = MAPPED
		fi
	fi;
	mmap_write_unlock();
	writing = false;
	goto end_no_change;
end_for_good:
	false
}

init {
	byte i;

	atomic {
		for (i : 0 .. NFAULT - 1) {
			run thread(i)
		}
		run writer(NFAULT)
	}
}
