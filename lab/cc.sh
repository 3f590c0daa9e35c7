#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# A compiler through ccache, but for files with an .incbin: that is a dependency which
# ccache does not see with CCACHE_DEPEND, and arm's zImage would be that of another
# kernel, /proc/config.gz that of another configuration.
#	cc.sh COMPILER ARGUMENT...
for arg; do
	case $arg in
	*.S | *kernel/configs.c) exec "$@" ;;
	esac
done
exec ccache "$@"
