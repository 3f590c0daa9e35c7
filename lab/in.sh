#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Run a command in the build root.
#	in.sh COMMAND...
# The repository is /vfr there and the cache /cache: the same paths on every machine, so
# that ccache hits and builds repeat to the bit. With AT=build/X/NAME, that folder is
# there in place of build/X. KERNEL=, a tree of the user's, is there under its own path,
# read-only. With ACCEL=tcg there is no /dev/kvm. What the command has started ends with it.
set -eu
. lab/env.sh
[ -e "$root/.complete" ] || die "no build root: make setup"
set -- --chdir /vfr --die-with-parent --unshare-pid --unshare-ipc -- "$@"
# Of the environment only what is meant for us: ARCH= or CFLAGS= would get into a build.
for variable in KERNEL BASE ACCEL TIME GUEST_EXTRA http_proxy https_proxy no_proxy; do
	eval "value=\${$variable:-}"
	[ -z "$value" ] || set -- --setenv "$variable" "$value" "$@"
done
set -- --clearenv --setenv HOME /tmp --setenv LC_ALL C.UTF-8 --setenv TZ UTC \
	--setenv TERM "${TERM:-dumb}" --setenv PYTHONDONTWRITEBYTECODE 1 \
	--setenv PATH /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
if [ -n "${KERNEL:-}" ]; then
	set -- --ro-bind "$KERNEL" "$KERNEL" "$@"
	# A worktree's objects are elsewhere, and so are those that a clone borrows.
	while read -r folder; do
		[ -z "$folder" ] || set -- --ro-bind "$folder" "$folder" "$@"
	done <<-EOF
		$(cd "$KERNEL" && cd "$(git rev-parse --git-common-dir 2>/dev/null)" && pwd -P)
		$(git -C "$KERNEL" count-objects -v 2>/dev/null | sed -n 's/^alternate: //p')
	EOF
fi
[ -z "${AT:-}" ] || set -- --bind "$PWD/$AT" "/vfr/${AT%/*}" "$@"
[ ! -e /dev/kvm ] || [ "${ACCEL:-}" = tcg ] || set -- --dev-bind /dev/kvm /dev/kvm "$@"
exec bwrap --ro-bind "$root/usr" /usr --ro-bind "$root/etc" /etc --ro-bind "$root/var" /var \
	--symlink usr/bin /bin --symlink usr/sbin /sbin \
	--symlink usr/lib /lib --symlink usr/lib64 /lib64 \
	--ro-bind-try /etc/resolv.conf /etc/resolv.conf \
	--dev /dev --proc /proc --perms 1777 --tmpfs /tmp \
	--bind "$PWD" /vfr --bind "$cache" /cache "$@"
