# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-only
# Sourced, after lab/env.sh, by what takes programs from Debian packages.

# place LIST ARCH: the name, in the cache, of the folder that root.sh unpacks them into.
place() {
	echo "$1-$2-$(cat "more/config/$1-packages" more/root.sh | sha256sum | cut -c1-12)"
}

# copy_libraries TO FROM DIR...: copy into TO the libraries of FROM that the programs in
# DIRs and the libraries in TO need.
copy_libraries() {
	to=$1 from=$2
	shift 2
	again=1
	while [ "$again" ]; do
		again=
		for library in $(find "$@" "$to" -type f -exec readelf -d {} + 2> /dev/null |
			sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u); do
			if [ ! -e "$to/$library" ] && [ -e "$from/$library" ]; then
				cp -L "$from/$library" "$to"
				again=1
			fi
		done
	done
}
