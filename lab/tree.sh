#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make the kernel trees below BUILD. Runs in the build root.
#	tree.sh BUILD
#	tree.sh --name		print BUILD's name for KERNEL, or for the base of base.mk
#	tree.sh BUILD --saved	fail if BUILD/linux has work that is not in patches/
#  BUILD/linux  a git tree: branch base, branch fixes = base + fixes/, branch series =
#               fixes + patches/
#  BUILD/base   the files of base, to build from
# The base is the tarball in the cache or KERNEL: the HEAD of a git tree, or an unpacked
# tarball. It is only read. Commits and changes in BUILD/linux are never thrown away.
#
# BUILD/linux/.git has a memory of ours:
#  vfr-base     what the base is
#  vfr-patches  "ID COMMIT": the folders and branch series when they were last equal
#  vfr-step     while patches are applied: "fixes" or "patches", and "conflict" when
#               git am waits for the user
set -eu
. lab/env.sh
eval "$(sed -n 's/^\(BASE_[A-Z0-9]*\) *= */\1=/p' base.mk)"

# ---- which base ----
if [ -z "${KERNEL:-}" ]; then
	base=$BASE_VERSION
	name=build/${BASE_PACKAGE#linux-source-}
elif [ ! -f "$KERNEL/mm/memory.c" ]; then
	die "KERNEL=$KERNEL is no Linux tree: it has no mm/memory.c; name the top of a git tree or of an unpacked tarball"
elif [ ! -e "$KERNEL/.git" ]; then
	base="files of $KERNEL, Makefile $(sha256sum < "$KERNEL/Makefile" | cut -c1-12)"
	name=build/files-$(echo "$base" | sha256sum | cut -c1-12)
else
	base=$(git -C "$KERNEL" rev-parse -q --verify HEAD) ||
		die "KERNEL=$KERNEL has no commit yet: commit in it, or check out a branch"
	git -C "$KERNEL" cat-file -e "$base^{tree}" 2> /dev/null ||
		die "KERNEL=$KERNEL lacks objects of its HEAD: is a store that it borrows from gone (.git/objects/info/alternates)?"
	name=build/kernel-$(echo "$base" | cut -c1-12)
fi
if [ "$1" = --name ]; then
	echo "$name"
	exit 0
fi
build=$1
linux=$build/linux
state=$linux/.git
git="git -C $linux"

changed() {
	[ -n "$($git status --porcelain -uno | head -n 1)" ]
}

# by_hand: whether HEAD has commits that this script did not make.
by_hand() {
	$git log --format=%ce base..HEAD | grep -qvx series@localhost
}

if [ "${2:-}" = --saved ]; then
	[ -d "$state" ] || exit 0
	read -r id commit 2> /dev/null < "$state/vfr-patches" || commit=$($git rev-parse base)
	if changed || [ "$commit" != "$($git rev-parse series)" ] || { [ -e "$state/vfr-step" ] && by_hand; }; then
		die "$linux has commits or changes that are not in patches/: make series first (or rm -rf $build)"
	fi
	exit 0
fi
mkdir -p "$build"
[ -e patches/0000-cover-letter.patch ] ||
	die "patches/0000-cover-letter.patch is missing: take it back (git checkout patches)"

# commit_files: all files of the current folder become the first commit.
commit_files() {
	git init -q -b series .
	git config gc.auto 0
	# The kernel's .gitignore would hide some of its own files.
	git add -A -f .
	GIT_AUTHOR_DATE='2000-01-01T00:00:00Z' GIT_COMMITTER_DATE='2000-01-01T00:00:00Z' \
		git -c user.name=base -c user.email=base@localhost commit -q -m "Linux, $base"
}

if [ ! -e "$state/vfr-base" ]; then
	echo "@ base: $base"
	rm -rf "$linux" "$linux.tmp" "$build/base"
	mkdir -p "$linux.tmp"
	if [ -z "${KERNEL:-}" ]; then
		tar -C "$linux.tmp" --strip-components=1 -xf "/cache/base/$base.tar.xz"
		# Debian adds these for its binder module. Without them the files are Linux's
		# own, and KUnit's export does not meet another.
		sed -i '/^EXPORT_SYMBOL_GPL(lock_vma_under_rcu);$/d' "$linux.tmp/mm/mmap_lock.c"
		sed -i '/^EXPORT_SYMBOL_GPL(zap_vma_range);$/d' "$linux.tmp/mm/memory.c"
		(cd "$linux.tmp" && commit_files)
	elif [ ! -e "$KERNEL/.git" ]; then
		cp -a "$KERNEL/." "$linux.tmp"
		(cd "$linux.tmp" && commit_files)
	else
		git clone -q --shared --no-checkout "$KERNEL" "$linux.tmp"
		git -C "$linux.tmp" checkout -q -B series "$base"
	fi
	git -C "$linux.tmp" branch -q -f base series
	git -C "$linux.tmp" branch -q -f fixes series
	git -C "$linux.tmp" config rebase.updateRefs true	# git rebase takes fixes along
	echo "$base" > "$linux.tmp/.git/vfr-base"
	mv "$linux.tmp" "$linux"
fi
[ "$(cat "$state/vfr-base")" = "$base" ] ||
	die "$linux was made from another base ($(cat "$state/vfr-base")), and may hold work of yours: save that (make series), then make clean"
if [ ! -e "$build/base/.vfr-complete" ]; then
	rm -rf "$build/base" "$build/base.tmp"
	mkdir "$build/base.tmp"
	git -C "$linux" archive -o "$PWD/$build/base.tar" base
	tar -C "$build/base.tmp" -xf "$build/base.tar"
	rm "$build/base.tar"
	: > "$build/base.tmp/.vfr-complete"
	mv "$build/base.tmp" "$build/base"
fi

# ---- fixes/ and patches/ ----
now=$(patches_id)
id='' commit=''
[ ! -e "$state/vfr-patches" ] || read -r id commit < "$state/vfr-patches"
step=$(cat "$state/vfr-step" 2> /dev/null || true)

# wait_for_user WHAT: a git am is in progress.
wait_for_user() {
	cat >&2 <<-EOF
		tree.sh: $1. To go on:
		1. cd $linux; git am --show-current-patch=diff | git apply --reject; put in by hand what the .rej files hold
		2. git add FILES; git am --continue: goes on with the next patch, too
		3. make tree; when all are applied: make series
	EOF
	exit 1
}

# files FOLDER: its patches, in their order.
files() {
	find "$1" -name '*.patch' ! -name '0000-*' | LC_ALL=C sort
}

# apply FOLDER BRANCH ONTO: git am all of FOLDER. When one does not apply, say which others
# do not, and leave git am in progress.
apply() {
	[ "$(files "$1")" ] || return 0
	echo "$1" > "$state/vfr-step"
	$git checkout -q -B "$2" "$3"
	files "$1" | sed "s|^|$PWD/|" | GIT_COMMITTER_NAME=series GIT_COMMITTER_EMAIL=series@localhost \
		xargs -d '\n' git -C "$linux" am -q --keep-non-patch --committer-date-is-author-date && return
	[ -d "$state/rebase-apply" ] ||
		die "git am broke off in $linux: see above; is the disk full, or a file of $1/ no patch?"
	echo "$1 conflict" > "$state/vfr-step"
	export GIT_INDEX_FILE="$PWD/$state/vfr-index"
	$git read-tree HEAD
	others=
	at=$(cat "$state/rebase-apply/next")
	for patch in $(files "$1" | tail -n "+$((at + 1))"); do
		$git apply --cached "$PWD/$patch" 2> /dev/null || others="$others, $patch"
	done
	rm -f "$GIT_INDEX_FILE"
	wait_for_user "$(files "$1" | sed -n "${at}p") does not apply to the base $base${others:+; nor will ${others#, }}"
}

# all_applied FOLDER COMMITS: after work by hand.
all_applied() {
	there=$($git rev-list --count "$2")
	want=$(files "$1" | wc -l)
	[ "$there" -ge "$want" ] || [ "$there" = 0 ] ||
		die "$linux has $there commits of the $want patches in $1/: git am the rest there; if you dropped a patch, remove its file; then make tree"
	[ "$there" != 0 ]
}

if [ -d "$state/rebase-apply" ] || [ -d "$state/rebase-merge" ] || [ "$step" ]; then
	case $step in
	'') die "a rebase or am of yours is in progress in $linux: finish or abort it first" ;;
	*conflict)
		[ ! -d "$state/rebase-apply" ] || wait_for_user "git am waits in $linux"
		! changed || die "$linux has uncommitted changes: commit them, then make tree"
		;;
	*)
		# make tree was killed: what git has left half-written goes, changes are kept.
		! by_hand ||
			die "make tree was interrupted, and you made commits in $linux since: end the git am there, then make tree"
		rm -rf "$state/rebase-apply"
		find "$state" -maxdepth 3 -name '*.lock' -delete
		if changed; then
			$git stash push -q -m "left by an interrupted make tree"
			echo "@ NOTE: $linux had changes after an interrupted run: git -C $linux stash list"
		fi
		;;
	esac
elif [ "$id" = "$now" ]; then
	[ "$commit" = "$($git rev-parse series)" ] ||
		echo "@ NOTE: $linux has commits that are not in fixes/ or patches/ (make series)"
	! changed || echo "@ NOTE: $linux has uncommitted changes; they are built, too"
	exit 0
elif changed || [ "${commit:-$($git rev-parse base)}" != "$($git rev-parse series)" ]; then
	die "both the patches (fixes/, patches/) and $linux have changed since they were last equal. Take one: the tree (make series), or the patches (git -C $linux reset --hard ${commit:-base}, then make tree)"
fi
$git merge-base --is-ancestor fixes series || [ "$step" ] ||
	die "branch fixes of $linux is not below branch series, and its commits would be lost: rebase series onto it, or git -C $linux branch -f fixes COMMIT"

equal=series
case $step in
'patches conflict') all_applied patches fixes..series && equal=base ;;
'fixes conflict') all_applied fixes base..fixes && equal=base && apply patches series fixes ;;
esac
if [ "$equal" = series ]; then
	apply fixes fixes base
	apply patches series fixes
fi
$git checkout -q series
# The letter's text is git's description of the branch: subject, empty line, text.
git mailinfo "$state/vfr-text" /dev/null < patches/0000-cover-letter.patch > "$state/vfr-head"
$git config branch.series.description "$(sed -n 's/^Subject: //p' "$state/vfr-head")

$(sed '/^[^ ].* ([0-9]*):$/,$d' "$state/vfr-text")"
# What was done by hand is in neither folder yet.
echo "$now $($git rev-parse $equal)" > "$state/vfr-patches"
rm -f "$state/vfr-step"
echo "@ $($git rev-list --count base..fixes) fixes and $($git rev-list --count fixes..series) patches applied"
[ "$equal" = series ] || echo "@ NOTE: some by hand: make series"
