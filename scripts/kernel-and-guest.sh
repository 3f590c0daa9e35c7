#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# A kernel and the initramfs that goes with it: kernel.sh and guest.sh in one step.
set -eu
k=$("$(dirname "$0")/kernel.sh" "$@") || { echo "$k"; exit 1; }
echo "$k"
"$(dirname "$0")/guest.sh" "$@"
