#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Regenerate patches/ from the tree. Runs in the build root.
#	series.sh BUILD [OUT]
# Without OUT patches/ is replaced, if anything differs. The same tree gives the
# same bytes: all options are fixed, no commit id is in the output, and the cover
# letter keeps its date and sender.
set -eu
. scripts/lib.sh
linux=$1/linux
out=${2:-}
cover=patches/0000-cover-letter.patch
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
[ -e "$linux/.git/vfr-base" ] || die "no tree yet: make tree"
[ -e "$cover" ] || die "$cover is missing: take it back (git checkout patches)"
if [ -z "$out" ] && [ -n "$(git -C "$linux" status --porcelain -uno | head -n 1)" ]; then
	die "$linux has uncommitted changes: commit them (git commit --fixup ..., git rebase -i --autosquash base)"
fi
[ ! -d "$linux/.git/rebase-apply" ] && [ ! -d "$linux/.git/rebase-merge" ] ||
	die "a rebase or am is in progress in $linux: finish or abort it first"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
sender=$(scripts/cover.py from "$cover")
GIT_COMMITTER_NAME=${sender% <*}
GIT_COMMITTER_EMAIL=${sender##*<}
GIT_COMMITTER_EMAIL=${GIT_COMMITTER_EMAIL%>}
GIT_COMMITTER_DATE=$(scripts/cover.py date "$cover")
export GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL GIT_COMMITTER_DATE
git -C "$linux" -c core.abbrev=12 -c format.numbered=true format-patch -q \
	--rfc --cover-letter --cover-from-description=subject --zero-commit \
	--no-signature --no-base --no-attach --no-thread --no-notes --no-renames \
	--diff-algorithm=myers --abbrev=12 --stat=76 --src-prefix=a/ --dst-prefix=b/ \
	-o "$tmp" base..series
if [ -n "$out" ]; then
	mkdir -p "$out"
	cp "$tmp"/*.patch "$out"
	exit 0
fi
if diff -r "$tmp" patches >/dev/null; then
	echo "up to date"
else
	# Whenever this is killed, patches/ is the old one or the new one.
	rm -rf patches.tmp
	cp -a patches patches.tmp
	rm -f patches.tmp/*.patch
	cp "$tmp"/*.patch patches.tmp
	sync -f patches.tmp
	mv --exchange -T patches.tmp patches
	rm -rf patches.tmp
	echo "patches/ regenerated: $(ls patches | wc -l) files"
fi
echo "$(cat patches/*.patch | sha256sum | cut -d' ' -f1) $(git -C "$linux" rev-parse series)" > "$linux/.git/vfr-patches.tmp"
mv "$linux/.git/vfr-patches.tmp" "$linux/.git/vfr-patches"
