#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Make the user land of `make mm-selftests`: a small Debian 13 of an architecture, which
# guests boot and whose libraries the selftests are linked with. Runs on the host.
#	mm-root.sh ARCH ROOT
# The packages (config/mm-packages) are only unpacked, which needs nothing of the other
# architecture to run; what their scripts would have done is done below. The directory
# is complete when it has a file .complete.
set -eu
. scripts/lib.sh
arch=$1 root=$2 tmp=$2.tmp
unpack_debian "$root" "$arch" config/mm-packages

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
for need in usr/bin/bash usr/bin/awk usr/bin/sudo usr/sbin/mkfs.xfs usr/bin/killall usr/include/liburing.h; do
	[ -e "$tmp/$need" ] || die "the user land for $arch has no /$need: has a package of config/mm-packages changed?"
done
date -u > "$tmp/.complete"
mv "$tmp" "$root"
