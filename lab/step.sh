#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Run one step of a longer job: its name, its log, its lines that begin with "@ " at once,
# its time, and the end of the log if it fails. One step at a time in a clone.
#	step.sh NAME LOG COMMAND...
set -u
name=$1 log=$2
shift 2
mkdir -p "${log%/*}"
exec 9> build/.lock
flock -n 9 || {
	echo "another run is at work in this clone: wait for its end (or: fuser $PWD/build/.lock)" >&2
	exit 1
}
start=$(date +%s)
: > "$log"
printf '%-30s log: %s\n' "$name" "$log"
"$@" > "$log" 2>&1 < /dev/null &
job=$!
trap 'kill $job 2> /dev/null; exit 130' INT TERM HUP
# In the background: a shell does not run its trap while it waits for a command.
tail --pid=$job -n +1 -s 1 -f "$log" 9>&- | sed -un 's/^@ /    /p' &
wait $!
wait $job
rc=$?
seconds=$(($(date +%s) - start))
time=$(printf '%d:%02d' $((seconds / 60)) $((seconds % 60)))
if [ "$rc" = 0 ]; then
	[ "$seconds" -lt 10 ] || printf '%-30s done in %s\n' "$name" "$time"
else
	printf '%-30s FAILED after %s, log: %s\n' "$name" "$time" "$log"
	tail -n 25 "$log" | sed 's/^/    | /'
fi
exit $rc
