#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Build the series for kernels that have no CONFIG_PER_VMA_LOCK, without a warning.
#	no-vma-lock.sh BUILD
# What they are is in more/config/no-vma-lock/. Runs in the build root.
set -eu
. lab/env.sh
build=$1 src=$1/linux rc=0 n=0
export CCACHE_DIR=/cache/ccache CCACHE_DEPEND=1 CCACHE_NOINODECACHE=1
set -- more/config/no-vma-lock/*.config
for fragment; do
	n=$((n + 1)) name=${fragment##*/}
	name=${name%.config}
	out=$build/out/no-vma-lock-$name start=$(date +%s)
	mkdir -p "$out"
	karch=$(sed -n 's/^# ARCH=\([^ ]*\) .*/\1/p' "$fragment")
	cross=$(sed -n 's/^# ARCH=.* CROSS=//p' "$fragment")
	make="make -s -C $src O=/vfr/$out ARCH=$karch CROSS_COMPILE=$cross"
	$make tinyconfig > "$out/config.log"
	(cd "$src" && scripts/kconfig/merge_config.sh -m -O "/vfr/$out" "/vfr/$out/.config" \
		"/vfr/$fragment") >> "$out/config.log"
	$make olddefconfig
	grep '^CONFIG_' "$fragment" | while read -r line; do
		grep -qxF -- "$line" "$out/.config" || die "$name: $line is lost in the configuration"
	done
	! grep -q '^CONFIG_PER_VMA_LOCK=y' "$out/.config" ||
		die "$name: CONFIG_PER_VMA_LOCK is set, so this proves nothing"
	result=ok
	$make CC="ccache ${cross}gcc" -j"$(nproc)" vmlinux > "$out/build.log" 2> "$out/warnings.log" ||
		result=FAILED
	[ ! -s "$out/warnings.log" ] || { result=FAILED; cat "$out/warnings.log"; }
	[ "$result" = ok ] || rc=1
	echo "@ $n of $#: $name: $result, $(($(date +%s) - start)) s"
done
exit $rc
