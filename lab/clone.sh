#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make, or bring up to date, BUILD/NAME/linux: a clone of BUILD/linux, to check out and
# break what one likes in. Runs in the build root.
#	clone.sh BUILD NAME
# With AT=BUILD/NAME, in.sh shows it in the place of BUILD/linux: ccache knows what is
# built from there. (A git worktree would look for its .git in the place that it takes.)
set -eu
. lab/env.sh
from=$PWD/$1/linux
to=$1/$2/linux
[ -z "$(git -C "$from" status --porcelain -uno | head -n 1)" ] ||
	die "$from has uncommitted changes: commit them first"
if [ ! -e "$to" ]; then
	rm -rf "$to.tmp"
	mkdir -p "$1/$2"
	git clone -q --no-checkout "$from" "$to.tmp"
	git -C "$to.tmp" checkout -q --detach
	mv "$to.tmp" "$to"
fi
rm -f "$to/.git/index.lock"	# of an interrupted run
git -C "$to" fetch -q --force "$from" '+refs/heads/*:refs/heads/*'
