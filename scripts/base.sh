#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Fetch the base kernel's source into the cache. Runs in the build root.
#	base.sh
# Leaves /cache/base/<version>.tar.xz and prints what it is. /cache/base/current
# names the version in use: the pinned one, or the newest of the series.
set -eu
. scripts/lib.sh
eval "$(sed -n 's/^\(BASE_[A-Z0-9]*\) *= */\1=/p' base.mk)"
dir=/cache/base
mkdir -p "$dir"
# Runs in several clones share the cache.
exec 9> "$dir/.lock"
flock -w 1800 9 || die "another run has been fetching the base kernel for 30 minutes"

# verified VERSION [SHA256]: it is in the cache, and whole.
verified() {
	[ -f "$dir/$1.tar.xz" ] && [ -f "$dir/$1.sha256" ] || return 1
	sum=$(sha256sum < "$dir/$1.tar.xz")
	sum=${sum%% *}
	[ "$sum" = "${2:-$(cat "$dir/$1.sha256")}" ] && return 0
	echo "$dir/$1.tar.xz is damaged: fetching it anew"
	rm -f "$dir/$1.tar.xz" "$dir/$1.sha256"
	return 1
}

# use VERSION: say which one it is, and that it is another than the pinned one.
use() {
	echo "$1" > "$dir/current.tmp"
	mv "$dir/current.tmp" "$dir/current"
	[ "$1" = "$BASE_VERSION" ] ||
		echo "@ NOTE: base $BASE_VERSION is not offered any more; using $1 instead"
	echo "base: $BASE_PACKAGE $1"
}

if verified "$BASE_VERSION" "$BASE_SHA256"; then
	use "$BASE_VERSION"
	echo "up to date"
	exit 0
fi

# A state of its own for apt: the build root stays as it is. Made anew, as apt does not
# get over a damaged list.
apt=/cache/apt
rm -rf "$apt"
mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/etc"
sed -n '/^deb /{p;s/ trixie main/ trixie-backports main/p;q;}' /etc/apt/sources.list > "$apt/etc/sources.list"
apt_opts="-o APT::Sandbox::User=root -o Dir::State=$apt/state -o Dir::State::status=/var/lib/dpkg/status
	-o Dir::Cache=$apt/cache -o Dir::Etc::sourcelist=$apt/etc/sources.list -o Dir::Etc::sourceparts=-
	-o Acquire::Retries=2 -o Acquire::http::Timeout=30 -o APT::Update::Error-Mode=any"
hint="Three things you can do: check the network (or name another mirror: make distclean, DEBIAN_MIRROR=...); use a kernel tree of yours with KERNEL=/path/to/linux; or copy the cache folder from a machine that has it."

# shellcheck disable=SC2086
if ! apt-get $apt_opts -q update; then
	version=$(cat "$dir/current" 2>/dev/null || true)
	if [ -n "$version" ] && verified "$version"; then
		use "$version"
		exit 0
	fi
	die "the list of packages cannot be fetched. $hint"
fi
# shellcheck disable=SC2086
offered=$(apt-cache $apt_opts madison "$BASE_PACKAGE" | awk '{ print $3 }' | sort -rV)
version=
for v in $offered; do
	[ "$v" != "$BASE_VERSION" ] || version=$v
done
[ -n "$version" ] || version=$(echo "$offered" | head -n 1)
[ -n "$version" ] || die "the mirror offers no $BASE_PACKAGE any more. $hint"
if [ "$version" != "$BASE_VERSION" ] && verified "$version"; then
	use "$version"
	echo "up to date"
	exit 0
fi

tmp=$dir/$version.tmp
rm -rf "$tmp"
mkdir -p "$tmp"
# apt verifies the package against the signed list.
# shellcheck disable=SC2086
(cd "$tmp" && apt-get $apt_opts -q download "$BASE_PACKAGE=$version") ||
	die "$BASE_PACKAGE $version cannot be downloaded. $hint"
dpkg-deb --fsys-tarfile "$tmp"/*.deb | tar -C "$tmp" -x ./usr/src ||
	die "$BASE_PACKAGE $version cannot be unpacked: see above; $(df -Pm "$dir" | awk 'NR == 2 { print $4 }') MB free in the cache"
sum=$(sha256sum < "$tmp/usr/src/$BASE_PACKAGE.tar.xz")
sum=${sum%% *}
if [ "$version" = "$BASE_VERSION" ] && [ "$sum" != "$BASE_SHA256" ]; then
	die "$BASE_PACKAGE $version has the sha256 $sum, base.mk says $BASE_SHA256: either the mirror or base.mk is wrong"
fi
mv "$tmp/usr/src/$BASE_PACKAGE.tar.xz" "$dir/$version.tar.xz"
echo "$sum" > "$dir/$version.sha256"
rm -rf "$tmp"
use "$version"
