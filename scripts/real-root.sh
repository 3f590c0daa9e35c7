#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make the root that the real programs of `make real` are taken from. Runs on the host.
#	real-root.sh ROOT
# The directory is complete when it has a file .complete.
set -eu
. scripts/lib.sh
root=$1
unpack_debian "$root" x86_64 config/real-packages
for need in usr/bin/db_bench usr/lib/jvm/java-21-openjdk-amd64/bin/jlink; do
	[ -e "$root.tmp/$need" ] || die "no /$need: has a package of config/real-packages changed?"
done
date -u > "$root.tmp/.complete"
mv "$root.tmp" "$root"
