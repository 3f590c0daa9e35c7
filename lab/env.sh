# shellcheck shell=sh disable=SC2034
# SPDX-License-Identifier: GPL-2.0-only
# Sourced by the other scripts; the current folder is the repository.

# What git says of a tree that another user owns, and in which the build root works.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'

# The big reusable things, and the build root, which is named after what goes into it.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vm-fault-retry-hard
root=$cache/root-$(sha256sum < lab/config/packages | cut -c1-12)

# die MESSAGE...: say what is wrong and what to do, and give up.
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# architecture NAME: its row of lab/config/archs as variables, or an error with all names.
architecture() {
	known=$(sed -n 's/^\([a-z][a-z0-9_]*\) .*/\1/p' lab/config/archs | xargs)
	row=$(grep "^$1 " lab/config/archs) || die "unknown architecture '$1'; known: $known"
	read -r name karch cross image console serial append qemu <<-EOF
		$row
	EOF
	[ "$cross" != - ] || cross=
}

# patches_id: what fixes/ and patches/ hold.
patches_id() {
	cat fixes/*.patch patches/*.patch 2> /dev/null | sha256sum | cut -d' ' -f1
}
