#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# sparse as the kernel's makefiles call it (make C=2 CHECK=.../sparse.sh), on terms
# that Debian 13's understands. It lacks gcc 14's __typeof_unqual__, and the kernel
# would do without any sparse then; a __builtin_strlen() that is constant, which MODULE_*()
# asserts on; and riscv's -march=..._zicsr_zifencei, of which it
# would die.
for arg; do
	shift
	case $arg in
	-march=*) ;;
	*) set -- "$@" "$arg" ;;
	esac
done
exec sparse -D__typeof_unqual__=__typeof__ '-D__builtin_strlen(s)=(sizeof(s)-1)' "$@"
