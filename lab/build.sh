#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Configure and build a kernel, and its initramfs. Runs in the build root.
#	build.sh BUILD ARCH FLAVOUR TREE
# FLAVOUR: perf (for figures), debug (for tests), or one of more/config. TREE: base, or
# another name for what BUILD/linux has checked out. GUEST_EXTRA=DIR adds the programs
# DIR/*.c to the guest's; NO_KSELFTESTS=1 leaves out the kernel's own, KERNEL_ONLY=1 the whole
# initramfs.
# Leaves BUILD/out/ARCH-FLAVOUR-TREE with the image, initramfs.gz, warnings.log,
# build.seconds and .complete, which comes last and says what it was built from.
# Lists of words are meant to be split:
# shellcheck disable=SC2086,SC2046
set -eu
. lab/env.sh
build=$1 arch=$2 flavour=$3 tree=$4
architecture "$arch"
src=$build/linux
[ "$tree" != base ] || src=$build/base
out=$build/out/$arch-$flavour-$tree

# fragment NAME: the path of a configuration file, if there is one.
fragment() {
	for folder in lab/config more/config; do
		[ ! -f "$folder/$1.config" ] || { echo "$folder/$1.config"; return; }
	done
}
own=$(fragment "$flavour")
[ "$own" ] || die "unknown flavour '$flavour': no lab/config/$flavour.config"
# "# With: FLAVOUR..." in a flavour's file: these come before it.
before=$(sed -n 's/^# With: //p' "$own")
fragments=$(for name in common $before "$flavour" "$arch" "$flavour-$arch"; do
	fragment "$name"
done)
# Before the commit that brings the series' own tests there are none.
[ "$flavour" != debug ] || ! grep -q VMA_LOCK_RETRY_KUNIT_TEST "$src/mm/Kconfig" ||
	fragments="$fragments $(fragment series-tests)"

# ---- the kernel ----
id=$({
	if [ "$tree" = base ]; then
		git -C "$build/linux" rev-parse 'base^{tree}'
	else
		git -C "$src" rev-parse 'HEAD^{tree}'
		git -C "$src" diff HEAD
		git -C "$src" ls-files -o --exclude-standard
	fi
	cat $fragments lab/build.sh lab/cc.sh
	"${cross}gcc" --version
} | sha256sum | cut -d' ' -f1)

# "Depend" saves running the preprocessor twice for each miss (see cc.sh for its price).
# ccache's inode cache is a file in memory: a full disk cuts it short, and kills ccache.
export CCACHE_DIR=/cache/ccache CCACHE_MAXSIZE=12G CCACHE_DEPEND=1 CCACHE_NOINODECACHE=1
export KBUILD_BUILD_TIMESTAMP='2000-01-01' KBUILD_BUILD_VERSION=1
export KBUILD_BUILD_USER=vfr KBUILD_BUILD_HOST=vfr
make="make -s -C $src O=/vfr/$out ARCH=$karch CROSS_COMPILE=$cross"

if [ "$(cat "$out/.kernel" 2> /dev/null)" != "$id" ] || [ ! -f "$out/$image" ]; then
	mkdir -p "$out"
	rm -f "$out/.kernel" "$out/.complete"
	# kbuild writes .X.cmd when X is done. An older one belongs to an X whose making was
	# killed, which may be cut short, and which make would take for new.
	find "$out" -name '.*.cmd' | while read -r cmd; do
		made=${cmd##*/.}
		made=${cmd%/*}/${made%.cmd}
		[ -z "$(find "$made" -newer "$cmd" 2> /dev/null)" ] || rm -f "$made"
	done
	$make tinyconfig > "$out/config.log"
	(cd "$src" && scripts/kconfig/merge_config.sh -m -O "/vfr/$out" "/vfr/$out/.config" \
		$(for f in $fragments; do echo "/vfr/$f"; done)) >> "$out/config.log"
	$make olddefconfig
	# A misspelt or impossible option vanishes without a word. The last line on a symbol
	# counts: an architecture's file has the last word.
	lost=$(cat $fragments | sed -n 's/^\(CONFIG_[A-Za-z0-9_]*\)=.*/\1 &/p;
		s/^# \(CONFIG_[A-Za-z0-9_]*\) is not set$/\1 &/p' |
		awk '{ line = $0; sub(/^[^ ]* /, "", line); last[$1] = line }
			END { for (s in last) print last[s] }' |
		while read -r line; do
			symbol=$(echo "$line" | sed 's/^# //; s/[= ].*//')
			case $line in
			*=*) grep -qxF "$line" "$out/.config" || echo "$line" ;;
			*) ! grep -q "^$symbol=" "$out/.config" || echo "$symbol=n" ;;
			esac
		done | grep -vxF "$(sed -n 's/ # .*//p' "$(port_of "$build/linux")/except" 2> /dev/null)") || :
	[ -z "$lost" ] || die "asked for in" $fragments "but not in the final configuration:" $lost
	start=$(date +%s)
	$make CC="/vfr/lab/cc.sh ${cross}gcc" -j"$(nproc)" all > "$out/build.log" \
		2> "$out/warnings.log" || {
		cat "$out/warnings.log"
		die "the kernel does not build; the whole log: $out/build.log"
	}
	[ -f "$out/$image" ] || die "no $image after the build"
	echo $(($(date +%s) - start)) > "$out/build.seconds"
	echo "$id" > "$out/.kernel"
fi
[ -z "${KERNEL_ONLY:-}" ] || exit 0

# ---- the guest ----
kselftests=
if [ "$flavour" != perf ] && [ -z "${NO_KSELFTESTS:-}" ]; then
	list=lab/expect/kselftests
	# Base gets those of the series that must fail there.
	[ "$tree" != base ] || list=lab/expect/kselftest-base-fails
	kselftests=$(sed -n 's/#.*//; s/^[^:]*: *\([^ :]*\).*/\1/p' "$list" | sort -u)
fi
tests=$build/linux/tools/testing/selftests/mm
id=$({
	cat "$out/.kernel" lab/build.sh lab/fs-blocks.sh
	find lab/guest ${GUEST_EXTRA:-} -name '*.[ch]' -exec sha256sum {} + | LC_ALL=C sort
	echo "$kselftests"
	[ -z "$kselftests" ] || cat "$tests"/*.[ch]
} | sha256sum | cut -d' ' -f1)
if [ "$(cat "$out/.complete" 2> /dev/null)" = "$id" ] && [ -f "$out/initramfs.gz" ]; then
	echo "up to date"
	exit 0
fi
rm -f "$out/.complete"
guest=$out/guest
rm -rf "$guest"
mkdir -p "$guest/kselftest"
(cd "$guest" && mkdir -p root/bin root/modules root/dev root/proc root/sys root/tmp)
for source in lab/guest/*.c ${GUEST_EXTRA:+"$GUEST_EXTRA"/*.c}; do
	program=$(basename "$source" .c)
	"${cross}gcc" -O2 -Wall -Wextra -Werror -static -pthread -Ilab/guest \
		-o "$guest/root/bin/$program" "$source"
done
mv "$guest/root/bin/init" "$guest/root/init"
[ "$arch" != x86_64 ] || cp /bin/busybox "$guest/root/bin/sh"
[ -z "$kselftests" ] || $make headers
for program in $kselftests; do
	make -s -C "$tests" O="/vfr/$out" OUTPUT="/vfr/$guest/kselftest" ARCH="$karch" \
		CROSS_COMPILE="$cross" CC="${cross}gcc" LDFLAGS=-static \
		KHDR_INCLUDES="-isystem /vfr/$out/usr/include" "/vfr/$guest/kselftest/$program"
	cp "$guest/kselftest/$program" "$guest/root/bin/kselftest-$program"
done
# The driver is built beside a copy of its header, so that lab/guest/ stays clean.
cp -r lab/guest/driver lab/guest/vfr.h "$guest"
$make M="/vfr/$guest/driver" modules
cp "$guest/driver/vfr.ko" "$guest/root/modules"
if [ "$flavour" = perf ]; then
	lab/fs-blocks.sh "$guest/root/fs.blocks"
fi
find "$guest/root" -exec touch -hd @0 {} +
(cd "$guest/root" && find . | LC_ALL=C sort |
	cpio -o -H newc -R 0:0 --quiet --reproducible) > "$guest/cpio"
gzip -1n < "$guest/cpio" > "$out/initramfs.gz"
rm "$guest/cpio"
echo "$id" > "$out/.complete"
