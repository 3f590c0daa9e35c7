#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The architectures there is a config/<arch>.env for, or a check of a list:
#	archs.sh [ARCH...]
set -eu
cd "$(dirname "$0")/.."
known=$(for f in config/*.env; do f=${f##*/}; printf '%s ' "${f%.env}"; done)
[ $# -gt 0 ] || { echo "${known% }"; exit 0; }
for a; do
	case " $known" in
	*" $a "*) ;;
	*) echo "unknown architecture '$a'; known: $known" >&2; exit 1 ;;
	esac
done
