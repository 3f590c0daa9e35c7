#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make the root that the programs of `make soak` are taken from. Runs on the host.
#	soak-root.sh ARCH ROOT
# The directory is complete when it has a file .complete.
set -eu
. scripts/lib.sh
arch=$1 root=$2
unpack_debian "$root" "$arch" config/soak-packages
for need in usr/bin/busybox usr/bin/stress-ng usr/bin/trinity; do
	[ -e "$root.tmp/$need" ] || die "no /$need: has a package of config/soak-packages changed?"
done
date -u > "$root.tmp/.complete"
mv "$root.tmp" "$root"
