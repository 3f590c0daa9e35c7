#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make the build root: Debian 13 with compilers and QEMU. Runs on the host, as
# root or, where user namespaces are allowed, as anybody.
#	root.sh ROOT
# The directory is named after what is in it (see the Makefile) and complete when
# it has a file .complete, which says what it is.
set -eu
. "$(dirname "$0")/lib.sh"
root=$1
packages=$(sed 's/#.*//' config/packages | xargs | tr ' ' ,)
mirror=$("$(dirname "$0")/mirror.sh")

# listing DIR: a hash of the names, kinds and sizes of what is run from a root. Of each
# byte it would take a minute.
listing() {
	(cd "$1" && find usr etc/alternatives var/lib/dpkg/status -type d -printf '%p/\n' -o -printf '%p %s %l\n') |
		LC_ALL=C sort | sha256sum
}

mkdir -p "${root%/*}"
exec 9> "$root.lock"
flock -n 9 || {
	echo "@ another run is making the build root: waiting for it"
	flock -w 1800 9 || die "another run has been making $root for 30 minutes"
}
if [ -e "$root/.complete" ]; then
	# What was there when it was made is there still.
	[ "$(cat "$root/.complete")" = "$(listing "$root")" ] && { echo "up to date"; exit 0; }
	echo "@ $root is damaged: making it anew"
fi
rm -rf "$root"
take_over_tmp "$root"
fifo=$root.tmp.fifo
rm -f "$fifo"

# mmdebstrap's own copy is not in /tmp, which may be a small one in memory. One that a
# killed run has left behind goes; another user's ids own it where we are not root.
where=$root.tmp.where
tmp=$(cat "$where" 2>/dev/null || true)
drop() {
	case $tmp in
	*/vfr-root.??????) rm -rf "$tmp" 2>/dev/null || mmdebstrap --unshare-helper rm -rf "$tmp" ;;
	esac
	rm -f "$where" "$fifo"
}
drop
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/vfr-root.XXXXXX")
echo "$tmp" > "$where"
chmod 755 "$tmp"
trap drop EXIT
mkfifo "$fifo"
# Unpacked by us, so that every file is ours whoever we are.
tar -C "$root.tmp" --no-same-owner -x --exclude='./dev/*' < "$fifo" &
unpacker=$!
# apt's hooks in it want a file descriptor below 10, so not ours of lib.sh's alone().
TMPDIR=$tmp setpriv --pdeathsig TERM mmdebstrap --variant=apt --include="$packages" \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--format=tar trixie - ${mirror:+"$mirror"} > "$fifo" 7>&- 8>&- &
maker=$!
# To all of our group: mmdebstrap alone would first make all of the root.
trap 'trap "" INT TERM HUP; kill 0; wait; exit 130' INT TERM HUP
if ! wait "$maker"; then
	wait
	die "the build root could not be made: see above; is the network up, and does the mirror have trixie (DEBIAN_MIRROR overrides it), is there room in ${root%/*} and $tmp?"
fi
wait "$unpacker"
: >> "$root.tmp/etc/resolv.conf"
listing "$root.tmp" > "$root.tmp/.complete"
mv "$root.tmp" "$root"
