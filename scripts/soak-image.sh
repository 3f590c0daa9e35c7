#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make the image of the soak's programs, which is put behind a guest's initramfs.
#	soak-image.sh BUILD ARCH ROOT
# ROOT is that of scripts/soak-root.sh. Runs in the build root; leaves
# BUILD/out/soak-ARCH.cpio.gz: stress-ng and trinity with their libraries, a busybox, and
# guest/soak.sh.
set -eu
. scripts/lib.sh
build=$1 arch=$2 root=$3
arch_env "$arch"
image=$build/out/soak-$arch.cpio.gz
[ -e "$root/.complete" ] || die "no programs in $root: make soak makes it"
id=$(cat scripts/soak-image.sh guest/soak.sh "$root/.complete" | sha256sum)
if [ -f "$image" ] && [ "$(cat "$image.id" 2>/dev/null)" = "$id" ]; then
	echo "up to date"
	exit 0
fi
rm -f "$image.id"
tmp=$build/out/soak-$arch.tmp
rm -rf "$tmp"
mkdir -p "$tmp/bin" "$tmp/lib" "$tmp/etc"
case $arch in
x86_64) libs=$root/usr/lib/x86_64-linux-gnu loader=lib64/ld-linux-x86-64.so.2 ;;
arm64) libs=$root/usr/lib/aarch64-linux-gnu loader=lib/ld-linux-aarch64.so.1 ;;
*) die "no soak on '$arch'; there is one on x86_64 and arm64" ;;
esac
mkdir -p "$tmp/${loader%/*}"
cp -L "$libs/${loader##*/}" "$tmp/$loader"
cp "$root/usr/bin/stress-ng" "$root/usr/bin/trinity" "$tmp/bin"
copy_libraries "$tmp/lib" "$libs" "$tmp/bin"
echo /lib > "$tmp/etc/ld.so.conf"
# Trinity gives up root.
echo 'root:x:0:0:root:/:/bin/sh' > "$tmp/etc/passwd"
echo 'nobody:x:65534:65534:nobody:/:/bin/sh' >> "$tmp/etc/passwd"
echo 'root:x:0:' > "$tmp/etc/group"
echo 'nogroup:x:65534:' >> "$tmp/etc/group"
cp guest/soak.sh "$tmp/bin/soak"
chmod 755 "$tmp/bin/soak"
cp "$root/usr/bin/busybox" "$tmp/bin/sh"
for tool in $(sed -n 's/^# Tools: //p' guest/soak.sh); do
	ln -s sh "$tmp/bin/$tool"
done
(cd "$tmp" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet --reproducible) |
	gzip -1n > "$image.tmp"
rm -rf "$tmp"
mv "$image.tmp" "$image"
echo "$id" > "$image.id"
echo "image made, $(($(wc -c < "$image") >> 20)) MiB"
