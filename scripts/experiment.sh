#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Build the kernel of an experiment, experiments/NAME.patch, for figures.
#	experiment.sh BUILD NAME
# BUILD is a build directory of its own (see the Makefile, and clone-tree.sh). "On:" in
# the patch says what it goes on. Runs in the build root.
set -eu
. scripts/lib.sh
build=$1 name=$2
patch=$PWD/experiments/$name.patch
[ -f "$patch" ] || die "no experiment '$name'; there are: $(cd experiments && echo *.patch)"
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
on=$(sed -n 's/^On: //p' "$patch")
git -C "$build/linux" checkout -q -f --detach "$on"
patch -s -p1 -F0 --no-backup-if-mismatch -d "$build/linux" -i "$patch" ||
	die "$patch does not apply to $on: bring it up to date"
scripts/kernel-and-guest.sh "$build" x86_64 perf "$name"
