#!/bin/sh
# build.sh OUT: makes OUT/root, a tree with systemd and some services, from the packages in dist/systemd
# (scripts/setup). ../kept.sh says where that is.
set -eu
here=$PWD
packages=$here/../../../dist/systemd
. ../kept.sh
find_kept "$1/root" services build.sh ../systemd/tree.sh ./*.service "$packages/usr/lib/systemd/systemd" /bin/busybox || exit 0
root=$new
sh ../systemd/tree.sh "$root" "$packages"
ln -sf /lib/systemd/systemd "$root/sbin/init"
cp ./*.service "$root/etc/systemd/system"
ln -s ../web.service ../noted.service "$root/etc/systemd/system/multi-user.target.wants/"
keep
