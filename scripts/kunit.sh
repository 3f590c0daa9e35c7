#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The series' KUnit suites by the kernel's own kunit.py, as their commit message says,
# in QEMU for each ARCH.
#	kunit.sh BUILD ARCH...
# Runs in the build root. kunit.py builds again what an interrupted run has left.
set -eu
. scripts/lib.sh
build=$1 rc=0 n=0
shift
export CCACHE_DIR=/cache/ccache CCACHE_DEPEND=1 CCACHE_NOINODECACHE=1 PYTHONDONTWRITEBYTECODE=1
for arch; do
	n=$((n + 1)) start=$(date +%s)
	log=/vfr/$build/logs/kunit-$arch.log
	arch_env "$arch"
	qemu=$arch
	# Little-endian, as its compiler here.
	[ "$arch" != powerpc ] || qemu=powerpcle
	result=ok
	(cd "$build/linux" && python3 tools/testing/kunit/kunit.py run --jobs="$(nproc)" \
		--build_dir="/vfr/$build/out/kunit-$arch" --make_options=CC="ccache ${CROSS:-}gcc" \
		--kunitconfig=mm/tests/vma_lock.kunitconfig --arch="$qemu" \
		--cross_compile="$CROSS" --qemu_args="-smp 2") > "$log" 2>&1 || result=FAILED
	# kunit.py is content with a suite that was skipped, or is not there.
	grep -q '\[PASSED\] vma_lock_retry =' "$log" || result=FAILED
	[ "$result" = ok ] || rc=1
	echo "@ $n: $arch: $result, $(sed -n 's/.*Testing complete\. //p' "$log"), $(($(date +%s) - start)) s, log: ${log#/vfr/}"
	CROSS=
done
exit $rc
