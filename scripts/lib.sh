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
	rm -rf "$1.tmp" && mkdir -p "$1.tmp" ||
		die "$1.tmp of an interrupted run cannot be made anew: is it another user's, or the disk full?"
}

# alive "PID START": whether that process is there still; the same id may be another by now.
alive() {
	since=$(sed 's/.*) //' "/proc/${1%% *}/stat" 2>/dev/null | cut -d' ' -f20)
	[ -n "$since" ] && [ "$since" = "${1#* }" ]
}

# alone: give up if another run is at work in this clone. A run is a make, its process id
# in VFR_RUN; build/.run names the one at work, between its steps, too. File descriptor
# 8 holds build/.lock, and all that is started inherits it, so that what a killed run
# has left behind counts as well. 7 holds the cache (VFR_CACHE) against a make distclean.
alone() {
	me=${VFR_RUN:-$PPID}
	me="$me $(sed 's/.*) //' "/proc/$me/stat" | cut -d' ' -f20)"
	mkdir -p build 2>/dev/null && { true >> build/.lock; } 2>/dev/null ||
		die "cannot write to $PWD/build: is it another user's, or the disk full?"
	exec 8> build/.lock
	not_alone
	# What has just been ended may take a moment.
	flock -w 10 8 ||
		die "another run is at work in this clone, or what it has left behind (fuser $PWD/build/.lock): wait for its end"
	not_alone
	echo "$me" > build/.run || die "cannot write to $PWD/build: is the disk full?"
	if [ -d "${VFR_CACHE:-}" ]; then
		exec 7< "$VFR_CACHE"
		flock -s -w 10 7 || die "the cache $VFR_CACHE is being removed: wait, then run again"
	fi
}

# not_alone: the part of alone() that looks for another run.
not_alone() {
	other=$(cat build/.run 2>/dev/null) || return 0
	[ "$other" = "$me" ] || ! alive "$other" ||
		die "another run is at work in this clone (process ${other%% *}): wait for its end"
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
	# Without the file descriptors of alone(): see root.sh.
	if ! mmdebstrap --variant=extract --architectures="$debian" --include="$packages" \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--format=tar trixie - ${mirror:+"$mirror"} > "$1.tmp.fifo" 7>&- 8>&-
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

# copy_libraries TO LIBS DIR...: the libraries that what is in DIRs and in TO needs, from
# LIBS into TO, unless they are there.
copy_libraries() {
	to=$1 libs=$2
	shift 2
	again=1
	while [ "$again" ]; do
		again=
		for lib in $(find "$@" "$to" -type f -exec readelf -d {} + 2>/dev/null |
			sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u); do
			if [ ! -e "$to/$lib" ] && [ -e "$libs/$lib" ]; then
				cp -L "$libs/$lib" "$to"
				again=1
			fi
		done
	done
}
