#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make the images for guest/filesystems.c: a file of 1,024 pages on each file system.
#	filesystems.sh BUILD
# Runs in the build root, after root.sh. Leaves BUILD/out/filesystems.cpio.gz with NAME.blocks: the
# size in MiB, then the blocks that are not zero, each behind its number; and the folder
# BUILD/out/9p, for the host's 9p.
set -eu
. lab/env.sh
. more/debian.sh
out=$1/out
root=/cache/$(place fs x86_64)
[ -e "$root/.complete" ] || die "no programs in $root: make more WHAT=troubles makes it"
id=$({ echo "$root"; cat more/filesystems.sh; } | sha256sum)
[ ! -f "$out/filesystems.cpio.gz" ] || [ "$(cat "$out/filesystems.id" 2> /dev/null)" != "$id" ] || exit 0
rm -rf "$out/filesystems.id" "$out/9p" "$out/fs.tmp"
mkdir -p "$out/9p" "$out/fs.tmp"
export LD_LIBRARY_PATH="$root/usr/lib/x86_64-linux-gnu" PATH="$PATH:$root/usr/bin:$root/usr/sbin"
python3 -c '
import struct, sys
for page in range(1024):
    sys.stdout.buffer.write(struct.pack("=II", page, 2).ljust(4096, b"x"))' > "$out/9p/file"
cd "$out/fs.tmp"
truncate -s 16M ext4
mkfs.ext4 -q -d ../9p ext4
# A block a page, so that it reads as often as the others.
mksquashfs ../9p squashfs -quiet -no-progress -noD -no-fragments -b 4K
mkfs.erofs --quiet erofs ../9p
truncate -s 128M btrfs
mkfs.btrfs -q -M --rootdir ../9p btrfs
truncate -s 64M f2fs
mkfs.f2fs -q f2fs
sload.f2fs -f ../9p f2fs > /dev/null
for image in ext4 squashfs erofs btrfs f2fs; do
	python3 - "$image" > "$image.blocks" <<-'END'
		import struct, sys
		with open(sys.argv[1], "rb") as f:
		    blocks = list(iter(lambda: f.read(4096), b""))
		sys.stdout.buffer.write(struct.pack("=I", len(blocks) // 256 + 1))
		for number, block in enumerate(blocks):
		    if any(block):
		        sys.stdout.buffer.write(struct.pack("=I", number) + block.ljust(4096, b"\0"))
	END
done
find . -name '*.blocks' | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet --reproducible |
	gzip -1n > ../filesystems.cpio.gz
cd ..
rm -rf fs.tmp
echo "$id" > filesystems.id
