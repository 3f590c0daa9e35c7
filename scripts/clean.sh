#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Remove build/, but not work of yours that is nowhere else.
#	clean.sh [CACHE]        FORCE=1 removes it all the same
# With CACHE that is removed, too, unless another run works with it.
set -eu
. "$(dirname "$0")/lib.sh"
cache=${1:-}
alone
[ -z "$cache" ] || [ ! -d "$cache" ] || flock -n 7 ||
	die "another run works with the cache $cache: wait for its end"
for linux in build/*/linux; do
	[ -d "$linux/.git" ] || continue
	applied=$(cat "$linux/.git/vfr-patches" 2>/dev/null || true)
	# While patches do not apply, commits made by hand are nowhere else.
	if [ -z "$applied" ] && [ -z "${FORCE:-}" ] &&
		git -C "$linux" log --format=%ce base..HEAD 2>/dev/null | grep -qvx 'series@localhost'
	then
		die "$linux has commits made by hand: go on with make tree, or FORCE=1 make clean"
	fi
	if [ -n "$applied" ] && [ -z "${FORCE:-}" ] &&
		{ [ "${applied#* }" != "$(git -C "$linux" rev-parse series)" ] ||
		  [ -n "$(git -C "$linux" status --porcelain -uno | head -n 1)" ]; }
	then
		die "$linux has commits or changes that are not in patches/: make series, or FORCE=1 make clean"
	fi
done
rm -rf build
[ -z "$cache" ] || rm -rf "$cache"
