#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make the kernel trees below BUILD. Runs in the build root.
#	tree.sh BUILD
#  BUILD/linux  a git tree: branch "base", branch "fixes" = base + fixes/, and
#               branch "series" = fixes + patches/
#  BUILD/base   the files of "base", to build from
# The base is the tarball in the cache or, with KERNEL, the HEAD of that tree,
# which is only read. Commits in BUILD/linux that are not in fixes/ or patches/ are
# never thrown away: see the messages.
set -eu
. scripts/lib.sh
build=$1
linux=$build/linux
mkdir -p "$build"
eval "$(sed -n 's/^\(BASE_VERSION\) *= */\1=/p' base.mk)"
[ -e patches/0000-cover-letter.patch ] ||
	die "patches/0000-cover-letter.patch is missing: take it back (git checkout patches)"
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'

# ---- the base ----
if [ -n "${KERNEL:-}" ]; then
	want=$(git -C "$KERNEL" rev-parse HEAD)
	git -C "$KERNEL" cat-file -e HEAD:mm/memory.c 2>/dev/null ||
		die "$KERNEL is no Linux tree: its HEAD has no mm/memory.c"
elif [ -e "/cache/base/$BASE_VERSION.tar.xz" ]; then
	# Not "current": another clone with another base may have been there since.
	want=$BASE_VERSION
else
	want=$(cat /cache/base/current)
fi
if [ "$(cat "$linux/.git/vfr-base" 2>/dev/null)" != "$want" ]; then
	[ ! -e "$linux/.git/vfr-base" ] ||
		die "$linux was made from another base ($(cat "$linux/.git/vfr-base")); it may hold work of yours: save that (make series), then make clean"
	rm -rf "$linux" "$build/base"
	take_over_tmp "$linux"
	if [ -n "${KERNEL:-}" ]; then
		echo "@ base: HEAD of $KERNEL, $want"
		git init -q -b series "$linux.tmp"
		common=$(cd "$KERNEL" && cd "$(git rev-parse --git-common-dir)" && pwd -P)
		echo "$common/objects" > "$linux.tmp/.git/objects/info/alternates"
		[ ! -f "$common/shallow" ] || cp "$common/shallow" "$linux.tmp/.git/shallow"
		git -C "$linux.tmp" update-ref refs/heads/base "$want"
		git -C "$linux.tmp" update-ref refs/heads/series "$want"
		git -C "$linux.tmp" reset -q --hard
	else
		echo "@ base: $want, unpacking 100,000 files"
		tar -C "$linux.tmp" --strip-components=1 -xf "/cache/base/$want.tar.xz"
		# What Debian adds to files of ours, for its binder module: without it they are
		# Linux's own, and KUnit's export does not meet another.
		sed -i '/^EXPORT_SYMBOL_GPL(lock_vma_under_rcu);$/d' "$linux.tmp/mm/mmap_lock.c"
		sed -i '/^EXPORT_SYMBOL_GPL(zap_vma_range);$/d' "$linux.tmp/mm/memory.c"
		git init -q -b series "$linux.tmp"
		git -C "$linux.tmp" config gc.auto 0
		# The kernel's .gitignore would hide some of its own files.
		git -C "$linux.tmp" add -A -f .
		GIT_AUTHOR_DATE='2000-01-01T00:00:00Z' GIT_COMMITTER_DATE='2000-01-01T00:00:00Z' \
			git -C "$linux.tmp" -c user.name=base -c user.email=base@localhost \
			commit -q -m "Linux, Debian package $want"
		git -C "$linux.tmp" branch base
	fi
	echo "$want" > "$linux.tmp/.git/vfr-base"
	mv "$linux.tmp" "$linux"
fi
if [ ! -e "$build/base/.vfr-complete" ]; then
	rm -rf "$build/base"
	take_over_tmp "$build/base"
	{ git -C "$linux" archive base || : > "$build/base.tmp/.vfr-cut"; } |
		tar -C "$build/base.tmp" -x
	[ ! -e "$build/base.tmp/.vfr-cut" ] || die "git archive failed in $linux: see above"
	: > "$build/base.tmp/.vfr-complete"
	mv "$build/base.tmp" "$build/base"
fi

# ---- fixes/ and patches/ ----
# .git/vfr-patches: "<id of both folders> <commit>" when the tree was last equal to them.
# .git/vfr-am, while they are applied: "<id> <patch> <commit before it>", and "conflict"
# if the patch does not apply.
git="git -C $linux"
state=$linux/.git
all=$(find fixes patches -name '*.patch' ! -name '0000-*' 2>/dev/null | LC_ALL=C sort)
now=$(find fixes patches -name '*.patch' -exec sha256sum {} + 2>/dev/null | LC_ALL=C sort | sha256sum | cut -d' ' -f1)
applied=$(cat "$state/vfr-patches" 2>/dev/null || true)
head=$($git rev-parse series)
$git config rebase.updateRefs true	# git rebase takes branch fixes along

dirty() {
	[ -n "$($git status --porcelain -uno | head -n 1)" ]
}

# record FILE TEXT: whole or not at all.
record() {
	echo "$2" > "$state/$1.tmp"
	mv "$state/$1.tmp" "$state/$1"
}

# go_on MESSAGE: a git am waits for the user.
go_on() {
	cat >&2 <<-EOF
		tree.sh: $1. To go on:
		1. cd $linux; git am --show-current-patch=diff | git apply --reject; then put in by hand what the .rej files hold
		2. git add FILES; git am --continue
		3. make tree: keeps what you did and goes on with the next patch; when all are applied: make series
	EOF
	exit 1
}

by_hand=
todo=$all
if [ -e "$state/vfr-am" ]; then
	read -r id at before stop < "$state/vfr-am" || true
	if [ "$stop" != conflict ]; then
		# Killed: without the locks of a killed git, and what it left half-written.
		rm -rf "$state/rebase-apply"
		find "$state" -maxdepth 3 -name '*.lock' -delete
		if dirty; then
			$git stash push -q -m "left by an interrupted make tree"
			echo "@ NOTE: $linux had changes after an interrupted run: git -C $linux stash list"
		fi
	fi
	if ! dirty && { [ "$head" = "$before" ] && [ "$at" = - ] ||
		! $git log --format=%ce base..series | grep -qvx series@localhost; }
	then
		# Nothing was done by hand: start over.
		rm -rf "$state/rebase-apply"
	else
		[ ! -d "$state/rebase-apply" ] || go_on "git am of $at is in progress in $linux"
		! dirty || die "$linux has uncommitted changes: commit them, then make tree goes on with $at"
		[ "$id" = "$now" ] ||
			echo "@ NOTE: fixes/ or patches/ have changed; what is applied already is not applied anew"
		[ -n "$before" ] && [ "$at" != - ] ||
			die "which patches are in $linux is not known: git am the rest there by hand, then make series"
		by_hand=base
		subject=$($git mailinfo -b /dev/null /dev/null < "$at" 2>/dev/null | sed -n 's/^Subject: //p')
		if [ ! -e "$at" ] || $git log --format=%s "$before..series" | grep -qxF -e "$subject"; then
			todo=$(echo "$all" | LC_ALL=C awk -v at="$at" '$0 "" > at ""')
			case $at in fixes/*) $git update-ref refs/heads/fixes series ;; esac
		else
			todo=$(echo "$all" | LC_ALL=C awk -v at="$at" '$0 "" >= at ""')
		fi
	fi
elif [ -d "$state/rebase-apply" ] || [ -d "$state/rebase-merge" ]; then
	die "a rebase or am of yours is in progress in $linux: finish or abort it first"
elif [ -z "$applied" ] && [ "$head" != "$($git rev-parse base)" ]; then
	die "which commits of $linux are in fixes/ and patches/ is not known any more: make series takes both from them; to throw them away: git -C $linux checkout -B series base; git -C $linux branch -f fixes base; make tree"
elif [ "${applied%% *}" = "$now" ]; then
	[ "${applied#* }" = "$head" ] ||
		echo "@ NOTE: $linux has commits that are not in fixes/ or patches/ (make series)"
	! dirty || echo "@ NOTE: $linux has uncommitted changes; they are built, too"
	echo "up to date"
	exit 0
elif dirty || { [ -n "$applied" ] && [ "${applied#* }" != "$head" ]; }; then
	last=${applied#* }
	die "both the patches (fixes/, patches/) and $linux have changed since they were last equal: take one (make series: the patches from the tree; or git -C $linux reset --hard ${last:-base}, then make tree: the tree from the patches)"
fi
if $git rev-parse -q --verify refs/heads/fixes > /dev/null; then
	$git merge-base --is-ancestor fixes series ||
		die "branch fixes of $linux is not below branch series, and its commits would be lost: rebase series onto it, or move it: git -C $linux branch -f fixes COMMIT (base: to throw them away)"
fi
if [ -n "$by_hand" ]; then
	$git checkout -q series
else
	$git update-ref refs/heads/fixes base
	record vfr-am "$now - $head"
	$git checkout -q -f series
	$git reset -q --hard base
fi
export GIT_COMMITTER_NAME=series GIT_COMMITTER_EMAIL=series@localhost
for p in $todo; do
	record vfr-am "$now $p $($git rev-parse HEAD)"
	if ! $git am -q --keep-non-patch --committer-date-is-author-date "$PWD/$p"; then
		# What does not apply leaves the tree as it was.
		! dirty || die "git am of $p broke off: is the disk full?"
		record vfr-am "$now $p $($git rev-parse HEAD) conflict"
		export GIT_INDEX_FILE="$PWD/$state/vfr-index"
		$git read-tree HEAD
		others=
		for q in $(echo "$todo" | LC_ALL=C awk -v at="$p" '$0 "" > at ""'); do
			$git apply --cached "$PWD/$q" 2> /dev/null || others="$others, $q"
		done
		rm -f "$GIT_INDEX_FILE"
		[ -d "$state/rebase-apply" ] ||
			die "$p does not apply to the base $want: it is no patch; mend it, then make tree"
		go_on "$p does not apply to the base $want${others:+; nor will ${others#, }}"
	fi
	case $p in fixes/*) $git update-ref refs/heads/fixes HEAD ;; esac
done
$git config branch.series.description "$(scripts/cover.py description patches/0000-cover-letter.patch)"
# What was done by hand is in neither folder yet.
record vfr-patches "$now $($git rev-parse "${by_hand:-series}")"
rm "$state/vfr-am"
echo "@ series: $($git rev-list --count base..fixes) fixes and $($git rev-list --count fixes..series) patches applied with git am${by_hand:+, some by hand: make series}"
