#!/bin/sh
# build.sh OUT: makes OUT/root, a tree with systemd and some services, from the packages in dist/systemd
# (scripts/setup).
set -eu
here=$PWD
root=$1/root
packages=$here/../../../dist/systemd
stamp=$(cat build.sh ../systemd/tree.sh ./*.service "$packages/usr/lib/systemd/systemd" /bin/busybox | cksum)
[ "$stamp" != "$(cat "$1/stamp" 2>/dev/null)" ] || exit 0
sh ../systemd/tree.sh "$root" "$packages"
ln -sf /lib/systemd/systemd "$root/sbin/init"
cp ./*.service "$root/etc/systemd/system"
ln -s ../web.service ../noted.service "$root/etc/systemd/system/multi-user.target.wants/"
echo "$stamp" >"$1/stamp"
