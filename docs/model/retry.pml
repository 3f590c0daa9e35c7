/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The loop of attempts in the page fault handlers of the architectures, as in
 * do_user_addr_fault(), with fault_retry_under_vma_lock() of include/linux/mm.h.
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
#define TWO_ATTEMPTS	2	/* the second is the last without T */
#define HARD_IGNORED	3	/* under the VMA lock after a hard retry, too */
#define TRIED_KEPT	4	/* T under the VMA lock, as in the first form */
#define HARD_NOT_TRIED	5	/* no T after a hard retry, whatever came before */
#define MAJOR_NOT_2ND	6	/* the second retry does not make the fault major */
#define MAJOR_2ND_HARD	7	/* a second attempt that got nowhere does */
#define MAJOR_HARD_LOST	8	/* RETRY|HARD|MAJOR does not */
#define NO_WAY_BACK	9	/* from the mmap_lock to the VMA lock */
#define KERNEL_BACK	10	/* faults from kernel mode go that way, too */
#define NO_SIGNALS	11	/* not looked at between the attempts */
#define NO_LOOKUP	12	/* the VMA is not looked up again */
#define NO_ACCESS_CHECK	13	/* access is not checked again */
#define KEEP_LOCK	14	/* RETRY with the lock held */
#define HARD_ALWAYS	15	/* a hard retry without FAULT_FLAG_VMA_LOCK */
#define ANON_LOCK	16	/* __vmf_anon_prepare() waits for the mmap_lock */
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
bool last[NFAULT];		/* an attempt with T */
bool waits[NFAULT];		/* an attempt has returned RETRY */
bool held_up;			/* a writer has waited for a reader's I/O */

/*
 * Of thread 0, for all are alike. Every process goes on if it can (weak fairness), but
 * each may choose to stop between two faults, or changes, for good.
 */

/* Whatever the handlers answer, every fault ends or comes to base's last attempt. */
ltl bounded { []<> (!in_fault[0] || last[0]) }
/* Whatever they answer, a fatal signal ends the fault. */
ltl killable { []<> (!in_fault[0] || !fatal_signal[0]) }
/* A fault comes to its end unless its handler answers RETRY for ever. */
ltl ends { []<> (!in_fault[0] || waits[0]) }
/* Whatever the handlers answer, a writer gets both locks. */
ltl writer_proceeds { []<> !writing }
/* It waits for no I/O over which a first attempt in base would not hold the VMA lock. */
ltl writer_waits_for_no_io { []<> !held_up }

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

inline unlock()
{
	if
	:: vma_lock -> vma_end_read()
	:: else -> mmap_read_unlock()
	fi
}

/* Atomic, as the locks are held before it, and what follows a retry is not. */
inline handle_mm_fault(me)
{
	/* C2: one lock is held, that one alone, and access is allowed. */
	assert(vma_held == vma_lock && mmap_held == !vma_lock);
	assert(vma == MAPPED);
	/* C3, C4, C7 */
	assert(!(vma_lock && (was_hard || tried || !user)));
	assert(!was_killed);
	/* C5: three without T, beside the one that a hard retry asks for. No fewer either. */
	nr_first = nr_first + (!tried && !was_hard && nr_first <= 3);
	assert(nr_first <= 3);
	assert(!tried || nr_first == 3 || asked || !user);
	/* C6, and T after a hard retry as in base */
	assert((tried || flag_major) == base_tried);
	assert(!was_hard || tried == base_tried);
	/* From here on no attempt is without T again: fewer states. */
	last[me] = tried;
	nr_first = (tried -> 3 : nr_first); asked = asked && !tried;

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
	:: completed || (retry && !is(KEEP_LOCK)) -> unlock()
	:: else
	fi;

	printf("thread %d: VMA lock %d, tried %d: retry %d, hard %d, major %d\n",
		me, vma_lock, tried, retry, hard, major);

	/* C1 */
	assert(!hard || (retry && vma_lock));
	assert(!retry || (vma_held == 0 && mmap_held == 0));
	waits[me] = retry;
	/* It can come at any time, but nobody looks at it before. */
	if
	:: fatal_signal[me] = true
	:: true
	fi;
	was_killed = fatal_signal[me];
	was_hard = hard; asked = asked || hard;
	/*
	 * base: V, M, M+T ... It does not ask for the lock that it has: such an answer
	 * counts if it did I/O.
	 */
	base_tried = base_tried || major || !(base_vma_lock || hard);
	base_vma_lock = false
}

/* Before it T is set if the attempt did I/O or was made under the mmap_lock. */
inline fault_retry_under_vma_lock()
{
	flag_major = flag_major || (tried && !(hard && retried && is(MAJOR_HARD_LOST))) ||
		(retried && (!hard || is(MAJOR_2ND_HARD)) && !is(MAJOR_NOT_2ND));
	again = (!hard || is(HARD_IGNORED)) && (user || is(KERNEL_BACK)) &&
		(!retried_twice || is(UNBOUNDED)) && !(retried && is(TWO_ATTEMPTS)) &&
		(vma_lock || !is(NO_WAY_BACK));
	if
	:: again ->
		tried = tried && is(TRIED_KEPT);
		retried_twice = retried;
		retried = true
	:: else ->
		tried = flag_major && !(hard && is(HARD_NOT_TRIED));
		retried = retried || tried;	/* with T it plays no part: fewer states */
		retried_twice = retried_twice || tried
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
	bool user, tried;			/* FAULT_FLAG_USER, _TRIED */
	bool flag_major, retried, retried_twice;	/* FAULT_FLAG_MAJOR, ... */
	bool retry, hard, major, completed;	/* VM_FAULT_... */
	bool again;
	/* For the properties only. */
	bool base_vma_lock, base_tried, was_hard, was_killed, asked;
	byte nr_first;				/* attempts without T */

end_no_fault:
	if
	:: atomic { !fatal_signal[me] -> in_fault[me] = true };
	:: goto end_for_good
	fi;
	if
	:: user = true; base_vma_lock = true
	:: goto lock_mmap
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
	/* With T it does I/O with the lock held; without, it drops the lock first. */
	held_up = held_up || (tried && vma_excluded);
	goto attempt;

lock_mmap:
	atomic {
		vma_lock = false;
		base_vma_lock = false;		/* base is here, too, if not before */
		mmap_read_lock(me);
		if
		:: vma != MAPPED -> mmap_read_unlock(); goto done
		:: else
		fi
	}
attempt:
	atomic {
		handle_mm_fault(me);
		if
		:: !retry && !completed -> unlock(); goto done
		:: completed -> goto done
		:: retry
		fi
	}
	atomic {
		if
		:: fatal_signal[me] && !is(NO_SIGNALS) -> goto done
		:: else
		fi;
		tried = tried || major || !vma_lock;
		fault_retry_under_vma_lock();
		forget_answer(me);
		if
		:: again -> again = false; goto retry_vma_lock
		:: else -> goto lock_mmap
		fi
	}

done:
	atomic {
		assert(vma_held == 0 && mmap_held == 0);
		forget_answer(me);
		in_fault[me] = false; last[me] = false;
		vma_lock = false; user = false; tried = false; again = false;
		flag_major = false; retried = false; retried_twice = false;
		base_vma_lock = false; base_tried = false;
		was_hard = false; was_killed = false; asked = false; nr_first = 0;
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
