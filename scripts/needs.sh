#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Check what the rest needs before anything starts. Runs on the host.
#	needs.sh CACHE ROOT BUILD
# NEED_DISK_GB and NEED_MEMORY_GB override the limits, for tests.
set -eu
. "$(dirname "$0")/lib.sh"
cache=$1 root=$2 build=$3

apt_line="apt-get install --no-install-recommends mmdebstrap bubblewrap debian-archive-keyring uidmap git"
missing=
for tool in mmdebstrap bwrap git sha256sum; do
	command -v "$tool" >/dev/null || missing="$missing $tool"
done
if [ -n "$missing" ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		echo "missing on this host:$missing; running: $apt_line"
		{ apt-get update && DEBIAN_FRONTEND=noninteractive $apt_line -y; } >&2 ||
			die "that failed; see above, then run again"
	else
		die "missing on this host:$missing; as root: $apt_line"
	fi
fi

bwrap --ro-bind / / --dev /dev --proc /proc --unshare-pid true 2>/dev/null ||
	die "bubblewrap cannot make a sandbox here: allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces) or run as root"

# 15 GB for all; less once the build root and the trees are there.
for dir in "$cache" "$build"; do
	mkdir -p "$dir" 2>/dev/null && [ -w "$dir" ] ||
		die "cannot write to $dir: is it another user's? chown it, or set XDG_CACHE_HOME (cache)"
done
need=15
[ -e "$root/.complete" ] && [ -n "$(find "$build" -maxdepth 3 -name .vfr-complete 2>/dev/null | head -n 1)" ] &&
	need=4
need=${NEED_DISK_GB:-$need}
for dir in "$build" "$cache"; do
	free=$(df -Pk "$dir" | awk 'NR == 2 { print int($4 / 1048576) }')
	[ "$free" -ge "$need" ] ||
		die "$free GB free below $dir, $need GB are needed: make room, or set XDG_CACHE_HOME (cache) or put this clone elsewhere (build)"
done
mem=$(awk '/^MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
[ "$mem" -ge "${NEED_MEMORY_GB:-4}" ] ||
	die "$mem GB of memory available, ${NEED_MEMORY_GB:-4} GB are needed: end other programs"

# A network, or all that would come from it.
if [ ! -e "$root/.complete" ]; then
	user=$(id -un)
	[ "$(id -u)" = 0 ] || { grep -q "^$user:" /etc/subuid && grep -q "^$user:" /etc/subgid; } 2>/dev/null ||
		die "$user has no subordinate ids, which the build root needs: as root: usermod --add-subuids 200000-265535 --add-subgids 200000-265535 $user"
	mirror=$("$(dirname "$0")/mirror.sh")
	if [ -n "$mirror" ] && [ -x /usr/lib/apt/apt-helper ]; then
		tmp=$(mktemp -d)
		trap 'rm -rf "$tmp"' EXIT
		/usr/lib/apt/apt-helper -o APT::Sandbox::User=root -o Acquire::Retries=1 \
			-o Acquire::http::Timeout=20 download-file \
			"$mirror/dists/trixie/Release" "$tmp/Release" >/dev/null 2>&1 ||
			die "no Debian mirror with 'trixie' can be reached, and the build root is not in the cache ($cache): check the network or a proxy (http_proxy), or name a mirror with DEBIAN_MIRROR, or fill the cache from a machine that has it"
	fi
fi
