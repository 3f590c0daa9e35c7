#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make the build root: Debian 13 with compilers and QEMU. Runs on the host, as
# root or, where user namespaces are allowed, as anybody.
#	root.sh ROOT
# The directory is named after what is in it (see the Makefile) and complete when
# it has a file .complete.
set -eu
. "$(dirname "$0")/lib.sh"
root=$1
packages=$(sed 's/#.*//' config/packages | xargs | tr ' ' ,)
mirror=$("$(dirname "$0")/mirror.sh")

if [ -e "$root/.complete" ]; then
	# What was there when it was made is there still.
	[ "$(cat "$root/.complete")" = "$(cd "$root" && sha256sum < var/lib/dpkg/status)" ] &&
		{ echo "up to date"; exit 0; }
	echo "$root is damaged: making it anew"
	rm -rf "$root"
fi
mkdir -p "${root%/*}"
exec 9> "$root.lock"
flock -w 1800 9 || die "another run has been making $root for 30 minutes"
[ ! -e "$root/.complete" ] || exit 0
rm -rf "$root"
take_over_tmp "$root"
fifo=$root.tmp.fifo
rm -f "$fifo"
mkfifo "$fifo"
# Unpacked by us, so that every file is ours whoever we are.
tar -C "$root.tmp" --no-same-owner -x --exclude='./dev/*' < "$fifo" &
if ! mmdebstrap --variant=apt --include="$packages" \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--format=tar trixie - ${mirror:+"$mirror"} > "$fifo"
then
	wait
	rm -f "$fifo"
	die "the build root could not be made: see above; is the network up, and does the mirror have trixie (DEBIAN_MIRROR overrides it)?"
fi
wait $!
rm -f "$fifo"
: >> "$root.tmp/etc/resolv.conf"
sha256sum < "$root.tmp/var/lib/dpkg/status" > "$root.tmp/.complete"
mv "$root.tmp" "$root"
