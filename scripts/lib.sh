# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-only
# Sourced by the other scripts.

# die MESSAGE...: say what is wrong and what to do, and give up.
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# take_over_tmp DIR: an unfinished DIR.tmp of an interrupted run is redone.
take_over_tmp() {
	rm -rf "$1.tmp" 2>/dev/null || true
	mkdir -p "$1.tmp"
}

# arch_env ARCH: read config/ARCH.env, or list what there is.
arch_env() {
	[ -r "config/$1.env" ] ||
		die "unknown architecture '$1'; known: $(scripts/archs.sh)"
	# shellcheck disable=SC1090
	. "config/$1.env"
}

# unpack_debian ROOT ARCH LIST: unpack, not install, the Debian 13 packages in the file
# LIST into ROOT.tmp, under a lock, unless ROOT is complete: then it says so and exits.
# The caller finishes ROOT.tmp and gives it its name. For an architecture of our own.
unpack_debian() {
	if [ -e "$1/.complete" ]; then
		echo "up to date"
		exit 0
	fi
	case $2 in
	x86_64) debian=amd64 ;;
	arm64) debian=arm64 ;;
	*) die "no user land for '$2'; there is one for x86_64 and arm64" ;;
	esac
	packages=$(sed 's/#.*//' "$3" | xargs | tr ' ' ,)
	mirror=$(scripts/mirror.sh)
	mkdir -p "${1%/*}"
	exec 9> "$1.lock"
	flock -w 1800 9 || die "another run has been making $1 for 30 minutes"
	[ ! -e "$1/.complete" ] || exit 0
	rm -rf "$1"
	take_over_tmp "$1"
	rm -f "$1.tmp.fifo"
	mkfifo "$1.tmp.fifo"
	# Unpacked by us, so that every file is ours whoever we are.
	tar -C "$1.tmp" --no-same-owner -x --exclude='./dev/*' < "$1.tmp.fifo" &
	if ! mmdebstrap --variant=extract --architectures="$debian" --include="$packages" \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--format=tar trixie - ${mirror:+"$mirror"} > "$1.tmp.fifo"
	then
		wait
		rm -f "$1.tmp.fifo"
		die "the packages of $3 could not be had for $2: see above; is the network up, and does the mirror have trixie for $debian (DEBIAN_MIRROR overrides it)?"
	fi
	wait $!
	rm -f "$1.tmp.fifo"
	# A symbolic link to an absolute path would lead out of it.
	find "$1.tmp/usr/lib" -type l -lname '/*' | while read -r link; do
		ln -sfrT "$1.tmp$(readlink "$link")" "$link"
	done
}
