#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make the user land of `make mm-selftests`: a small Debian 13 of an architecture, which
# guests boot and whose libraries the selftests are linked with. Runs on the host.
#	mm-root.sh ARCH ROOT
# The packages (config/mm-packages) are only unpacked, which needs nothing of the other
# architecture to run; what their scripts would have done is done below. The directory
# is complete when it has a file .complete.
set -eu
. "$(dirname "$0")/lib.sh"
arch=$1 root=$2
case $arch in
x86_64) debian=amd64 ;;
arm64) debian=arm64 ;;
*) die "no user land for '$arch'; there is one for x86_64 and arm64" ;;
esac
packages=$(sed 's/#.*//' config/mm-packages | xargs | tr ' ' ,)
mirror=$("$(dirname "$0")/mirror.sh")

if [ -e "$root/.complete" ]; then
	echo "up to date"
	exit 0
fi
mkdir -p "${root%/*}"
exec 9> "$root.lock"
flock -w 1800 9 || die "another run has been making $root for 30 minutes"
[ ! -e "$root/.complete" ] || exit 0
rm -rf "$root"
take_over_tmp "$root"
tmp=$root.tmp
fifo=$tmp.fifo
rm -f "$fifo"
mkfifo "$fifo"
# Unpacked by us, so that every file is ours whoever we are.
tar -C "$tmp" --no-same-owner -x --exclude='./dev/*' < "$fifo" &
if ! mmdebstrap --variant=extract --architectures="$debian" --include="$packages" \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--format=tar trixie - ${mirror:+"$mirror"} > "$fifo"
then
	wait
	rm -f "$fifo"
	die "the user land for $arch could not be made: see above; is the network up, and does the mirror have trixie for $debian (DEBIAN_MIRROR overrides it)?"
fi
wait $!
rm -f "$fifo"

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
for dir in dev proc sys tmp run mnt root srv opt usr/lib/modules; do
	mkdir -p "$tmp/$dir"
done
# The kernel starts this; the rest comes with the programs (scripts/mm-guest.sh).
cat > "$tmp/sbin/mm-init" <<'INIT'
#!/bin/sh
mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=262144 share /srv &&
	exec /bin/bash /srv/mm-guest.sh "$@"
INIT
chmod 755 "$tmp/sbin/mm-init"
# Whoever unpacked it: an ordinary user's tar drops these bits.
chmod 4755 "$tmp/usr/bin/sudo"
# A symbolic link to an absolute path would lead out of the root when linking.
find "$tmp/usr/lib" -type l -lname '/*' | while read -r link; do
	ln -sfrT "$tmp$(readlink "$link")" "$link"
done
for need in usr/bin/bash usr/bin/awk usr/bin/sudo usr/sbin/mkfs.xfs usr/bin/killall usr/include/liburing.h; do
	[ -e "$tmp/$need" ] || die "the user land for $arch has no /$need: has a package of config/mm-packages changed?"
done
date -u > "$tmp/.complete"
mv "$tmp" "$root"
