#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Build what the guests of mm-suite see. Runs in the build root, after root.sh and the kernels.
#	mm-programs.sh BUILD ARCH
# Leaves BUILD/out/mm-ARCH/mm, the installed selftests of the series' tree, made from a copy of
# that tree, and for TREE in base and series BUILD/out/mm-ARCH/TREE, the folder a guest of that
# kernel mounts: mm-guest.sh, mm and the kernel's modules. All kernels get the same
# programs. .id in each says what it was made from.
set -eu
. lab/env.sh
. more/debian.sh
build=$1 arch=$2
architecture "$arch"
root=/cache/$(place mm "$arch")
out=$build/out/mm-$arch
src=$build/linux
[ -e "$root/.complete" ] || die "no user land in $root: make more WHAT=mm-suite makes it"

# What the programs are made from: these parts of the tree, and the user API.
parts="tools/testing/selftests/mm tools/testing/selftests/x86 tools/testing/selftests/arm64/signal
	tools/testing/selftests/kselftest tools/testing/selftests/pidfd tools/testing/selftests/clone3 tools/testing/selftests/*.h
	tools/testing/selftests/*.mk tools/include tools/lib tools/scripts
	scripts/*.include mm/gup_test.h lib/test_hmm_uapi.h include/vdso include/uapi arch/*/include/uapi"
files() {
	# shellcheck disable=SC2086
	(cd "$src" && git ls-files -c -o --exclude-standard -- $parts | LC_ALL=C sort -u)
}
id=$({
	files | (cd "$src" && tr '\n' '\0' | xargs -0 sha256sum)
	"${cross}gcc" --version
	cat more/mm-programs.sh
	echo "$root"
} | sha256sum)
id=${id%% *}
mkdir -p "$out"
if [ "$(cat "$out/mm/.id" 2>/dev/null)" != "$id" ]; then
	rm -rf "$out/mm" "$out/mm.tmp" "$out/src" "$out/headers" "$out/obj"
	mkdir -p "$out/src" "$out/obj" "$out/headers"
	files | (cd "$src" && tar -c -T -) | tar -C "$out/src" -x
	make -s -C "$src" O="/vfr/$out/headers" ARCH="$karch" headers_install \
		INSTALL_HDR_PATH="/vfr/$out/headers/usr" > "$out/build.log"
	# KDIR: its module is built below, for each kernel.
	make -C "$out/src/tools/testing/selftests/mm" ARCH="$karch" CROSS_COMPILE="$cross" \
		CC="${cross}gcc --sysroot=$root" OUTPUT="/vfr/$out/obj" \
		KHDR_INCLUDES="-isystem /vfr/$out/headers/usr/include" KDIR=/nonexistent \
		INSTALL_PATH="/vfr/$out/mm.tmp" -j"$(nproc)" install >> "$out/build.log" 2>&1 ||
		{ tail -n 40 "$out/build.log"; die "the selftests do not build; the whole log: $out/build.log"; }
	# Without these many programs only skip.
	for need in cow ksm_tests mlock-random-test run_vmtests.sh; do
		[ -e "$out/mm.tmp/$need" ] || die "$need was not built; see $out/build.log"
	done
	grep -q LOCAL_CONFIG_HAVE_LIBURING "$out/src/tools/testing/selftests/mm/local_config.h_gen" ||
		die "liburing was not found; see $out/build.log"
	echo "$id" > "$out/mm.tmp/.id"
	mv "$out/mm.tmp" "$out/mm"
	echo "programs made: $(find "$out/mm" -type f | wc -l) files"
fi

for tree in base series; do
	kernel=$build/out/$arch-mm-$tree
	[ -e "$kernel/.complete" ] || die "no kernel in $kernel: make it first"
	ksrc=$src
	[ "$tree" = series ] || ksrc=$build/base
	tid=$(cat "$kernel/.complete" "$out/mm/.id" more/mm-guest.sh | sha256sum)
	tid=${tid%% *}
	[ "$(cat "$out/$tree/.id" 2>/dev/null)" != "$tid" ] || continue
	rm -rf "${out:?}/$tree" "$out/page_frag-$tree"
	mkdir -p "$out/$tree/modules"
	make="make -s -C $ksrc O=/vfr/$kernel ARCH=$karch CROSS_COMPILE=$cross"
	$make INSTALL_MOD_PATH="/vfr/$out/$tree/modules" modules_install > "$out/modules-$tree.log"
	cp -r "$out/src/tools/testing/selftests/mm/page_frag" "$out/page_frag-$tree"
	$make M="/vfr/$out/page_frag-$tree" modules >> "$out/modules-$tree.log"
	cp "$out/page_frag-$tree/page_frag_test.ko" "$out/$tree/modules"
	find "$out/$tree/modules" -type l -delete
	cp -r "$out/mm" "$out/$tree/mm"
	cp more/mm-guest.sh "$out/$tree"
	# The kernel mounts its root file system itself; QEMU is given an initramfs all
	# the same, and this one is empty.
	printf '' | cpio -o -H newc --quiet | gzip -1n > "$out/empty.gz"
	echo "$tid" > "$out/$tree/.id"
	echo "$tree: modules made"
done
