// SPDX-License-Identifier: GPL-2.0-only
/*
 * integrity - right data, whatever happens to the mappings while faults wait.
 *
 *	integrity SECONDS [THREADS [CALL]]
 *	integrity selftest
 *
 * Threads write patterns to pages of files on a slow disk, shmem, anonymous and huge
 * memory, most of it swapped out again and again, and verify all words of each page they
 * look at. Beside them, other threads make every call that changes a mapping or takes
 * pages away. Prints KTAP: a line a region, behind the # what was done and seen. A run in
 * which a mutating call never happened, or no fault was retried, fails as one with a wrong
 * page does; on a slow machine it lasts longer than SECONDS, until all has happened. The
 * self-test corrupts pages on purpose: each must be told, by what it is. CALL is one to be
 * left out, in order to find out where a wrong page comes from; such a run never passes.
 *
 * What a page must hold is known at each check. Word k of a page is made of its region, its
 * number, a generation and k. Only a page's owner writes it, a generation at a time, and
 * its slot is a seqlock for the others. A mutating call opens a window on each slot it may
 * change, and closes it when it has returned: two counters, of windows begun and ended. By
 * what they were when the last write began and was done, and when the look began and was
 * done, a page must be of the last generation; or of what the call leaves behind; or, where
 * they overlap, one of these two. Within one page it may be both only if the window was open
 * during the write (the first words are lost) or the look (the last ones are). A signal is
 * legal only in a window of its own kind.
 */
#define _GNU_SOURCE
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "bench.h"

/* Newer than the libc's headers. */
#ifndef MADV_COLD
#define MADV_COLD	20
#define MADV_PAGEOUT	21
#endif

#define NR_SLOTS	64		/* pages that are looked at in a region */
#define MAX_THREADS	16
#define NR_MUTATORS	3
#define NR_REPORTS	32		/* mismatches told in full, */
#define REGION_REPORTS	3		/* and of one region */
#define STUCK_S		100		/* a thread that has not moved for so long hangs */
#define DISK_MS		1		/* that a request takes */
#define DISK_MB		16UL
#define CHILD_SLOTS	24		/* pages that a forked child looks at */
#define EXTRA_S		120		/* that a slow machine gets, until all has happened */
#define FORK_MS		1500		/* between two forks of a thread */

#define THP_DIR		"/sys/kernel/mm/transparent_hugepage/"

/*
 * With LPAE, a huge page under PROT_NONE is not pmd_present() (7.3: set_pmd_at() takes
 * L_PMD_SECT_VALID away): the next mprotect() is a warning then, and fork() a panic.
 */
#ifdef __arm__
static const bool thp_can_be_none = false;
#else
static const bool thp_can_be_none = true;
#endif

#define FILL_GEN	1UL		/* of files, and of what userfaultfd hands out */
#define CHILD_GEN	(1UL << 27)	/* written by a child, to its own copy */

#define COUNT(x)	(sizeof(x) / sizeof(*(x)))

enum window {
	W_DATA,		/* the call takes the data away */
	W_LAZY,		/* MADV_FREE: whenever the kernel likes, until the next write */
	W_UNREG,	/* no userfaultfd: zeroes instead of its pages */
	W_READ,		/* SIGSEGV at a read is legal */
	W_WRITE,	/* SIGSEGV at a write is legal */
	W_BUS,		/* SIGBUS is legal */
	NR_WINDOWS
};

enum op {
	DONTNEED, FREE, PAGEOUT, COLD, REMAP, UNMAP, MPROTECT, MREMAP, MLOCK, PUNCH,
	TRUNCATE, MSYNC, EVICT, UNREGISTER, NR_RANGE_OPS,
	DROP_CACHES = NR_RANGE_OPS, RECLAIM, SWAPOFF, NR_OPS
};

static const char * const op_name[NR_OPS] = {
	"dontneed", "free", "pageout", "cold", "remap", "unmap", "mprotect", "mremap",
	"mlock", "punch", "truncate", "msync", "evict", "unregister",
	"drop_caches", "reclaim", "swapoff"
};

#define BIT(n)		(1U << (n))
#define MAP_OPS		(BIT(DONTNEED) | BIT(REMAP) | BIT(UNMAP) | BIT(MPROTECT) | BIT(MREMAP))
#define LRU_OPS		(BIT(PAGEOUT) | BIT(COLD))

enum kind {
	FINE, BUSY,	/* BUSY: being written to, nothing was checked */
	STALE,		/* an earlier generation, or one that had to be gone */
	TORN,		/* a part of it is of another generation or page */
	PLACE,		/* another page */
	ZEROED,		/* zeroes, where nothing took the data away */
	UNKNOWN,	/* words that nobody wrote */
	SIGNALLED,	/* a signal in no window of its kind */
	NR_KINDS
};

static const char * const kind_name[NR_KINDS] = {
	"fine", "busy", "stale", "torn", "another place", "zeroed", "unknown words", "signal"
};

struct slot {
	atomic_ulong seq;			/* odd: its owner writes */
	atomic_ulong gen;
	atomic_bool by_fd;			/* the last write was pwrite() */
	atomic_ulong begun[NR_WINDOWS], ended[NR_WINDOWS];
	atomic_ulong before[NR_WINDOWS];	/* ended[] when the last write began */
	atomic_ulong after[NR_WINDOWS];		/* begun[] when it was done */
};

struct region {
	const char *name;
	unsigned int id, ops;
	unsigned int unit;		/* slots that the calls can only take together */
	size_t stride, len;		/* bytes from slot to slot, bytes of all */
	char *map, *spare;		/* where it is, where mremap() moves it */
	char *alias;			/* a second mapping, or NULL */
	int fd;				/* -1: anonymous */
	off_t off;
	int flags;			/* of mmap() */
	int advice;			/* for a new mapping, or -1 */
	bool zero;			/* taken away, it is zeroes; or else FILL_GEN */
	bool by_fd;			/* pread() and pwrite() are other ways to it */
	const char *missing;		/* why the kernel does not have it, or NULL */
	pthread_mutex_t lock;		/* of calls that must not meet */
	struct slot slot[NR_SLOTS];
	atomic_ulong checks, others, ways, resets, segv, bus, wrong;
	atomic_ulong ran[NR_RANGE_OPS];
};

enum region_id {
	ANON, LAZYFREE, THP, HUGETLB, SHMEM, TRUNCATED, FILE_SHARED, FILE_PRIVATE, UFFD,
	NR_REGIONS
};

/* Shared with forked children, who report in it, and see what the parent does meanwhile. */
static struct state {
	struct region r[NR_REGIONS];
	atomic_ulong ran[NR_OPS], us[NR_OPS];	/* how often, how long in all */
	atomic_ulong found[NR_KINDS];
	atomic_ulong errors;		/* calls that failed */
	atomic_ulong children, child_checks, child_writes;
	atomic_uint nr_reports;
	uint64_t start;
	struct {
		atomic_bool there;
		char text[600];
	} report[NR_REPORTS];
} *st;

struct thread {
	pthread_t thread;
	unsigned int id;
	atomic_ulong steps;
	_Atomic(const char *) doing;	/* where it is now, */
	atomic_uint slot;		/* and at which slot */
	atomic_bool done;
};

static size_t page_size, words;
static unsigned int nr_threads = 8;
static int uffd;
static const char *swap2;		/* the disk that is swapped off now and then */
static unsigned int swap2_mb;
static atomic_bool stop, stop_server;
static const char *without = "";	/* the call that is left out */
static bool sabotage;			/* for the self-test: a call that opens no window */

static __thread unsigned long *buf;	/* what has been seen of a page */
static uint64_t first_seed;		/* seed=N on the kernel's command line */
static __thread uint64_t seed;

static unsigned int rnd(unsigned int below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 20) % below;
}

static void thread_init(unsigned int nr)
{
	seed = 0x9e3779b97f4a7c15ULL * (nr + 1) ^ first_seed;
	buf = malloc(page_size);
	if (!buf)
		die("malloc");
}

static void report(const char *fmt, ...)
{
	unsigned int nr = atomic_fetch_add(&st->nr_reports, 1);
	va_list ap;

	if (nr >= NR_REPORTS)
		return;
	va_start(ap, fmt);
	vsnprintf(st->report[nr].text, sizeof(st->report[nr].text), fmt, ap);
	va_end(ap);
	atomic_store(&st->report[nr].there, true);
}

/* A call that has to succeed did not. */
static void failed(const char *what, const struct region *r)
{
	int err = errno;

	atomic_fetch_add(&st->errors, 1);
	report("%s of %s failed: %s", what, r ? r->name : "all", strerror(err));
}

/* ---- patterns ---- */

/* What all words of a page have in common. */
static unsigned long base_of(unsigned int region, unsigned int page, unsigned long gen)
{
	uint64_t x = (uint64_t)(region + 1) << 56 | (uint64_t)page << 44 | gen;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	x ^= x >> 31;
	return sizeof(long) == 8 ? x : x ^ x >> 32;
}

/* Word k of a page; never 0. */
static inline unsigned long word(unsigned long base, size_t k)
{
	return (base + k * (unsigned long)0x9e3779b97f4a7c15ULL) | 1;
}

static void fill(unsigned long *to, unsigned long base)
{
	for (size_t k = 0; k < words; k++)
		to[k] = word(base, k);
}

/* ---- accesses, which may end in a signal ---- */

static __thread sigjmp_buf jump;
static __thread volatile sig_atomic_t armed;
static __thread int fault_sig, fault_code;
static __thread char *fault_addr;

static void on_fault(int sig, siginfo_t *info, void *ctx)
{
	(void)ctx;
	if (!armed) {
		signal(sig, SIG_DFL);
		return;
	}
	armed = 0;
	fault_sig = sig;
	fault_code = info->si_code;
	fault_addr = info->si_addr;
	siglongjmp(jump, 1);
}

/* Word by word, and in this order: so a page that is taken away meanwhile is seen. */
static __attribute__((noinline)) void load_words(unsigned long *to, const unsigned long *from)
{
	for (size_t k = 0; k < words; k++)
		to[k] = __atomic_load_n(from + k, __ATOMIC_ACQUIRE);
}

static __attribute__((noinline)) void store_words(unsigned long *to, unsigned long base)
{
	for (size_t k = 0; k < words; k++)
		__atomic_store_n(to + k, word(base, k), __ATOMIC_RELEASE);
}

static int read_page(unsigned long *to, const char *addr)
{
	if (sigsetjmp(jump, 0))
		return fault_sig;
	armed = 1;
	load_words(to, (const unsigned long *)addr);
	armed = 0;
	return 0;
}

static int write_page(char *addr, unsigned long base)
{
	if (sigsetjmp(jump, 0))
		return fault_sig;
	armed = 1;
	store_words((unsigned long *)addr, base);
	armed = 0;
	return 0;
}

/* ---- what a page must hold ---- */

/* What there is to know of a slot, from before and after a look at its page. */
struct look {
	unsigned long seq, gen;
	unsigned long before[NR_WINDOWS], after[NR_WINDOWS];
	unsigned long ended[NR_WINDOWS], begun[NR_WINDOWS];
};

/* False if the page is being written to. */
static bool look_begin(struct slot *s, struct look *l)
{
	l->seq = s->seq;
	l->gen = s->gen;
	for (int w = 0; w < NR_WINDOWS; w++) {
		l->before[w] = s->before[w];
		l->after[w] = s->after[w];
		l->ended[w] = s->ended[w];
	}
	return !(l->seq & 1);
}

/* False if it has been meanwhile. */
static bool look_end(struct slot *s, struct look *l)
{
	for (int w = 0; w < NR_WINDOWS; w++)
		l->begun[w] = s->begun[w];
	return s->seq == l->seq;
}

/* A window of this kind may have been open during the look. */
static bool opened(const struct look *l, enum window w)
{
	return l->begun[w] != l->ended[w];
}

static char *addr_of(const struct region *r, char *map, unsigned int i)
{
	return map + i * r->stride;
}

/* Where a word comes from: region -1: zeroes, -2: nobody knows. */
struct origin {
	int region;
	unsigned int page;
	unsigned long gen;
};

static bool is_from(const struct origin *o, unsigned long val, size_t k)
{
	if (o->region < 0)
		return o->region == -1 && !val;
	return val == word(base_of(o->region, o->page, o->gen), k);
}

static bool try_gens(struct origin *o, unsigned long val, size_t k, unsigned long last,
		     unsigned long nr)
{
	for (o->gen = last; o->gen && o->gen + nr > last; o->gen--)
		if (is_from(o, val, k))
			return true;
	o->gen = CHILD_GEN;
	if (is_from(o, val, k))
		return true;
	o->gen = FILL_GEN;
	return is_from(o, val, k);
}

static struct origin origin_of(const struct region *r, unsigned int i, unsigned long val, size_t k)
{
	struct origin o = { .region = -1 };

	if (!val)
		return o;
	o.region = r->id;
	o.page = i;
	if (try_gens(&o, val, k, r->slot[i].gen + 1, 4096))
		return o;
	for (o.region = 0; o.region < NR_REGIONS; o.region++)
		for (o.page = 0; o.page < NR_SLOTS; o.page++)
			if (try_gens(&o, val, k, st->r[o.region].slot[o.page].gen + 1, 32))
				return o;
	o.region = -2;
	return o;
}

/* Say what is in buf, which is wrong for slot i: what kind of wrong, and in text the words. */
static enum kind diagnose(const struct region *r, unsigned int i, char *text, size_t size)
{
	enum kind kind = FINE, this;
	unsigned int runs = 0;
	size_t len = 0, k, end;

	text[0] = 0;
	for (k = 0; k < words; k = end) {
		struct origin o = origin_of(r, i, buf[k], k);

		for (end = k + 1; end < words && is_from(&o, buf[end], end); end++)
			;
		this = o.region == -2 ? UNKNOWN : o.region == -1 ? ZEROED :
		       o.region != (int)r->id || o.page != i ? PLACE : STALE;
		kind = !runs ? this : kind == UNKNOWN || this == UNKNOWN ? UNKNOWN : TORN;
		if (runs++ == 4)
			len += snprintf(text + len, size - len, "; and so on");
		if (runs > 4)
			continue;
		len += snprintf(text + len, size - len, "%swords %zu-%zu ", runs > 1 ? "; " : "",
				k, end - 1);
		if (this == UNKNOWN)
			len += snprintf(text + len, size - len, "unknown, %#lx", buf[k]);
		else if (this == ZEROED)
			len += snprintf(text + len, size - len, "zeroes");
		else
			len += snprintf(text + len, size - len, "%s page %u generation %lu",
					st->r[o.region].name, o.page, o.gen);
	}
	return kind;
}

/* Whether buf is what slot i may hold; resets: whether its data had been taken away. */
static bool right(const struct region *r, unsigned int i, const struct look *l, bool *reset)
{
	const unsigned long gen = base_of(r->id, i, l->gen), fill = base_of(r->id, i, FILL_GEN);
	const bool lazy = l->begun[W_LAZY] != l->before[W_LAZY];
	const bool touched = lazy || l->begun[W_DATA] != l->before[W_DATA];
	/* Since the write was done, and before the look began. */
	const bool gone = l->ended[W_DATA] > l->after[W_DATA];
	const bool in_write = l->after[W_DATA] != l->before[W_DATA] ||
			      l->after[W_LAZY] != l->before[W_LAZY];
	const bool in_look = lazy || opened(l, W_DATA);
	const bool zero_ok = touched && (r->zero || l->begun[W_UNREG] != l->before[W_UNREG]);
	const bool fill_ok = touched && !r->zero;
	enum { NONE, GEN, ZERO, FILL } this, last = NONE;
	bool seen = false;

	*reset = false;
	for (size_t k = 0; k < words; k++, last = this) {
		if (buf[k] == word(gen, k))
			this = GEN;
		else if (!buf[k] && zero_ok)
			this = ZERO;
		else if (buf[k] == word(fill, k) && fill_ok)
			this = FILL;
		else
			return false;
		if (this == GEN) {
			if (gone || (last != GEN && last != NONE && (!in_write || seen)))
				return false;
			seen = true;
			continue;
		}
		*reset = true;
		if (last != NONE && last != this && !in_look && !(in_write && !seen))
			return false;
	}
	return true;
}

/* Judge a look at slot i, which ended in sig or has left the page in buf. */
static enum kind judge(struct region *r, unsigned int i, const char *addr, const struct look *l,
		       int sig, bool write, bool strict)
{
	enum kind kind = SIGNALLED;
	bool reset, ok;
	char text[400];

	if (sig) {
		ok = (char *)((unsigned long)fault_addr & -page_size) == addr &&
		     (sig == SIGBUS ? opened(l, W_BUS) :
		      !strict && opened(l, write ? W_WRITE : W_READ));
		atomic_fetch_add(sig == SIGBUS ? &r->bus : &r->segv, 1);
		if (ok)
			return BUSY;
		snprintf(text, sizeof(text), "%s at %p, si_code %d, at a %s", strsignal(sig),
			 fault_addr, fault_code, write ? "write" : "read");
	} else {
		atomic_fetch_add(&r->checks, 1);
		ok = right(r, i, l, &reset);
		atomic_fetch_add(&r->resets, ok && reset);
		if (ok)
			return FINE;
		kind = diagnose(r, i, text, sizeof(text));
	}
	atomic_fetch_add(&st->found[kind], 1);
	if (atomic_fetch_add(&r->wrong, 1) >= REGION_REPORTS)
		return kind;
	report("%.3f s, %s: %s page %u at %p, generation %lu by %s expected%s; seen: %s; "
	       "windows on the data %lu-%lu when written, %lu-%lu at the look",
	       (now_ns() - st->start) / 1e9, kind_name[kind], r->name, i, addr, l->gen,
	       r->slot[i].by_fd ? "pwrite" : "stores",
	       l->ended[W_DATA] > l->after[W_DATA] ? ", and then taken away" : "", text,
	       l->before[W_DATA], l->after[W_DATA], l->ended[W_DATA], l->begun[W_DATA]);
	return kind;
}

/*
 * Look at slot i at addr, or by pread() if it is NULL. strict: SIGSEGV is not legal there,
 * whatever happens to the region's own mapping.
 */
static enum kind check(struct region *r, unsigned int i, char *addr, bool strict)
{
	struct look l;
	int sig = 0;

	if (!look_begin(&r->slot[i], &l))
		return BUSY;
	if (addr) {
		sig = read_page(buf, addr);
	} else if (pread(r->fd, buf, page_size, r->off + i * r->stride) != (ssize_t)page_size) {
		failed("pread", r);
		return BUSY;
	}
	if (!look_end(&r->slot[i], &l))
		return BUSY;
	return judge(r, i, addr, &l, sig, false, strict);
}

/* The owner's: the next generation. */
static void write_slot(struct region *r, unsigned int i, bool by_fd)
{
	char *addr = addr_of(r, r->map, i);
	struct slot *s = &r->slot[i];
	struct look l = { .gen = s->gen + 1 };
	unsigned long base = base_of(r->id, i, l.gen);
	int sig;

	s->seq++;
	for (int w = 0; w < NR_WINDOWS; w++)
		s->before[w] = s->ended[w];
	if (by_fd) {
		fill(buf, base);
		if (pwrite(r->fd, buf, page_size, r->off + i * r->stride) != (ssize_t)page_size)
			failed("pwrite", r);
	} else {
		/* All of it again after a signal: what came before it may be lost. */
		do {
			for (int w = 0; w < NR_WINDOWS; w++)
				l.ended[w] = s->ended[w];
			sig = write_page(addr, base);
			if (!sig)
				break;
			look_end(s, &l);
			if (judge(r, i, addr, &l, sig, true, false) != BUSY)
				break;
			usleep(200);
		} while (true);
	}
	for (int w = 0; w < NR_WINDOWS; w++)
		s->after[w] = s->begun[w];
	s->gen = l.gen;
	s->by_fd = by_fd;
	s->seq++;
}

/* ---- regions ---- */

static char *map_range(const struct region *r, char *addr, size_t off, size_t len, int how)
{
	char *p = mmap(addr, len, PROT_READ | PROT_WRITE, r->flags | how, r->fd,
		       r->fd < 0 ? 0 : r->off + off);

	if (p != MAP_FAILED && r->advice >= 0)
		madvise(p, len, r->advice);
	return p;
}

/*
 * Give a region its place: len bytes at an address aligned to align, a place of the same
 * size to be moved to, and for shared memory a second mapping. Gaps keep it from merging.
 */
static void place(struct region *r, size_t align)
{
	size_t gap = align > 65536 ? align : 65536;
	char *p;

	r->len = NR_SLOTS * r->stride;
	p = mmap(NULL, 3 * (r->len + gap) + align, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		die("address space of %s", r->name);
	r->map = (char *)(((unsigned long)p + align - 1) & -align);
	r->spare = r->map + r->len + gap;
	if (map_range(r, r->map, 0, r->len, MAP_FIXED) != r->map) {
		r->missing = "cannot be mapped";
		return;
	}
	if (r->flags & MAP_SHARED) {
		r->alias = r->spare + r->len + gap;
		if (map_range(r, r->alias, 0, r->len, MAP_FIXED) != r->alias)
			die("second mapping of %s", r->name);
	}
}

static struct region *region(enum region_id id, const char *name, unsigned int ops, int fd,
			     int flags, int advice)
{
	struct region *r = &st->r[id];

	r->name = name;
	r->id = id;
	r->ops = ops;
	r->unit = 1;
	r->stride = page_size;
	r->fd = fd;
	r->flags = flags;
	r->advice = advice;
	r->zero = true;
	pthread_mutex_init(&r->lock, NULL);
	return r;
}

static int memfd(const char *name, size_t len, unsigned int flags)
{
	int fd = memfd_create(name, MFD_CLOEXEC | flags);

	if (fd >= 0 && len && ftruncate(fd, len))
		die("ftruncate %s", name);
	return fd;
}

/* Bytes of a huge page of anonymous memory, or 0. */
static size_t thp_size(void)
{
	FILE *f = fopen(THP_DIR "hpage_pmd_size", "r");
	unsigned long size = 0;

	if (f) {
		if (fscanf(f, "%lu", &size) != 1)
			size = 0;
		fclose(f);
	}
	return size;
}

static void add_huge(void)
{
	const int private = MAP_PRIVATE | MAP_ANONYMOUS;
	size_t size = thp_size();
	unsigned long kb = 0;
	struct region *r;
	char line[128];
	FILE *f;

	r = region(THP, "huge pages", MAP_OPS | LRU_OPS | BIT(MLOCK), -1, private, MADV_HUGEPAGE);
	if (!size || !try_put(THP_DIR "enabled", "madvise")) {
		r->missing = "no transparent huge pages";
	} else if (size > 4UL << 20) {
		r->missing = "huge pages too large to be split and swapped out all the time";
	} else {
		try_put(THP_DIR "khugepaged/scan_sleep_millisecs", "20");
		if (!thp_can_be_none)
			printf("# no mprotect(PROT_NONE) of huge pages: this kernel would panic, "
			       "with nothing beside it\n");
		r->stride = size / NR_SLOTS;
		place(r, size);
	}

	r = region(HUGETLB, "hugetlb", MAP_OPS | BIT(PUNCH), -1, MAP_SHARED, -1);
	f = fopen("/proc/meminfo", "r");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "Hugepagesize: %lu", &kb);
	if (f)
		fclose(f);
	size = kb << 10;
	/*
	 * Four of them, or two that are very large; and four to spare: a page that has been
	 * punched is free only when the last fault that found it is through.
	 */
	r->unit = size > 4UL << 20 ? NR_SLOTS / 2 : NR_SLOTS / 4;
	r->stride = size / r->unit;
	if (!size || !try_put("/proc/sys/vm/nr_hugepages", "%u", NR_SLOTS / r->unit + 4) ||
	    counter("/proc/meminfo", "HugePages_Free:") < (long)(NR_SLOTS / r->unit + 4)) {
		r->missing = "no reserved huge pages";
		return;
	}
	r->fd = memfd("hugetlb", NR_SLOTS * r->stride, MFD_HUGETLB);
	if (r->fd < 0)
		r->missing = "no memfd of huge pages";
	else
		place(r, size);
}

/* How many of nr stores to pages of the disk's second half are lost, with nothing beside them. */
static unsigned int stores_lost(int fd, size_t nr)
{
	const size_t off = DISK_MB << 19, len = nr * page_size;
	static unsigned long gen;
	char *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, off);
	unsigned int lost = 0;

	if (map == MAP_FAILED)
		die("mmap of /dev/disk");
	gen++;
	/* In order, so that readahead makes the folios large. */
	for (unsigned int i = 0; i < nr; i++)
		if (pread(fd, buf, page_size, off + i * page_size) != (ssize_t)page_size)
			die("read of /dev/disk");
	for (unsigned int i = 0; i < nr; i++)
		write_page(map + i * page_size, base_of(NR_REGIONS, i, gen));
	if (msync(map, len, MS_SYNC))
		die("msync of /dev/disk");
	munmap(map, len);
	if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		die("fadvise of /dev/disk");
	for (unsigned int i = 0; i < nr; i++) {
		if (pread(fd, buf, page_size, off + i * page_size) != (ssize_t)page_size)
			die("read of /dev/disk");
		lost += buf[0] != word(base_of(NR_REGIONS, i, gen), 0);
	}
	if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		die("fadvise of /dev/disk");
	return lost;
}

/*
 * A store to a page of a block device must reach the disk. Without CONFIG_BUFFER_HEAD it does
 * not if the page is in a large folio (7.3: def_blk_aops has filemap_dirty_folio() where iomap
 * needs iomap_dirty_folio(), so its bits say that no block is dirty): see docs/base-bugs.md.
 * Say so, and do without large folios then; they all come from readahead.
 */
static void look_at_disk(int fd)
{
	const size_t half = (DISK_MB << 19) / page_size, nr = half < 256 ? half : 256;
	unsigned int lost = stores_lost(fd, nr);

	if (!lost)
		return;
	printf("# this kernel loses stores to a block device's large folios: %u of %zu pages, with "
	       "nothing beside them; from here on there is no readahead of the disk\n", lost, nr);
	put("/sys/block/disk/queue/read_ahead_kb", "0");
	if (posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL))
		die("fadvise of /dev/disk");
	lost = stores_lost(fd, nr);
	if (lost) {
		printf("Bail out! without readahead it still loses %u of %zu\n", lost, nr);
		fflush(stdout);
		_exit(1);
	}
}

static void add_files(void)
{
	struct region *r;
	int fd;

	make_disk("disk", DISK_MB, DISK_MS);
	fd = open("/dev/disk", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("/dev/disk");
	look_at_disk(fd);
	r = region(FILE_SHARED, "shared file", MAP_OPS | LRU_OPS | BIT(MLOCK) | BIT(PUNCH) |
		   BIT(MSYNC) | BIT(EVICT), fd, MAP_SHARED, MADV_RANDOM);
	r->by_fd = true;
	place(r, page_size);

	r = region(FILE_PRIVATE, "private file", MAP_OPS | LRU_OPS | BIT(MLOCK) | BIT(EVICT), fd,
		   MAP_PRIVATE, MADV_RANDOM);
	r->off = NR_SLOTS * page_size;
	r->zero = false;
	for (unsigned int i = 0; i < NR_SLOTS; i++) {
		fill(buf, base_of(FILE_PRIVATE, i, FILL_GEN));
		if (pwrite(fd, buf, page_size, r->off + i * page_size) != (ssize_t)page_size)
			die("write to /dev/disk");
	}
	if (fsync(fd) || ioctl(fd, BLKFLSBUF, 0))
		die("flush /dev/disk");
	place(r, page_size);
}

static int uffd_range(bool on, char *addr, size_t len)
{
	struct uffdio_register reg = {
		.range = { (unsigned long)addr, len }, .mode = UFFDIO_REGISTER_MODE_MISSING
	};

	return on ? ioctl(uffd, UFFDIO_REGISTER, &reg) : ioctl(uffd, UFFDIO_UNREGISTER, &reg.range);
}

/* Two disks of equal priority for swap: a slow one, and one that is swapped off at times. */
static void add_swap(void)
{
	const int prio = SWAP_FLAG_PREFER | 1;

	make_disk("swap", 256, DISK_MS);
	swap_on("/dev/swap", 256, prio);
	/* zram is read without waiting: another path. Not all kernels have it. */
	swap2_mb = 16;
	if (try_put("/sys/block/zram0/disksize", "%uM", swap2_mb)) {
		swap2 = "/dev/zram0";
	} else {
		make_disk("swap2", swap2_mb, 0);
		swap2 = "/dev/swap2";
	}
	swap_on(swap2, swap2_mb, prio);
	/* No readahead: each page is to be waited for. */
	put("/proc/sys/vm/page-cluster", "0");
	/* From now on without a line on the console each time. */
	put("/proc/sys/vm/drop_caches", "4");
}

/*
 * A page that is read before it is written must be dirty then, or else it is not written to
 * swap. Some emulated CPUs forget (QEMU's radix MMU of POWER9, 10.0): there every kernel loses
 * data, with nothing beside the write and the reclaim. End here if this is one.
 */
static void look_at_cpu(void)
{
	const size_t len = NR_SLOTS * page_size;
	char *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, memfd("cpu", len, 0), 0);
	unsigned int lost = 0;

	if (map == MAP_FAILED)
		die("memory");
	for (unsigned int i = 0; i < NR_SLOTS; i++) {
		read_page(buf, map + i * page_size);
		write_page(map + i * page_size, base_of(NR_REGIONS, i, 1));
	}
	/* Those that are on their way to the LRU lists are passed over: put them there. */
	put("/proc/sys/vm/drop_caches", "1");
	madvise(map, len, MADV_PAGEOUT);
	for (unsigned int i = 0; i < NR_SLOTS; i++) {
		read_page(buf, map + i * page_size);
		lost += buf[0] != word(base_of(NR_REGIONS, i, 1), 0);
	}
	munmap(map, len);
	if (lost) {
		printf("Bail out! the CPU does not set the dirty bit: %u of %u pages lost\n", lost,
		       NR_SLOTS);
		fflush(stdout);
		_exit(1);
	}
}

static void setup(void)
{
	const int private = MAP_PRIVATE | MAP_ANONYMOUS;
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
	struct uffdio_api api = { .api = UFFD_API };
	struct region *r;

	page_size = sysconf(_SC_PAGESIZE);
	words = page_size / sizeof(long);
	thread_init(99);
	st = mmap(NULL, sizeof(*st), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (st == MAP_FAILED || mlock(st, sizeof(*st)))
		die("memory");
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	mount_cgroups();
	put(CGROUPS "cgroup.subtree_control", "+memory");
	if (mkdir(CGROUPS "integrity", 0755))
		die("cgroup");
	put(CGROUPS "integrity/cgroup.procs", "%d", getpid());
	add_huge();	/* while there is memory of that size */
	add_swap();
	add_files();

	r = region(ANON, "anon", MAP_OPS | LRU_OPS | BIT(MLOCK), -1, private, MADV_NOHUGEPAGE);
	place(r, page_size);
	r = region(LAZYFREE, "lazyfree", BIT(FREE) | BIT(DONTNEED) | BIT(MPROTECT) | LRU_OPS, -1,
		   private, MADV_NOHUGEPAGE);
	place(r, page_size);
	r = region(SHMEM, "shmem", MAP_OPS | LRU_OPS | BIT(MLOCK) | BIT(PUNCH),
		   memfd("shmem", NR_SLOTS * page_size, 0), MAP_SHARED, -1);
	r->by_fd = true;
	place(r, page_size);
	r = region(TRUNCATED, "truncated shmem", BIT(TRUNCATE) | BIT(DONTNEED) | BIT(MPROTECT) |
		   LRU_OPS, memfd("truncated", NR_SLOTS * page_size, 0), MAP_SHARED, -1);
	place(r, page_size);

	uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		die("userfaultfd");
	r = region(UFFD, "userfaultfd", BIT(DONTNEED) | BIT(UNREGISTER) | BIT(MPROTECT) | LRU_OPS,
		   -1, private, MADV_NOHUGEPAGE);
	r->zero = false;
	place(r, page_size);

	look_at_cpu();
	for (int k = 0; k < NR_REGIONS; k++)
		for (unsigned int i = 0; i < NR_SLOTS && !st->r[k].missing; i++) {
			st->r[k].slot[i].gen = FILL_GEN;
			write_slot(&st->r[k], i, false);
			write_slot(&st->r[k], i, false);
		}
	if (uffd_range(true, r->map, r->len))
		die("UFFDIO_REGISTER");
}

/* ---- the calls that change mappings and take pages away ---- */

static void window(struct region *r, unsigned int a, unsigned int b, enum window w, bool open)
{
	for (unsigned int i = a; i < b; i++)
		atomic_fetch_add(open ? &r->slot[i].begun[w] : &r->slot[i].ended[w], 1);
}

/* What a call does to slots a to b - 1: all its windows. */
static void windows(struct region *r, unsigned int a, unsigned int b, unsigned int set, bool open)
{
	for (int w = 0; w < NR_WINDOWS; w++)
		if (set & BIT(w))
			window(r, a, b, w, open);
}

/* munmap() and mmap(), with a moment in between. */
static bool unmap(struct region *r, char *addr, size_t off, size_t len)
{
	if (munmap(addr, len))
		return false;
	usleep(rnd(2000));
	return map_range(r, addr, off, len, MAP_FIXED_NOREPLACE) == addr;
}

static bool protect(char *addr, size_t len, int prot)
{
	if (mprotect(addr, len, prot))
		return false;
	usleep(rnd(2000));
	return !mprotect(addr, len, PROT_READ | PROT_WRITE);
}

/* Away, where the pages must be found, and back. */
static bool move(struct region *r, unsigned int a, unsigned int b)
{
	const int how = MREMAP_MAYMOVE | MREMAP_FIXED;
	char *from = addr_of(r, r->map, a), *to = addr_of(r, r->spare, a);
	size_t len = (b - a) * r->stride;

	if (mremap(from, len, len, how, to) != to)
		return false;
	for (unsigned int i = a; i < b; i++)
		check(r, i, addr_of(r, r->spare, i), true);
	return mremap(to, len, len, how, from) == from;
}

/* Out of the page cache, which takes that nobody has it mapped. */
static bool evict(struct region *r, unsigned int a, char *addr, size_t len)
{
	bool ok = !fdatasync(r->fd);

	ok &= !madvise(addr, len, r->flags & MAP_SHARED ? MADV_DONTNEED : MADV_PAGEOUT);
	if (r->alias)
		ok &= !madvise(addr_of(r, r->alias, a), len, MADV_DONTNEED);
	return !posix_fadvise(r->fd, r->off + a * r->stride, len, POSIX_FADV_DONTNEED) && ok;
}

/*
 * Out of memory, and out of the swap cache once they are written: what was faulted in from
 * there meanwhile. Of a huge page only the pages with a slot, for the rest takes long.
 */
static bool page_out(struct region *r, unsigned int a, unsigned int b)
{
	size_t len = (b - a) * r->stride, step = r->stride > page_size ? r->stride : len;
	size_t part = r->stride > page_size ? page_size : len;
	char *addr = addr_of(r, r->map, a);
	bool ok = true;

	/* What is mapped twice is left alone. */
	if (r->alias)
		madvise(addr_of(r, r->alias, a), len, MADV_DONTNEED);
	for (int twice = 0; twice < 2; twice++) {
		for (size_t off = 0; off < len; off += step)
			ok &= !madvise(addr + off, part, MADV_PAGEOUT);
		if (!twice)
			usleep(rnd(4 * DISK_MS * 1000));
	}
	return ok;
}

/* One call on some slots. */
static void mutate(struct region *r, enum op op)
{
	const int punch = r->id == FILE_SHARED ? FALLOC_FL_ZERO_RANGE :
						 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	/* These change nothing: let them meet the others, and fail then. */
	const bool harmless = op == PAGEOUT || op == COLD || op == MSYNC || op == EVICT;
	const bool private = r->flags & MAP_PRIVATE;
	unsigned int units = NR_SLOTS / r->unit;
	unsigned int a = rnd(units), b = a + 1 + rnd(units / 4 + 1);
	int prot = rnd(2) || (r->id == THP && !thp_can_be_none) ? PROT_READ : PROT_NONE;
	static const unsigned int opens[NR_RANGE_OPS] = {
		[FREE] = BIT(W_LAZY),
		[UNMAP] = BIT(W_READ) | BIT(W_WRITE),
		[MPROTECT] = BIT(W_WRITE),
		[MREMAP] = BIT(W_READ) | BIT(W_WRITE),
		[PUNCH] = BIT(W_DATA),
		[TRUNCATE] = BIT(W_DATA) | BIT(W_BUS),
		[UNREGISTER] = BIT(W_UNREG),
	};
	unsigned int set = opens[op];
	bool ok = false;
	size_t off, len;
	char *addr;

	if (private && (op == DONTNEED || op == REMAP || op == UNMAP))
		set |= BIT(W_DATA);
	if (op == MPROTECT && prot == PROT_NONE)
		set |= BIT(W_READ);
	if (b > units || op == TRUNCATE)
		b = units;
	/* Huge pages come and go as a whole. */
	if (!rnd(4)) {
		a = 0;
		b = units;
	}
	a *= r->unit;
	b *= r->unit;
	off = a * r->stride;
	len = (b - a) * r->stride;
	addr = r->map + off;

	if (!harmless)
		pthread_mutex_lock(&r->lock);
	windows(r, a, b, set, true);
	switch (op) {
	case DONTNEED:
		ok = !madvise(addr, len, MADV_DONTNEED);
		break;
	case FREE:
		ok = !madvise(addr, len, MADV_FREE);
		break;
	case PAGEOUT:
		ok = page_out(r, a, b);
		break;
	case COLD:
		ok = !madvise(addr, len, MADV_COLD);
		break;
	case REMAP:
		ok = map_range(r, addr, off, len, MAP_FIXED) == addr;
		break;
	case UNMAP:
		ok = unmap(r, addr, off, len);
		break;
	case MPROTECT:
		ok = protect(addr, len, prot);
		break;
	case MREMAP:
		ok = move(r, a, b);
		break;
	case MLOCK:
		ok = !mlock(addr, len);
		ok &= !munlock(addr, len);
		break;
	case PUNCH:
		ok = !fallocate(r->fd, punch, r->off + off, len);
		break;
	case TRUNCATE:
		ok = !ftruncate(r->fd, off);
		usleep(rnd(2000));
		ok &= !ftruncate(r->fd, r->len);
		break;
	case MSYNC:
		ok = !msync(addr, len, MS_SYNC);
		break;
	case EVICT:
		ok = evict(r, a, addr, len);
		break;
	case UNREGISTER:
		ok = !uffd_range(false, addr, len);
		usleep(rnd(2000));
		ok &= !uffd_range(true, addr, len);
		break;
	default:
		errno = ENOSYS;
	}
	windows(r, a, b, set, false);
	if (!harmless)
		pthread_mutex_unlock(&r->lock);
	if (ok)
		atomic_fetch_add(&r->ran[op], 1);
	else if (!harmless)
		failed(op_name[op], r);
	atomic_fetch_add(&st->ran[op], ok);
}

static void mutate_all(enum op op)
{
	static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
	bool ok = false;

	switch (op) {
	case DROP_CACHES:
		ok = try_put("/proc/sys/vm/drop_caches", "1");
		break;
	case RECLAIM:
		/* Little: it tries hard. It fails if it got less, which is well. */
		ok = try_put(CGROUPS "integrity/memory.reclaim", "%zu",
			     (8 + rnd(24)) * page_size) || errno == EAGAIN;
		break;
	case SWAPOFF:
		pthread_mutex_lock(&one);
		ok = !swapoff(swap2) && !swapon(swap2, SWAP_FLAG_PREFER | 1);
		pthread_mutex_unlock(&one);
		break;
	default:
		errno = ENOSYS;
	}
	if (!ok)
		failed(op_name[op], NULL);
	atomic_fetch_add(&st->ran[op], ok);
}

static void now_at(struct thread *t, const char *what, unsigned int slot)
{
	atomic_store(&t->doing, what);
	atomic_store(&t->slot, slot);
	atomic_fetch_add(&t->steps, 1);
}

/* Before those that verify, which would keep every CPU busy. */
static void hurry(void)
{
	if (setpriority(PRIO_PROCESS, 0, -15))	/* of this thread alone */
		die("setpriority");
}

/* All calls on all regions in turn; each thread begins elsewhere. */
static void *mutator(void *arg)
{
	struct thread *t = arg;
	struct { struct region *r; enum op op; } todo[NR_REGIONS * (NR_RANGE_OPS + 1)];
	unsigned int nr = 0;

	for (struct region *r = st->r; r < st->r + NR_REGIONS; r++) {
		for (int op = 0; op < NR_RANGE_OPS && !r->missing; op++)
			if (r->ops & BIT(op)) {
				todo[nr].r = r;
				todo[nr++].op = op;
			}
		/* In between, what is not of one region. */
		todo[nr].r = NULL;
		todo[nr++].op = !r->id ? SWAPOFF : r->id % 2 ? RECLAIM : DROP_CACHES;
	}
	hurry();
	thread_init(50 + t->id);
	for (unsigned int k = nr * t->id / NR_MUTATORS; !stop; k = (k + 1) % nr) {
		uint64_t start = now_ns();

		now_at(t, op_name[todo[k].op], 0);
		if (!strcmp(without, op_name[todo[k].op]))
			continue;
		if (todo[k].r)
			mutate(todo[k].r, todo[k].op);
		else
			mutate_all(todo[k].op);
		atomic_fetch_add(&st->us[todo[k].op], (now_ns() - start) / 1000);
		/* For the self-test: what nobody was told of. */
		if (sabotage)
			madvise(st->r[ANON].map, st->r[ANON].len, MADV_DONTNEED);
		usleep(rnd(1500));
	}
	t->done = true;
	return NULL;
}

/* ---- userfaultfd ---- */

static void *uffd_server(void *arg)
{
	struct pollfd pfd = { .fd = uffd, .events = POLLIN };
	struct region *r = &st->r[UFFD];
	unsigned long addr;
	struct uffd_msg msg;

	(void)arg;
	hurry();
	thread_init(60);
	while (!stop_server) {
		if (poll(&pfd, 1, 100) != 1 || read(uffd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		addr = msg.arg.pagefault.address & -page_size;
		fill(buf, base_of(UFFD, (addr - (unsigned long)r->map) / page_size, FILL_GEN));
		struct uffdio_copy copy = {
			.dst = addr, .src = (unsigned long)buf, .len = page_size
		};
		struct uffdio_range range = { .start = addr, .len = page_size };

		/* There already, or not registered any more: the waiter has to look again. */
		if (ioctl(uffd, UFFDIO_COPY, &copy)) {
			if (errno != EEXIST && errno != ENOENT && errno != EAGAIN)
				failed("UFFDIO_COPY", r);
			ioctl(uffd, UFFDIO_WAKE, &range);
		}
	}
	return NULL;
}

/* ---- the threads that write and verify ---- */

/*
 * The child of a thread finds that thread's pages as they were. What has been done to the
 * parent's mapping before it was forked holds for its own, too; later calls do not, unless
 * on shared memory.
 */
static void child(const struct look *before, const unsigned int *region, const unsigned int *slot,
		  unsigned int nr)
{
	alarm(STUCK_S / 2);
	for (unsigned int k = 0; k < nr; k++) {
		struct region *r = &st->r[region[k]];
		char *addr = addr_of(r, r->map, slot[k]);
		struct look l = before[k];
		int sig = read_page(buf, addr);

		if (look_end(&r->slot[slot[k]], &l) &&
		    judge(r, slot[k], addr, &l, sig, false, false) == FINE)
			atomic_fetch_add(&st->child_checks, 1);
		/* Its own copy, which the parent must never see. */
		if (sig || r->flags & MAP_SHARED || k % 2)
			continue;
		if (write_page(addr, base_of(r->id, slot[k], CHILD_GEN)))
			continue;
		/* Nobody else is there: what was written is there, whatever was before. */
		memset(&l, 0, sizeof(l));
		l.gen = CHILD_GEN;
		if (judge(r, slot[k], addr, &l, read_page(buf, addr), false, true) == FINE)
			atomic_fetch_add(&st->child_writes, 1);
	}
	_exit(0);
}

static void fork_and_verify(unsigned int id)
{
	unsigned int region[CHILD_SLOTS], slot[CHILD_SLOTS], nr = 0;
	struct look before[CHILD_SLOTS];
	int status = 0;
	pid_t pid;

	for (int tries = 0; nr < CHILD_SLOTS && tries < 4 * CHILD_SLOTS; tries++) {
		bool twice = false;

		region[nr] = rnd(NR_REGIONS);
		slot[nr] = rnd(NR_SLOTS / nr_threads) * nr_threads + id;
		for (unsigned int k = 0; k < nr; k++)
			twice |= region[k] == region[nr] && slot[k] == slot[nr];
		/* A child is not registered with the userfaultfd. */
		if (!twice && region[nr] != UFFD && !st->r[region[nr]].missing &&
		    look_begin(&st->r[region[nr]].slot[slot[nr]], &before[nr]))
			nr++;
	}
	pid = fork();
	if (!pid)
		child(before, region, slot, nr);
	if (pid < 0) {
		failed("fork", NULL);
		return;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	atomic_fetch_add(&st->children, 1);
	if (status) {
		atomic_fetch_add(&st->errors, 1);
		report("a child ended with status %#x", status);
	}
}

static void *worker(void *arg)
{
	struct thread *t = arg;
	uint64_t next_fork = now_ns() + FORK_MS * 1000000ULL * t->id / nr_threads;

	thread_init(t->id);
	while (!stop) {
		struct region *r = &st->r[rnd(NR_REGIONS)];
		unsigned int i = rnd(NR_SLOTS), way = rnd(8);
		bool own = i % nr_threads == t->id;
		bool by_alias = way < 2 && r->alias, by_fd = way == 2 && r->by_fd;
		enum kind kind;

		if (r->missing)
			continue;
		now_at(t, r->name, i);
		if (by_alias)
			kind = check(r, i, addr_of(r, r->alias, i), true);
		else if (by_fd)
			kind = check(r, i, NULL, true);
		else
			kind = check(r, i, addr_of(r, r->map, i), false);
		if (kind == FINE && !own)
			atomic_fetch_add(&r->others, 1);
		if (kind == FINE && (by_alias || by_fd))
			atomic_fetch_add(&r->ways, 1);
		if (own && rnd(2))
			write_slot(r, i, r->by_fd && !rnd(8));
		if (now_ns() > next_fork) {
			now_at(t, "fork", 0);
			fork_and_verify(t->id);
			next_fork = now_ns() + FORK_MS * 1000000ULL;
		}
	}
	t->done = true;
	return NULL;
}

/* ---- a run, and what came of it ---- */

static const char * const vm_name[] = {
	"vma_lock_retry", "vma_lock_retry_hard", "vma_lock_fallback", "vma_lock_success",
	"pgmajfault", "pswpin", "pswpout", "thp_fault_alloc", "thp_collapse_alloc", "thp_split_page"
};

enum { VM_RETRY, VM_HARD, VM_FALLBACK, VM_SUCCESS, VM_MAJOR, VM_SWAPIN };

struct vm_counters {
	long val[COUNT(vm_name)];	/* -1: the kernel has no such line */
};

static void read_counters(struct vm_counters *c)
{
	char line[128], name[64];
	FILE *f = fopen("/proc/vmstat", "r");
	long val;

	memset(c, -1, sizeof(*c));
	if (!f)
		die("/proc/vmstat");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%63s %ld", name, &val) == 2)
			for (size_t i = 0; i < COUNT(vm_name); i++)
				if (!strcmp(name, vm_name[i]))
					c->val[i] = val;
	fclose(f);
}

static struct thread threads[MAX_THREADS + NR_MUTATORS];

/* Print what is wrong as soon as it is known. */
static void print_reports(void)
{
	static unsigned int next;

	for (; next < NR_REPORTS && atomic_load(&st->report[next].there); next++)
		printf("# %s\n", st->report[next].text);
}

/* End the program if a thread among the first nr has not moved for too long. */
static void look_for_stuck(unsigned int nr)
{
	static unsigned long steps[COUNT(threads)];
	static uint64_t since[COUNT(threads)];

	for (unsigned int i = 0; i < nr; i++) {
		struct thread *t = &threads[i];

		if (!since[i] || steps[i] != t->steps) {
			steps[i] = t->steps;
			since[i] = now_ns();
		} else if (!t->done && now_ns() - since[i] > STUCK_S * 1000000000ULL) {
			print_reports();
			printf("not ok 1 integrity total # a thread hangs: %s, page %u\n",
			       atomic_load(&t->doing), atomic_load(&t->slot));
			fflush(stdout);
			_exit(1);
		}
	}
}

static unsigned long total(bool wrong)
{
	unsigned long sum = 0;

	for (struct region *r = st->r; r < st->r + NR_REGIONS; r++)
		sum += wrong ? r->wrong : r->checks;
	return sum;
}

static int nr_lines, nr_failed;

/* A line of KTAP up to what was seen, which the caller prints. */
static void line(bool ok, const char *name)
{
	printf("%sok %d integrity %s # ", ok ? "" : "not ", ++nr_lines, name);
	nr_failed += !ok;
}

/* Those of a region's calls that were never made, or of all if r is NULL: how many. */
static unsigned int missed(struct region *r, bool print)
{
	unsigned int nr = 0;

	for (int op = r ? 0 : NR_RANGE_OPS; op < (r ? NR_RANGE_OPS : NR_OPS); op++) {
		if ((r && !(r->ops & BIT(op))) || (r ? r->ran[op] : st->ran[op]))
			continue;
		nr++;
		if (print)
			printf("%s%s of %s", nr > 1 ? ", " : "; never: ", op_name[op],
			       r ? r->name : "all");
	}
	return nr;
}

static bool retried(const struct vm_counters *c)
{
	return c->val[VM_RETRY] > 0 && c->val[VM_MAJOR] > 0 && c->val[VM_SWAPIN] > 0;
}

/* What is taken away at times must have been seen so. */
static bool verified(struct region *r)
{
	return r->checks && r->resets && !missed(r, false);
}

static bool children_verified(void)
{
	return st->children && st->child_checks && st->child_writes;
}

static void subtract(struct vm_counters *c, const struct vm_counters *before)
{
	for (size_t i = 0; i < COUNT(vm_name); i++)
		if (c->val[i] >= 0)
			c->val[i] -= before->val[i];
}

/* Whether all has happened that a run must have seen. */
static bool all_happened(const struct vm_counters *before)
{
	struct vm_counters c;

	for (struct region *r = st->r; r < st->r + NR_REGIONS; r++)
		if (!r->missing && !verified(r))
			return false;
	read_counters(&c);
	subtract(&c, before);
	return retried(&c) && children_verified() && !missed(NULL, false);
}

/*
 * Threads at work for so many seconds, or until all has happened, then a look at every page.
 * delta: the counters; returns the seconds it took.
 */
static unsigned int run(unsigned int seconds, struct vm_counters *delta)
{
	unsigned int nr = nr_threads + NR_MUTATORS;
	struct vm_counters before;
	pthread_t server;
	uint64_t start = now_ns(), ns;

	st->start = start;
	read_counters(&before);
	if (pthread_create(&server, NULL, uffd_server, NULL))
		die("thread");
	for (unsigned int i = 0; i < nr; i++) {
		threads[i].id = i < nr_threads ? i : i - nr_threads;
		threads[i].doing = "start";
		if (pthread_create(&threads[i].thread, NULL,
				   i < nr_threads ? worker : mutator, &threads[i]))
			die("thread");
	}
	for (unsigned int k = 0; ; k++) {
		ns = now_ns() - start;
		bool enough = sabotage ? st->found[ZEROED] : all_happened(&before);

		if (ns >= (seconds + (*without ? 0 : EXTRA_S)) * 1000000000ULL ||
		    (ns >= seconds * 1000000000ULL && enough))
			break;
		usleep(100000);
		print_reports();
		look_for_stuck(nr);
		if (k % 100 == 99)
			fprintf(stderr, "integrity: %.0f s, %lu checks, %lu mismatches\n", ns / 1e9,
				total(false), total(true));
	}
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < nr; i++)
		while (pthread_tryjoin_np(threads[i].thread, NULL)) {
			usleep(10000);
			look_for_stuck(nr);
		}
	for (struct region *r = st->r; r < st->r + NR_REGIONS; r++)
		for (unsigned int i = 0; i < NR_SLOTS && !r->missing; i++)
			if (check(r, i, addr_of(r, r->map, i), true) == BUSY)
				failed("the last look", r);
	atomic_store(&stop_server, true);
	pthread_join(server, NULL);
	print_reports();
	read_counters(delta);
	subtract(delta, &before);
	return ns / 1000000000;
}

static void print_regions(void)
{
	for (struct region *r = st->r; r < st->r + NR_REGIONS; r++) {
		if (r->missing) {
			printf("ok %d integrity %s # SKIP %s\n", ++nr_lines, r->name, r->missing);
			continue;
		}
		line(verified(r) && !r->wrong, r->name);
		printf("%lu checks, %lu by other threads, %lu another way, %lu found taken away, "
		       "%lu SIGSEGV, %lu SIGBUS, %lu mismatches;", r->checks, r->others, r->ways,
		       r->resets, r->segv, r->bus, r->wrong);
		for (int op = 0; op < NR_RANGE_OPS; op++)
			if (r->ops & BIT(op))
				printf(" %s %lu", op_name[op], r->ran[op]);
		missed(r, true);
		putchar('\n');
	}
}

static int results(const struct vm_counters *c, unsigned int seconds)
{
	printf("KTAP version 1\n");
	print_regions();
	line(!missed(NULL, false) && !st->errors, "mutators");
	for (int op = 0; op < NR_OPS; op++)
		printf("%s %lu in %lu ms, ", op_name[op], st->ran[op], st->us[op] / 1000);
	printf("%lu calls failed", st->errors);
	missed(NULL, true);
	putchar('\n');
	line(children_verified(), "children");
	printf("%lu forked, %lu pages right, %lu pages of their own\n", st->children,
	       st->child_checks, st->child_writes);
	line(retried(c), "retries");
	for (size_t i = 0; i < COUNT(vm_name); i++)
		if (c->val[i] >= 0)
			printf("%s%s +%ld", i ? ", " : "", vm_name[i], c->val[i]);
	putchar('\n');
	line(total(false) && !total(true), "total");
	printf("%lu checks, %lu mismatches, %u threads, %u s\n", total(false), total(true),
	       nr_threads, seconds);
	printf("1..%d\n", nr_lines);
	return nr_failed != 0;
}

/* ---- the self-test ---- */

/* A line of the self-test. */
static void expect(struct region *r, const char *what, enum kind got, enum kind want)
{
	char name[80];

	snprintf(name, sizeof(name), "selftest: %s, %s", r ? r->name : "run", what);
	line(got == want, name);
	printf("%s, expected %s\n", kind_name[got], kind_name[want]);
}

/* Put words [from, to) of another pattern, or zeroes, where nobody expects them. */
static void corrupt(struct region *r, unsigned int i, unsigned long base, size_t from, size_t to)
{
	unsigned long *p = (unsigned long *)addr_of(r, r->alias ?: r->map, i);

	for (size_t k = from; k < to; k++)
		p[k] = base ? word(base, k) : 0;
}

/* One corruption, seen by the checker, and mended. */
static void corrupted(struct region *r, const char *what, unsigned long base, size_t from,
		      size_t to, enum kind want)
{
	unsigned int i = 5;

	corrupt(r, i, base, from, to);
	expect(r, what, check(r, i, addr_of(r, r->map, i), false), want);
	write_slot(r, i, false);
}

/* A page whose data may be gone: the old, the new, and nothing else. */
static void in_window(struct region *r, unsigned int i)
{
	const unsigned long old = base_of(r->id, i, r->slot[i].gen - 1);
	const unsigned long new = r->zero ? 0 : base_of(r->id, i, FILL_GEN);
	char *addr = addr_of(r, r->map, i);

	window(r, i, i + 1, W_DATA, true);
	expect(r, "may be gone, is not", check(r, i, addr, false), FINE);
	corrupt(r, i, old, 0, words);
	expect(r, "may be gone, stale", check(r, i, addr, false), STALE);
	corrupt(r, i, new, 0, words);
	expect(r, "may be gone, is", check(r, i, addr, false), FINE);
	corrupt(r, i, base_of(r->id, i, r->slot[i].gen), 0, words / 2);
	expect(r, "taken away during the look", check(r, i, addr, false), FINE);
	corrupt(r, i, new, 0, words / 4);
	expect(r, "taken away in the middle", check(r, i, addr, false), TORN);
	corrupt(r, i, base_of(r->id, i, r->slot[i].gen), 0, words);
	window(r, i, i + 1, W_DATA, false);
	expect(r, "had to be gone, is not", check(r, i, addr, false), STALE);
	corrupt(r, i, new, 0, words);
	expect(r, "had to be gone, is", check(r, i, addr, false), FINE);
	corrupt(r, i, base_of(r->id, i, r->slot[i].gen), words / 2, words);
	expect(r, "had to be gone, half is", check(r, i, addr, false), TORN);
	write_slot(r, i, false);
	expect(r, "written again", check(r, i, addr, false), FINE);
}

static void signals(struct region *r, unsigned int i)
{
	char *addr = addr_of(r, r->map, i);

	mprotect(addr, r->stride * r->unit, PROT_NONE);
	expect(r, "SIGSEGV in no window", check(r, i, addr, false), SIGNALLED);
	window(r, i, i + 1, W_WRITE, true);
	expect(r, "SIGSEGV in another's window", check(r, i, addr, false), SIGNALLED);
	window(r, i, i + 1, W_WRITE, false);
	window(r, i, i + 1, W_READ, true);
	expect(r, "SIGSEGV in its window", check(r, i, addr, false), BUSY);
	window(r, i, i + 1, W_READ, false);
	mprotect(addr, r->stride * r->unit, PROT_READ | PROT_WRITE);
}

static int selftest(void)
{
	struct region *other = &st->r[ANON], *cut = &st->r[TRUNCATED], *file = &st->r[SHMEM];
	struct vm_counters c = { { 0 } };
	unsigned long found;
	unsigned int i = 5;

	printf("KTAP version 1\n");
	for (struct region *r = st->r; r < st->r + NR_REGIONS; r++) {
		unsigned long gen;

		if (r->missing) {
			printf("ok %d integrity selftest: %s # SKIP %s\n", ++nr_lines, r->name,
			       r->missing);
			continue;
		}
		gen = r->slot[i].gen;
		expect(r, "a right page", check(r, i, addr_of(r, r->map, i), false), FINE);
		corrupted(r, "a stale page", base_of(r->id, i, gen - 1), 0, words, STALE);
		gen++;
		corrupted(r, "a torn page", base_of(r->id, i, gen - 1), words / 2, words, TORN);
		gen++;
		corrupted(r, "a stale last word", base_of(r->id, i, gen - 1), words - 1, words,
			  TORN);
		corrupted(r, "another page's", base_of(r->id, i + 1, r->slot[i + 1].gen), 0, words,
			  PLACE);
		corrupted(r, "another region's", base_of(other->id, i, other->slot[i].gen + 1), 0,
			  words, r == other ? STALE : PLACE);
		corrupted(r, "a child's", base_of(r->id, i, CHILD_GEN), 0, words, STALE);
		corrupted(r, "a zeroed page", 0, 0, words, ZEROED);
		corrupted(r, "one zeroed word", 0, words / 3, words / 3 + 1, TORN);
		corrupted(r, "words of nobody", base_of(77, i, 1), 7, 8, UNKNOWN);
		in_window(r, i);
		signals(r, 0);
	}
	corrupt(file, i, 0, 0, words);
	expect(file, "a zeroed page, by pread", check(file, i, NULL, true), ZEROED);
	expect(file, "a zeroed page, by the second mapping",
	       check(file, i, addr_of(file, file->alias, i), true), ZEROED);
	write_slot(file, i, true);
	expect(file, "written by pwrite", check(file, i, addr_of(file, file->map, i), true), FINE);
	if (ftruncate(cut->fd, 0) || ftruncate(cut->fd, page_size))
		die("ftruncate");
	expect(cut, "SIGBUS in no window", check(cut, i, addr_of(cut, cut->map, i), false),
	       SIGNALLED);
	if (ftruncate(cut->fd, cut->len))
		die("ftruncate");
	for (unsigned int k = 0; k < NR_SLOTS; k++)
		write_slot(cut, k, false);

	/* A child that finds its parent's pages wrong is heard: all that it may look at. */
	nr_threads = NR_SLOTS;
	found = st->found[ZEROED];
	for (struct region *r = st->r; r < st->r + NR_REGIONS; r++)
		if (!r->missing)
			corrupt(r, i, 0, 0, words);
	fork_and_verify(i);
	expect(NULL, "a child finds zeroed pages", st->found[ZEROED] - found >= NR_REGIONS / 2 ?
	       ZEROED : FINE, ZEROED);
	for (struct region *r = st->r; r < st->r + NR_REGIONS; r++)
		if (!r->missing)
			write_slot(r, i, false);
	nr_threads = 8;

	/* A run in which nothing happened does not pass. */
	expect(NULL, "a call that was never made", missed(NULL, false) == NR_OPS - NR_RANGE_OPS &&
	       missed(other, false) ? BUSY : FINE, BUSY);
	expect(NULL, "no retries", retried(&c) ? FINE : BUSY, BUSY);
	/* And one in which pages vanish does not. */
	sabotage = true;
	st->found[ZEROED] = 0;
	run(3, &c);
	expect(NULL, "pages that vanish", st->found[ZEROED] ? ZEROED : FINE, ZEROED);
	printf("1..%d\n", nr_lines);
	return nr_failed != 0;
}

int main(int argc, char **argv)
{
	bool self = argc > 1 && !strcmp(argv[1], "selftest");
	int seconds = argc > 1 && !self ? atoi(argv[1]) : 0;
	struct vm_counters c;

	if (argc > 2)
		nr_threads = atoi(argv[2]);
	if (argc > 3)
		without = argv[3];
	if ((!self && seconds < 1) || nr_threads < 1 || nr_threads > MAX_THREADS ||
	    NR_SLOTS % nr_threads) {
		fprintf(stderr, "usage: integrity SECONDS [THREADS [CALL]] | selftest\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (getenv("seed") && !self)
		first_seed = strtoull(getenv("seed"), NULL, 0) << 8;
	setup();
	if (self)
		return selftest();
	seconds = run(seconds, &c);
	return results(&c, seconds);
}
