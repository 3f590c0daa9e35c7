// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for page faults that are retried under the VMA lock.
 *
 * A fault follows a script, one letter for each thing it meets:
 *
 *	d	it is done
 *	r	it has to wait: VM_FAULT_RETRY
 *	h	it needs the mmap_lock: VM_FAULT_RETRY | VM_FAULT_RETRY_HARD.
 *		An attempt under the mmap_lock has what it needs and goes on.
 *	f	an error that lasts, of a handler that drops its lock if it may
 *	D R H F	the same after I/O: with VM_FAULT_MAJOR
 *	x	the VMA is write-locked when an attempt looks it up
 *
 * The end of the script is an error.  Attempts are written as V (under the VMA
 * lock) or M (under the mmap_lock), and t if FAULT_FLAG_TRIED is set: "V V V Mt".
 *
 * What is expected comes from the fault handlers as they were before faults were
 * retried under the VMA lock, called "base" here: V once, then M, then Mt.
 */
#include <kunit/test.h>
#include <linux/anon_inodes.h>
#include <linux/ctype.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pgalloc.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/swapops.h>
#include <linux/uaccess.h>
#include <linux/userfaultfd_k.h>

MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");

#define HARD		(VM_FAULT_RETRY | VM_FAULT_RETRY_HARD)
#define USER		(FAULT_FLAG_DEFAULT | FAULT_FLAG_USER | FAULT_FLAG_WRITE)
#define MAX_ATTEMPTS	6
#define MAX_SCRIPT	(2 * (MAX_ATTEMPTS - 1) + 2)

/* No result of handle_mm_fault(): the VMA lock is not to be had. */
#define NO_VMA		((__force vm_fault_t)~0U)

/* A vm_fault_t is not for comparisons as integers are. */
#define BITS(fault)	((__force unsigned int)(fault))

/* The architectures take VM_FAULT_ERROR for a signal. */
static_assert(!(BITS(VM_FAULT_RETRY_HARD) &
		BITS(VM_FAULT_ERROR | VM_FAULT_HINDEX_MASK)));

/* A fault that follows a script. */
struct faulter {
	struct kunit *test;
	const char *script, *next;
	vm_fault_t (*attempt)(struct faulter *f, unsigned int flags);
	unsigned int flags;		/* of the first attempt */
	int nr;				/* of attempts that were retried */
	char attempts[3 * MAX_ATTEMPTS];
	int maj, min;			/* what was counted */

	/* for check_attempt() */
	bool tried;			/* an attempt had FAULT_FLAG_TRIED */
	int waits;			/* attempts that did not ask for mmap_lock */
	bool hard;			/* the last one has asked for it */
	bool no_vma;			/* the look-up has failed */

	/* for real faults */
	struct file *file;
	struct page *page;
	unsigned long map, addr;
	char content;			/* of the page that is mapped in the end */
	bool unaudited;			/* the VMA has no ->map_pages */
	bool arch;			/* the architecture makes the attempts */
	bool hold;			/* another holds the mmap_lock till M */
	bool held;			/* it does */
	void (*meanwhile)(struct faulter *f);	/* called after the first retry */
};

static void note(struct faulter *f, unsigned int flags)
{
	size_t len = strlen(f->attempts);

	if (len + 4 > sizeof(f->attempts))
		return;
	if (len)
		f->attempts[len++] = ' ';
	f->attempts[len++] = flags & FAULT_FLAG_VMA_LOCK ? 'V' : 'M';
	if (flags & FAULT_FLAG_TRIED)
		f->attempts[len++] = 't';
	f->attempts[len] = '\0';
}

/* What the script makes of an attempt. */
static vm_fault_t scripted_result(struct faulter *f, unsigned int flags)
{
	vm_fault_t fault = 0;
	char c;

	while ((c = *f->next)) {
		f->next++;
		if (isupper(c))
			fault |= VM_FAULT_MAJOR;
		switch (tolower(c)) {
		case 'd':
			return fault;
		case 'r':
			return fault | VM_FAULT_RETRY;
		case 'h':
			if (flags & FAULT_FLAG_VMA_LOCK)
				return fault | HARD;
			break;
		case 'f':
			if (!fault_flag_allow_retry_first(flags))
				return VM_FAULT_SIGBUS;
			f->next--;
			return fault | VM_FAULT_RETRY;
		}
	}
	return VM_FAULT_SIGBUS;
}

/*
 * What the fault handlers of the architectures do.  Base does the same without
 * fault_retry_under_vma_lock().  As if by a signal, a fault ends after
 * MAX_ATTEMPTS.
 */
static vm_fault_t fault_in(struct faulter *f, bool base)
{
	unsigned int flags = f->flags;
	vm_fault_t fault;

	f->next = f->script;
	f->nr = 0;
	f->attempts[0] = '\0';
	if (!(flags & FAULT_FLAG_USER))
		goto lock_mmap;
retry_vma_lock:
	fault = f->attempt(f, flags | FAULT_FLAG_VMA_LOCK);
	if (fault == NO_VMA)
		goto lock_mmap;
	if (!(fault & VM_FAULT_RETRY))
		return fault;
	if (fault & VM_FAULT_MAJOR)
		flags |= FAULT_FLAG_TRIED;
	if (++f->nr == MAX_ATTEMPTS)
		return fault;
	if (!base && fault_retry_under_vma_lock(fault, &flags))
		goto retry_vma_lock;
lock_mmap:
	fault = f->attempt(f, flags);
	if (!(fault & VM_FAULT_RETRY) || ++f->nr == MAX_ATTEMPTS)
		return fault;
	flags |= FAULT_FLAG_TRIED;
	if (!base && fault_retry_under_vma_lock(fault, &flags))
		goto retry_vma_lock;
	goto lock_mmap;
}

/* ---- the decision, without memory ---- */

/* Like handle_mm_fault(), accounting included. */
static vm_fault_t model_attempt(struct faulter *f, unsigned int flags)
{
	vm_fault_t fault;

	if ((flags & FAULT_FLAG_VMA_LOCK) && *f->next == 'x')
		return NO_VMA;
	note(f, flags);
	fault = scripted_result(f, flags);
	if (!(fault & VM_FAULT_RETRY))
		f->maj = (fault & VM_FAULT_MAJOR) ||
			 (flags & (FAULT_FLAG_TRIED | FAULT_FLAG_MAJOR));
	return fault;
}

/* If the next thing is that the fault is done, does base count a major one? */
static bool base_major(const struct faulter *f)
{
	struct faulter base = { .attempt = model_attempt, .flags = f->flags };
	char script[MAX_SCRIPT];
	size_t len = f->next - f->script;

	memcpy(script, f->script, len);
	strscpy(script + len, "d", sizeof(script) - len);
	base.script = script;
	fault_in(&base, true);
	return base.maj;
}

/*
 * What holds for the attempts of a fault from user mode:
 *
 * - An attempt without FAULT_FLAG_TRIED looks the VMA up and locks it if it can.
 *   After an attempt that asked for the mmap_lock, the next one takes that instead.
 * - Three attempts are without FAULT_FLAG_TRIED, not counting those that ask for
 *   the mmap_lock.  All later ones are under the mmap_lock with FAULT_FLAG_TRIED.
 * - After an attempt that asked, it is also set, and stays set, if base would count
 *   a major fault by now.  After a second one that asked, base would: since the
 *   first one, an attempt under the mmap_lock was retried.
 * - So at most four attempts are without FAULT_FLAG_TRIED.
 */
static vm_fault_t check_attempt(struct faulter *f, unsigned int flags)
{
	const bool tried = f->tried || f->waits == 3 || (f->hard && base_major(f));
	struct kunit *test = f->test;
	vm_fault_t fault;

	KUNIT_ASSERT_EQ_MSG(test, !!(flags & FAULT_FLAG_TRIED), tried,
			    "%s: TRIED after %s", f->script, f->attempts);
	KUNIT_ASSERT_EQ_MSG(test, !!(flags & FAULT_FLAG_VMA_LOCK),
			    !tried && !f->hard && !f->no_vma,
			    "%s: VMA_LOCK after %s", f->script, f->attempts);
	KUNIT_ASSERT_LT_MSG(test, f->nr, tried ? MAX_ATTEMPTS : 4,
			    "%s: goes on after %s", f->script, f->attempts);
	KUNIT_ASSERT_EQ(test, f->flags, flags &
			~(FAULT_FLAG_VMA_LOCK | FAULT_FLAG_TRIED | FAULT_FLAG_MAJOR |
			  FAULT_FLAG_RETRIED | FAULT_FLAG_RETRIED_TWICE));

	fault = model_attempt(f, flags);
	f->no_vma = fault == NO_VMA;
	if (!f->no_vma) {
		f->tried = tried;
		f->hard = fault & VM_FAULT_RETRY_HARD;
		f->waits += !f->hard;
	}
	return fault;
}

/*
 * Scripts of up to five results, each with a look-up that succeeds or fails.
 * Return: false if number @nr is the same as an earlier one.
 */
#define NR_SCRIPTS	(12 * 12 * 12 * 12 * 12)
static bool make_script(unsigned int nr, char *script)
{
	int i;

	for (i = 0; i < MAX_ATTEMPTS - 1; i++, nr /= 12) {
		if (nr % 12 >= 6)
			*script++ = 'x';
		*script++ = "dDrRhH"[nr % 6];
		*script = '\0';
		if (nr % 6 < 2)
			return nr < 12;
	}
	strscpy(script, "d", 2);
	return true;
}

/*
 * Base counts a major fault if the last attempt did I/O or had FAULT_FLAG_TRIED.
 * That is set once the attempt under the VMA lock did I/O, or one under the
 * mmap_lock was retried.
 *
 * In base and now, the same things happen to the fault in the same order: both
 * read the same script.  But now there may be more attempts.  If a later attempt
 * finds that it needs the mmap_lock, it ends, if it is under the VMA lock, and
 * another one goes on from there under the mmap_lock.  In base it is under the
 * mmap_lock, and goes on by itself.  So two attempts now are one in base.  That
 * the first of the two was retried must not make a major fault, as nothing was
 * retried in base.  I/O that it did must, as the one attempt in base did it, too.
 */
static void vma_lock_retry_decision(struct kunit *test, unsigned int flags)
{
	char script[MAX_SCRIPT];
	unsigned int nr;

	for (nr = 0; nr < NR_SCRIPTS; nr++) {
		struct faulter base = {
			.test = test,
			.script = script,
			.attempt = model_attempt,
			.flags = flags,
		};
		struct faulter now = base;

		if (!make_script(nr, script))
			continue;
		fault_in(&base, true);
		if (flags & FAULT_FLAG_USER)
			now.attempt = check_attempt;
		fault_in(&now, false);
		KUNIT_ASSERT_EQ_MSG(test, now.maj, base.maj, "%s: major, %s, base %s",
				    script, now.attempts, base.attempts);
		/* Nothing has changed for faults from kernel mode. */
		if (!(flags & FAULT_FLAG_USER))
			KUNIT_ASSERT_STREQ_MSG(test, now.attempts, base.attempts,
					       "%s", script);
	}
}

static void vma_lock_retry_user_mode(struct kunit *test)
{
	vma_lock_retry_decision(test, USER);
}

static void vma_lock_retry_kernel_mode(struct kunit *test)
{
	vma_lock_retry_decision(test, USER & ~FAULT_FLAG_USER);
}

static struct kunit_case vma_lock_retry_decision_cases[] = {
	KUNIT_CASE(vma_lock_retry_user_mode),
	KUNIT_CASE(vma_lock_retry_kernel_mode),
	{}
};

static struct kunit_suite vma_lock_retry_decision_suite = {
	.name = "vma_lock_retry_decision",
	.test_cases = vma_lock_retry_decision_cases,
};

/* ---- real faults ---- */

static vm_fault_t scripted_fault(struct vm_fault *vmf)
{
	struct faulter *f = vmf->vma->vm_file->private_data;
	vm_fault_t fault;

	if (f->arch)
		note(f, vmf->flags);
	KUNIT_EXPECT_FALSE(f->test, f->unaudited && vmf->flags & FAULT_FLAG_VMA_LOCK);
	fault = scripted_result(f, vmf->flags);
	if (fault & VM_FAULT_RETRY) {
		release_fault_lock(vmf);
	} else if (!(fault & VM_FAULT_ERROR)) {
		get_page(f->page);
		vmf->page = f->page;
	}
	return fault;
}

/* Maps nothing.  That it exists allows ->fault to be called under the VMA lock. */
static vm_fault_t no_map_pages(struct vm_fault *vmf, pgoff_t start, pgoff_t end)
{
	return 0;
}

static const struct vm_operations_struct scripted_ops = {
	.fault = scripted_fault,
	.map_pages = no_map_pages,
};

static vm_fault_t unaudited_mkwrite(struct vm_fault *vmf)
{
	struct faulter *f = vmf->vma->vm_file->private_data;

	KUNIT_EXPECT_FALSE(f->test, vmf->flags & FAULT_FLAG_VMA_LOCK);
	lock_page(vmf->page);
	return VM_FAULT_LOCKED;
}

static const struct vm_operations_struct unaudited_ops = {
	.fault = scripted_fault,
	.page_mkwrite = unaudited_mkwrite,
};

static int scripted_mmap_prepare(struct vm_area_desc *desc)
{
	const struct faulter *f = desc->file->private_data;

	desc->vm_ops = f->unaudited ? &unaudited_ops : &scripted_ops;
	return 0;
}

static const struct file_operations scripted_fops = {
	.owner = THIS_MODULE,
	.mmap_prepare = scripted_mmap_prepare,
};

/*
 * Hold the mmap_lock for writing, as another thread might.  This thread can do it,
 * since attempts under the VMA lock do not wait for the mmap_lock, they try.
 */
static void hold_mmap_lock(struct faulter *f)
{
	if (f->held)
		return;
	mmap_write_lock(current->mm);
	f->held = true;
	if (*f->next == 'x')
		vma_start_write(vma_lookup(current->mm, f->addr));
}

static void drop_mmap_lock(struct faulter *f)
{
	if (f->held)
		mmap_write_unlock(current->mm);
	f->held = false;
}

/*
 * No KUNIT_ASSERT here: the exit of the test waits for both locks.  For the same
 * reason, a VMA lock that is still held after a retry is dropped here.  The VMA may
 * be looked at after that, as nobody else has this mm.
 */
static vm_fault_t real_attempt(struct faulter *f, unsigned int flags)
{
	const bool vma_lock = flags & FAULT_FLAG_VMA_LOCK;
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	bool locked;
	vm_fault_t fault;

	if (vma_lock) {
		if (f->hold || *f->next == 'x')
			hold_mmap_lock(f);
		vma = lock_vma_under_rcu(mm, f->addr);
		if (!vma)
			return NO_VMA;
	} else {
		drop_mmap_lock(f);
		mmap_read_lock(mm);
		vma = vma_lookup(mm, f->addr);
		if (!vma) {
			mmap_read_unlock(mm);
			return VM_FAULT_SIGSEGV;
		}
	}
	if ((flags & FAULT_FLAG_WRITE) && !(vma->vm_flags & VM_WRITE)) {
		fault = VM_FAULT_SIGSEGV;
	} else {
		note(f, flags);
		fault = handle_mm_fault(vma, f->addr, flags, NULL);
	}
	locked = !(fault & (VM_FAULT_RETRY | VM_FAULT_COMPLETED));
	if (vma_lock) {
		KUNIT_EXPECT_EQ_MSG(f->test, refcount_read(&vma->vm_refcnt) > 1, locked,
				    "VMA lock after %#x", BITS(fault));
		if (refcount_read(&vma->vm_refcnt) > 1)
			vma_end_read(vma);
	} else {
		KUNIT_EXPECT_FALSE(f->test, fault & VM_FAULT_RETRY_HARD);
		if (locked)
			mmap_read_unlock(mm);
	}
	if (f->meanwhile && f->nr == 0 && (fault & VM_FAULT_RETRY))
		f->meanwhile(f);
	return fault;
}

KUNIT_DEFINE_ACTION_WRAPPER(fput_action, fput, struct file *);
KUNIT_DEFINE_ACTION_WRAPPER(put_page_action, put_page, struct page *);

static int vma_lock_retry_init(struct kunit *test)
{
	struct faulter *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, f);
	f->test = test;
	f->script = "d";
	f->next = f->script;
	f->attempt = real_attempt;
	f->flags = USER;
	f->map = MAP_SHARED;
	f->content = 'V';
	f->page = alloc_page(GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, f->page);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, put_page_action, f->page));
	memset(page_address(f->page), f->content, PAGE_SIZE);
	f->file = anon_inode_getfile("[vma_lock_retry_kunit]", &scripted_fops, f, O_RDWR);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, f->file);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, fput_action, f->file));
	test->priv = f;
	return kunit_attach_mm();
}

static void map(struct faulter *f)
{
	f->addr = kunit_vm_mmap(f->test, f->map & MAP_ANONYMOUS ? NULL : f->file, 0,
				PAGE_SIZE, PROT_READ | PROT_WRITE, f->map, 0);
	KUNIT_ASSERT_FALSE(f->test, !f->addr || IS_ERR_VALUE(f->addr));
	if (f->map & MAP_ANONYMOUS)
		f->content = 0;
}

/* A fault at f->addr. */
static void expect_fault(struct faulter *f, bool base, const char *attempts,
			 vm_fault_t error, bool major)
{
	const char *who = base ? "base" : "now";
	struct kunit *test = f->test;
	vm_fault_t fault;
	char c = 'x';

	f->maj = current->maj_flt;
	f->min = current->min_flt;
	fault = fault_in(f, base);
	drop_mmap_lock(f);
	f->maj = current->maj_flt - f->maj;
	f->min = current->min_flt - f->min;

	KUNIT_EXPECT_STREQ_MSG(test, f->attempts, attempts, "%s", who);
	KUNIT_EXPECT_EQ_MSG(test, BITS(fault & (VM_FAULT_ERROR | VM_FAULT_RETRY)),
			    BITS(error), "%s", who);
	KUNIT_EXPECT_EQ_MSG(test, f->maj, !error && major, "%s", who);
	KUNIT_EXPECT_EQ_MSG(test, f->min, !error && !major, "%s", who);
	if (!error) {
		KUNIT_EXPECT_EQ(test, copy_from_user(&c, (void __user *)f->addr, 1), 0);
		KUNIT_EXPECT_EQ_MSG(test, c, f->content, "%s", who);
	}
}

static void unmap(struct faulter *f)
{
	vm_munmap(f->addr, PAGE_SIZE);
}

static void replace(struct faulter *f)
{
	KUNIT_EXPECT_EQ(f->test, f->addr,
			vm_mmap(NULL, f->addr, PAGE_SIZE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0));
	f->content = 0;
}

static void write_protect(struct faulter *f)
{
	mmap_write_lock(current->mm);
	vm_flags_clear(vma_lookup(current->mm, f->addr), VM_WRITE);
	mmap_write_unlock(current->mm);
}

static const struct sequence {
	const char *name, *script, *base, *now;
	vm_fault_t error;
	bool major;
	void (*meanwhile)(struct faulter *f);
} sequences[] = {
	{ "there at once", "d", "V", "V", 0, false },
	{ "reads at once", "D", "V", "V", 0, true },
	{ "waits for a lock", "rd", "V M", "V V", 0, false },
	{ "waits for storage", "Rd", "V Mt", "V V", 0, true },
	{ "waits for a lock, reads", "rD", "V M", "V V", 0, true },
	{ "waits twice", "rrd", "V M Mt", "V V V", 0, true },
	{ "waits for storage, for a lock", "Rrd", "V Mt Mt", "V V V", 0, true },
	{ "waits three times", "rrrd", "V M Mt Mt", "V V V Mt", 0, true },
	{ "asks", "hd", "V M", "V M", 0, false },
	{ "reads and asks", "Hd", "V Mt", "V Mt", 0, true },
	{ "asks, waits", "hrd", "V M Mt", "V M V", 0, true },
	{ "asks, waits, asks", "hrhd", "V M Mt", "V M V Mt", 0, true },
	{ "asks, waits three times", "hrrrd", "V M Mt Mt Mt", "V M V V Mt", 0, true },
	{ "waits, asks", "rhd", "V M", "V V M", 0, false },
	{ "waits for storage, asks", "Rhd", "V Mt", "V V Mt", 0, true },
	/* The attempt that did I/O gets nowhere, and still it is a major fault. */
	{ "waits, reads and asks", "rHd", "V M", "V V Mt", 0, true },
	{ "waits, reads and asks, waits", "rHrd", "V M Mt", "V V Mt Mt", 0, true },
	{ "waits twice, asks", "rrhd", "V M Mt", "V V V Mt", 0, true },
	{ "write-locked", "xd", "M", "M", 0, false },
	{ "write-locked, waits", "xrd", "M Mt", "M V", 0, true },
	{ "write-locked, asks", "xrhd", "M Mt", "M V Mt", 0, true },
	{ "write-locked, waits three times", "xrrrd", "M Mt Mt Mt", "M V V Mt", 0, true },
	{ "waits, write-locked", "rxd", "V M", "V M", 0, false },
	{ "waits for storage, write-locked", "Rxd", "V Mt", "V M", 0, true },
	{ "always write-locked", "xrxrxrd", "M Mt Mt Mt", "M M M Mt", 0, true },
	{ "fails at once", "", "V", "V", VM_FAULT_SIGBUS },
	{ "waits, fails", "r", "V M", "V V", VM_FAULT_SIGBUS },
	{ "drops its lock, fails", "f", "V M Mt", "V V V Mt", VM_FAULT_SIGBUS },
	{ "reads, fails", "F", "V Mt", "V V V Mt", VM_FAULT_SIGBUS },
	{ "waits for ever", "rrrrrr", "V M Mt Mt Mt Mt", "V V V Mt Mt Mt", VM_FAULT_RETRY },
	{ "unmapped", "rd", "V", "V", VM_FAULT_SIGSEGV, .meanwhile = unmap },
	{ "replaced", "rd", "V M", "V V", 0, false, replace },
	{ "write-protected", "rd", "V", "V", VM_FAULT_SIGSEGV, .meanwhile = write_protect },
	{ "write-locked, unmapped", "xrd", "M", "M", VM_FAULT_SIGSEGV, .meanwhile = unmap },
	{ "write-locked, replaced", "xrd", "M Mt", "M V", 0, true, replace },
};

KUNIT_ARRAY_PARAM_DESC(sequence, sequences, name);

static void vma_lock_retry_sequence(struct kunit *test)
{
	const struct sequence *s = test->param_value;
	struct faulter *f = test->priv;

	f->script = s->script;
	f->meanwhile = s->meanwhile;
	map(f);
	expect_fault(f, true, s->base, s->error, s->major);
	map(f);
	expect_fault(f, false, s->now, s->error, s->major);
}

/* The fault handler of the architecture makes the attempts. */
static void vma_lock_retry_arch_kernel_mode(struct kunit *test)
{
	struct faulter *f = test->priv;
	unsigned long maj = current->maj_flt;
	char c = 'x';

	f->next = "rrrd";
	f->arch = true;
	map(f);
	KUNIT_EXPECT_EQ(test, copy_from_user(&c, (void __user *)f->addr, 1), 0);
	KUNIT_EXPECT_EQ(test, c, f->content);
	KUNIT_EXPECT_STREQ(test, f->attempts, "M Mt Mt Mt");
	KUNIT_EXPECT_EQ(test, current->maj_flt - maj, 1);
}

/* ---- who asks for the mmap_lock and who does not ---- */

static const struct asker {
	const char *name;
	unsigned long map;
	bool unaudited;		/* vmf_can_call_fault() asks */
	bool hold;		/* __vmf_anon_prepare() asks */
	const char *read, *write;
} askers[] = {
	{ "fault, read", MAP_SHARED, true, false, "V M", NULL },
	{ "fault, shared write", MAP_SHARED, true, false, NULL, "V M" },
	{ "fault, private write", MAP_PRIVATE, true, false, NULL, "V M" },
	{ "page_mkwrite", MAP_SHARED, true, false, "V M", "V M" },
	{ "anonymous page", MAP_PRIVATE | MAP_ANONYMOUS, false, true, NULL, "V M" },
	{ "copy of the zero page", MAP_PRIVATE | MAP_ANONYMOUS, false, true, "V", "V M" },
	{ "copy of a page of a file", MAP_PRIVATE, false, true, NULL, "V M" },
	{ "no writer", MAP_PRIVATE | MAP_ANONYMOUS, false, false, NULL, "V" },
};

KUNIT_ARRAY_PARAM_DESC(asker, askers, name);

/* If they did not ask, it would be "V V V Mt". */
static void vma_lock_retry_ask(struct kunit *test)
{
	const struct asker *a = test->param_value;
	struct faulter *f = test->priv;

	f->map = a->map;
	f->unaudited = a->unaudited;
	map(f);
	if (a->read) {
		f->flags &= ~FAULT_FLAG_WRITE;
		expect_fault(f, false, a->read, 0, false);
		f->flags |= FAULT_FLAG_WRITE;
	}
	f->hold = a->hold;
	if (a->write)
		expect_fault(f, false, a->write, 0, false);
}

/* Not as a module: set_pte_at() and set_pmd_at() are not exported everywhere. */
#if defined(CONFIG_DEVICE_PRIVATE) && defined(CONFIG_ARCH_HAS_PMD_SOFTLEAVES) && \
	!defined(MODULE)
#define TEST_DEVICE_PRIVATE
static int set_entry(pte_t *pte, unsigned long addr, void *entry)
{
	if (entry)
		set_pte_at(current->mm, addr, pte, swp_entry_to_pte(*(swp_entry_t *)entry));
	else
		pte_clear(current->mm, addr, pte);
	return 0;
}

/*
 * do_swap_page() and do_huge_pmd_device_private() ask.  There is no such page: the
 * kernel oopses if they go on under the VMA lock.
 */
static void device_private(struct kunit *test, bool huge)
{
	swp_entry_t entry = make_readable_device_private_entry(1);
	struct mm_struct *mm = current->mm;
	struct faulter *f = test->priv;
	vm_fault_t fault;
	pmd_t *pmd, table;

	f->map = MAP_PRIVATE | MAP_ANONYMOUS;
	map(f);
	KUNIT_ASSERT_EQ(test, 0, apply_to_page_range(mm, f->addr, PAGE_SIZE, set_entry,
						     huge ? NULL : &entry));
	pmd = pmd_off(mm, f->addr);
	table = pmdp_get(pmd);
	if (huge)
		set_pmd_at(mm, f->addr & PMD_MASK, pmd, swp_entry_to_pmd(entry));
	fault = real_attempt(f, USER | FAULT_FLAG_VMA_LOCK);
	if (huge)
		pmd_populate(mm, pmd, pmd_pgtable(table));
	KUNIT_EXPECT_EQ(test, BITS(fault), BITS(HARD));
	KUNIT_EXPECT_EQ(test, 0, apply_to_page_range(mm, f->addr, PAGE_SIZE, set_entry, NULL));
}

static void vma_lock_retry_device_private(struct kunit *test)
{
	device_private(test, false);
}

static void vma_lock_retry_device_private_pmd(struct kunit *test)
{
	device_private(test, true);
}
#endif

#ifdef CONFIG_USERFAULTFD
static void set_uffd(struct faulter *f, struct userfaultfd_ctx *ctx)
{
	struct vm_area_struct *vma;

	mmap_write_lock(current->mm);
	vma = vma_lookup(current->mm, f->addr);
	if (ctx)
		vm_flags_set(vma, VM_UFFD_MISSING);
	else
		vm_flags_clear(vma, VM_UFFD_MISSING);
	vma->vm_userfaultfd_ctx.ctx = ctx;
	mmap_write_unlock(current->mm);
}

/* Faults retry while the context is being released.  Any lock will do for that. */
static void vma_lock_retry_uffd_released(struct kunit *test)
{
	struct faulter *f = test->priv;
	struct userfaultfd_ctx *ctx = kunit_kzalloc(test, sizeof(*ctx), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, ctx);
	ctx->mm = current->mm;
	ctx->released = true;
	/* For a fault that waits instead. */
	init_waitqueue_head(&ctx->fault_pending_wqh);
	init_waitqueue_head(&ctx->fault_wqh);
	init_waitqueue_head(&ctx->fd_wqh);
	refcount_set(&ctx->refcount, 2);

	f->map = MAP_PRIVATE | MAP_ANONYMOUS;
	map(f);
	set_uffd(f, ctx);
	expect_fault(f, true, "V M Mt Mt Mt Mt", VM_FAULT_RETRY, false);
	expect_fault(f, false, "V V V Mt Mt Mt", VM_FAULT_RETRY, false);
	set_uffd(f, NULL);
}
#endif

static struct kunit_case vma_lock_retry_cases[] = {
	KUNIT_CASE_PARAM(vma_lock_retry_sequence, sequence_gen_params),
	KUNIT_CASE(vma_lock_retry_arch_kernel_mode),
	KUNIT_CASE_PARAM(vma_lock_retry_ask, asker_gen_params),
#ifdef TEST_DEVICE_PRIVATE
	KUNIT_CASE(vma_lock_retry_device_private),
	KUNIT_CASE(vma_lock_retry_device_private_pmd),
#endif
#ifdef CONFIG_USERFAULTFD
	KUNIT_CASE(vma_lock_retry_uffd_released),
#endif
	{}
};

static struct kunit_suite vma_lock_retry_suite = {
	.name = "vma_lock_retry",
	.init = vma_lock_retry_init,
	.test_cases = vma_lock_retry_cases,
};

kunit_test_suites(&vma_lock_retry_decision_suite, &vma_lock_retry_suite);

MODULE_DESCRIPTION("KUnit tests for page faults retried under the VMA lock");
MODULE_LICENSE("GPL");
