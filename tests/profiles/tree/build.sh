#!/bin/sh
# build.sh OUT: makes OUT/root, a tree with busybox and an init. ../kept.sh says where that is.
set -eu
. ../kept.sh
find_kept "$1/root" tree build.sh /bin/busybox || exit 0
root=$new
mkdir -p "$root/bin" "$root/sbin" "$root/etc" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root/data"
cp /bin/busybox "$root/bin/busybox"
for a in sh cat ls readlink mount stat head md5sum; do ln -s busybox "$root/bin/$a"; done
ln "$root/bin/busybox" "$root/bin/again"
ln -s ../bin/busybox "$root/sbin/init"
cat >"$root/etc/inittab" <<INIT
::sysinit:/bin/mount -t proc proc /proc
::sysinit:/bin/busybox touch /tmp/init-was-here
INIT
echo "of the tree" >"$root/etc/motd"
for n in 1 2 3; do head -c 300000 /dev/zero | tr '\0' "$n" >"$root/data/$n"; done
chmod 640 "$root/data/1"
# What not every user, file system or machine can make: the file `special` says which of it is there.
ln -s /../../data/2 "$root/data/escape"
ln -s /data/3 "$root/data/absolute"
mkfifo "$root/data/pipe"
special=
mknod "$root/data/full" c 1 7 2>/dev/null && special="$special device"
python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.note", b"hello")' "$root/data/2" 2>/dev/null &&
	special="$special note"
setcap cap_net_raw=ep "$root/bin/again" 2>/dev/null && special="$special capability"
echo "$special" >"$root/etc/special"
keep
