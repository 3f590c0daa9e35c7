#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Real programs whose page faults wait: in the guest, from the image of
# scripts/real-image.sh. Prints one line "R key=value ..." a workload.
#	real SECONDS WORKLOAD...
# rocksdb  db_bench reads 128 MiB at random through mappings, 16 threads, a disk that
#          takes 1 ms, under a memory limit of 96 MiB
# jvm      OpenJDK with 8 threads that read a heap which swaps, and one that starts
#          threads (Heap.java); a disk that takes 1 ms, memory.high of 144 MiB: with that as
#          the limit, it is now and then killed for want of memory
set -eu
PATH=/bin:/real/bin
config=/sys/kernel/config/nullb
group=/sys/fs/cgroup/run
counters="pgmajfault vma_lock_success vma_lock_abort vma_lock_retry vma_lock_retry_hard
	vma_lock_fallback pswpin"

die() {
	echo "real: $*"
	exit 1
}
trap '[ $? = 0 ] || echo "real: something failed: see the console"' EXIT

# disk NAME MIB: takes 1 ms a request, and keeps what is written.
disk() {
	mkdir "$config/$1"
	for set in "size $2" "memory_backed 1" "irqmode 2" "hw_queue_depth 256" \
		"completion_nsec 1000000" "power 1"; do
		echo "${set#* }" > "$config/$1/${set% *}"
	done
}

# limited FILE MIB COMMAND...: in a cgroup with so much in memory.max or memory.high.
limited() {
	mkdir -p "$group"
	echo "$2"M > "$group/$1"
	shift 2
	sh -c 'echo $$ > '"$group"'/cgroup.procs; exec "$@"' sh "$@"
}

sample() {
	for c in $counters; do
		v=$(grep "^$c " /proc/vmstat || echo "$c 0")
		echo "${v#* }"
	done
}

# report WORKLOAD "KEY=VALUE ...": with the counters since "$before".
report() {
	line="R w=$1 how=own $2"
	# shellcheck disable=SC2046,SC2086
	set -- $(sample)
	for was in $before; do
		c=${counters_left%% *} counters_left=${counters_left#* }
		line="$line $c=$(($1 - was))"
		shift
	done
	echo "$line has_fallback=$(grep -c '^vma_lock_fallback ' /proc/vmstat || :)"
}

rocksdb() {
	disk data 512
	mke2fs -F -b 4096 -m 0 /dev/data > /dev/null
	mkdir -p /tmp/data
	mount -t ext4 /dev/data /tmp/data
	db="--db=/tmp/data/db --num=130000 --value_size=1000 --key_size=16 --compression_type=none"
	# shellcheck disable=SC2086
	db_bench $db --benchmarks=fillseq,flush --disable_wal=1 --threads=1 > /tmp/fill 2>&1 ||
		die "db_bench cannot fill its database, status $?: $(tail -n 8 /tmp/fill)"
	sync
	echo 3 > /proc/sys/vm/drop_caches
	before=$(sample)
	# shellcheck disable=SC2086
	limited memory.max 96 db_bench $db --use_existing_db=1 --benchmarks=readrandom --mmap_read=1 \
		--threads=16 --duration="$seconds" --histogram=1 --cache_size=1048576 \
		--advise_random_on_open=1 > /tmp/read 2>&1 || die "db_bench: $(tail -n 3 /tmp/read)"
	found=$(sed -n 's/^readrandom.* \([0-9]*\) ops\/sec.*(\([0-9]*\) of \([0-9]*\) found).*/ops_s=\1 found=\2 of=\3/p' /tmp/read)
	times=$(sed -n 's/^Percentiles: P50: \([0-9.]*\) .*P99: \([0-9.]*\) P99.9: \([0-9.]*\) .*/p50_us=\1 p99_us=\2 p999_us=\3/p' /tmp/read)
	[ "$found" ] && [ "$times" ] || die "db_bench says something else than it used to: $(tail -n 8 /tmp/read)"
	report rocksdb "$found $times"
	umount /tmp/data
}

jvm() {
	disk swap 256
	mkswap /dev/swap > /dev/null
	swapon /dev/swap
	echo 0 > /proc/sys/vm/page-cluster
	before=$(sample)
	limited memory.high 144 /real/jdk/bin/java -Xms160m -Xmx160m -XX:+UseG1GC -XX:TieredStopAtLevel=1 \
		-Xshare:auto -cp /real Heap 112 8 "$seconds" > /tmp/heap 2>&1 || die "java: $(tail -n 3 /tmp/heap)"
	line=$(sed -n 's/^F //p' /tmp/heap)
	[ "$line" ] || die "java: $(tail -n 3 /tmp/heap)"
	report jvm "$line"
	swapoff /dev/swap
}

seconds=$1
shift
mount -t configfs configfs /sys/kernel/config 2> /dev/null || :
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2> /dev/null || :
echo +memory > /sys/fs/cgroup/cgroup.subtree_control
for workload; do
	# shellcheck disable=SC2086
	counters_left="$(echo $counters) "
	"$workload"
	rmdir "$group"
done
