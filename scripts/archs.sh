#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The architectures there is a config/<arch>.env for, or a check of a list:
#	archs.sh [ARCH...]
set -eu
cd "$(dirname "$0")/.."
# x86_64 first: it is the one with a base kernel to compare with.
known="x86_64 $(for f in config/*.env; do f=${f##*/}; printf '%s\n' "${f%.env}"; done |
	grep -vx x86_64 | tr '\n' ' ')"
[ $# -gt 0 ] || { echo "${known% }"; exit 0; }
for a; do
	case " $known" in
	*" $a "*) ;;
	*) echo "unknown architecture '$a'; known: $known" >&2; exit 1 ;;
	esac
done
