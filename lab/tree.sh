#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make the kernel trees below BUILD. Runs in the build root.
#	tree.sh BUILD
#	tree.sh --name		print BUILD's name for KERNEL, or for the base of base.mk
#	tree.sh BUILD --saved	fail if BUILD/linux has work that is not in patches/
#	tree.sh BUILD --mails	print the patches that are applied
#  BUILD/linux  a git tree: branch base, branch fixes = base + fixes/, branch series =
#               fixes + patches/
#  BUILD/base   the files of base, to build from
# The base is the tarball in the cache or KERNEL: the HEAD of a git tree, or an unpacked
# tarball. It is only read. Its version chooses among the patches: see ports/README.md.
# Commits and changes in BUILD/linux are never thrown away.
#
# BUILD/linux/.git has a memory of ours:
#  vfr-base     what the base is
#  vfr-patches  "ID COMMIT": the folders and branch series when they were last equal. The ID
#               is "applying" while this script runs git am, and "conflict" after git am has
#               stopped for the user.
set -eu
. lab/env.sh
pinned_base

# ---- which base ----
if [ -z "${KERNEL:-}" ]; then
	base=$BASE_VERSION
	name=build/$(echo "$BASE_VERSION" | cut -d. -f1,2)
elif [ ! -f "$KERNEL/mm/memory.c" ]; then
	die "KERNEL=$KERNEL is no Linux tree: it has no mm/memory.c; name the top of a git tree" \
		"or of an unpacked tarball"
elif [ ! -e "$KERNEL/.git" ]; then
	base="files of $KERNEL, Makefile $(sha256sum < "$KERNEL/Makefile" | cut -c1-12)"
	name=build/files-$(echo "$base" | sha256sum | cut -c1-12)
else
	base=$(git -C "$KERNEL" rev-parse -q --verify HEAD) ||
		die "KERNEL=$KERNEL has no commit yet: commit in it, or check out a branch"
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

if [ "${2:-}" = --mails ]; then
	port=$(port_of "$linux" 2> /dev/null)
	mails fixes patches
	exit 0
fi
if [ "${2:-}" = --saved ]; then
	[ -d "$state" ] || exit 0
	read -r id commit 2> /dev/null < "$state/vfr-patches" || commit=$($git rev-parse base)
	! changed && { [ "$commit" = "$($git rev-parse series)" ] || ! by_hand; } ||
		die "$linux has commits or changes that are not in patches/: make series first" \
			"(or rm -rf $build)"
	exit 0
fi
mkdir -p "$build"
[ -e patches/0000-cover-letter.patch ] ||
	die "patches/0000-cover-letter.patch is missing: take it back (git checkout patches)"

if [ ! -e "$state/vfr-base" ]; then
	echo "@ base: $base"
	rm -rf "$linux" "$linux.tmp" "$build/base"
	new="git -C $linux.tmp"
	if [ -n "${KERNEL:-}" ] && [ -e "$KERNEL/.git" ]; then
		git clone -q --shared --no-checkout "$KERNEL" "$linux.tmp"
		$new checkout -q -B series "$base"
	else
		git init -q -b series "$linux.tmp"
		if [ -n "${KERNEL:-}" ]; then
			cp -a "$KERNEL/." "$linux.tmp"
		else
			tar -C "$linux.tmp" --strip-components=1 -xf "/cache/base/$base.tar.xz"
			# Debian adds these for its binder module. Without them the files are
			# Linux's own, and KUnit's export does not meet another.
			sed -i '/^EXPORT_SYMBOL_GPL(lock_vma_under_rcu);$/d' \
				"$linux.tmp/mm/mmap_lock.c"
			sed -i '/^EXPORT_SYMBOL_GPL(zap_vma_range);$/d' "$linux.tmp/mm/memory.c"
		fi
		$new config gc.auto 0
		# The kernel's .gitignore would hide some of its own files.
		$new add -A -f .
		GIT_AUTHOR_DATE='2000-01-01T00:00:00Z' GIT_COMMITTER_DATE='2000-01-01T00:00:00Z' \
			$new -c user.name=base -c user.email=base@localhost commit -q \
			-m "Linux, $base"
	fi
	$new branch -f base series
	$new branch -f fixes series
	$new config rebase.updateRefs true	# git rebase takes fixes along
	echo "$base" > "$linux.tmp/.git/vfr-base"
	mv "$linux.tmp" "$linux"
fi
[ "$(cat "$state/vfr-base")" = "$base" ] ||
	die "$linux was made from another base ($(cat "$state/vfr-base")), and may hold work of" \
		"yours: save that (make series), then make clean"
if [ ! -e "$build/base" ]; then
	rm -rf "$build/base.tmp"
	mkdir "$build/base.tmp"
	$git archive base | tar -C "$build/base.tmp" -x
	mv "$build/base.tmp" "$build/base"
fi

# ---- fixes/ and patches/ ----
port=$(port_of "$linux")
now=$(patches_id)
id='' commit=$($git rev-parse base)
[ ! -e "$state/vfr-patches" ] || read -r id commit < "$state/vfr-patches"

# wait_for_user WHAT: a git am is in progress.
wait_for_user() {
	cat >&2 <<-EOF
		tree.sh: $1. To go on:
		1. cd $linux; git am --show-current-patch=diff | git apply --reject;
		   put in by hand what the .rej files hold
		2. git add FILES; git am --continue: goes on with the next patch, too
		3. make tree; when all are applied: make series
	EOF
	exit 1
}

resolved=
there=$($git rev-list --count base..series)
want=$(mails fixes patches | wc -l)
if [ "$id" = applying ]; then
	# make tree was killed: what git has left half-written goes, changes are kept.
	! by_hand ||
		die "make tree was interrupted, and you made commits in $linux since: move them" \
			"to a branch, git reset --hard base, then make tree"
	rm -rf "$state/rebase-apply"
	find "$state" -maxdepth 3 -name '*.lock' -delete
	! changed || echo "@ NOTE: $linux had changes after an interrupted run: git stash list"
	$git stash push -q -m "left by an interrupted make tree"
elif [ -d "$state/rebase-apply" ] || [ -d "$state/rebase-merge" ]; then
	wait_for_user "git am, or a rebase of yours, waits in $linux"
elif [ "$id" = "$now" ]; then
	[ "$commit" = "$($git rev-parse series)" ] ||
		echo "@ NOTE: $linux has commits that are not in fixes/ or patches/ (make series)"
	! changed || echo "@ NOTE: $linux has uncommitted changes; they are built, too"
	exit 0
elif [ "$id" = conflict ] && [ "$there" != 0 ]; then
	! changed || die "$linux has uncommitted changes: commit them, then make tree"
	[ "$there" -ge "$want" ] ||
		die "$linux has $there commits of the $want patches in fixes/ and patches/: git am" \
			"the rest there; if you dropped a patch, remove its file; then make tree"
	resolved=yes
elif changed || [ "$commit" != "$($git rev-parse series)" ] ||
	! $git merge-base --is-ancestor fixes series; then
	die "both the patches (fixes/, patches/) and $linux have changed since they were last" \
		"equal. Take one: the tree (make series), or the patches" \
		"(git -C $linux reset --hard $commit, then make tree)"
fi

if [ -z "$resolved" ]; then
	commit=$($git rev-parse base)
	echo "applying $commit" > "$state/vfr-patches"
	$git checkout -q -B series base
	$git branch -q -f fixes base
	if ! mails fixes patches | sed "s|^|$PWD/|" | GIT_COMMITTER_NAME=series \
		GIT_COMMITTER_EMAIL=series@localhost xargs -r -d '\n' git -C "$linux" am -q \
		--keep-non-patch --committer-date-is-author-date; then
		[ -d "$state/rebase-apply" ] ||
			die "git am broke off in $linux: see above; is the disk full, or a file no patch?"
		echo "conflict $commit" > "$state/vfr-patches"
		# Which of the others do not apply either?
		export GIT_INDEX_FILE="$PWD/$state/vfr-index"
		$git read-tree HEAD
		at=$(cat "$state/rebase-apply/next")
		others=
		for patch in $(mails fixes patches | tail -n "+$((at + 1))"); do
			$git apply --cached "$PWD/$patch" 2> /dev/null || others="$others, $patch"
		done
		rm "$GIT_INDEX_FILE"
		patch=$(mails fixes patches | sed -n "${at}p")
		wait_for_user "$patch does not apply to the base $base${others:+; nor will ${others#, }}"
	fi
	commit=$($git rev-parse series)
fi
$git checkout -q series
last=$({ $git rev-parse base; $git rev-list --reverse base..series; } |
	sed -n "$(($(mails fixes | wc -l) + 1))p")
$git branch -q -f fixes "$last"
# The letter's text is git's description of the branch: subject, empty line, text.
git mailinfo "$state/vfr-text" /dev/null < patches/0000-cover-letter.patch > "$state/vfr-head"
$git config branch.series.description "$(sed -n 's/^Subject: //p' "$state/vfr-head")

$(sed '/^[^ ].* ([0-9]*):$/,$d' "$state/vfr-text")"
# What was done by hand is in neither folder yet: COMMIT is base then.
echo "$now $commit" > "$state/vfr-patches"
echo "@ $($git rev-list --count base..fixes) fixes and" \
	"$($git rev-list --count fixes..series) patches applied"
[ -z "$resolved" ] || echo "@ NOTE: some by hand: make series"
