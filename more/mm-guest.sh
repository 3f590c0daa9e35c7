#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# In a guest of mm-suite, as process 1, from the share mounted at /srv: make
# a user land of the read-only Debian root, run one category, send its TAP.
#	mm-guest.sh CATEGORY [OPTION OF run_vmtests.sh...]
# CATEGORY is one of run_vmtests.sh's, or "kunit": the KUnit suites in modules. What it
# says goes to the virtio-serial port "result"; the last line, "END STATUS", is how
# lab/guest.py knows that it ended. The console is for the kernel and for what is
# wrong here.
category=$1
shift
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
exec < /dev/null > /dev/console 2>&1
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for dir in /dev/shm /tmp /run /mnt /root /var/tmp; do
	mount -t tmpfs tmpfs "$dir"
done
chmod 1777 /tmp /dev/shm /var/tmp
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind /srv/modules/lib/modules /usr/lib/modules
hostname guest

# finish STATUS: tell the host, and leave.
finish() {
	[ -z "$port" ] || printf '\nEND %d\n' "$1" > "$port"
	sync
	sleep 1
	echo b > /proc/sysrq-trigger
	sleep 600
}

port=
for p in /sys/class/virtio-ports/*; do
	[ "$(cat "$p/name")" != result ] || port=/dev/${p##*/}
done
[ -n "$port" ] || echo "mm-guest: no port named result"

# A program may be quiet for long; while the kernel lives, the console is not. So silence
# is a dead kernel, and a program that never ends a hang.
while sleep 60; do
	echo "mm-guest: alive"
done &

# disk SERIAL: the disk's device.
disk() {
	for d in /sys/block/vd*; do
		[ "$(cat "$d/serial")" != "$1" ] || echo "/dev/${d##*/}"
	done
}

# The programs are on a disk: some test the files of their own directory.
mkswap "$(disk swap)" > /dev/null && swapon "$(disk swap)" &&
	mkfs.ext4 -q "$(disk work)" && mount "$(disk work)" /opt &&
	cp -r /srv/mm /opt/mm && mkdir -p /opt/mm/page_frag &&
	cp /srv/modules/page_frag_test.ko /opt/mm/page_frag &&
	cd /opt/mm || { echo "mm-guest: no disks to work on"; finish 99; }
chmod -R a+rX /opt

# judge NUMBER NAME SUITE...: the results of its suites are the TAP of one test. It passes
# if there are any, and all of them pass, not only by skipping.
judge() {
	local n=$1 name=$2 verdict=ok
	shift 2
	[ $# -gt 0 ] || verdict="not ok"
	for suite; do
		sed 's/^ */# /' "/sys/kernel/debug/kunit/$suite/results"
		grep -q '^ok ' "/sys/kernel/debug/kunit/$suite/results" &&
			grep '^ *ok ' "/sys/kernel/debug/kunit/$suite/results" | grep -qv '# SKIP' ||
			verdict="not ok"
	done
	echo "$verdict $n $name"
	[ "$verdict" = ok ]
}

# kunit MODULE...: the suites that ran at boot, then those of each module.
kunit() {
	local n=1 bad=0 before
	echo "TAP version 13"
	echo "# running built-in"
	# shellcheck disable=SC2046
	judge 1 built-in $(ls /sys/kernel/debug/kunit) || bad=1
	for module; do
		n=$((n + 1))
		before=$(ls /sys/kernel/debug/kunit)
		echo "# running $module"
		modprobe "$module" || bad=1
		# shellcheck disable=SC2010,SC2046
		judge $n "$module" $(ls /sys/kernel/debug/kunit | grep -vxF "$before") || bad=1
	done
	echo "1..$n"
	return $bad
}

if [ "$category" = kunit ]; then
	kunit "$@" > "$port" 2>&1
else
	./run_vmtests.sh "$@" -t "$category" > "$port" 2>&1
fi
finish $?
