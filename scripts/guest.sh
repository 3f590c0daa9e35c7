#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make the initramfs of a kernel: init, the test programs, the test driver.
#	guest.sh BUILD ARCH FLAVOUR TREE
# NO_KSELFTESTS=1 leaves out the kernel's own selftests, which kernels with
# checks get.
# Runs in the build root; leaves initramfs.gz in the kernel's output directory.
set -eu
. scripts/lib.sh
build=$1 arch=$2 flavour=$3 tree=$4
arch_env "$arch"
out=$build/out/$arch-$flavour-$tree
[ -e "$out/.vfr-complete" ] || die "no kernel in $out: make it first"
src=$build/linux
[ "$tree" != base ] || src=$build/base

# The programs of the series' selftests are in base's, too.
id=$({
	find guest scripts/guest.sh tests/kselftest* -type f ! -name '*.o' ! -path 'guest/*.sh' ! -name '*.java' -exec sha256sum {} + | sort
	cat "$out/.vfr-complete"
	[ "$flavour$tree" != debugbase ] || cat "$build"/linux/tools/testing/selftests/mm/*.[ch]
} | sha256sum)
if [ -f "$out/initramfs.gz" ] && [ "$(cat "$out/initramfs.id" 2>/dev/null)" = "$id" ]; then
	echo "up to date"
	exit 0
fi
rm -f "$out/initramfs.id"
tmp=$out/guest
rm -rf "$tmp"
mkdir -p "$tmp/root/bin" "$tmp/root/modules" "$tmp/root/dev" "$tmp/root/proc" "$tmp/root/sys" "$tmp/root/tmp"
for c in guest/*.c; do
	name=${c##*/}
	name=${name%.c}
	dest=$tmp/root/bin/$name
	[ "$name" != init ] || dest=$tmp/root/init
	"${CROSS}gcc" -O2 -Wall -Wextra -Werror -static -pthread -o "$dest" "$c"
done
[ "$arch" != x86_64 ] || cp /bin/busybox "$tmp/root/bin/sh"

# The kernel's own selftests. Base gets those of the series that must fail there.
list=tests/kselftests
[ "$tree" = series ] || list=tests/kselftest-base-fails
case $flavour in
debug | soak | kcsan) with_kselftests=1 ;;
*) with_kselftests= ;;
esac
if [ "$with_kselftests" ] && [ -z "${NO_KSELFTESTS:-}" ]; then
	make -s -C "$src" O="/vfr/$out" ARCH="$KARCH" CROSS_COMPILE="$CROSS" headers
	mkdir -p "$tmp/kselftest"
	for name in $(sed -n 's/#.*//; s/^[^:]*: *\([^ :]*\).*/\1/p' "$list" | sort -u); do
		make -s -C "$build/linux/tools/testing/selftests/mm" O="/vfr/$out" \
			OUTPUT="/vfr/$tmp/kselftest" \
			KHDR_INCLUDES="-isystem /vfr/$out/usr/include" ARCH="$KARCH" \
			CROSS_COMPILE="$CROSS" CC="${CROSS}gcc" LDFLAGS=-static \
			"/vfr/$tmp/kselftest/$name"
		cp "$tmp/kselftest/$name" "$tmp/root/bin/kselftest-$name"
	done
fi

# The driver is built beside a copy of its header, so that guest/ stays clean.
cp -r guest/driver guest/vfr.h "$tmp"
make -s -C "$src" O="/vfr/$out" ARCH="$KARCH" CROSS_COMPILE="$CROSS" \
	M="/vfr/$tmp/driver" modules
cp "$tmp/driver/vfr.ko" "$tmp/root/modules"

# For thrash: an empty ext2 file system of 960 MiB, but for its blocks of zeroes.
if [ "$flavour" = perf ]; then
	truncate -s 960M "$tmp/fs"
	busybox mke2fs -F -b 4096 -m 0 "$tmp/fs" > /dev/null
	python3 - "$tmp/fs" > "$tmp/root/fs.blocks" <<-'EOF'
		import struct, sys
		with open(sys.argv[1], "rb") as f:
		    for nr, block in enumerate(iter(lambda: f.read(4096), b"")):
		        if any(block):
		            sys.stdout.buffer.write(struct.pack("=I", nr) + block)
	EOF
	rm "$tmp/fs"
fi

find "$tmp/root" -exec touch -hd @0 {} +
(cd "$tmp/root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet --reproducible) > "$tmp/cpio"
gzip -1n < "$tmp/cpio" > "$out/initramfs.gz.tmp"
rm "$tmp/cpio"
mv "$out/initramfs.gz.tmp" "$out/initramfs.gz"
echo "$id" > "$out/initramfs.id"
echo "initramfs made"
