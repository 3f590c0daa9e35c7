#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Whatever may break page faults, side by side: in the guest, from the image of
# soak-image.sh. Prints a line "P ..." a minute and one "R key=value ..." at its end.
#	soak SECONDS
# The series' kselftest in a loop; stress-ng's stressors of mappings, faults, swap and fork
# in a cgroup that may use 64 MiB; trinity on the calls of mm; zram and a disk that takes
# 2 ms as swap. What a program says that fails is in the line "F ...". A selftest waits so
# long and no longer: under this load one may fail that is right. It is counted ("P failed
# under load"), and all are run once more when the load is gone: who fails then has failed.
# Tools: awk cat chmod chown date dd echo env grep head kill losetup ls mkdir mke2fs mkswap mount rm rmdir sed seq sleep sort su swapoff swapon sync tail timeout tr umount uniq wc
set -u
PATH=/bin
seconds=$1
config=/sys/kernel/config/nullb
group=/sys/fs/cgroup/soak
state=/tmp/soak
counters="pgfault pgmajfault vma_lock_success vma_lock_abort vma_lock_retry
	vma_lock_retry_hard vma_lock_fallback pswpin pswpout oom_kill"
stressors="fault fork madvise mlock mmap mremap swap userfaultfd vm"

die() {
	echo "F soak: $*"
	exit 1
}

# disk NAME MIB NS: takes so long a request, and keeps what is written.
disk() {
	mkdir "$config/$1" || die "no disk $1"
	for set in "size $2" "memory_backed 1" "irqmode 2" "hw_queue_depth 256" \
		"completion_nsec $3" "power 1"; do
		echo "${set#* }" > "$config/$1/${set% *}" || die "disk $1: $set"
	done
}

# again NAME COMMAND...: over and over until it is time; each run's output in its file.
again() {
	name=$1
	shift
	n=0
	while [ ! -e $state/stop ]; do
		"$@" > "$state/$name.out" 2>&1
		rc=$?
		n=$((n + 1))
		"after_$name" $rc
		echo $n > "$state/$name.runs"
	done
}

# add FILE NUMBER
add() {
	echo $(($(cat "$1" 2>/dev/null || echo 0) + $2)) > "$1"
}

# One line for each test that failed, with how it said so, after the word WORD.
failed_tests() {
	awk -v word="$1" '/^#/ { said = said " " $0 } /^ok / { said = "" }
		/^not ok / { print word ": " $0 substr(said, 1, 500); said = "" }' $state/selftest.out
}

after_selftest() {
	add $state/tests_ok "$(grep -c '^ok ' $state/selftest.out)"
	add $state/tests_bad "$(grep -c '^not ok ' $state/selftest.out)"
	failed_tests "P failed under load"
	# KSFT_FAIL is told above.
	[ "$1" = 0 ] || [ "$1" = 1 ] ||
		echo "F selftest: ended with $1: $(tail -n 2 $state/selftest.out | tr '\n' ' ')"
}

# All tests, when nothing runs beside them.
selftest_alone() {
	swapoff /dev/zram0 && swapoff /dev/swap || echo "F soak: swapoff"
	echo "P" $(grep -E 'HugePages_|^Shmem:' /proc/meminfo) "segments: $(sed 1d /proc/sysvipc/shm | wc -l)"
	kselftest-fault-retry > $state/selftest.out 2>&1
	rc=$?
	alone_ok=$(grep -c '^ok ' $state/selftest.out)
	failed_tests "F selftest, alone"
	[ $rc = 0 ] || echo "F selftest, alone: ended with $rc"
}

after_stress() {
	# The newline at the end is for the last one, vm.
	{ sed -n 's/^ *- stressor: */ /p; s/^ *bogo-ops: */=/p' $state/stress.yaml | tr -d '\n'; echo; } |
		tr ' ' '\n' | while IFS='=' read -r name ops; do
		[ -z "$name" ] || add "$state/ops_$name" "$ops"
	done
	# 2: a stressor failed; 3: lacked something, as memory, which is what is meant.
	case $1 in
	0 | 3) ;;
	*)
		{ grep -E 'fail|error|unrecognized' $state/stress.out || tail -n 3 $state/stress.out; } |
			sort | uniq | head -n 8 | sed "s/^/F stress-ng, status $1: /"
		add $state/stress_bad 1
		;;
	esac
}

after_trinity() {
	calls=$(sed -n 's/.*Ran \([0-9]*\) syscalls.*/\1/p' $state/trinity.out | tail -n 1)
	add $state/calls "${calls:-0}"
	# It ends by signals of its own making, too: what counts is that calls were made.
	rm -rf /tmp/trinity/*
}

# In a subshell's cgroup, so that what it starts is in it.
run_stress() {
	echo 0 > $group/cgroup.procs
	rm -f $state/stress.yaml
	args=
	for s in $stressors; do
		args="$args --$s 1"
	done
	# shellcheck disable=SC2086
	exec stress-ng $args --fork-max 4 --metrics-brief --mmap-bytes 4m --mremap-bytes 8m \
		--userfaultfd-bytes 16m --vm-bytes 1m --vm-method write64 --vm-keep --temp-path /tmp/data \
		--yaml $state/stress.yaml --timeout 90
}
stress() { (run_stress); }

trinity_once() {
	(cd /tmp/trinity && exec timeout -s INT -k 30 120 trinity -q -X -l off -C 3 -g vm -N 20000)
}

vmstat() {
	for c in $counters; do
		v=$(grep "^$c " /proc/vmstat) || v="$c 0"
		echo "$c=${v#* }"
	done | tr '\n' ' '
}

mount -t configfs configfs /sys/kernel/config 2> /dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2> /dev/null
mkdir -p $state /tmp/data /tmp/trinity /dev/shm $group
# Trinity's segments, whose huge pages else stay in use when it has ended.
echo 1 > /proc/sys/kernel/shm_rmid_forced
chmod 777 /tmp/trinity
mount -t tmpfs -o size=64m tmpfs /dev/shm
mount -t tmpfs -o size=64m,mode=777 tmpfs /tmp/trinity
echo +memory > /sys/fs/cgroup/cgroup.subtree_control || die "no memory cgroup"
mkdir -p $group
echo 64M > $group/memory.max || die "no limit"
disk data 256 2000000
mke2fs -F -b 4096 -m 0 /dev/data > /dev/null && mount -t ext4 /dev/data /tmp/data ||
	die "no file system"
disk swap 256 2000000
echo 96M > /sys/block/zram0/disksize || die "no zram"
for d in zram0 swap; do
	mkswap /dev/$d > /dev/null || die "mkswap $d"
done
# Without a priority, the first is filled first.
swapon /dev/zram0 && swapon /dev/swap || die "no swap"
# Long waits are not the kernel's fault when the CPU is emulated and KASAN looks on.
echo 0 > /proc/sys/vm/page-cluster

# Without the tests that count the faults of the whole system, which are not theirs alone
# here, and those that bring a swap disk and take it away again: others' pages would be on it.
again selftest kselftest-fault-retry -T file_read_vma_lock -T cow_vma_lock -T waits_vma_lock \
	-T signal_vma_lock -T swap_in -T swap_in_vma_lock -T swap_in_error -T swap_in_signals \
	-V swap &
again stress stress &
again trinity trinity_once &
start=$(date +%s)
# Until the first run of each is over, too.
while t=$(($(date +%s) - start)); [ $t -lt "$seconds" ]; do
	sleep 30
	echo "P $t s: $(vmstat)"
done
touch $state/stop
for name in selftest stress trinity; do
	[ -s $state/$name.runs ] || echo "P waiting for the first run of $name"
done
wait
line="took=$(($(date +%s) - start))"
vmstat_now=$(vmstat)
echo "P the tests alone"
selftest_alone
line="$line alone_ok=$alone_ok"
for name in selftest stress trinity; do
	line="$line ${name}_runs=$(cat $state/$name.runs)"
done
for name in tests_ok tests_bad stress_bad calls; do
	line="$line $name=$(cat $state/$name 2>/dev/null || echo 0)"
done
for s in $stressors; do
	line="$line ops_$s=$(cat "$state/ops_$s" 2>/dev/null || echo 0)"
done
echo "R $line $vmstat_now"
