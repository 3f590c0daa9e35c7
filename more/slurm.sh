#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# `make test` and `make figures` with ENGINE=slurm, on a real Slurm with two nodes on this machine
# from which something is taken. Runs on the host, as root; needs Debian's slurm-wlm and munge.
#	slurm.sh BUILD
# Works in a copy of the checkout. The tests need no kernel, and those that want one fail; the
# figures boot BUILD's. A node is a PID namespace: all that runs on it ends with it.
set -eu
. lab/env.sh
build=$1 house=build/slurm-test failed=0
for program in munged slurmctld slurmd sbatch; do
	command -v "$program" > /dev/null && [ "$(id -u)" = 0 ] || {
		echo "@ skipped slurm: needs root, and $program: apt-get install slurm-wlm munge"
		echo "0 passed, 0 failed, 1 skipped"
		exit 0
	}
done
[ -n "${INSIDE:-}" ] || exec env INSIDE=1 unshare --pid --fork --kill-child --mount-proc "$0" "$@"
unset MAKEFLAGS MFLAGS MAKELEVEL

here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
export SLURM_CONF="$here/slurm.conf"
mkdir "$here/state" "$here/n1" "$here/n2"
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
	SlurmdTimeout=5
	SlurmdParameters=config_overrides
	NodeName=n1 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=16818 CPUs=2
	NodeName=n2 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=16819 CPUs=2
	PartitionName=all Nodes=ALL Default=YES
EOT
(umask 077 && dd if=/dev/urandom of="$here/key" bs=1024 count=1 status=none)
munged --force --key-file "$here/key" --socket "$here/munge" --pid-file "$here/munged.pid" \
	--log-file "$here/munged.log" --seed-file "$here/seed"
slurmctld

# until_true COMMAND...
until_true() {
	left=300
	until "$@"; do
		sleep 1
		left=$((left - 1))
		[ "$left" -gt 0 ] || die "this did not come true: $*"
	done
}

both_idle() {
	[ "$(sinfo -h -N -t idle | wc -l)" = 2 ]
}

# nodes: start those that are not there.
nodes() {
	for node in n1 n2; do
		kill -0 "$(cat "$here/$node.unshare" 2> /dev/null)" 2> /dev/null && continue
		unshare --pid --fork --kill-child --mount-proc \
			sh -c "slurmd -N $node; sleep infinity" &
		echo $! > "$here/$node.unshare"
	done
	until_true both_idle
}

# begun COMMAND NUMBER: so many attempts have.
begun() {
	[ "$(cat $house/build/slurm/"$1".*/*.log 2> /dev/null | grep -c '^begins on')" -ge "$2" ]
}

# lose_machine, lose_daemon: of the node of the first attempt. lose_job: the first.
lose_machine() {
	kill -KILL "$(pgrep -P "$(cat "$here/$(first_node).unshare")")"
}
lose_daemon() {
	init=$(pgrep -P "$(cat "$here/$(first_node).unshare")")
	script=$(pgrep --ns "$init" --nslist pid -f slurm_script)
	kill -KILL "$(pgrep -x slurmd -P "$init")"
	# Both attempts are there at once.
	kill -STOP "$script"
	until_true begun figures 2
	kill -CONT "$script"
}
lose_job() {
	scancel "$(squeue -h -o %i -t running | head -n 1)"
}
first_node() {
	sed -n 's/^begins on \([^ ]*\) .*/\1/p' $house/build/slurm/*/*.log | head -n 1
}

# run COMMAND NUMBER LOSE: a small one through Slurm; when so many attempts have begun, LOSE.
# run COMMAND: the same without Slurm.
# Leaves its status and what it found, without seconds. A sample's numbers differ a little.
run() {
	rm -rf "$house/$build/results" "$house/$build/samples" $house/build/slurm
	if [ "$1" = test ]; then
		set -- "$@" -- TESTED= ARCH='x86_64 arm' \
			K='test_sample or test_names or test_builds'
	else
		set -- "$@" -- MEASURED= KERNELS='base series' ROUNDS=1 W=insns
	fi
	if [ "$2" = -- ]; then
		make -C $house "$@" > "$here/log" 2>&1 &
	else
		command=$1 number=$2 lose=$3
		shift 4
		make -C $house "$command" ENGINE=slurm "$@" > "$here/log" 2>&1 &
		until_true begun "$command" "$number"
		$lose
	fi
	status=0
	wait $! || status=$?
	sed 's/^/    /' "$here/log"
	found=$(cd "$house/$build" && {
		find samples -name '*.sample' | sort
		cat results/matrix.txt
		tail -n 1 logs/test.log
	} 2> /dev/null | sed 's/, [0-9]* s\( \|$\)/ /g; s/  */ /g; s/ $//')
}

# check WORDS COMMAND...
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
passed=0

rm -rf $house
mkdir -p "$house/$build"
tar -c --exclude=./build --exclude=./.git . | tar -C $house -x
cp -al "$build/out" "$house/$build/"
nodes

run test
here_found=$found
run test 2 lose_machine
check "tests: a machine was lost, and a job began again" begun test 3
check "a test that fails fails the whole" [ $status != 0 ]
check "the same matrix and sum as without Slurm" [ "$found" = "$here_found" ]
nodes
run test 1 lose_job
check "tests: a job without a result is a failure by its name" \
	grep -q 'FAILED  [a-z0-9_]*: no result' "$here/log"
check "so the sum is another" [ "$found" != "$here_found" ]

run figures
here_found=$found
run figures 1 lose_daemon
check "figures: a node was lost to Slurm, and a job began again" begun figures 2
check "the first attempt went on, and one of the two has the result" \
	[ "$(grep -c '^ended with 0' $house/build/slurm/figures.*/insns.log)" = 1 ]
check "all is well" [ $status = 0 ]
check "the same samples as without Slurm" [ "$found" = "$here_found" ]
again() {
	make -C $house figures ENGINE=slurm MEASURED= KERNELS='base series' ROUNDS=1 W=insns \
		> "$here/log" 2>&1 &&
		grep -q ' 0 of them to make' $house/build/slurm/figures.*/insns.log
}
check "what is measured is not measured again" again
echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
