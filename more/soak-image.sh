#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make the image of the soak's programs, which is put behind a guest's initramfs.
#	soak-image.sh BUILD ARCH
# Runs in the build root, after root.sh. Leaves BUILD/out/soak-ARCH.cpio.gz: stress-ng and
# trinity with their libraries, a busybox, and soak-guest.sh as the program soak.
set -eu
. lab/env.sh
. more/debian.sh
build=$1 arch=$2
root=/cache/$(place soak "$arch")
image=$build/out/soak-$arch.cpio.gz
[ -e "$root/.complete" ] || die "no programs in $root: make more WHAT=soak makes it"
id=$({ echo "$root"; cat more/soak-image.sh more/soak-guest.sh more/debian.sh; } | sha256sum)
[ ! -f "$image" ] || [ "$(cat "$image.id" 2> /dev/null)" != "$id" ] || exit 0
rm -f "$image.id"
tmp=$build/out/soak-$arch.tmp
rm -rf "$tmp"
mkdir -p "$tmp/bin" "$tmp/lib" "$tmp/etc"
case $arch in
x86_64) libs=$root/usr/lib/x86_64-linux-gnu loader=lib64/ld-linux-x86-64.so.2 ;;
arm64) libs=$root/usr/lib/aarch64-linux-gnu loader=lib/ld-linux-aarch64.so.1 ;;
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
cp more/soak-guest.sh "$tmp/bin/soak"
chmod 755 "$tmp/bin/soak"
cp "$root/usr/bin/busybox" "$tmp/bin/sh"
sed -n 's/^# Tools: //p' more/soak-guest.sh | tr ' ' '\n' | while read -r tool; do
	ln -s sh "$tmp/bin/$tool"
done
(cd "$tmp" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet --reproducible) | gzip -1n > "$image"
rm -rf "$tmp"
echo "$id" > "$image.id"
