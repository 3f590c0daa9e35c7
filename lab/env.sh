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

# pinned_base: the lines of base.mk, or those of ports/ for BASE, as variables.
pinned_base() {
	known=$(sed -n 's/^BASE_VERSION = \([0-9]*\.[0-9]*\).*/\1/p' base.mk ports/*/base.mk 2> /dev/null |
		xargs)
	case " $known " in
	*" ${BASE:-${known%% *}} "*) ;;
	*) die "unknown base '$BASE'; known: $known" ;;
	esac
	pins=base.mk
	[ ! -e "ports/${BASE:-}/base.mk" ] || pins=ports/$BASE/base.mk
	eval "$(sed -n 's/^\(BASE_[A-Z0-9]*\) *= */\1=/p' "$pins")"
}

# port_of LINUX: the folder of ports/ for the version of its branch base, if there is one.
port_of() {
	version=$(git -C "$1" show base:Makefile |
		sed -n 's/^VERSION = //p; s/^PATCHLEVEL = //p' | paste -sd.)
	[ -z "$version" ] || [ ! -d "ports/$version" ] || echo "ports/$version"
}

# mails FOLDER...: their patches in their order, as $port has them: its own in the place of
# those of the same name, and none of its list "dropped".
mails() {
	find "$@" -maxdepth 1 -name '*.patch' ! -name '0000-*' 2> /dev/null | LC_ALL=C sort | while read -r mail; do
		if [ -e "${port:-none}/$mail" ]; then
			echo "$port/$mail"
		elif ! grep -qs "^$mail " "${port:-none}/dropped"; then
			echo "$mail"
		fi
	done
}

# patches_id: what fixes/ and patches/ hold, and $port.
patches_id() {
	cat fixes/*.patch patches/*.patch "${port:-none}"/*/*.patch "${port:-none}/dropped" \
		2> /dev/null | sha256sum | cut -d' ' -f1
}
