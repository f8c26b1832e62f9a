#!/bin/sh
# build.sh OUT: makes OUT/disk.qcow2 with a GPT, whose second partition has the tree of the profile `tree` as an ext4.
set -eu
out=$1
PATH=$PATH:/usr/sbin:/sbin
(cd ../tree && sh build.sh "$out")
stamp=$(cat build.sh "$out/root/etc/motd" "$out/stamp" | cksum)
[ "$stamp" != "$(cat "$out/disk.stamp" 2>/dev/null)" ] || exit 0
rm -f "$out/part" "$out/disk.raw" "$out/disk.qcow2"
truncate -s 16M "$out/part"
mkfs.ext4 -q -d "$out/root" -E root_owner=0:0 "$out/part"
truncate -s 20M "$out/disk.raw"
# The second has the type of a root file system for x86-64.
printf 'label: gpt\nstart=2048, size=2048, type=linux\nstart=4096, size=32768, type=%s\n' \
	4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709 | sfdisk -q "$out/disk.raw"
dd if="$out/part" of="$out/disk.raw" bs=1M seek=2 conv=notrunc,sparse status=none
qemu-img convert -O qcow2 "$out/disk.raw" "$out/disk.qcow2"
rm "$out/part" "$out/disk.raw"
echo "$stamp" >"$out/disk.stamp"
