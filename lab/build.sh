#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Configure and build one kernel. Runs in the build root.
#	kernel.sh BUILD ARCH FLAVOUR TREE
# FLAVOUR: perf (for figures) or debug (for tests); TREE: base, series, or the name of
# an experiment, which BUILD/linux holds then.
# Leaves BUILD/out/ARCH-FLAVOUR-TREE with the image, the modules' symbols and
# .vfr-complete, which says what it was built from. Warnings are in warnings.log,
# the time of the last build in build.seconds.
set -eu
. scripts/lib.sh
build=$1 arch=$2 flavour=$3 tree=$4
arch_env "$arch"
src=$build/linux
[ "$tree" != base ] || src=$build/base
out=$build/out/$arch-$flavour-$tree
# "# With: FILE..." in a flavour's file: these come before it.
with=$(sed -n 's/^# With: //p' "config/$flavour.config")
fragments="config/common.config $with config/$flavour.config config/$arch.config"
[ ! -f "config/$flavour-$arch.config" ] || fragments="$fragments config/$flavour-$arch.config"
# Before the commit that brings the series' own tests, and in base, there are none.
[ "$flavour" != debug ] || ! grep -q VMA_LOCK_RETRY_KUNIT_TEST "$src/mm/Kconfig" ||
	fragments="$fragments config/series-tests.config"

# What the result depends on: the sources, the configuration, the compiler.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
id=$({
	if [ "$tree" != base ]; then
		git -C "$src" rev-parse 'HEAD^{tree}'
		git -C "$src" diff HEAD
		git -C "$src" ls-files -o --exclude-standard
	else
		git -C "$build/linux" rev-parse 'base^{tree}'
	fi
	cat $fragments scripts/kernel.sh scripts/cc.sh
	"${CROSS}gcc" --version
} | sha256sum)
id=${id%% *}
if [ "$(cat "$out/.vfr-complete" 2>/dev/null)" = "$id" ] && [ -f "$out/$IMAGE" ]; then
	echo "up to date"
	exit 0
fi
mkdir -p "$out"
rm -f "$out/.vfr-complete"
# kbuild writes .X.cmd when X is done. One that is older than X belongs to an X whose
# making was killed, which may be cut short, and which make would take for new.
find "$out" -name '.*.cmd' | while read -r cmd; do
	made=${cmd##*/.}
	made=${cmd%/*}/${made%.cmd}
	# shellcheck disable=SC3013
	[ ! "$made" -nt "$cmd" ] || rm -fv "$made"
done

# "Depend" saves running the preprocessor twice for each miss (see cc.sh for its price).
# Its inode cache is a file in memory: cut short by a full disk, it kills ccache by SIGBUS.
export CCACHE_DIR=/cache/ccache CCACHE_MAXSIZE=12G CCACHE_DEPEND=1 CCACHE_NOINODECACHE=1
export KBUILD_BUILD_TIMESTAMP='2000-01-01' KBUILD_BUILD_USER=vfr KBUILD_BUILD_HOST=vfr KBUILD_BUILD_VERSION=1
make="make -s -C $src O=/vfr/$out ARCH=$KARCH CROSS_COMPILE=$CROSS"

$make tinyconfig > "$out/config.log"
(cd "$src" && scripts/kconfig/merge_config.sh -m -O "/vfr/$out" "/vfr/$out/.config" \
	$(for f in $fragments; do echo "/vfr/$f"; done)) >> "$out/config.log"
$make olddefconfig
# A misspelt or impossible option vanishes without a word.
# The last line on a symbol counts: an architecture's file has the last word.
lost=$(awk -v final="$out/.config" '
	/^CONFIG_[A-Za-z0-9_]*=/ {
		split($0, word, "=")
		if (FILENAME == final) have[word[1]] = $0; else want[word[1]] = $0
	}
	/^# CONFIG_.* is not set$/ && FILENAME != final { want[$2] = "" }
	END {
		for (s in want)
			if (want[s] != have[s])
				print want[s] == "" ? s "=n" : want[s]
	}' $fragments "$out/.config")
[ -z "$lost" ] || die "asked for in $fragments, but not in the final configuration:" $lost

ccache -z > /dev/null
start=$(date +%s)
rc=0
$make CC="/vfr/scripts/cc.sh ${CROSS}gcc" -j"$(nproc)" all > "$out/build.log" 2> "$out/warnings.log" || rc=$?
cat "$out/warnings.log"
[ "$rc" = 0 ] || die "the kernel does not build; the whole log: $out/build.log; $(df -Pm "$out" | awk 'NR == 2 { print $4 }') MB free there"
ccache -s | sed -n 1,4p
[ -f "$out/$IMAGE" ] || die "no $IMAGE after the build"
echo $(($(date +%s) - start)) > "$out/build.seconds"
echo "$id" > "$out/.vfr-complete"
