#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Run a command in the build root.
#	inroot.sh ROOT CACHE COMMAND...
# The clone is /vfr there and the cache /cache: the same paths on every machine,
# so that ccache hits, builds repeat to the bit, and spaces in a path do no harm.
# With AT=DIR/NAME, that is there in place of DIR: for ccache, too, it is the same.
# A KERNEL tree is there under its own path, read-only. With ACCEL=tcg there is no
# /dev/kvm, for programs that take it without asking. When this process dies,
# all it started dies with it.
set -eu
root=$1 cache=$2
shift 2
[ -e "$root/.complete" ] || { echo "no build root: make root" >&2; exit 1; }
set -- --chdir /vfr --die-with-parent --unshare-pid --unshare-ipc -- "$@"
# Of the environment only what is meant for us: ARCH=, O= or CFLAGS= of a caller
# would get into the kernel's build.
for v in KERNEL ACCEL http_proxy https_proxy no_proxy; do
	eval "value=\${$v:-}"
	[ -z "$value" ] || set -- --setenv "$v" "$value" "$@"
done
set -- --clearenv --setenv HOME /tmp --setenv LC_ALL C.UTF-8 --setenv TZ UTC \
	--setenv TERM "${TERM:-dumb}" --setenv CI "${CI:-}" \
	--setenv PATH /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
if [ -n "${KERNEL:-}" ]; then
	common=$(cd "$KERNEL" && cd "$(git rev-parse --git-common-dir)" && pwd -P)
	set -- --ro-bind "$KERNEL" "$KERNEL" --ro-bind "$common" "$common" "$@"
fi
[ -z "${AT:-}" ] || set -- --bind "$PWD/$AT" "/vfr/${AT%/*}" "$@"
[ ! -e /dev/kvm ] || [ "${ACCEL:-}" = tcg ] || set -- --dev-bind /dev/kvm /dev/kvm "$@"
exec bwrap --ro-bind "$root/usr" /usr --ro-bind "$root/etc" /etc \
	--ro-bind "$root/var" /var \
	--symlink usr/bin /bin --symlink usr/sbin /sbin \
	--symlink usr/lib /lib --symlink usr/lib64 /lib64 \
	--ro-bind-try /etc/resolv.conf /etc/resolv.conf \
	--dev /dev --proc /proc --perms 1777 --tmpfs /tmp \
	--bind "$PWD" /vfr --bind "$cache" /cache "$@"
