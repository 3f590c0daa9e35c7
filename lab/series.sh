#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Regenerate fixes/ and patches/ from the tree. Runs in the build root.
#	series.sh BUILD [OUT]
# fixes/ is base..fixes, each a mail of its own; patches/ is fixes..series, with a
# cover letter. Without OUT they are replaced, where anything differs. The same tree
# gives the same bytes: all options are fixed, no commit id is in the output, and the
# cover letter keeps its date and sender.
set -eu
. scripts/lib.sh
linux=$1/linux
out=${2:-}
cover=patches/0000-cover-letter.patch
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
git="git -C $linux"
[ -e "$linux/.git/vfr-base" ] || die "no tree yet: make tree"
[ -e "$cover" ] || die "$cover is missing: take it back (git checkout patches)"
if [ -z "$out" ] && [ -n "$($git status --porcelain -uno | head -n 1)" ]; then
	die "$linux has uncommitted changes: commit them (git commit --fixup ..., git rebase -i --autosquash base)"
fi
[ ! -d "$linux/.git/rebase-apply" ] && [ ! -d "$linux/.git/rebase-merge" ] ||
	die "a rebase or am is in progress in $linux: finish or abort it first"
$git rev-parse -q --verify refs/heads/fixes > /dev/null ||
	die "$linux has no branch fixes: git -C $linux branch fixes COMMIT, the last of fixes/ (or base)"
$git merge-base --is-ancestor base fixes && $git merge-base --is-ancestor fixes series ||
	die "branch fixes of $linux is not between base and series: move it (git -C $linux branch -f fixes COMMIT), or rebase series onto it"

# not_fewer DIR COMMITS: a tree with half of the patches never replaces all of them.
not_fewer() {
	have=$($git rev-list --count "$2")
	files=$(find "$1" -name '*.patch' ! -name '0000-*' 2> /dev/null | wc -l)
	[ "$have" -ge "$files" ] ||
		die "$1/ has $files patches, and $linux only $have commits ($2): make tree applies the rest; if you dropped a patch, remove its file from $1/ first"
}
if [ -z "$out" ]; then
	not_fewer fixes base..fixes
	not_fewer patches fixes..series
fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
sender=$(scripts/cover.py from "$cover")
GIT_COMMITTER_NAME=${sender% <*}
GIT_COMMITTER_EMAIL=${sender##*<}
GIT_COMMITTER_EMAIL=${GIT_COMMITTER_EMAIL%>}
GIT_COMMITTER_DATE=$(scripts/cover.py date "$cover")
export GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL GIT_COMMITTER_DATE
# mails DIR COMMITS OPTION...
mails() {
	dir=$1 commits=$2
	shift 2
	mkdir "$tmp/$dir"
	$git -c core.abbrev=12 format-patch -q "$@" --zero-commit \
		--no-signature --no-base --no-attach --no-thread --no-notes --no-renames \
		--diff-algorithm=myers --abbrev=12 --stat=76 --src-prefix=a/ --dst-prefix=b/ \
		-o "$tmp/$dir" "$commits"
}
mails fixes base..fixes --no-numbered --subject-prefix=PATCH --no-cover-letter
mails patches fixes..series --numbered --rfc --cover-letter --cover-from-description=subject
if [ -n "$out" ]; then
	mkdir -p "$out"
	cp -r "$tmp/fixes" "$tmp/patches" "$out"
	exit 0
fi
for dir in fixes patches; do
	mkdir -p $dir
	if diff -r "$tmp/$dir" $dir > /dev/null; then
		echo "$dir/: up to date"
		continue
	fi
	# Whenever this is killed, the folder is the old one or the new one.
	rm -rf $dir.tmp
	cp -a $dir $dir.tmp
	rm -f $dir.tmp/*.patch
	cp "$tmp/$dir"/*.patch $dir.tmp
	sync -f $dir.tmp
	mv --exchange -T $dir.tmp $dir
	rm -rf $dir.tmp
	echo "$dir/ regenerated: $(ls $dir | wc -l) files"
done
# As in tree.sh.
id=$(find fixes patches -name '*.patch' -exec sha256sum {} + | LC_ALL=C sort | sha256sum | cut -d' ' -f1)
echo "$id $($git rev-parse series)" > "$linux/.git/vfr-patches.tmp"
mv "$linux/.git/vfr-patches.tmp" "$linux/.git/vfr-patches"
rm -f "$linux/.git/vfr-am"
