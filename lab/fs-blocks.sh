#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# An empty ext2 file system for lab/guest/throughput.c, as its blocks that are not zero.
# Runs in the build root.
#	fs-blocks.sh FILE
set -eu
truncate -s 960M "$1.tmp"
busybox mke2fs -F -b 4096 -m 0 "$1.tmp" > /dev/null
python3 - "$1.tmp" > "$1" <<-'END'
	import struct, sys
	with open(sys.argv[1], "rb") as f:
	    for number, block in enumerate(iter(lambda: f.read(4096), b"")):
	        if any(block):
	            sys.stdout.buffer.write(struct.pack("=I", number) + block)
END
rm "$1.tmp"
