# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-only
# Sourced by the other scripts.

# die MESSAGE...: say what is wrong and what to do, and give up.
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# take_over_tmp DIR: an unfinished DIR.tmp of an interrupted run is redone.
take_over_tmp() {
	rm -rf "$1.tmp" 2>/dev/null || true
	mkdir -p "$1.tmp"
}

# arch_env ARCH: read config/ARCH.env, or list what there is.
arch_env() {
	[ -r "config/$1.env" ] ||
		die "unknown architecture '$1'; known: $(scripts/archs.sh)"
	# shellcheck disable=SC1090
	. "config/$1.env"
}
