#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Configure and build one kernel. Runs in the build root.
#	kernel.sh BUILD ARCH FLAVOUR TREE
# FLAVOUR: perf (for figures) or debug (for tests); TREE: base or series.
# Leaves BUILD/out/ARCH-FLAVOUR-TREE with the image, the modules' symbols and
# .vfr-complete, which says what it was built from. Warnings are in warnings.log.
set -eu
. scripts/lib.sh
build=$1 arch=$2 flavour=$3 tree=$4
arch_env "$arch"
case $tree in
base) src=$build/base ;;
series) src=$build/linux ;;
*) die "no tree '$tree'" ;;
esac
out=$build/out/$arch-$flavour-$tree
fragments="config/common.config config/$arch.config"
[ "$flavour" = perf ] || fragments="$fragments config/$flavour.config"

# What the result depends on: the sources, the configuration, the compiler.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
id=$({
	if [ "$tree" = series ]; then
		git -C "$src" rev-parse 'HEAD^{tree}'
		git -C "$src" diff HEAD
		git -C "$src" ls-files -o --exclude-standard
	else
		git -C "$build/linux" rev-parse 'base^{tree}'
	fi
	cat $fragments
	"${CROSS}gcc" --version
} | sha256sum)
id=${id%% *}
if [ "$(cat "$out/.vfr-complete" 2>/dev/null)" = "$id" ]; then
	echo "up to date"
	exit 0
fi
mkdir -p "$out"
rm -f "$out/.vfr-complete"

export CCACHE_DIR=/cache/ccache CCACHE_MAXSIZE=8G
export KBUILD_BUILD_TIMESTAMP='2000-01-01' KBUILD_BUILD_USER=vfr KBUILD_BUILD_HOST=vfr KBUILD_BUILD_VERSION=1
make="make -s -C $src O=/vfr/$out ARCH=$KARCH CROSS_COMPILE=$CROSS"

$make tinyconfig > "$out/config.log"
(cd "$src" && scripts/kconfig/merge_config.sh -m -O "/vfr/$out" "/vfr/$out/.config" \
	$(for f in $fragments; do echo "/vfr/$f"; done)) >> "$out/config.log"
$make olddefconfig
# A misspelt or impossible option vanishes without a word.
lost=
while read -r line; do
	case $line in
	CONFIG_*=*)
		grep -qxF -- "$line" "$out/.config" || lost="$lost $line" ;;
	"# CONFIG_"*" is not set")
		line=${line#\# }
		! grep -q "^${line%% *}=" "$out/.config" || lost="$lost ${line%% *}=n" ;;
	esac
done <<EOT
$(cat $fragments)
EOT
[ -z "$lost" ] || die "asked for in $fragments, but not in the final configuration:$lost"

ccache -z > /dev/null
rc=0
$make CC="ccache ${CROSS}gcc" -j"$(nproc)" all > "$out/build.log" 2> "$out/warnings.log" || rc=$?
cat "$out/warnings.log"
[ "$rc" = 0 ] || die "the kernel does not build; the whole log: $out/build.log"
ccache -s | sed -n 1,4p
[ -f "$out/$IMAGE" ] || die "no $IMAGE after the build"
echo "$id" > "$out/.vfr-complete"
