#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# What the rest needs: tools of this host, room, the build root, the base's source. Says
# what is missing before anything starts. Runs on the host.
#	setup.sh
# The build root is a Debian 13 with compilers and QEMU, in the cache, complete when it
# has a file .complete. It is made as root or, where user namespaces are allowed, by anybody.
set -eu
. lab/env.sh

packages="mmdebstrap bubblewrap debian-archive-keyring uidmap git"
install="apt-get install --no-install-recommends $packages"
missing=
for tool in mmdebstrap bwrap git; do
	command -v "$tool" > /dev/null || missing="$missing $tool"
done
if [ -n "$missing" ]; then
	[ "$(id -u)" = 0 ] && command -v apt-get > /dev/null ||
		die "missing on this host:$missing; as root: $install"
	echo "missing on this host:$missing; running: $install"
	apt-get update && DEBIAN_FRONTEND=noninteractive $install -y ||
		die "that failed: see above, then run again"
fi
bwrap --ro-bind / / --dev /dev --proc /proc --unshare-pid true 2> /dev/null ||
	die "bubblewrap cannot make a sandbox here: allow user namespaces" \
		"(sysctl kernel.unprivileged_userns_clone=1) or run as root"

mkdir -p "$cache/ccache" "$cache/base" build && [ -w "$cache" ] && [ -w build ] ||
	die "cannot write to $cache or to $PWD/build: chown them, or set XDG_CACHE_HOME"
need=15
[ ! -e "$root/.complete" ] || need=4
for folder in "$cache" build; do
	free=$(df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1048576) }')
	[ "$free" -ge "$need" ] ||
		die "$free GB free below $folder, $need GB are needed: make room, or set XDG_CACHE_HOME"
done

exec 9> "$root.lock"
flock 9
if [ ! -e "$root/.complete" ]; then
	echo "@ making the build root, a Debian 13 with compilers and QEMU: some minutes"
	rm -rf "$root" "$root.tmp"
	mkdir -p "$root.tmp"
	# The same mirror as this host's.
	# shellcheck disable=SC2016
	mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
		'Origin: Debian' 'Label: Debian' 2> /dev/null | head -n 1)}
	TMPDIR=${TMPDIR:-/var/tmp} mmdebstrap --variant=apt --format=tar \
		--include="$(sed 's/#.*//' lab/config/packages | xargs | tr ' ' ,)" \
		--aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
		trixie "$root.tar" ${mirror:+"$mirror"} 9>&- ||
		die "the build root could not be made: see above; is the network up, and does the" \
			"mirror have trixie (DEBIAN_MIRROR names another)? It can also be copied from" \
			"a machine that has it: $root"
	tar -C "$root.tmp" --no-same-owner -x --exclude='./dev/*' -f "$root.tar"
	rm "$root.tar"
	: >> "$root.tmp/etc/resolv.conf"
	: > "$root.tmp/.complete"
	mv "$root.tmp" "$root"
fi
[ -n "${KERNEL:-}" ] || lab/in.sh lab/base.sh
