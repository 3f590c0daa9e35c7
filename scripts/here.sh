#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Run the workloads of guest/contend.c on a real machine, on the kernel it runs.
#	here.sh ROUNDS [WORKLOAD...] > FILE
# As root; wants CONFIG_BLK_DEV_NULL_BLK, CONFIG_FTRACE with the mmap_lock tracepoints and
# CONFIG_PER_VMA_LOCK_STATS, and does not touch any disk: it makes one of null_blk that
# takes 20 ms a read. Workloads e1i, e1w and e7 keep every CPU busy for some seconds.
# Alone it needs guest/contend.c and guest/bench.h beside it, or in ../guest, and a C
# compiler, or contend built elsewhere (cc -O2 -static -pthread) beside it. Boot the other
# kernel, do the same, go back, more than once; then, in a clone of this repository:
#	scripts/here.py --base FILE... --series FILE...
set -eu
here=$(cd "$(dirname "$0")" && pwd)

die() {
	echo "here.sh: $*" >&2
	exit 1
}

case ${1:-} in
'' | *[!0-9]*) die "how many rounds? here.sh ROUNDS [WORKLOAD...] > FILE" ;;
esac
rounds=$1
shift
[ "$(id -u)" = 0 ] || die "has to be root: it makes a disk, cgroups and priorities"
mkdir -p /run
program=$here/contend
if [ ! -x "$program" ]; then
	src=$here
	[ -e "$src/contend.c" ] || src=$here/../guest
	[ -e "$src/contend.c" ] || die "no contend here and no contend.c here or in ../guest"
	program=/run/contend.$$
	trap 'rm -f "$program"' EXIT
	cc -O2 -pthread -o "$program" "$src/contend.c" || die "it does not build: is a C compiler there?"
fi
if [ ! -b /dev/nullb0 ]; then
	modprobe null_blk nr_devices=1 irqmode=2 completion_nsec=20000000 hw_queue_depth=256 gb=256 ||
		die "no null_blk: build the kernel with CONFIG_BLK_DEV_NULL_BLK"
fi
mount -t tracefs tracefs /sys/kernel/tracing 2> /dev/null || :
[ -d /sys/kernel/tracing/events/mmap_lock ] ||
	die "no mmap_lock tracepoints: build the kernel with CONFIG_FTRACE and an option that enables events"
grep -q '^vma_lock_success ' /proc/vmstat ||
	die "no vma_lock_success in /proc/vmstat: build the kernel with CONFIG_PER_VMA_LOCK_STATS"

echo "# $(uname -srm), $(grep -c '^processor' /proc/cpuinfo) CPUs, $(cat /proc/cmdline)"
for round in $(seq "$rounds"); do
	echo "# round $round, load $(cat /proc/loadavg)"
	"$program" quick floors "$@" || die "round $round: contend failed: see above"
done
