#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The base's source as base.mk or ports/BASE/base.mk names it, in the cache:
# CACHE/base/VERSION.tar.xz, by its sha256 and no other. A file of any name with this sum, put
# there by hand, will do. Runs in the build root.
#	base.sh [CACHE]
set -eu
. lab/env.sh
pinned_base
cache=${1:-/cache}
tarball=$cache/base/$BASE_VERSION.tar.xz
exec 9> "$cache/base/.lock"
flock 9

# sum FILE: its sha256.
sum() {
	sha256sum < "$1" | cut -d' ' -f1
}

for file in "$tarball" "$cache"/base/*; do
	[ -f "$file" ] && [ -s "$file" ] || continue
	if [ "$(sum "$file")" = "$BASE_SHA256" ]; then
		[ "$file" = "$tarball" ] || ln -f "$file" "$tarball"
		exit 0
	fi
	[ "$file" != "$tarball" ] || echo "@ $tarball is damaged: fetching it anew"
done

help="What you can do: check the network, or name another mirror (DEBIAN_MIRROR=...); put the \
tarball with the sha256 $BASE_SHA256 into the cache, folder base; or use a kernel tree of \
yours: KERNEL=/path/to/linux."
# A state of its own for apt: the build root is read-only. An old list will do, as the sum counts.
apt=$cache/apt
rm -rf "$apt"
mkdir -p "$apt/lists/partial" "$apt/archives/partial"
kind=deb
[ "$BASE_PACKAGE" != linux ] || kind=deb-src
sed -n "/^deb /{s/^deb/$kind/;s/ trixie main/ $BASE_SUITE main/p;q;}" /etc/apt/sources.list \
	> "$apt/sources.list"
set -- -q -o APT::Sandbox::User=root -o Dir::State="$apt" -o Dir::Cache="$apt" \
	-o Dir::State::status=/var/lib/dpkg/status \
	-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- \
	-o Acquire::Check-Valid-Until=false -o APT::Update::Error-Mode=any \
	-o Acquire::Retries=2 -o Acquire::http::Timeout=30
apt-get "$@" update || die "the list of packages cannot be fetched. $help"
cd "$apt"
get=download
[ "$kind" = deb ] || get='source --download-only --tar-only'
# shellcheck disable=SC2086
apt-get "$@" $get "$BASE_PACKAGE=$BASE_VERSION" ||
	die "Debian offers no $BASE_PACKAGE $BASE_VERSION (any more?). $help"
if [ "$kind" = deb ]; then
	dpkg-deb --fsys-tarfile ./*.deb |
		tar -x --to-stdout ./usr/src/"$BASE_PACKAGE.tar.xz" > "$tarball.tmp" ||
		die "the package cannot be unpacked: see above, is the disk full?"
else
	mv ./*.orig.tar.xz "$tarball.tmp"
fi
[ "$(sum "$tarball.tmp")" = "$BASE_SHA256" ] ||
	die "the source in $BASE_PACKAGE $BASE_VERSION is not the pinned one ($BASE_SHA256). $help"
mv "$tarball.tmp" "$tarball"
rm -rf "$apt"
