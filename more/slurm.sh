#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# `make test` and `make figures` with ENGINE=slurm, on a real Slurm with two nodes on this machine,
# which get lost. Runs on the host, as root; needs Debian's slurm-wlm and munge.
#	slurm.sh BUILD
# Works in a copy of the checkout. The small matrix needs no kernel: tests of the harness, and one
# that fails without a kernel. The figures boot the kernels of BUILD. A node is a PID namespace:
# all that runs on it ends at once.
set -eu
. lab/env.sh
build=$1
house=build/slurm-test
unset MAKEFLAGS MFLAGS MAKELEVEL
small_test() {
	make -C $house test TESTED= ARCH="x86_64 arm" \
		K="test_sample or test_names or test_builds or test_writer" "$@" 2>&1
}
small_figures() {
	make -C $house figures MEASURED= KERNELS="base series" ROUNDS=1 W="insns pf1" "$@" 2>&1
}

for program in munged slurmctld slurmd sbatch; do
	command -v "$program" > /dev/null || {
		echo "@ skipped: no $program; apt-get install slurm-wlm munge"
		exit 0
	}
done
[ "$(id -u)" = 0 ] || die "Slurm's daemons need root"
# All that this test starts ends with it.
[ -n "${INSIDE:-}" ] || exec env INSIDE=1 unshare --pid --fork --kill-child --mount-proc "$0" "$@"

here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
export SLURM_CONF="$here/slurm.conf"
mkdir "$here/state"
cat > "$SLURM_CONF" <<-EOT
	ClusterName=test
	SlurmctldHost=$(hostname)(127.0.0.1)
	SlurmctldPort=16817
	SlurmUser=root
	AuthInfo=socket=$here/munge,cred_expire=3
	StateSaveLocation=$here/state
	SlurmdSpoolDir=$here/%n
	SlurmctldPidFile=$here/slurmctld.pid
	SlurmdPidFile=$here/%n.pid
	SlurmctldLogFile=$here/slurmctld.log
	SlurmdLogFile=$here/%n.log
	ProctrackType=proctrack/linuxproc
	TaskPlugin=task/none
	SelectType=select/cons_tres
	ReturnToService=2
	SlurmdTimeout=10
	SlurmdParameters=config_overrides
	NodeName=n1 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=16818 CPUs=2
	NodeName=n2 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=16819 CPUs=2
	PartitionName=all Nodes=ALL Default=YES
EOT
dd if=/dev/urandom of="$here/key" bs=1024 count=1 status=none
chmod 400 "$here/key"
munged --force --key-file "$here/key" --socket "$here/munge" --pid-file "$here/munged.pid" \
	--log-file "$here/munged.log" --seed-file "$here/seed"
slurmctld

# node NAME: start it.
node() {
	mkdir -p "$here/$1"
	unshare --pid --fork --kill-child --mount-proc sh -c "slurmd -N $1; sleep infinity" &
	echo $! > "$here/$1.unshare"
}

# until_true SECONDS COMMAND...
until_true() {
	left=$1
	shift
	while ! "$@" > /dev/null 2>&1; do
		sleep 1
		left=$((left - 1))
		[ "$left" -gt 0 ] || die "this did not come true: $*"
	done
}

# begun COMMAND NUMBER: so many attempts have.
begun() {
	[ "$(cat $house/build/slurm/"$1".*/*.log | grep -c '^begins on')" -ge "$2" ]
}

# node_of COMMAND: where the first attempt of its first job is.
node_of() {
	job=$(head -n 1 $house/build/slurm/"$1".*/jobs)
	sed -n 's/^begins on \([^ ]*\) .*/\1/p' $house/build/slurm/"$1".*/"$job.log" | head -n 1
}

# check WORDS COMMAND...: a line for a result.
passed=0 failed=0
check() {
	words=$1
	shift
	if "$@"; then
		echo "@ ok      $words"
		passed=$((passed + 1))
	else
		echo "@ FAILED  $words"
		failed=$((failed + 1))
	fi
}

# told: the matrix and the closing line, without seconds.
told() {
	tail -n 1 "$house/$build/logs/test.log" | cat "$house/$build/results/matrix.txt" - |
		sed 's/, [0-9]* s\( \|$\)/ /g; s/  */ /g; s/ $//'
}

# samples: their names. The numbers are the guest's own time, and differ a little.
samples() {
	(cd "$house/$build/samples" && find . -name '*.sample' | sort)
}

rm -rf $house
mkdir -p "$house/$build"
tar -c --exclude=./build --exclude=./.git . | tar -C $house -x
cp -al "$build/out" "$house/$build/"
node n1
node n2
until_true 60 sh -c '[ "$(sinfo -h -N -t idle | wc -l)" = 2 ]'

echo "@ the tests, here"
small_test || :
told > "$here/local"
cat "$here/local"

echo "@ the tests, by Slurm; a machine is lost"
rm -r "$house/$build/results"
small_test ENGINE=slurm > "$here/log" &
until_true 120 begun test 2
kill -KILL "$(pgrep -P "$(cat "$here/$(node_of test).unshare")")"
status=0
wait $! || status=$?
cat "$here/log"
told > "$here/slurm"
check "a job began again" begun test 3
check "a failed test fails it" [ $status != 0 ]
check "the same results as here" diff "$here/local" "$here/slurm"

for name in n1 n2; do
	kill -0 "$(cat "$here/$name.unshare")" 2> /dev/null || node $name
done
until_true 60 sh -c '[ "$(sinfo -h -N -t idle | wc -l)" = 2 ]'
echo "@ figures, by Slurm; a machine is lost to Slurm, but goes on"
small_figures ENGINE=slurm > "$here/log" &
until_true 120 begun figures 2
name=$(node_of figures)
kill -KILL "$(pgrep -x slurmd -P "$(pgrep -P "$(cat "$here/$name.unshare")")")"
status=0
wait $! || status=$?
cat "$here/log"
tail -n 3 $house/build/slurm/figures.*/*.log
samples > "$here/slurm"
check "a job began again" begun figures 3
check "two attempts ended, one counts" grep -rqs "another attempt was first" $house/build/slurm
check "all went well" [ $status = 0 ]
echo "@ figures, here"
rm -r "$house/$build/samples"
small_figures
samples > "$here/local"
check "the same samples as here" diff "$here/local" "$here/slurm"

echo "@ the tests, by Slurm; a job is cancelled"
rm -r "$house/$build/results"
small_test ENGINE=slurm > "$here/log" &
until_true 120 begun test 1
scancel "$(squeue -h -o %A_%a -t running | head -n 1)"
status=0
wait $! || status=$?
cat "$here/log"
check "a job without a result fails it" [ $status != 0 ]
check "it is named" grep -q 'FAILED  [a-z0-9_]*: no result' "$here/log"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
