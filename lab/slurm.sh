#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# make test or make figures on many machines: hand the jobs to Slurm, wait, and join what they
# leave. Runs on the host, in a folder that all nodes share.
#	slurm.sh BUILD test --arch "ARCH ..." [-k "WORDS"]
#	slurm.sh BUILD figures [figures.py's options]
# A job is an architecture, which works in a copy of the checkout, or a workload, which uses the
# kernels of this one. The job of a lost node is started again by Slurm, while its first attempt
# may still be running somewhere. So each attempt has a folder of its own, and leaves its result
# by a rename that only the first can do.
# Below build/slurm/COMMAND.XXXXXX:
#  jobs         their names
#  JOB.XXXXXX   an attempt
#  JOB.log      what the attempts said
#  JOB          the result
# sbatch's own variables (SBATCH_PARTITION ...) say where and how the jobs run.
set -eu
. lab/env.sh

# attempt BUILD COMMAND PLACE [OPTION...]: what Slurm runs, for the job of its number.
attempt() {
	build=$1 command=$2 place=$3
	shift 3
	job=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" "$place/jobs")
	at=$(mktemp -d "$place/$job.XXXXXX")
	mkdir "$at/result"
	exec >> "$place/$job.log" 2>&1
	echo "begins on ${SLURMD_NODENAME:-this machine} in $at"
	[ ! -e "$place/$job" ] || { echo "another attempt was first"; return 0; }
	status=0
	if [ "$command" = test ]; then
		tar -C "$at" -xf "$place/checkout.tar"
		make -C "$at" test ENGINE= ARCH="$job" KERNEL="${KERNEL:-}" K="${4:-}" || status=$?
		mv "$at/$build/logs" "$at/$build/results" "$at/result" || :
	else
		# The samples that there are: those of an attempt that was lost, too.
		mkdir -p "$at/samples/$job"
		ln "$build/samples/$job"/*.sample "$place/$job".*/samples/"$job"/*.sample \
			"$at/samples/$job" 2> /dev/null || :
		ln -srt "$at" "$build/out" "$build/alternatives"
		lab/in.sh lab/figures.py "$at" figures "$@" --workloads "$job" || status=$?
		mv "$at/samples" "$at/results" "$at/result" || :
	fi
	echo "$status" > "$at/result/status"
	if mv -T "$at/result" "$place/$job"; then
		echo "ended with $status"
	else
		echo "another attempt was first"
	fi
	[ "$status" != 0 ] || rm -rf "$at"
}

if [ "$1" = --attempt ]; then
	shift
	attempt "$@"
	exit 0
fi

build=$1 command=$2
shift 2
command -v sbatch > /dev/null || die "no sbatch: ENGINE=slurm needs Slurm (Debian's slurm-client)"
mkdir -p build/slurm "$build/results"
rm -rf "build/slurm/$command".*
place=$(mktemp -d "build/slurm/$command.XXXXXX")
if [ "$command" = test ]; then
	echo "$2" | xargs -n 1 > "$place/jobs"
	tar -c --exclude=./build --exclude=./.git -f "$place/checkout.tar" .
else
	lab/in.sh lab/figures.py "$build" figures "$@" --list > "$place/jobs"
	sed -i '/^@/d' "$place/jobs"
fi
jobs=$(wc -l < "$place/jobs")
echo "@ $jobs jobs for Slurm, logs: $place/*.log"
sbatch --parsable --wait --requeue --open-mode=append --job-name="${place##*/}" \
	--cpus-per-task=2 --array="0-$((jobs - 1))" --output="$place/slurm.log" \
	lab/slurm.sh --attempt "$build" "$command" "$place" "$@" &
trap 'scancel --name="${place##*/}"; exit 130' INT TERM HUP
# What went wrong is told job by job.
wait $! || :
[ "$command" != test ] || exec lab/in.sh lab/join.py "$build" "$place"

failed=0
while read -r job; do
	status=$(cat "$place/$job/status" 2> /dev/null) || status="no result"
	[ "$status" = 0 ] || { echo "@ FAILED  $job: $status, see $place/$job.log"; failed=1; }
	# A sample is there when it is whole, and its name says what it is of.
	mkdir -p "$build/samples/$job"
	find "$place" -path "*/samples/$job/*.sample" -exec ln {} "$build/samples/$job" \; 2> /dev/null
done < "$place/jobs"
lab/in.sh lab/figures.py "$build" figures "$@" --kept || failed=1
exit $failed
