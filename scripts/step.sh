#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Run one step of a longer job and show that it moves.
#	step.sh "NAME" LOG "ALL STEPS" COMMAND...
# NAME's place in ALL STEPS is k of n. The output goes to LOG; its lines that
# begin with "@ " are shown at once, and its end when the step fails. A line a
# minute (on a terminal: a running clock) says that it is alive. The step ends with
# the make that asked for it (VFR_RUN), however that dies.
set -u
. "$(dirname "$0")/lib.sh"
name=$1 log=$2 all=$3
shift 3
k=0 n=0
for s in $all; do
	n=$((n + 1))
	[ "$s" != "$name" ] || k=$n
done
alone
mkdir -p "${log%/*}" && true > "$log" ||
	die "cannot write $log: is it another user's, or the disk full?"
start=$(date +%s)
elapsed() {
	t=$(($(date +%s) - start))
	printf '%d:%02d' $((t / 60)) $((t % 60))
}
head=$(printf '[%d/%d] %-22s' "$k" "$n" "$name")
# A process group of its own, so that an interrupt ends all of it. When this shell is
# killed, the job is told, too.
setsid setpriv --pdeathsig TERM "$@" >> "$log" 2>&1 < /dev/null &
job=$!
# over CONDITION...: wait for it, 10 s at most.
over() {
	i=0
	while [ $i -lt 100 ] && ! "$@"; do
		i=$((i + 1))
		sleep 0.1
	done
}
leader_ended() { ! grep -q ') [^Z]' "/proc/$job/stat" 2>/dev/null; }
all_ended() { ! kill -0 -- "-$job" 2>/dev/null; }
# interrupted: end the job and all of its group, by force if need be.
interrupted() {
	trap '' INT TERM HUP
	kill -- "-$job" 2>/dev/null || kill "$job" 2>/dev/null
	over leader_ended
	leader_ended || kill -KILL -- "-$job"
	wait "$job"
	over all_ended
	kill -KILL -- "-$job" 2>/dev/null
	echo "$head interrupted"
	exit 130
}
trap interrupted INT TERM HUP
shown=0 tick=0
notes() {
	total=$(grep -c '^@ ' "$log")
	[ "$total" -gt "$shown" ] || return 0
	[ ! -t 1 ] || printf '\r\033[K'
	grep '^@ ' "$log" | tail -n "+$((shown + 1))" | sed "s/^@ /    /"
	shown=$total
}
while kill -0 "$job" 2>/dev/null; do
	[ -z "${VFR_RUN:-}" ] || kill -0 "$VFR_RUN" 2>/dev/null || interrupted
	notes
	if [ -t 1 ]; then
		printf '\r%s %s  %s' "$head" "$(elapsed)" "$log"
	elif [ "$tick" -gt 0 ] && [ $((tick % 60)) = 0 ]; then
		printf '%s %s so far, log: %s\n' "$head" "$(elapsed)" "$log"
	fi
	tick=$((tick + 1))
	sleep 1
done
wait "$job"
rc=$?
notes
[ ! -t 1 ] || printf '\r\033[K'
if [ "$rc" = 0 ]; then
	if tail -n 1 "$log" | grep -q '^up to date'; then
		printf '%s up to date\n' "$head"
	else
		printf '%s done in %s, log: %s\n' "$head" "$(elapsed)" "$log"
	fi
else
	printf '%s FAILED after %s, log: %s\n' "$head" "$(elapsed)" "$log"
	tail -n 25 "$log" | sed 's/^/    | /'
	for dir in "${log%/*}" "${VFR_CACHE:-/}" /var/tmp; do
		free=$(df -Pk "$dir" 2>/dev/null | awk 'NR == 2 { print int($4 / 1024) }')
		[ "${free:-100}" -ge 100 ] || echo "    only $free MB free in $dir: make room, then run again"
	done
fi
exit "$rc"
