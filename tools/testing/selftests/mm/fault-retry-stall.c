// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page faults that wait for a long time: who gets on meanwhile, and who does not.
 *
 * A fault that has to wait drops its lock and is retried. The last retry may not
 * drop the lock again, so whatever it waits for, it waits for with the lock held.
 * If that is the mmap_lock, nobody can change the address space meanwhile; if it
 * were the VMA lock, those who do change it would wait for that lock with the
 * mmap_lock held, and could not even be killed.
 *
 * What the faults wait for is a FUSE server of this program's own: a read which
 * is slow after one that has failed, or written data which it does not take, so
 * that a store is throttled.
 *
 * Kernels which make the first retry under the mmap_lock keep others from getting
 * on. There such tests are skipped, unless FAULT_RETRY_EXPECTED is set in the
 * environment. All other tests must pass on any kernel.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm_util.h"

/*
 * In naps of a millisecond, so that it is longer if the CPUs are busy. Nothing here
 * takes a tenth of it, unless it is stuck.
 */
#define LIMIT		3000
/* For a call to be made, and to end or to block. */
#define BLOCK		300
#define TEST_SECONDS	180

#define FILE_PAGES	16384
#define BALLAST_KB	4096
#define MAX_PAGE_SIZE	(64 << 10)
#define FILE_DATA	'f'
#define FILE_NODE	(FUSE_ROOT_ID + 1)

/* What the threads and processes of a test tell each other. */
static struct {
	atomic_int held;	/* requests that the server does not answer */
	atomic_int go;		/* the thread beside the fault may act */
	atomic_int acted;	/* and has done so */
	atomic_int stores;
	atomic_int value;	/* that has been read */
} *shared;

/* The changes to the address space that are made while a fault waits. */
enum action {
	TOUCH,			/* none */
	FORK,
	MMAP,
	MPROTECT_OTHER,		/* of another VMA */
	MPROTECT,		/* of the last page of the VMA of the fault, */
	MUNMAP,			/* as these */
	MADVISE,		/* which changes the flags of the VMA */
	DONTNEED,		/* which does not */
};

/* In a mount namespace of the test's own. */
#define MOUNT_DIR	"/tmp"

static int file;
static char *map;		/* of the file, of FILE_PAGES */
static char *fresh;		/* a page never touched, in a VMA of its own */
static char *dropped;		/* the same, but it was touched, and dropped */

static size_t file_size(void)
{
	return (size_t)FILE_PAGES * psize();
}

/* Whether cond comes true in time. */
#define wait_for(cond, naps)						\
({									\
	int __left = (naps);						\
	bool __true;							\
									\
	while (!(__true = (cond)) && __left-- > 0)			\
		usleep(1000);						\
	__true;								\
})

/* Whether the kernel is known to make the first retries under the VMA lock. */
static bool retry_expected(void)
{
	char line[128];
	bool found = getenv("FAULT_RETRY_EXPECTED");
	FILE *f = fopen("/proc/vmstat", "r");

	/* With CONFIG_PER_VMA_LOCK_STATS it has this counter, too. */
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "vma_lock_retry_hard ", 20))
			found = true;
	if (f)
		fclose(f);
	return found;
}

/* What only kernels which retry under the VMA lock manage: ok. */
static bool expect_gets_on(struct __test_metadata *_metadata, bool ok, const char *what)
{
	if (!ok && !retry_expected())
		SKIP(return false, "%s is stuck: this kernel has no retry under the VMA lock",
		     what);
	EXPECT_TRUE(ok)
		TH_LOG("%s is stuck", what);
	return ok;
}

/* A page in a VMA whose neighbours are inaccessible, and share no anon_vma with it. */
static char *map_alone(void)
{
	char *p = mmap(NULL, 3 * psize(), PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0);

	if (p == MAP_FAILED || mprotect(p + psize(), psize(), PROT_READ | PROT_WRITE))
		return NULL;
	return p + psize();
}

static bool map_all(int prot)
{
	file = open(MOUNT_DIR "/file", O_RDWR | O_CLOEXEC);
	map = mmap(NULL, file_size(), prot, MAP_SHARED, file, 0);
	if (map == MAP_FAILED || madvise(map, file_size(), MADV_RANDOM))
		return false;
	/* These are below it, as a rule: fork() locks them first. */
	fresh = map_alone();
	dropped = map_alone();
	if (!fresh || !dropped)
		return false;
	*dropped = 1;
	return !madvise(dropped, psize(), MADV_DONTNEED);
}

static void act(enum action action)
{
	char *last = map + file_size() - psize();

	switch (action) {
	case TOUCH:
		*fresh = 1;
		break;
	case FORK:
		/* It may have to wait for the server when it exits. */
		if (!fork())
			_exit(0);
		break;
	case MPROTECT:
		mprotect(last, psize(), PROT_NONE);
		break;
	case MUNMAP:
		munmap(last, psize());
		break;
	case MADVISE:
		madvise(last, psize(), MADV_DONTFORK);
		break;
	case DONTNEED:
		madvise(last, psize(), MADV_DONTNEED);
		break;
	case MPROTECT_OTHER:
		mprotect(dropped - psize(), psize(), PROT_READ);
		break;
	case MMAP:
		mmap(NULL, psize(), PROT_READ, MAP_SHARED | MAP_ANON, -1, 0);
		break;
	}
	atomic_store(&shared->acted, 1);
}

/* The thread beside the fault. */
static void *act_on_go(void *arg)
{
	while (!atomic_load(&shared->go))
		usleep(1000);
	act((enum action)(long)arg);
	for (;;)
		pause();
	return NULL;
}

static bool start_beside(enum action action)
{
	pthread_t thread;

	return !pthread_create(&thread, NULL, act_on_go, (void *)(long)action);
}

/*
 * Serve a file until the connection is aborted. Requests of the kind held_op for
 * which hold() is true get no answer. If they are reads, the first of them fails.
 */
static void serve(int fd, unsigned int held_op, bool (*hold)(void))
{
	static __u64 buf[2 * MAX_PAGE_SIZE / sizeof(__u64)];
	static char page[MAX_PAGE_SIZE];
	struct fuse_in_header *in = (void *)buf;
	bool failed = held_op != FUSE_READ;

	memset(page, FILE_DATA, sizeof(page));
	for (;;) {
		union {
			struct fuse_init_out init;
			struct fuse_entry_out entry;
			struct fuse_open_out open;
			struct fuse_write_out write;
		} out = {};
		struct fuse_out_header head = {};
		struct iovec iov[] = { { &head, sizeof(head) }, { &out, 0 } };

		if (read(fd, buf, sizeof(buf)) < 0) {
			if (errno == ENODEV)
				return;
			continue;
		}
		switch (in->opcode) {
		case FUSE_INIT:
			out.init.major = FUSE_KERNEL_VERSION;
			out.init.minor = FUSE_KERNEL_MINOR_VERSION;
			out.init.max_write = psize();
			iov[1].iov_len = sizeof(out.init);
			break;
		case FUSE_LOOKUP:
			out.entry.nodeid = FILE_NODE;
			out.entry.attr_valid = 3600;
			out.entry.attr.ino = FILE_NODE;
			out.entry.attr.mode = S_IFREG | 0600;
			out.entry.attr.nlink = 1;
			out.entry.attr.size = file_size();
			iov[1].iov_len = sizeof(out.entry);
			break;
		case FUSE_OPEN:
			/* Or whoever closes it waits for all writes. */
			out.open.open_flags = FOPEN_NOFLUSH;
			iov[1].iov_len = sizeof(out.open);
			break;
		case FUSE_READ:
			iov[1].iov_base = page;
			iov[1].iov_len = ((struct fuse_read_in *)(in + 1))->size;
			break;
		case FUSE_WRITE:
			out.write.size = ((struct fuse_write_in *)(in + 1))->size;
			iov[1].iov_len = sizeof(out.write);
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			continue;
		default:
			head.error = -EOPNOTSUPP;
		}
		if (in->opcode == held_op && !failed) {
			failed = true;
			head.error = -EIO;
			iov[1].iov_len = 0;
		} else if (in->opcode == held_op && hold()) {
			continue;
		}
		head.unique = in->unique;
		head.len = sizeof(head) + iov[1].iov_len;
		if (writev(fd, iov, 2) < 0 && errno == ENODEV)
			return;
	}
}

static bool hold_for_ever(void)
{
	atomic_fetch_add(&shared->held, 1);
	return true;
}

/* Mount the file system of the server to come. */
static int mount_fuse(struct __test_metadata *_metadata)
{
	char options[64];
	int fd;

	if (geteuid())
		SKIP(return -1, "not root");
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		SKIP(return -1, "no /dev/fuse");
	shared = mmap(NULL, psize(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANON, -1, 0);
	ASSERT_TRUE(shared != MAP_FAILED);
	ASSERT_EQ(unshare(CLONE_NEWNS), 0);
	ASSERT_EQ(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	ASSERT_EQ(mount("fault-retry", MOUNT_DIR, "fuse", MS_NOSUID | MS_NODEV, options), 0);
	return fd;
}

static pid_t fork_child(void)
{
	pid_t pid = fork();

	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static bool ends(pid_t pid, int *status)
{
	return wait_for(waitpid(pid, status, WNOHANG) == pid, LIMIT);
}

/*
 * A process which serves its own mapping: whatever its threads do before the
 * re-read is answered, nothing of it may need a lock that the fault holds.
 */
FIXTURE(self_served) {
};

FIXTURE_VARIANT(self_served) {
	enum action action;
	bool beside;		/* by a thread beside the server, not by itself */
	bool touch_fresh;	/* what the server touches then */
};

FIXTURE_VARIANT_ADD(self_served, server_fork) { FORK, false, true };
FIXTURE_VARIANT_ADD(self_served, beside_fork_dropped) { FORK, true, false };
FIXTURE_VARIANT_ADD(self_served, beside_fork_fresh) { FORK, true, true };
FIXTURE_VARIANT_ADD(self_served, server_mprotect) { MPROTECT, false, true };
FIXTURE_VARIANT_ADD(self_served, beside_mprotect_dropped) { MPROTECT, true, false };
FIXTURE_VARIANT_ADD(self_served, beside_mprotect_fresh) { MPROTECT, true, true };
FIXTURE_VARIANT_ADD(self_served, server_mprotect_other) { MPROTECT_OTHER, false, true };
FIXTURE_VARIANT_ADD(self_served, beside_mprotect_other_dropped) { MPROTECT_OTHER, true, false };
FIXTURE_VARIANT_ADD(self_served, beside_mprotect_other_fresh) { MPROTECT_OTHER, true, true };
FIXTURE_VARIANT_ADD(self_served, server_mmap) { MMAP, false, true };
FIXTURE_VARIANT_ADD(self_served, beside_mmap_dropped) { MMAP, true, false };
FIXTURE_VARIANT_ADD(self_served, beside_mmap_fresh) { MMAP, true, true };
FIXTURE_VARIANT_ADD(self_served, server_munmap) { MUNMAP, false, true };
FIXTURE_VARIANT_ADD(self_served, beside_munmap_dropped) { MUNMAP, true, false };
FIXTURE_VARIANT_ADD(self_served, beside_munmap_fresh) { MUNMAP, true, true };
FIXTURE_VARIANT_ADD(self_served, server_madvise) { MADVISE, false, true };
FIXTURE_VARIANT_ADD(self_served, beside_madvise_dropped) { MADVISE, true, false };
FIXTURE_VARIANT_ADD(self_served, beside_madvise_fresh) { MADVISE, true, true };
FIXTURE_VARIANT_ADD(self_served, server_dontneed) { DONTNEED, false, true };
FIXTURE_VARIANT_ADD(self_served, beside_dontneed_dropped) { DONTNEED, true, false };
FIXTURE_VARIANT_ADD(self_served, beside_dontneed_fresh) { DONTNEED, true, true };

static FIXTURE_VARIANT(self_served) form;
static int fuse_fd;

FIXTURE_SETUP(self_served)
{
	fuse_fd = mount_fuse(_metadata);
	form = *variant;
}

FIXTURE_TEARDOWN(self_served)
{
	umount2(MOUNT_DIR, MNT_DETACH);
}

static bool act_and_answer(void)
{
	atomic_fetch_add(&shared->held, 1);
	if (form.beside) {
		atomic_store(&shared->go, 1);
		(void)wait_for(atomic_load(&shared->acted), BLOCK);
	} else {
		act(form.action);
	}
	*dropped = 1;
	if (form.touch_fresh)
		*fresh = 1;
	return false;
}

static void *serve_self(void *arg)
{
	serve(fuse_fd, FUSE_READ, act_and_answer);
	return NULL;
}

static int serve_and_fault(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, serve_self, NULL) ||
	    !map_all(PROT_READ) || !start_beside(form.action))
		return 1;
	atomic_store(&shared->value, FORCE_READ(map[0]));
	/* Not before the thread beside has done its part. */
	return !wait_for(atomic_load(&shared->acted), LIMIT);
}

TEST_F_TIMEOUT(self_served, no_deadlock, TEST_SECONDS)
{
	int status = 0;
	bool ended;
	pid_t pid;

	pid = fork_child();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(serve_and_fault());
	close(fuse_fd);
	ended = ends(pid, &status);
	if (!ended) {
		/* Abort the connection: all that wait for the server go on. */
		umount2(MOUNT_DIR, MNT_FORCE);
		kill(pid, SIGKILL);
		ASSERT_TRUE(ends(pid, &status));
	}
	ASSERT_EQ(atomic_load(&shared->held), 1);
	if (!expect_gets_on(_metadata, ended, "the process"))
		return;
	EXPECT_EQ(status, 0);
	EXPECT_EQ(atomic_load(&shared->value), FILE_DATA);
}

/* A fault that waits for another process, which does not answer. */
FIXTURE(stalled) {
	pid_t server;
	pid_t client;
};

FIXTURE_VARIANT(stalled) {
	bool throttled;		/* not the re-read, but the store is stalled */
	enum action action;	/* of a thread beside the fault */
};

FIXTURE_VARIANT_ADD(stalled, read_touch) { false, TOUCH };
FIXTURE_VARIANT_ADD(stalled, read_fork) { false, FORK };
FIXTURE_VARIANT_ADD(stalled, read_mprotect) { false, MPROTECT };
FIXTURE_VARIANT_ADD(stalled, read_mmap) { false, MMAP };
FIXTURE_VARIANT_ADD(stalled, read_munmap) { false, MUNMAP };
FIXTURE_VARIANT_ADD(stalled, store_touch) { true, TOUCH };
FIXTURE_VARIANT_ADD(stalled, store_fork) { true, FORK };
FIXTURE_VARIANT_ADD(stalled, store_mprotect) { true, MPROTECT };
FIXTURE_VARIANT_ADD(stalled, store_mmap) { true, MMAP };
/* And not munmap(), which FUSE itself makes wait for all writes. */

/*
 * Store to pages which are not in memory yet, until a store is throttled for good.
 * The kernel does not do that to fewer pages than its counters may be off by.
 */
static void store_until_throttled(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);
	long nr = 64 + cpus * 8 * (sizeof(cpus) * 8 - __builtin_clzl(cpus));
	char path[64];
	struct stat st;

	fstat(file, &st);
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/max_ratio",
		 major(st.st_dev), minor(st.st_dev));
	write_sysfs(path, 100);
	for (long i = 0; i < FILE_PAGES - 1; i++) {
		/* With so many writes under way, no more will be started. */
		if (i == nr) {
			sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE);
			write_sysfs(path, 0);
		}
		if (i >= nr)
			atomic_fetch_add(&shared->stores, 1);
		map[i * psize()] = 1;
	}
}

static int fault_and_stall(bool throttled, enum action action)
{
	char *p = mmap(NULL, BALLAST_KB << 10, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANON | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED || !map_all(PROT_READ | PROT_WRITE) || !start_beside(action))
		return 1;
	if (throttled)
		store_until_throttled();
	else
		FORCE_READ(map[0]);
	return 0;
}

/* What /proc/PID/status says of a field, or "". */
static const char *status_of(pid_t pid, const char *field)
{
	static char buf[4096];
	char path[32], *p;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	p = read_file(path, buf, sizeof(buf)) ? strstr(buf, field) : NULL;
	return p ? p + strlen(field) : "";
}

static long anon_kb(pid_t pid)
{
	return atol(status_of(pid, "\nRssAnon:\t"));
}

/* Throttled for half a second, and no end of it to be seen. */
static bool store_is_stalled(pid_t pid)
{
	int stores = atomic_load(&shared->stores);

	for (int i = 0; i < 50; i++) {
		if (!stores || stores != atomic_load(&shared->stores) ||
		    *status_of(pid, "\nState:\t") != 'D')
			return false;
		usleep(10000);
	}
	return atomic_load(&shared->held);
}

FIXTURE_SETUP(stalled)
{
	int fd;

	fd = mount_fuse(_metadata);
	if (fd < 0)
		return;
	self->server = fork_child();
	ASSERT_GE(self->server, 0);
	if (!self->server) {
		serve(fd, variant->throttled ? FUSE_WRITE : FUSE_READ, hold_for_ever);
		_exit(0);
	}
	self->client = fork_child();
	ASSERT_GE(self->client, 0);
	if (!self->client) {
		close(fd);
		_exit(fault_and_stall(variant->throttled, variant->action));
	}
	close(fd);
	if (variant->throttled && !wait_for(store_is_stalled(self->client), 2 * LIMIT))
		SKIP(return, "no store is throttled for good");
	ASSERT_TRUE(wait_for(atomic_load(&shared->held), 2 * LIMIT));
	atomic_store(&shared->go, 1);
	(void)wait_for(atomic_load(&shared->acted), BLOCK);
}

FIXTURE_TEARDOWN(stalled)
{
	/* This closes the connection, too, and so ends the requests. */
	kill(self->server, SIGKILL);
	waitpid(self->server, NULL, 0);
	kill(self->client, SIGKILL);
	if (!ends(self->client, NULL))
		TH_LOG("the client does not end");
}

/* Those who change the address space get on. */
TEST_F_TIMEOUT(stalled, thread_beside, TEST_SECONDS)
{
	expect_gets_on(_metadata, wait_for(atomic_load(&shared->acted), LIMIT),
		       "the thread beside the fault");
}

static int read_cmdline(pid_t pid)
{
	char path[32], buf[16];

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	return read_file(path, buf, sizeof(buf)) ? 0 : EIO;
}

static int write_clear_refs(pid_t pid)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/clear_refs", pid);
	fd = open(path, O_WRONLY);
	return fd >= 0 && write(fd, "1", 1) == 1 ? 0 : errno;
}

static int call_mrelease(pid_t pid)
{
	int pidfd = syscall(__NR_pidfd_open, pid, 0);

	return pidfd >= 0 && !syscall(__NR_process_mrelease, pidfd, 0) ? 0 : errno;
}

/* Do that to the client in a process of its own: its status, or -1 if it is stuck. */
static int do_to(struct __test_metadata *_metadata, pid_t client, int (*what)(pid_t))
{
	int status = -1;
	pid_t pid;

	pid = fork_child();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(what(client));
	if (ends(pid, &status))
		return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	kill(pid, SIGKILL);
	ASSERT_TRUE(ends(pid, &status))
		TH_LOG("SIGKILL does not end it");
	return -1;
}

/* ps does. No kernel may keep it, unless somebody waits for the mmap_lock. */
TEST_F_TIMEOUT(stalled, cmdline, TEST_SECONDS)
{
	int ret = do_to(_metadata, self->client, read_cmdline);

	if (variant->action != TOUCH && ret == -1)
		expect_gets_on(_metadata, false, "a reader of cmdline");
	else
		EXPECT_EQ(ret, 0);
}

/* clear_refs takes the mmap_lock, and then all VMA locks; it can be killed. */
TEST_F_TIMEOUT(stalled, clear_refs, TEST_SECONDS)
{
	int ret = do_to(_metadata, self->client, write_clear_refs);

	if (ret == ENOENT)
		SKIP(return, "no clear_refs");
	expect_gets_on(_metadata, !ret, "a writer of clear_refs");
}

/*
 * SIGKILL ends a store which is throttled. A read that the server has begun with
 * it does not, but it does all else; then process_mrelease(), or the OOM reaper,
 * gets at the memory.
 */
TEST_F_TIMEOUT(stalled, kill, TEST_SECONDS)
{
	ASSERT_GE(anon_kb(self->client), BALLAST_KB);
	ASSERT_EQ(kill(self->client, SIGKILL), 0);
	if (variant->throttled) {
		/* Its exit may wait for the server yet, but without its memory. */
		EXPECT_TRUE(wait_for(!anon_kb(self->client), LIMIT));
		return;
	}
	EXPECT_TRUE(wait_for(atoi(status_of(self->client, "\nThreads:\t")) == 1, LIMIT));
	EXPECT_EQ(do_to(_metadata, self->client, call_mrelease), 0);
	EXPECT_LT(anon_kb(self->client), BALLAST_KB);
}

TEST_HARNESS_MAIN
