#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make or bring up to date BUILD/NAME/linux, a clone of BUILD/linux to check out or
# break what one likes in. Runs in the build root.
#	clone-tree.sh BUILD NAME
set -eu
. scripts/lib.sh
from=$PWD/$1/linux to=$1/$2/linux
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
[ -z "$(git -C "$from" status --porcelain -uno | head -n 1)" ] ||
	die "$from has uncommitted changes: commit them first"
if [ ! -e "$to/.git/HEAD" ]; then
	rm -rf "$to"
	take_over_tmp "$to"
	git clone -q --no-checkout "$from" "$to.tmp"
	git -C "$to.tmp" config gc.auto 0
	git -C "$to.tmp" checkout -q --detach origin/base
	mv "$to.tmp" "$to"
fi
rm -f "$to/.git/index.lock"
git -C "$to" fetch -q --force "$from" '+refs/heads/base:refs/heads/base' '+refs/heads/fixes:refs/heads/fixes' \
	'+refs/heads/series:refs/heads/series'
echo "$(git -C "$to" rev-list --count base..series) commits"
