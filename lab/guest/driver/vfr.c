// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfr - a character device whose page faults follow a script (see ../vfr.h).
 *
 * For tests only; built as an external module for the base and the patched
 * kernel alike. It has ->map_pages, so that its faults reach ->fault under the
 * VMA lock.
 */
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/wait.h>

#include "../vfr.h"

/* The base kernel has no such bit and ignores it. */
#define VFR_RETRY_HARD	((__force vm_fault_t)0x008000)

struct vfr_file {
	spinlock_t lock;
	struct vfr_script script;
	struct vfr_log log;
	u64 step;			/* of the script */
	struct page *page;
	wait_queue_head_t wait;
	bool go;
	struct vm_area_struct *bad;	/* what VFR_BAD_HELD has left locked */
};

#define VFR_UNTIL_GO	UINT_MAX

static void vfr_wait_for_go(struct vfr_file *f)
{
	spin_lock(&f->lock);
	f->log.waiting++;
	spin_unlock(&f->lock);
	wait_event_interruptible(f->wait, READ_ONCE(f->go));
	spin_lock(&f->lock);
	f->log.waiting--;
	spin_unlock(&f->lock);
}

static vm_fault_t vfr_retry(struct vfr_file *f, struct vm_fault *vmf,
			    unsigned int wait_ms, vm_fault_t bits)
{
	/* The VMA may go, and the file with it. */
	struct file *file = get_file(vmf->vma->vm_file);

	release_fault_lock(vmf);
	if (wait_ms == VFR_UNTIL_GO)
		vfr_wait_for_go(f);
	else if (wait_ms)
		msleep_interruptible(wait_ms);
	fput(file);
	return VM_FAULT_RETRY | bits;
}

/* The action of this attempt; MAJOR is added to bits if it did I/O first. */
static unsigned int vfr_action(struct vfr_file *f, bool by_vma_lock, vm_fault_t *bits)
{
	for (;;) {
		bool last = f->step >= f->script.nr - 1;
		unsigned int action = f->script.action[last ? f->script.nr - 1 : f->step];

		f->step++;
		if (action != VFR_HARD && action != VFR_HARD_MAJOR)
			return action;
		if (action == VFR_HARD_MAJOR)
			*bits |= VM_FAULT_MAJOR;
		if (by_vma_lock)
			return VFR_HARD;
		if (last)
			return VFR_PAGE;
	}
}

static vm_fault_t vfr_fault(struct vm_fault *vmf)
{
	struct vfr_file *f = vmf->vma->vm_file->private_data;
	bool by_vma_lock = vmf->flags & FAULT_FLAG_VMA_LOCK;
	unsigned int action, wait_ms;
	vm_fault_t bits = 0;
	u64 n;

	spin_lock(&f->lock);
	n = f->log.attempts++;
	if (n < VFR_LOG)
		f->log.attempt[n] = (by_vma_lock ? VFR_BY_VMA_LOCK : 0) |
			(vmf->flags & FAULT_FLAG_TRIED ? VFR_TRIED : 0);
	action = vfr_action(f, by_vma_lock, &bits);
	wait_ms = f->script.wait_ms;
	if (action == VFR_READ || action == VFR_SIGBUS || action == VFR_FAIL ||
	    action == VFR_FAIL_MAJOR)
		f->log.reads++;
	spin_unlock(&f->lock);

	switch (action) {
	case VFR_PAGE_MAJOR:
		bits |= VM_FAULT_MAJOR;
		break;
	case VFR_SIGBUS:
		return VM_FAULT_SIGBUS;
	case VFR_WAIT:
		return vfr_retry(f, vmf, wait_ms, bits);
	case VFR_WAIT_GO:
		return vfr_retry(f, vmf, VFR_UNTIL_GO, bits);
	case VFR_READ:
		return vfr_retry(f, vmf, wait_ms, VM_FAULT_MAJOR);
	case VFR_HARD:
		return vfr_retry(f, vmf, 0, VFR_RETRY_HARD | bits);
	case VFR_OLD_HARD:
		if (by_vma_lock)
			return vfr_retry(f, vmf, 0, 0);
		break;
	case VFR_FAIL:
	case VFR_FAIL_MAJOR:
		if (!fault_flag_allow_retry_first(vmf->flags))
			return VM_FAULT_SIGBUS;
		return vfr_retry(f, vmf, wait_ms, action == VFR_FAIL ? 0 : VM_FAULT_MAJOR);
	case VFR_EVER:
		if (!(vmf->flags & FAULT_FLAG_ALLOW_RETRY))
			return VM_FAULT_SIGBUS;
		return vfr_retry(f, vmf, wait_ms, 0);
	case VFR_BAD_ALONE:
		bits |= VFR_RETRY_HARD;
		break;
	case VFR_BAD_MMAP:
		if (by_vma_lock || fault_flag_allow_retry_first(vmf->flags))
			return vfr_retry(f, vmf, 0, VFR_RETRY_HARD);
		break;
	case VFR_BAD_HELD:
		f->bad = vmf->vma;
		return VM_FAULT_RETRY;
	}
	get_page(f->page);
	vmf->page = f->page;
	return bits;
}

/* Nothing to map around; its being there says "audited for the VMA lock". */
static vm_fault_t vfr_map_pages(struct vm_fault *vmf, pgoff_t start, pgoff_t end)
{
	return 0;
}

static const struct vm_operations_struct vfr_vm_ops = {
	.fault = vfr_fault,
	.map_pages = vfr_map_pages,
};

static int vfr_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &vfr_vm_ops;
	return 0;
}

static void vfr_hold(unsigned int us, bool spin)
{
	ktime_t end = ktime_add_us(ktime_get(), us);

	if (!spin && us)
		usleep_range(us, us + 1);
	while (spin && ktime_before(ktime_get(), end))
		cpu_relax();
}

/* What readahead, reclaim, migration and writeback do to a folio, all the time. */
static int vfr_lock_folio(const struct vfr_folio *s)
{
	struct file *file = fget(s->fd);
	int ret = 0;

	if (!file)
		return -EBADF;
	for (u32 i = 0; i < s->times && !signal_pending(current); i++) {
		struct folio *folio = filemap_lock_folio(file->f_mapping, s->index);

		if (IS_ERR(folio)) {
			ret = PTR_ERR(folio);
			break;
		}
		vfr_hold(s->hold_us, s->spin);
		folio_unlock(folio);
		folio_put(folio);
		vfr_hold(s->gap_us, false);
		cond_resched();
	}
	fput(file);
	return ret;
}

static void vfr_go(struct vfr_file *f)
{
	WRITE_ONCE(f->go, true);
	wake_up_all(&f->wait);
}

/* The writer that a fault meets, at just the wrong time. */
static void vfr_hold_mmap_lock(struct vfr_file *f, const struct vfr_hold *s)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;

	mmap_write_lock(mm);
	vma = s->addr ? vma_lookup(mm, s->addr) : NULL;
	if (vma)
		vma_start_write(vma);
	WRITE_ONCE(f->log.held, 1);
	vfr_go(f);
	for (u32 ms = 0; ms < s->limit_ms && !mmap_lock_is_contended(mm); ms++)
		msleep(1);
	msleep(s->more_ms);
	WRITE_ONCE(f->log.held, 0);
	mmap_write_unlock(mm);
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
static bool vma_start_read_locked(struct vm_area_struct *vma)
{
	return down_read_trylock(&vma->vm_lock->lock);
}
#endif

static int vfr_bad_tried(unsigned long addr)
{
	struct vm_area_struct *vma;
	vm_fault_t ret;
	bool locked;

	mmap_read_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	locked = vma && vma_start_read_locked(vma);
	mmap_read_unlock(current->mm);
	if (!locked)
		return -EFAULT;
	ret = handle_mm_fault(vma, addr, FAULT_FLAG_VMA_LOCK | FAULT_FLAG_TRIED |
			      FAULT_FLAG_DEFAULT, NULL);
	if (!(ret & (VM_FAULT_RETRY | VM_FAULT_COMPLETED)))
		vma_end_read(vma);
	return ret ? -EIO : 0;
}

static long vfr_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct vfr_file *f = file->private_data;
	void __user *user = (void __user *)arg;
	union {
		struct vfr_script script;
		struct vfr_folio folio;
		struct vfr_hold hold;
		struct vfr_log log;
	} a;

	if (_IOC_DIR(cmd) == _IOC_WRITE &&
	    copy_from_user(&a, user, min(sizeof(a), (size_t)_IOC_SIZE(cmd))))
		return -EFAULT;
	switch (cmd) {
	case VFR_SET:
		if (!a.script.nr || a.script.nr > VFR_STEPS)
			return -EINVAL;
		spin_lock(&f->lock);
		f->script = a.script;
		f->step = 0;
		f->go = false;
		memset(&f->log, 0, offsetof(struct vfr_log, waiting));
		memset(f->log.attempt, 0, sizeof(f->log.attempt));
		spin_unlock(&f->lock);
		return 0;
	case VFR_GET:
		spin_lock(&f->lock);
		a.log = f->log;
		spin_unlock(&f->lock);
		return copy_to_user(user, &a.log, sizeof(a.log)) ? -EFAULT : 0;
	case VFR_FOLIO:
		return vfr_lock_folio(&a.folio);
	case VFR_GO:
		vfr_go(f);
		return 0;
	case VFR_HOLD:
		vfr_hold_mmap_lock(f, &a.hold);
		return 0;
	case VFR_MEND:
		if (f->bad)
			vma_end_read(f->bad);
		f->bad = NULL;
		return 0;
	case VFR_BAD_TRIED:
		return vfr_bad_tried(arg);
	}
	return -ENOTTY;
}

static int vfr_open(struct inode *inode, struct file *file)
{
	struct vfr_file *f = kzalloc(sizeof(*f), GFP_KERNEL);

	if (!f)
		return -ENOMEM;
	f->page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!f->page) {
		kfree(f);
		return -ENOMEM;
	}
	*(char *)page_address(f->page) = 'V';
	spin_lock_init(&f->lock);
	init_waitqueue_head(&f->wait);
	f->script.nr = 1;
	f->script.action[0] = VFR_PAGE;
	file->private_data = f;
	return 0;
}

static int vfr_release(struct inode *inode, struct file *file)
{
	struct vfr_file *f = file->private_data;

	put_page(f->page);
	kfree(f);
	return 0;
}

static const struct file_operations vfr_fops = {
	.owner = THIS_MODULE,
	.open = vfr_open,
	.release = vfr_release,
	.mmap = vfr_mmap,
	.unlocked_ioctl = vfr_ioctl,
};

static struct miscdevice vfr_dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vfr",
	.fops = &vfr_fops,
	.mode = 0600,
};

#ifdef VFR_HAVE_RETRY_HARD
static_assert(VFR_RETRY_HARD == VM_FAULT_RETRY_HARD);
#endif
module_misc_device(vfr_dev);
MODULE_DESCRIPTION("Page faults that follow a script, for tests of the retry");
MODULE_LICENSE("GPL");
