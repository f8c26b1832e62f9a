#!/bin/sh
# build.sh OUT: makes OUT/kept/disk.qcow2 with a GPT, whose second partition has the tree of the profile `tree` as an
# ext4. ../kept.sh says where that is.
set -eu
out=$1
PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$out/tree"
(cd ../tree && sh build.sh "$out/tree")
. ../kept.sh
find_kept "$out/kept" disk build.sh "$out/tree/stamp" || exit 0
truncate -s 16M "$new/part"
mkfs.ext4 -q -d "$(readlink -f "$out/tree/root")" -E root_owner=0:0 "$new/part"
truncate -s 20M "$new/disk.raw"
# The second has the type of a root file system for x86-64.
printf 'label: gpt\nstart=2048, size=2048, type=linux\nstart=4096, size=32768, type=%s\n' \
	4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709 | sfdisk -q "$new/disk.raw"
dd if="$new/part" of="$new/disk.raw" bs=1M seek=2 conv=notrunc,sparse status=none
qemu-img convert -O qcow2 "$new/disk.raw" "$new/disk.qcow2"
rm "$new/part" "$new/disk.raw"
keep
