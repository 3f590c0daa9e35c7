#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Debian packages of base and series for real machines. Runs in the build root.
#	packages.sh BUILD CONFIG
# CONFIG: the configuration of the machine's kernel, like /boot/config-6.12.0-amd64. Debug
# information and the signatures of its distribution are left out.
# Leaves in BUILD/packages the packages and measure/, which measures on the machine.
set -eu
. lab/env.sh
build=$1 config=$2
to=$build/packages
for tree in base series; do
	src=$build/linux
	[ "$tree" != base ] || src=$build/base
	out=$to/$tree
	mkdir -p "$out"
	cp "$config" "$out/.config"
	"$src/scripts/config" --file "$out/.config" --set-str LOCALVERSION "-vfr-$tree" \
		-d LOCALVERSION_AUTO -e DEBUG_INFO_NONE -d MODULE_SIG_FORCE \
		--set-str SYSTEM_TRUSTED_KEYS '' --set-str SYSTEM_REVOCATION_KEYS '' \
		-e CONFIGFS_FS -m BLK_DEV_NULL_BLK -e BLK_DEV_THROTTLING -e PER_VMA_LOCK_STATS
	make -s -C "$src" O="/vfr/$out" olddefconfig
	echo "@ packages of $tree: log $out/build.log"
	# LOCALVERSION=, or a git tree without a tag gets a "+" behind its release.
	# "Depend" and so on: as in build.sh.
	CCACHE_DIR=/cache/ccache CCACHE_DEPEND=1 CCACHE_NOINODECACHE=1 KBUILD_BUILD_TIMESTAMP='2000-01-01' \
		make -s -C "$src" O="/vfr/$out" CC="/vfr/lab/cc.sh gcc" LOCALVERSION= KDEB_PKGVERSION=1 \
		DPKG_FLAGS=-d -j"$(nproc)" bindeb-pkg > "$out/build.log" 2>&1 ||
		die "that failed; the end of $out/build.log: $(tail -n 5 "$out/build.log")"
done
mkdir -p "$to/measure"
for program in writer throughput; do
	gcc -O2 -Wall -Wextra -Werror -static -pthread -Ilab/guest -o "$to/measure/$program" "lab/guest/$program.c"
done
lab/fs-blocks.sh "$to/measure/fs.blocks"
cp lab/measure.py lab/report.py lab/workloads.py lab/figures.py lab/guest.py "$to/measure"
ls "$to"/*.deb
echo "@ On the machine: install both linux-image packages (apt install ./FILE). Then boot each
@ once, and do: sudo modprobe null_blk nr_devices=0; cd measure; sudo ./measure.py run
@ At the end: ./measure.py compare"
