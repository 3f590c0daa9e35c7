// SPDX-License-Identifier: GPL-2.0-only
/*
 * progress - page faults that must get on, where priorities and locks are against it
 *
 * Runs in a guest with one CPU (maxcpus=1) and prints KTAP:
 *
 *	progress [CASE...]	all, or those named; "broken": those that must not be ok
 *
 * The faulting threads are SCHED_FIFO without a limit (sched_rt_runtime_us is -1) unless said
 * otherwise. What they wait for is done by SCHED_OTHER tasks, which get nowhere while a
 * fault spins. Each case has a time limit; one that is late is "stuck in" what its tasks do
 * then. What the base kernel cannot do either is found by running it there, too.
 *
 *  folio_lock	a folio is held by a task that needs the CPU for it
 *  relock	a folio is locked again and again by a task of higher priority
 *  relock_same	the same by SCHED_OTHER, the faults SCHED_OTHER, too
 *  uffd_served	pages come from a SCHED_OTHER thread by userfaultfd
 *  uffd_close	a SCHED_OTHER thread closes the userfaultfd while faults wait and come
 *  uffd_close_busy  uffd_close, and another SCHED_OTHER thread maps and unmaps
 *  uffd_unregister  the same with UFFDIO_UNREGISTER
 *  vma_lock	a SCHED_OTHER thread write-locks the VMA all the time: mprotect, mmap over it
 *  mmap_lock	SCHED_OTHER threads take mmap_lock: mmap, munmap, fork; the faults need it, too
 *  punch	a SCHED_OTHER thread punches and refills the very page of a tmpfs file
 *  truncate	the same with ftruncate(): SIGBUS is right, wrong data is not
 *  memcg_file	16 SCHED_OTHER threads, a working set 8 times the memory limit, of a file
 *  memcg_swap	the same, swapped out
 *  memcg_fifo	memcg_file with 4 SCHED_FIFO threads beside
 *  loop	the disk is a loop device: kworkers, SCHED_OTHER, read it
 */
#define _GNU_SOURCE
#include <linux/loop.h>
#include <poll.h>

#include "case.h"
#include "vfr.h"

#define BOUND_NS	5000000000ULL	/* of one fault: a loaded host's emulated CPU */
#define FIFO		10		/* the priority of the faulting threads */

static const char * const fault_name[] = { "fault0", "fault1" };
static atomic_bool stop;

/**
 * struct faulter - a thread that touches pages, and what became of it
 * @name: of the thread
 * @prio: of SCHED_FIFO, 0 for SCHED_OTHER
 * @map: what it touches
 * @what: the pages' tag is tag(@what, page); all zero for -1
 * @first, @step, @count: which pages: @first, @first + @step, ...
 * @rounds: how often all of them, or until stop is set
 * @again: throw the page out of the page table (not of the cache) before each touch
 * @pause_us: sleep before each touch
 * @zero_ok, @sigbus_ok: what else may come instead of the page
 * @faults, @sigbus: what came
 * @worst_ns: the longest touch
 */
struct faulter {
	const char *name;
	int prio;
	char *map;
	int what;
	size_t first, step, count;
	unsigned int rounds;
	bool again;
	unsigned int pause_us;
	bool zero_ok, sigbus_ok;

	pthread_t thread;
	unsigned long faults, sigbus;
	uint64_t worst_ns;
};

static void touch(struct faulter *f, size_t page)
{
	volatile uint64_t *p = (uint64_t *)(f->map + page * page_size);
	uint64_t want = f->what < 0 ? 0 : tag(f->what, page), got, t;
	int code;

	if (f->again && madvise((char *)p, page_size, MADV_DONTNEED))
		die("MADV_DONTNEED");
	if (f->pause_us)
		usleep(f->pause_us);
	t = now_ns();
	code = touch_word(p, false, &got);
	t = now_ns() - t;
	if (!code && got != want && !(f->zero_ok && !got))
		fail("%s: wrong data: page %zu has %llx", f->name, page, (unsigned long long)got);
	if (code && (code != BUS_ADRERR || !f->sigbus_ok))
		fail("%s: SIGBUS for page %zu, si_code %d", f->name, page, code);
	f->sigbus += !!code;
	if (t > f->worst_ns)
		f->worst_ns = t;
	f->faults++;
}

static void *touch_all(void *arg)
{
	struct faulter *f = arg;

	be(f->name, f->prio);
	for (unsigned int r = 0; r < f->rounds && !atomic_load(&stop); r++)
		for (size_t i = 0; i < f->count && !atomic_load(&stop); i++)
			touch(f, f->first + i * f->step);
	return NULL;
}

static void start(struct faulter *f)
{
	if (pthread_create(&f->thread, NULL, touch_all, f))
		die("pthread_create");
}

/* A SCHED_OTHER thread (prio 0) or a SCHED_FIFO one beside the faults. */
struct other {
	const char *name;
	int prio;
	void (*func)(void *arg);
	void *arg;
	atomic_ulong ops;
	pthread_t thread;
};

static __thread struct other *self;

static void *run_other(void *arg)
{
	self = arg;
	be(self->name, self->prio);
	self->func(self->arg);
	return NULL;
}

static void start_other(struct other *o)
{
	if (pthread_create(&o->thread, NULL, run_other, o))
		die("pthread_create");
}

static unsigned long retries(void)
{
	return counter("/proc/vmstat", "vma_lock_retry");
}

/*
 * Wait for the faulting threads to end, and judge: none took too long, and under the VMA lock
 * a fault is retried three times at most. least: the faults that each must have made.
 */
static void finish(struct faulter *f, int nr, unsigned long least, unsigned long retries_before,
		   struct other *o)
{
	unsigned long faults = 0, min = ~0UL, bus = 0, r;
	uint64_t worst = 0;
	bool ok;

	for (int i = 0; i < nr; i++) {
		pthread_join(f[i].thread, NULL);
		faults += f[i].faults;
		bus += f[i].sigbus;
		if (f[i].faults < min)
			min = f[i].faults;
		if (f[i].worst_ns > worst)
			worst = f[i].worst_ns;
	}
	r = retries() - retries_before;
	atomic_store(&stop, true);
	/* The counter is the system's: few of it may be the others'; a fourth retry would be 4. */
	ok = min >= least && worst < BOUND_NS && r <= 3 * faults + faults / 10 &&
	     (!o || o->ops);
	judge(ok, "%lu faults, each thread %lu or more (at least %lu wanted), %lu SIGBUS, "
	      "slowest %.0f ms (below %.0f wanted), %lu retries under the VMA lock, "
	      "%lu operations of the others", faults, min, least, bus, worst / 1e6,
	      BOUND_NS / 1e6, r, o ? o->ops : 0);
}

/* ---- a folio lock ---- */

static int vfr_fd;

static void lock_folio(void *arg)
{
	while (!atomic_load(&stop)) {
		if (ioctl(vfr_fd, VFR_FOLIO, arg))
			die("VFR_FOLIO");
		atomic_fetch_add(&self->ops, 1);
	}
}

static void folio_case(const char *disk, struct vfr_folio hold, int locker_prio,
		       int prio, unsigned int pause_us, unsigned int rounds)
{
	struct faulter f[2];
	struct other o = { "locker", locker_prio, lock_folio, &hold, 0, 0 };
	unsigned long before;
	char *map;

	vfr_fd = open("/dev/vfr", O_RDWR);
	if (vfr_fd < 0)
		die("/dev/vfr");
	map = map_disk(disk, 512, &hold.fd);
	hold.index = 7;
	for (int i = 0; i < 2; i++)
		f[i] = (struct faulter){ fault_name[i], prio, map, 1, 7, 1, 1, rounds,
					 .again = true, .pause_us = pause_us + i * 777 };
	touch(&f[0], 7);	/* into the page cache */
	f[0].faults = 0;
	before = retries();
	start_other(&o);
	usleep(20000);
	start(&f[0]);
	start(&f[1]);
	finish(f, 2, rounds, before, &o);
}

static void folio_lock_case(void)
{
	folio_case("folio", (struct vfr_folio){ .times = 1, .hold_us = 5000, .spin = 1 },
		   0, FIFO, 3000, 100);
}

static void relock_case(void)
{
	folio_case("relock", (struct vfr_folio){ .times = 20, .hold_us = 2000, .gap_us = 50 },
		   FIFO + 10, FIFO, 500, 100);
}

static void relock_same_case(void)
{
	folio_case("relock2", (struct vfr_folio){ .times = 20, .hold_us = 1000, .spin = 1 },
		   0, 0, 500, 100);
}

/* ---- userfaultfd ---- */

struct served {
	int fd;
	char *map;
};

static void serve(void *arg)
{
	struct served *s = arg;
	uint64_t *page = aligned_alloc(page_size, page_size);

	memset(page, 0, page_size);
	for (;;) {
		struct pollfd pfd = { .fd = s->fd, .events = POLLIN };
		struct uffdio_copy copy = { .src = (unsigned long)page, .len = page_size };
		struct uffd_msg msg;

		if (poll(&pfd, 1, -1) != 1 || read(s->fd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		copy.dst = msg.arg.pagefault.address & -page_size;
		*page = tag(1, (copy.dst - (unsigned long)s->map) / page_size);
		while (ioctl(s->fd, UFFDIO_COPY, &copy) && errno == EAGAIN)
			copy.copy = 0;
		atomic_fetch_add(&self->ops, 1);
	}
}

static void uffd_served_case(void)
{
	struct served s = { .fd = uffd_open(0) };
	struct other o = { "server", 0, serve, &s, 0, 0 };
	unsigned long before = retries();
	struct faulter f[2];

	s.map = uffd_map(s.fd, 1024);
	start_other(&o);
	for (int i = 0; i < 2; i++) {
		f[i] = (struct faulter){ fault_name[i], FIFO, s.map, 1, i, 2, 512, .rounds = 1 };
		start(&f[i]);
	}
	finish(f, 2, 512, before, &o);
}

static void map_and_unmap(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

		if (p == MAP_FAILED || munmap(p, 1 << 20))
			die("mmap");
		atomic_fetch_add(&self->ops, 1);
	}
}

/* What one round of uffd_end_case() looks like to who rescues it. */
static struct {
	_Atomic uint64_t ended;		/* when the userfaultfd's end had returned, or 0 */
	atomic_int tid[3];		/* of the faulting threads, 0: not started */
	struct uffdio_range range;
	int fd;				/* to wake by, or -1 */
	unsigned int round, spun, slept;
} end_round;

#define RESCUE_NS	1000000000ULL
#define END_SECONDS	40

/* The CPU time of another thread of this process, 0 if there is none: see clock_getcpuclockid. */
static uint64_t cpu_time(int tid)
{
	struct timespec ts;

	if (!tid || clock_gettime((clockid_t)(~(unsigned int)tid << 3 | 6), &ts))
		return 0;
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static bool in_handle_userfault(int tid)
{
	char path[64], wchan[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/wchan", tid);
	read_file(path, wchan, sizeof(wchan));
	return !strcmp(wchan, "handle_userfault");
}

/*
 * A fault that has used the CPU for long spins, and keeps who ends the userfaultfd from it: it
 * gets on when it is SCHED_OTHER. One that sleeps on long after the end gets on when woken. So
 * both are counted, once a round, and the next round tells more. A host that stalls is neither.
 */
static void rescue(void *arg)
{
	struct sched_param sp = { 0 };
	unsigned int spun_in = 0, slept_in = 0;	/* the round, counted from 1 */

	(void)arg;
	for (;; usleep(20000)) {
		unsigned int round = end_round.round;
		uint64_t ended = atomic_load(&end_round.ended);

		for (int i = 0; i < 3; i++) {
			int tid = atomic_load(&end_round.tid[i]);

			if (cpu_time(tid) > RESCUE_NS) {
				sched_setscheduler(tid, SCHED_OTHER, &sp);
				end_round.spun += spun_in != round;
				spun_in = round;
			}
			if (tid && end_round.fd >= 0 && ended && now_ns() - ended > 2 * RESCUE_NS &&
			    in_handle_userfault(tid)) {
				ioctl(end_round.fd, UFFDIO_WAKE, &end_round.range);
				end_round.slept += slept_in != round;
				slept_in = round;
			}
		}
	}
}

static void *end_faulter(void *arg)
{
	struct faulter *f = arg;

	atomic_store(&end_round.tid[f->first], syscall(SYS_gettid));
	return touch_all(arg);
}

/*
 * Two threads wait in the range and a third comes at about the time that it is released, at
 * another moment each round; the two then go on to fault on other pages of it.
 */
static void uffd_end_case(bool closing, bool busy, unsigned int rounds)
{
	struct other rescuer = { "rescuer", FIFO + 20, rescue, NULL, 0, 0 };
	struct other o = { "mapper", 0, map_and_unmap, NULL, 0, 0 };
	unsigned long faults = 0, before = retries();
	uint64_t worst = 0, begin = now_ns();
	unsigned int r;

	start_other(&rescuer);
	if (busy)
		start_other(&o);
	/* Fewer where many have to be rescued, which takes time. */
	for (r = 0; r < rounds && now_ns() - begin < END_SECONDS * 1000000000ULL; r++) {
		int fd = uffd_open(0);
		char *map = uffd_map(fd, 96);
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		struct faulter f[3];
		struct uffd_msg msg;

		atomic_store(&end_round.ended, 0);
		end_round.round = r + 1;
		end_round.range.start = (unsigned long)map;
		end_round.range.len = 96 * page_size;
		end_round.fd = closing ? -1 : fd;
		for (int i = 0; i < 3; i++) {
			atomic_store(&end_round.tid[i], 0);
			f[i] = (struct faulter){ "fault", FIFO + i, map, -1, i, 3, 32,
						 .rounds = 1 };
		}
		f[2].pause_us = 1 + r * 37 % 1500;
		f[2].count = 1;
		for (int i = 0; i < 2; i++)
			if (pthread_create(&f[i].thread, NULL, end_faulter, &f[i]))
				die("pthread_create");
		for (int i = 0; i < 2; ) {
			if (poll(&pfd, 1, -1) != 1)
				die("poll");
			i += read(fd, &msg, sizeof(msg)) == sizeof(msg);
		}
		if (pthread_create(&f[2].thread, NULL, end_faulter, &f[2]))
			die("pthread_create");
		if (closing ? close(fd) : ioctl(fd, UFFDIO_UNREGISTER, &end_round.range))
			die("cannot end it");
		atomic_store(&end_round.ended, now_ns());
		for (int i = 0; i < 3; i++) {
			pthread_join(f[i].thread, NULL);
			atomic_store(&end_round.tid[i], 0);
			faults += f[i].faults;
			if (f[i].worst_ns > worst)
				worst = f[i].worst_ns;
		}
		munmap(map, 96 * page_size);
		if (!closing)
			close(fd);
	}
	judge(r >= 50 && worst < BOUND_NS && !end_round.spun && !end_round.slept,
	      "%u of %u rounds spun until SCHED_OTHER, %u slept on until woken; %lu faults, "
	      "slowest %.0f ms, %lu retries under the VMA lock",
	      end_round.spun, r, end_round.slept, faults, worst / 1e6, retries() - before);
}

static void uffd_close_case(void)
{
	uffd_end_case(true, false, 300);
}

/* The one that closes it has to wait for mmap_lock in the middle. */
static void uffd_close_busy_case(void)
{
	uffd_end_case(true, true, 300);
}

static void uffd_unregister_case(void)
{
	uffd_end_case(false, false, 300);
}

/* ---- locks of the address space ---- */

#define DISK_PAGES	2048

/* The first 16 pages of the region belong to the writer. */
static void change_vma(void *arg)
{
	char *map = arg;
	int fd = open("/dev/vmalock", O_RDONLY);

	while (!atomic_load(&stop)) {
		if (mprotect(map, 8 * page_size, PROT_NONE) ||
		    mprotect(map, 8 * page_size, PROT_READ))
			die("mprotect");
		/* A hole in it, so that the VMA is split and merged, and VMAs are detached. */
		if (munmap(map + 8 * page_size, 4 * page_size) ||
		    mmap(map + 8 * page_size, 4 * page_size, PROT_READ, MAP_SHARED | MAP_FIXED,
			 fd, 8 * page_size) == MAP_FAILED)
			die("munmap");
		atomic_fetch_add(&self->ops, 1);
	}
}

static void vma_lock_case(void)
{
	char *map = map_disk("vmalock", DISK_PAGES, NULL);
	struct other o = { "writer", 0, change_vma, map, 0, 0 };
	unsigned long before = retries();
	struct faulter f[2];

	start_other(&o);
	for (int i = 0; i < 2; i++) {
		f[i] = (struct faulter){ fault_name[i], FIFO, map, 1, 16 + i, 2, 600, .rounds = 1 };
		start(&f[i]);
	}
	finish(f, 2, 600, before, &o);
}

static void fork_all(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		pid_t pid = fork();

		if (!pid)
			_exit(0);
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			die("fork");
		atomic_fetch_add(&self->ops, 1);
	}
}

static int vfr_open(const struct vfr_script *s)
{
	int fd = open("/dev/vfr", O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, VFR_SET, s))
		die("/dev/vfr");
	return fd;
}

static char *vfr_map(int fd)
{
	char *map = mmap(NULL, page_size, PROT_READ, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		die("mmap /dev/vfr");
	return map;
}

/* Faults that wait three times and so end up under mmap_lock; logged by the driver. */
static void *three_waits(void *arg)
{
	static const struct vfr_script s = { 4, { VFR_WAIT, VFR_WAIT, VFR_WAIT, VFR_PAGE }, 1 };
	struct faulter *f = arg;
	struct vfr_log log;

	be(f->name, f->prio);
	for (unsigned int r = 0; r < f->rounds; r++) {
		int fd = vfr_open(&s);
		char *map = vfr_map(fd);
		unsigned int by_vma_lock = 0;
		uint64_t t = now_ns();

		if (*(volatile char *)map != 'V')
			fail("wrong data");
		t = now_ns() - t;
		if (t > f->worst_ns)
			f->worst_ns = t;
		if (ioctl(fd, VFR_GET, &log))
			die("VFR_GET");
		for (unsigned int i = 0; i < log.attempts && i < VFR_LOG; i++)
			by_vma_lock += !!(log.attempt[i] & VFR_BY_VMA_LOCK);
		if (log.attempts != 4 || by_vma_lock > 3)
			fail("%llu attempts, %u under the VMA lock",
			     (unsigned long long)log.attempts, by_vma_lock);
		munmap(map, page_size);
		close(fd);
		f->faults++;
	}
	return NULL;
}

static void mmap_lock_case(void)
{
	struct other o[2] = { { "mapper", 0, map_and_unmap, NULL, 0, 0 },
			      { "forker", 0, fork_all, NULL, 0, 0 } };
	unsigned long before = retries();
	struct faulter f[2];

	start_other(&o[0]);
	start_other(&o[1]);
	for (int i = 0; i < 2; i++) {
		f[i] = (struct faulter){ fault_name[i], FIFO, .rounds = 150 };
		if (pthread_create(&f[i].thread, NULL, three_waits, &f[i]))
			die("pthread_create");
	}
	finish(f, 2, 150, before, &o[0]);
}

/* ---- a page that comes and goes ---- */

static int tmp_fd;

static void rewrite(void *arg)
{
	bool punch = arg;
	uint64_t t = tag(1, 3);

	while (!atomic_load(&stop)) {
		if (punch ? fallocate(tmp_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				      64 * page_size) :
		    ftruncate(tmp_fd, 0) || ftruncate(tmp_fd, 64 * page_size))
			die("punch or truncate");
		if (pwrite(tmp_fd, &t, sizeof(t), 3 * page_size) != sizeof(t))
			die("pwrite");
		atomic_fetch_add(&self->ops, 1);
	}
}

static void rewrite_case(bool punch)
{
	struct other o = { "rewriter", 0, rewrite, (void *)punch, 0, 0 };
	unsigned long before = retries();
	struct faulter f[2];
	char *map;

	tmp_fd = memfd_create("rewrite", 0);
	if (tmp_fd < 0 || ftruncate(tmp_fd, 64 * page_size))
		die("memfd");
	map = mmap(NULL, 64 * page_size, PROT_READ, MAP_SHARED, tmp_fd, 0);
	if (map == MAP_FAILED)
		die("mmap");
	start_other(&o);
	for (int i = 0; i < 2; i++) {
		f[i] = (struct faulter){ fault_name[i], FIFO, map, 1, 3, 1, 1, 400,
					 .again = true, .pause_us = 100 + 333 * i,
					 .zero_ok = true, .sigbus_ok = !punch };
		start(&f[i]);
	}
	finish(f, 2, 400, before, &o);
}

static void punch_case(void)
{
	rewrite_case(true);
}

static void truncate_case(void)
{
	rewrite_case(false);
}

/* ---- a memory limit ---- */

#define NR_MEMCG	16
#define MEMCG_SECONDS	8

/*
 * @fifo threads more are SCHED_FIFO and sleep a little between their touches: threads that
 * must share a CPU with them would be starved by that alone.
 */
static void memcg_run(char *map, size_t pages, int fifo)
{
	static struct faulter f[NR_MEMCG + 4];
	unsigned long before = retries();

	for (int i = 0; i < NR_MEMCG + fifo; i++) {
		f[i] = (struct faulter){ "fault", i < NR_MEMCG ? 0 : FIFO, map, 1,
					 i, NR_MEMCG, pages / NR_MEMCG - 1, ~0U,
					 .pause_us = i < NR_MEMCG ? 0 : 1000 };
		start(&f[i]);
	}
	usleep(MEMCG_SECONDS * 1000000);
	atomic_store(&stop, true);
	finish(f, NR_MEMCG + fifo, 10, before, NULL);
}

static void memcg_file_case(void)
{
	char *map = map_disk("memcgfile", 16384, NULL);

	limit_memory("file", 8);
	memcg_run(map, 16384, 0);
}

static void memcg_fifo_case(void)
{
	char *map = map_disk("memcgfifo", 16384, NULL);

	limit_memory("fifo", 8);
	memcg_run(map, 16384, 4);
}

static void memcg_swap_case(void)
{
	size_t pages = 16384;
	char *map;

	make_swap(1);
	limit_memory("swap", 8);
	map = mmap(NULL, pages * page_size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED || madvise(map, pages * page_size, MADV_NOHUGEPAGE))
		die("mmap");
	for (size_t i = 0; i < pages; i++)
		*(uint64_t *)(map + i * page_size) = tag(1, i);
	memcg_run(map, pages, 0);
}

/* ---- a disk that lives on SCHED_OTHER tasks ---- */

static void loop_case(void)
{
	int control = open("/dev/loop-control", O_RDWR), nr, loop, file;
	unsigned long before = retries();
	struct faulter f[2];
	char path[32], *map;

	if (control < 0)
		skip("no CONFIG_BLK_DEV_LOOP in this kernel");
	nr = ioctl(control, LOOP_CTL_GET_FREE);
	snprintf(path, sizeof(path), "/dev/loop%d", nr);
	loop = open(path, O_RDWR);
	file = open("/tmp/loop", O_RDWR | O_CREAT, 0600);
	if (nr < 0 || loop < 0 || file < 0 || ftruncate(file, 1024 * page_size))
		die("%s", path);
	write_tags("/tmp/loop", 1, 1024);
	if (ioctl(loop, LOOP_SET_FD, file))
		die("LOOP_SET_FD");
	map = map_file(path, 1024, NULL);
	for (int i = 0; i < 2; i++) {
		f[i] = (struct faulter){ fault_name[i], FIFO, map, 1, i, 2, 512, .rounds = 1 };
		start(&f[i]);
	}
	finish(f, 2, 512, before, NULL);
}

/* ---- what must be noticed ---- */

/* A handler that never gives up: a thread that spins in its fault. */
static void broken_spin_case(void)
{
	static const struct vfr_script s = { 1, { VFR_EVER }, 0 };
	char *map = vfr_map(vfr_open(&s));

	be("spinner", FIFO);
	pass("read %c", *(volatile char *)map);
}

/* A fault that nobody serves. */
static void broken_sleep_case(void)
{
	char *map = uffd_map(uffd_open(0), 1);

	be("sleeper", FIFO);
	pass("read %d", *(volatile char *)map);
}

static void broken_slow_case(void)
{
	folio_case("slow", (struct vfr_folio){ .times = 1, .hold_us = BOUND_NS / 1000 + 500000,
					       .gap_us = 3000000 },
		   FIFO + 10, FIFO, 500, 1);
}

static void broken_data_case(void)
{
	char *map = map_disk("wrong", 256, NULL);
	struct faulter f = { "fault", FIFO, map, 1, 0, 1, 256, .rounds = 1 };
	unsigned long before = retries();
	uint64_t bad = tag(1, 99);
	int fd = open("/dev/wrong", O_RDWR);

	if (fd < 0 || pwrite(fd, &bad, sizeof(bad), 100 * page_size) != sizeof(bad))
		die("/dev/wrong");
	start(&f);
	finish(&f, 1, 256, before, NULL);
}

static const struct test_case cases[] = {
	{ "folio_lock", folio_lock_case, 20, false },
	{ "relock", relock_case, 20, false },
	{ "relock_same", relock_same_case, 20, false },
	{ "uffd_served", uffd_served_case, 20, false },
	{ "uffd_close", uffd_close_case, 60, false },
	{ "uffd_close_busy", uffd_close_busy_case, 60, false },
	{ "uffd_unregister", uffd_unregister_case, 60, false },
	{ "vma_lock", vma_lock_case, 20, false },
	{ "mmap_lock", mmap_lock_case, 30, false },
	{ "punch", punch_case, 20, false },
	{ "truncate", truncate_case, 20, false },
	{ "memcg_file", memcg_file_case, 40, false },
	{ "memcg_swap", memcg_swap_case, 40, false },
	{ "memcg_fifo", memcg_fifo_case, 40, false },
	{ "loop", loop_case, 20, false },
	{ "broken_spin", broken_spin_case, 6, true },
	{ "broken_sleep", broken_sleep_case, 6, true },
	{ "broken_slow", broken_slow_case, 40, true },
	{ "broken_data", broken_data_case, 20, true },
};

int main(int argc, char **argv)
{
	(void)argc;
	page_size = sysconf(_SC_PAGESIZE);
	wait_for_clock();
	if (sysconf(_SC_NPROCESSORS_ONLN) != 1) {
		printf("Bail out! this is for a guest with one CPU: maxcpus=1\n");
		return 2;
	}
	put("/proc/sys/kernel/sched_rt_runtime_us", "-1");
	/* Nor does the fair server rescue the starved after a second. */
	put("/sys/kernel/debug/sched/fair_server/cpu0/runtime", "0");
	catch_sigbus();
	return run_cases(cases, ARRAY_SIZE(cases), argv + 1);
}
