#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Unpack, not install, the Debian 13 packages of more/config/LIST-packages into a folder of
# the cache (see place() in debian.sh), complete when it has a file .complete. Nothing of
# another architecture has to run for that. Runs on the host.
#	root.sh LIST ARCH
# LIST: soak, fs, or mm. The last becomes a user land that guests boot, and that the
# kernel's selftests are linked with: what its packages' scripts would do is done here.
set -eu
. lab/env.sh
. more/debian.sh
list=$1 arch=$2
case $arch in
x86_64) debian=amd64 ;;
arm64) debian=arm64 ;;
*) die "no Debian user land for '$arch'; there is one for x86_64 and arm64" ;;
esac
root=$cache/$(place "$list" "$arch")
tmp=$root.tmp
exec 9> "$root.lock"
flock 9
[ ! -e "$root/.complete" ] || exit 0
rm -rf "$root" "$tmp"
mkdir -p "$tmp"
# shellcheck disable=SC2016 # for apt-get to expand
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
	'Origin: Debian' 'Label: Debian' 2> /dev/null | head -n 1)}
TMPDIR=${TMPDIR:-/var/tmp} mmdebstrap --variant=extract --architectures="$debian" --format=tar \
	--include="$(sed 's/#.*//' "more/config/$list-packages" | xargs | tr ' ' ,)" \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' trixie "$root.tar" ${mirror:+"$mirror"} 9>&- ||
	die "the packages of more/config/$list-packages could not be had for $debian: see above; is the network up (DEBIAN_MIRROR names another mirror)?"
# Every file is ours, whoever we are.
tar -C "$tmp" --no-same-owner -x --exclude='./dev/*' -f "$root.tar"
rm "$root.tar"
# A symbolic link to an absolute path would lead out of it.
find "$tmp/usr/lib" -type l -lname '/*' | while read -r link; do
	ln -sfrT "$tmp$(readlink "$link")" "$link"
done

needed="usr/bin/busybox usr/bin/stress-ng usr/bin/trinity"
[ "$list" != fs ] || needed="usr/bin/mksquashfs usr/bin/mkfs.erofs usr/sbin/sload.f2fs"
if [ "$list" = mm ]; then
	needed="usr/bin/bash usr/bin/awk usr/bin/sudo usr/sbin/mkfs.xfs usr/bin/killall usr/include/liburing.h"
	cp "$tmp/usr/share/base-passwd/passwd.master" "$tmp/etc/passwd"
	cp "$tmp/usr/share/base-passwd/group.master" "$tmp/etc/group"
	echo 'root:*:1:0:99999:7:::' > "$tmp/etc/shadow"
	echo 'nobody:*:1:0:99999:7:::' >> "$tmp/etc/shadow"
	echo '127.0.0.1 localhost guest' > "$tmp/etc/hosts"
	for part in auth account session session-noninteractive password; do
		echo "${part%-noninteractive} required pam_permit.so" > "$tmp/etc/pam.d/common-$part"
	done
	ln -sf mawk "$tmp/usr/bin/awk"
	[ -e "$tmp/usr/bin/which" ] || ln -s which.debianutils "$tmp/usr/bin/which"
	(cd "$tmp" && mkdir -p dev proc sys tmp run mnt root srv opt usr/lib/modules)
	# The kernel starts this; the rest comes with the programs (mm-guest.sh).
	cat > "$tmp/sbin/mm-init" <<-'INIT'
		#!/bin/sh
		mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=262144 share /srv &&
			exec /bin/bash /srv/mm-guest.sh "$@"
	INIT
	chmod 755 "$tmp/sbin/mm-init"
	# An ordinary user's tar drops these bits.
	chmod 4755 "$tmp/usr/bin/sudo"
fi
for file in $needed; do
	[ -e "$tmp/$file" ] || die "no /$file: has a package of more/config/$list-packages changed?"
done
: > "$tmp/.complete"
mv "$tmp" "$root"
