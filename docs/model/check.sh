#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Search all states of the models: the properties hold, and each mutant of a model
# breaks the property it is meant to break, or the property proves nothing.
#	check.sh WORKDIR
# Prints a line a search and fails if one fails. What Spin says is left in
# WORKDIR/MODEL-SWITCHES/PROPERTY.log, a counterexample in PROPERTY.trail.txt.
set -u
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}
[ $# = 1 ] || die "usage: ${0##*/} WORKDIR"
for tool in spin gcc; do
	command -v "$tool" >/dev/null || die "$tool is missing; on Debian: apt-get install spin gcc"
done
models=$(cd "$(dirname "$0")" && pwd) || exit 1
{ mkdir -p "$1" && work=$(cd "$1" && pwd); } || die "cannot write to $1"
case $work/ in
"$models"/*)
	rmdir "$work" 2>/dev/null
	die "WORKDIR is in the sources: name one elsewhere"
	;;
esac

failed=0 built=' '
not_ok() {
	printf 'not ok %s\n' "$*"
	failed=1
}

# build MODEL KIND DEFINES: the verifier, in the directory $dir. KIND is safety or ltl.
# No partial order reduction: it saves little here and is one thing less to trust.
build() {
	dir=$work/$1$(echo "$3" | sed 's/-D\(MUTANT=\)*//g; s/  */-/g; s/^-*/-/; s/-$//')-$2
	case $built in
	*" $dir "*) return ;;
	esac
	rm -rf "$dir"
	mkdir "$dir" || die "cannot write to $work"
	# What is searched to its end is worth a better compilation. Of a mutant the
	# shortest counterexample is wanted.
	case $2,$3 in
	safety,*MUTANT*) cflags='-O0 -DSAFETY -DNOCLAIM -DBFS' ;;
	safety,*) cflags='-O1 -DSAFETY -DNOCLAIM' ;;
	ltl,*MUTANT*) cflags=-O0 ;;
	ltl,*) cflags=-O2 ;;
	esac
	# shellcheck disable=SC2086
	(cd "$dir" && spin $3 -a "$models/$1.pml" &&
		gcc -w $cflags -DNOREDUCE -DMEMLIM=1024 -o pan pan.c) > "$dir/build.log" 2>&1 || {
		not_ok "$1 $3: does not build"
		sed 's/^/    | /' "$dir/build.log"
		return 1
	}
	built="$built$dir "
}

# search MODEL PROPERTY DEFINES: run the verifier. PROPERTY is "safety", all assertions
# and no invalid end state, or the name of an LTL formula, under weak fairness.
search() {
	model=$models/$1.pml property=$2 defines=$3
	case $2 in
	safety)
		build "$1" safety "$3" || return 1
		set -- "$1" "$2" -m1000000
		;;
	*)
		build "$1" ltl "$3" || return 1
		# Assertions and end states are not this one's business.
		set -- "$1" "$2" -a -f -A -E -m1000000 -N "$2"
		;;
	esac
	log=$dir/$2.log
	shift 2
	(cd "$dir" && rm -f ./*.trail && exec ./pan -w20 "$@") > "$log" 2>&1
	result="$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$log" | tail -n 1) states, $(sed -n 's/^pan: elapsed time \([0-9.e-]*\) seconds/\1/p' "$log") s"
	# What has been searched for.
	case $property in
	safety)
		grep -q '^	assertion violations	+$' "$log" &&
			grep -q '^	invalid end states	+$' "$log"
		;;
	*)
		grep -q "^	never claim *	+ ($property)\$" "$log" &&
			grep -q '^	acceptance   cycles *	+ (fairness enabled)$' "$log"
		;;
	esac || { not_ok "$name: the search did not run, see $log"; return 1; }
}

# prove NAME MODEL PROPERTY [DEFINES]: it holds, and nothing has been left out.
prove() {
	name=$1
	search "$2" "$3" "${4-}" || return
	if ! grep -q '^State-vector .* errors: 0$' "$log"; then
		not_ok "$name: $(sed -n 's/^pan:[0-9]*: //p' "$log" | head -n 1), see $log"
	elif ! grep -q '^Full statespace search for:$' "$log" ||
		grep -Eq 'Search not completed|search depth too small|out of memory|MEMLIM' "$log"; then
		not_ok "$name: the search was not exhaustive, see $log"
	else
		printf 'ok %s: %s\n' "$name" "$result"
	fi
}

# mutant NAME PROPERTY ERROR [MODEL [DEFINES]]: the search ends in ERROR (a fixed string,
# spaces do not count).
mutant() {
	name="mutant $1${5:+ $5}, $2" error=$3
	search "${4-retry}" "$2" "-DMUTANT=$1 ${5-}" || return
	got=$(sed -n 's/^pan:1: //p' "$log" | sed 's/^assertion violated/assertion/')
	case $(echo "$got" | tr -d ' ') in
	*"$(echo "$error" | tr -d ' ')"*)
		# shellcheck disable=SC2086
		(cd "$dir" && spin -t -p -k ./*.trail $defines "$model") > "$dir/$property.trail.txt" 2>&1
		printf 'ok %s: found by "%s": %s\n' "$name" "$error" "$result"
		;;
	*)
		not_ok "$name: not found by '$error', but: ${got:-nothing}; see $log"
		;;
	esac
}

prove 'bound, flags, accounting, signals, locks, no deadlock' retry safety
prove 'a fault comes to its last attempt' retry bounded -DNFAULT=1
prove 'a fatal signal ends a fault' retry killable
prove 'a fault ends with its last RETRY' retry ends
prove 'a writer gets both locks' retry writer_proceeds
prove "a writer waits for no I/O but that of base's first attempt" retry writer_waits_for_no_io

major='assertion ((tried||flag_major)==base_tried)'
fewer='assertion (((!(tried)||(nr_first==3))'
kind='assertion !((vma_lock&&'
mutant UNBOUNDED safety 'assertion (nr_first<=3)'
mutant UNBOUNDED bounded 'acceptance cycle'
mutant TWO_ATTEMPTS safety "$fewer"
mutant HARD_IGNORED safety "$kind"
mutant TRIED_KEPT writer_waits_for_no_io 'acceptance cycle'
mutant HARD_NOT_TRIED safety 'assertion (!(was_hard)'
mutant MAJOR_NOT_2ND safety "$major"
mutant MAJOR_2ND_HARD safety "$major"
mutant MAJOR_HARD_LOST safety "$major"
mutant NO_WAY_BACK safety "$fewer"
mutant KERNEL_BACK safety "$kind"
mutant NO_SIGNALS safety 'assertion !(was_killed)'
mutant NO_SIGNALS killable 'acceptance cycle'
mutant NO_LOOKUP safety 'assertion ((vma_held==vma_lock)'
mutant NO_ACCESS_CHECK safety 'assertion (vma=='
mutant KEEP_LOCK safety 'assertion (!(retry)||((vma_held==0)&&(mmap_held==0)))'
mutant HARD_ALWAYS safety 'assertion (!(hard)||(retry&&vma_lock))'
mutant ANON_LOCK safety 'invalid end state'
mutant ANON_LOCK ends 'acceptance cycle'
mutant ANON_LOCK writer_proceeds 'acceptance cycle'

prove 'no fault sleeps on after UFFDIO_UNREGISTER or close' unregister safety
prove 'all of these faults end' unregister no_fault_sleeps_on
# The fix is for base, too, where it is faults that come late which are lost.
prove 'the same in base with the fix' unregister safety -DN=1
prove 'base without the fix wakes those who wait already' unregister safety \
	'-DMUTANT=WAKE_FIRST -DN=1 -DALL_WAIT'
asleep='invalid end state'
mutant WAKE_FIRST safety "$asleep" unregister
mutant WAKE_FIRST safety "$asleep" unregister -DALL_WAIT
mutant WAKE_FIRST safety "$asleep" unregister -DN=1
mutant QUEUE_LATE safety "$asleep" unregister
mutant CLOSE_NO_WAKE safety "$asleep" unregister
mutant MISSING_ONLY safety "$asleep" unregister -DALL_WAIT

exit $failed
