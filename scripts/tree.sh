#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make the kernel trees below BUILD. Runs in the build root.
#	tree.sh BUILD
#  BUILD/linux  a git tree: branch "base", and branch "series" = base + patches/
#  BUILD/base   the files of "base", to build from
# The base is the tarball in the cache or, with KERNEL, the HEAD of that tree,
# which is only read. Commits in BUILD/linux that are not in patches/ are never
# thrown away: see the messages.
set -eu
. scripts/lib.sh
build=$1
linux=$build/linux
mkdir -p "$build"
eval "$(sed -n 's/^\(BASE_VERSION\) *= */\1=/p' base.mk)"
[ -e patches/0000-cover-letter.patch ] ||
	die "patches/0000-cover-letter.patch is missing: take it back (git checkout patches)"
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'

patches_id() {
	cat patches/*.patch | sha256sum | cut -d' ' -f1
}

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

# ---- the series ----
git="git -C $linux"
applied=$(cat "$linux/.git/vfr-patches" 2>/dev/null || true)	# "<patches id> <commit>"
now=$(patches_id)
head=$($git rev-parse series)
if [ -e "$linux/.git/vfr-am" ]; then
	# Our own git am was interrupted: start it over, without the locks of a killed git.
	rm -rf "$linux/.git/rebase-apply"
	find "$linux/.git" -maxdepth 3 -name '*.lock' -delete
	applied=
elif [ -d "$linux/.git/rebase-apply" ] || [ -d "$linux/.git/rebase-merge" ]; then
	die "a rebase or am of yours is in progress in $linux: finish or abort it first"
elif [ -z "$applied" ] && [ "$head" != "$($git rev-parse base)" ]; then
	die "which commits of $linux are in patches/ is not known any more: make series takes patches/ from them; to throw them away: git -C $linux checkout -B series base, then make tree"
fi
if [ "${applied%% *}" = "$now" ]; then
	[ "${applied#* }" = "$head" ] ||
		echo "@ NOTE: $linux has commits that are not in patches/ (make series)"
	[ -z "$($git status --porcelain -uno | head -n 1)" ] ||
		echo "@ NOTE: $linux has uncommitted changes; they are built, too"
	echo "up to date"
	exit 0
fi
if [ -n "$applied" ]; then
	[ "${applied#* }" = "$head" ] && [ -z "$($git status --porcelain -uno | head -n 1)" ] ||
		die "both patches/ and $linux have changed since they were last equal: take one (make series: patches/ from the tree; or git -C $linux reset --hard ${applied#* }, then make tree: the tree from patches/)"
fi
: > "$linux/.git/vfr-am"
$git checkout -q -f series
$git reset -q --hard base
export GIT_COMMITTER_NAME=series GIT_COMMITTER_EMAIL=series@localhost
for p in patches/*.patch; do
	case $p in
	*/0000-*) continue ;;
	esac
	if ! $git am -q --keep-non-patch --committer-date-is-author-date "$PWD/$p"; then
		$git am --abort 2>/dev/null || true
		die "$p does not apply to the base $want; rebase it: cd $linux, git am --3way the patches by hand, make series"
	fi
done
$git config branch.series.description "$(scripts/cover.py description patches/0000-cover-letter.patch)"
# One rename ends the work and records it.
echo "$now $($git rev-parse series)" > "$linux/.git/vfr-am"
mv "$linux/.git/vfr-am" "$linux/.git/vfr-patches"
echo "@ series: $($git rev-list --count base..series) patches applied with git am"
