#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Build the kernel of an alternative, alternatives/NAME.patch, for figures. Runs on the
# host.
#	alternative.sh BUILD NAME
# "Applies to:" in the patch says which branch of BUILD/linux it goes on. The kernel is
# BUILD/alternatives/out/x86_64-perf-NAME then.
set -eu
. lab/env.sh
build=$1 name=$2
patch=alternatives/$name.patch
[ -f "$patch" ] || die "no alternative '$name'; there are: $(ls alternatives)"
branch=$(sed -n 's/^Applies to: //p' "$patch")
[ -n "$branch" ] || die "$patch does not say what it applies to: 'Applies to: base' or series"
lab/in.sh lab/clone.sh "$build" alternatives
tree=$build/alternatives/linux
git -C "$tree" checkout -q --force --detach "$branch"
git -C "$tree" apply --index "$PWD/$patch" ||
	die "$patch does not apply to $branch: bring it up to date"
AT=$build/alternatives lab/in.sh lab/build.sh "$build" x86_64 perf "$name"
