#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make the image of the real programs, which is put behind a guest's initramfs.
#	real-image.sh BUILD ROOT
# ROOT is that of scripts/real-root.sh. Runs in the build root; leaves BUILD/out/real.cpio.gz:
# db_bench with its libraries, a Java run time cut to what Heap.java needs, and guest/real.sh.
set -eu
. scripts/lib.sh
build=$1 root=$2
image=$build/out/real.cpio.gz
[ -e "$root/.complete" ] || die "no programs in $root: make evidence makes it"
id=$(cat scripts/real-image.sh guest/real.sh guest/Heap.java "$root/.complete" | sha256sum)
if [ -f "$image" ] && [ "$(cat "$image.id" 2>/dev/null)" = "$id" ]; then
	echo "up to date"
	exit 0
fi
rm -f "$image.id"
tmp=$build/out/real.tmp
rm -rf "$tmp"
mkdir -p "$tmp/bin" "$tmp/real/bin" "$tmp/lib64" "$tmp/lib" "$tmp/etc"
jdk=$root/usr/lib/jvm/java-21-openjdk-amd64
libs=$root/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH="$libs"
"$jdk/bin/javac" -d "$tmp/real" guest/Heap.java
"$jdk/bin/jlink" --add-modules java.base,java.management --no-header-files --no-man-pages \
	--output "$tmp/real/jdk"
cp "$root/usr/bin/db_bench" "$tmp/real/bin"
unset LD_LIBRARY_PATH

# Their libraries, and those of these.
cp "$libs/ld-linux-x86-64.so.2" "$tmp/lib64"
copy_libraries "$tmp/lib" "$libs" "$tmp/real/bin" "$tmp/real/jdk/bin" "$tmp/real/jdk/lib"
echo /lib > "$tmp/etc/ld.so.conf"
cp guest/real.sh "$tmp/bin/real"
chmod 755 "$tmp/bin/real"
for tool in cat grep head mkdir mke2fs mkswap mount rmdir sed sh swapoff swapon sync tail umount; do
	[ "$tool" = sh ] || ln -s sh "$tmp/bin/$tool"
done
(cd "$tmp" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet --reproducible) |
	gzip -1n > "$image.tmp"
rm -rf "$tmp"
mv "$image.tmp" "$image"
echo "$id" > "$image.id"
echo "image made, $(($(wc -c < "$image") >> 20)) MiB"
