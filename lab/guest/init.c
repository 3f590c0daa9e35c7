// SPDX-License-Identifier: GPL-2.0-only
/*
 * init - PID 1 of the guests: runs one program and tells the host how it went.
 *
 * The kernel hands it what follows "--" on the command line: a program in /bin
 * and its arguments. Its standard output goes to the virtio-serial port named
 * "result", its standard error to the console. After it the port gets
 *	END <exit status>
 * and the guest resets, which ends QEMU (-no-reboot). The host takes anything
 * that comes without this line for a lost guest.
 *
 * Some names are not programs but ways to fail, for the tests of the harness.
 */
#define _GNU_SOURCE
#include <dirent.h>
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

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fprintf(stderr, "init: %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void mount_or_say(const char *type, const char *dir)
{
	mkdir(dir, 0755);
	if (mount(type, dir, type, 0, NULL) && errno != EBUSY)
		fprintf(stderr, "init: mount %s: %s\n", dir, strerror(errno));
}

/* The virtio-serial port called "result", or -1. */
static int open_result(void)
{
	char path[300], name[32];
	struct dirent *d;
	int fd, port = -1;
	DIR *dir;

	/* The port shows up a moment after the device. */
	for (int i = 0; i < 500 && port < 0; i++, usleep(10000)) {
		dir = opendir("/sys/class/virtio-ports");
		while (dir && (d = readdir(dir))) {
			snprintf(path, sizeof(path),
				 "/sys/class/virtio-ports/%s/name", d->d_name);
			fd = open(path, O_RDONLY);
			if (fd < 0)
				continue;
			memset(name, 0, sizeof(name));
			if (read(fd, name, sizeof(name) - 1) > 0 &&
			    !strncmp(name, "result", 6)) {
				snprintf(path, sizeof(path), "/dev/%s", d->d_name);
				port = open(path, O_WRONLY | O_CLOEXEC);
			}
			close(fd);
		}
		if (dir)
			closedir(dir);
	}
	return port;
}

static void load_modules(void)
{
	struct dirent *d;
	DIR *dir = opendir("/modules");
	int fd;

	while (dir && (d = readdir(dir))) {
		char path[300];

		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/modules/%s", d->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
			fprintf(stderr, "init: %s: %s\n", path, strerror(errno));
		if (fd >= 0)
			close(fd);
	}
	if (dir)
		closedir(dir);
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
	if (!strcmp(how, "noend")) {
		sync();
		reboot(RB_AUTOBOOT);
	}
	if (!strcmp(how, "splat"))
		write_file("/dev/kmsg", "<4>WARNING: CPU: 0 PID: 1 at a test of the harness\n");
}

int main(int argc, char **argv)
{
	int port, status = 0;
	char path[300];
	pid_t pid;

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
	if (argc < 2) {
		fprintf(stderr, "init: no program on the command line\n");
		argc = 2;
		argv = (char *[]){ "init", "sh", NULL };
	}
	fail_on_purpose(argv[1]);
	load_modules();

	port = open_result();
	if (port < 0)
		fprintf(stderr, "init: no port named result\n");
	snprintf(path, sizeof(path), "/bin/%s", argv[1]);
	pid = fork();
	if (!pid) {
		if (port >= 0 && strcmp(argv[1], "sh"))
			dup2(port, 1);
		setsid();
		execv(path, argv + 1);
		fprintf(stderr, "init: %s: %s\n", path, strerror(errno));
		_exit(127);
	}
	/* Reap what else ends up here, until the program itself ends. */
	for (;;) {
		pid_t got = wait(&status);

		if (got == pid || (got < 0 && errno != EINTR))
			break;
	}
	if (port >= 0)
		dprintf(port, "\nEND %d\n", WIFEXITED(status) ?
			WEXITSTATUS(status) : 128 + WTERMSIG(status));
	sync();
	usleep(100000);
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}
