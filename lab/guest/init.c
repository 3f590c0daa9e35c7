// SPDX-License-Identifier: GPL-2.0-only
/*
 * init - PID 1 of the guests: runs one program and tells the host how it went.
 *
 * The kernel hands it what follows "--" on the command line: a program in /bin and its
 * arguments. Its standard output goes to the virtio-serial port, its standard error to the
 * console. After it the port gets
 *	END <exit status>
 * and the guest resets, which ends QEMU (-no-reboot). The host takes anything that comes
 * without this line for a lost guest.
 *
 * Some names are not programs: "hello" proves that the guest reaches the host, and the others
 * are ways to fail, for the tests of the harness.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The first port of the only virtio-serial device; the console has number 0. */
#define RESULT	"/dev/vport0p1"
#define DRIVER	"/modules/vfr.ko"

static void complain(const char *what)
{
	fprintf(stderr, "init: %s: %s\n", what, strerror(errno));
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		complain(path);
	close(fd);
}

static void mount_or_say(const char *type, const char *dir)
{
	mkdir(dir, 0755);
	if (mount(type, dir, type, 0, NULL) && errno != EBUSY)
		complain(dir);
}

/* The port shows up a moment after the device; once, on a busy host, not within 6 s. */
static int open_result(void)
{
	int fd = open(RESULT, O_WRONLY | O_CLOEXEC);

	for (int i = 0; i < 6000 && fd < 0; i++) {
		usleep(10000);
		fd = open(RESULT, O_WRONLY | O_CLOEXEC);
	}
	if (fd < 0)
		complain(RESULT);
	return fd;
}

static void load_driver(void)
{
	int fd = open(DRIVER, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		complain(DRIVER);
	close(fd);
}

static void fail_on_purpose(const char *how)
{
	if (!strcmp(how, "panic")) {
		write_file("/proc/sysrq-trigger", "c");
		exit(1);	/* PID 1: that is a panic, too */
	}
	if (!strcmp(how, "hang"))
		for (int i = 0; ; i++, sleep(1))
			fprintf(stderr, "still here, %d s\n", i);
	if (!strcmp(how, "silent"))
		for (;;)
			pause();
	if (!strcmp(how, "noend"))
		reboot(RB_AUTOBOOT);
	if (!strcmp(how, "splat"))
		write_file("/dev/kmsg", "<4>WARNING: CPU: 0 PID: 1 at a test of the harness\n");
}

static void run(char **program, int port)
{
	char path[300];

	if (port >= 0 && strcmp(*program, "sh"))
		dup2(port, 1);
	setsid();
	if (!strcmp(*program, "hello"))
		exit(puts("hello") < 0);
	snprintf(path, sizeof(path), "/bin/%s", *program);
	execv(path, program);
	complain(path);
	exit(127);
}

int main(int argc, char **argv)
{
	char *shell[] = { "sh", NULL }, **program = argc > 1 ? argv + 1 : shell;
	int port, status = 127 << 8;	/* unless the program says otherwise */
	pid_t pid, got;

	mount_or_say("devtmpfs", "/dev");
	mount_or_say("proc", "/proc");
	mount_or_say("sysfs", "/sys");
	mount_or_say("tracefs", "/sys/kernel/tracing");
	mount_or_say("tmpfs", "/tmp");
	if (!access("/sys/kernel/debug", F_OK))
		mount_or_say("debugfs", "/sys/kernel/debug");
	/* The kernel opened no console for us if /dev was empty then. */
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			open("/dev/console", O_RDWR);
	fail_on_purpose(*program);
	load_driver();
	port = open_result();
	pid = fork();
	if (!pid)
		run(program, port);
	/* Reap what else ends up here, until the program itself ends. */
	do {
		got = wait(&status);
	} while (got != pid && (got > 0 || errno == EINTR));
	if (port >= 0)
		dprintf(port, "\nEND %d\n",
			WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	sync();
	usleep(100000);
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}
