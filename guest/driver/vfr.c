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

#include "../vfr.h"

/* The base kernel has no such bit and ignores it. */
#define VFR_RETRY_HARD	((__force vm_fault_t)0x008000)

struct vfr_file {
	spinlock_t lock;
	struct vfr_script script;
	struct vfr_log log;
	struct page *page;
};

static vm_fault_t vfr_retry(struct vfr_file *f, struct vm_fault *vmf,
			    unsigned int wait_ms, vm_fault_t bits)
{
	/* The VMA may go, and the file with it. */
	struct file *file = get_file(vmf->vma->vm_file);

	spin_lock(&f->lock);
	f->log.waiting++;
	spin_unlock(&f->lock);
	release_fault_lock(vmf);
	if (wait_ms)
		msleep_interruptible(wait_ms);
	spin_lock(&f->lock);
	f->log.waiting--;
	spin_unlock(&f->lock);
	fput(file);
	return VM_FAULT_RETRY | bits;
}

static vm_fault_t vfr_page(struct vfr_file *f, struct vm_fault *vmf)
{
	get_page(f->page);
	vmf->page = f->page;
	return 0;
}

static vm_fault_t vfr_fault(struct vm_fault *vmf)
{
	struct vfr_file *f = vmf->vma->vm_file->private_data;
	bool by_vma_lock = vmf->flags & FAULT_FLAG_VMA_LOCK;
	unsigned int action, wait_ms;
	u64 n;

	spin_lock(&f->lock);
	n = f->log.attempts++;
	if (n < VFR_LOG)
		f->log.attempt[n] = (by_vma_lock ? VFR_BY_VMA_LOCK : 0) |
			(vmf->flags & FAULT_FLAG_TRIED ? VFR_TRIED : 0);
	action = f->script.action[min_t(u64, n, f->script.nr - 1)];
	wait_ms = f->script.wait_ms;
	if (action == VFR_READ || action == VFR_SIGBUS || action == VFR_FAIL ||
	    action == VFR_FAIL_MAJOR)
		f->log.reads++;
	spin_unlock(&f->lock);

	switch (action) {
	case VFR_SIGBUS:
		return VM_FAULT_SIGBUS;
	case VFR_WAIT:
		return vfr_retry(f, vmf, wait_ms, 0);
	case VFR_READ:
		return vfr_retry(f, vmf, wait_ms, VM_FAULT_MAJOR);
	case VFR_HARD:
		if (by_vma_lock)
			return vfr_retry(f, vmf, 0, VFR_RETRY_HARD);
		return vfr_page(f, vmf);
	case VFR_OLD_HARD:
		if (by_vma_lock)
			return vfr_retry(f, vmf, 0, 0);
		return vfr_page(f, vmf);
	case VFR_FAIL:
	case VFR_FAIL_MAJOR:
		if (fault_flag_allow_retry_first(vmf->flags))
			return vfr_retry(f, vmf, wait_ms,
					 action == VFR_FAIL ? 0 : VM_FAULT_MAJOR);
		return VM_FAULT_SIGBUS;
	case VFR_EVER:
	case VFR_EVER_SLEEP:
		if (vmf->flags & FAULT_FLAG_ALLOW_RETRY)
			return vfr_retry(f, vmf, action == VFR_EVER ? 0 : 10, 0);
		return VM_FAULT_SIGBUS;
	case VFR_BAD_ALONE:
		return vfr_page(f, vmf) | VFR_RETRY_HARD;
	case VFR_BAD_MMAP:
		if (by_vma_lock || fault_flag_allow_retry_first(vmf->flags))
			return vfr_retry(f, vmf, 0, VFR_RETRY_HARD);
		return vfr_page(f, vmf);
	case VFR_BAD_HELD:
		return VM_FAULT_RETRY;
	case VFR_BAD_MEND:
		vma_end_read(vmf->vma);
		return vfr_page(f, vmf);
	}
	return vfr_page(f, vmf);
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

static long vfr_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct vfr_file *f = file->private_data;
	void __user *user = (void __user *)arg;
	struct vfr_script script;
	struct vfr_folio folio;
	struct vfr_log log;

	switch (cmd) {
	case VFR_SET:
		if (copy_from_user(&script, user, sizeof(script)))
			return -EFAULT;
		if (!script.nr || script.nr > VFR_STEPS)
			return -EINVAL;
		spin_lock(&f->lock);
		f->script = script;
		memset(&f->log, 0, offsetof(struct vfr_log, waiting));
		memset(f->log.attempt, 0, sizeof(f->log.attempt));
		spin_unlock(&f->lock);
		return 0;
	case VFR_GET:
		spin_lock(&f->lock);
		log = f->log;
		spin_unlock(&f->lock);
		return copy_to_user(user, &log, sizeof(log)) ? -EFAULT : 0;
	case VFR_FOLIO:
		if (copy_from_user(&folio, user, sizeof(folio)))
			return -EFAULT;
		return vfr_lock_folio(&folio);
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
	f->script.nr = 1;
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

static int __init vfr_init(void)
{
#ifdef VFR_HAVE_RETRY_HARD
	BUILD_BUG_ON(VFR_RETRY_HARD != VM_FAULT_RETRY_HARD);
#endif
	return misc_register(&vfr_dev);
}

static void __exit vfr_exit(void)
{
	misc_deregister(&vfr_dev);
}

module_init(vfr_init);
module_exit(vfr_exit);
MODULE_DESCRIPTION("Page faults that follow a script, for tests of the retry");
MODULE_LICENSE("GPL");
