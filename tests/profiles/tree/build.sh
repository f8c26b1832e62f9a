#!/bin/sh
# build.sh OUT: makes OUT/root, a tree with busybox and an init. A tree that is there is
# kept: with it, boots come from the cache.
set -eu
root=$1/root
stamp=$(cat build.sh /bin/busybox | cksum)
[ "$stamp" != "$(cat "$1/stamp" 2>/dev/null)" ] || exit 0
rm -rf "$root"
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
echo "$stamp" >"$1/stamp"
