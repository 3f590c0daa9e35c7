#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# A compiler through ccache, but for assembler files: an .incbin in them is a
# dependency that ccache does not see with CCACHE_DEPEND, and arm's zImage would be
# that of another kernel.
#	cc.sh COMPILER ARGUMENT...
for arg; do
	case $arg in
	*.S) exec "$@" ;;
	esac
done
exec ccache "$@"
