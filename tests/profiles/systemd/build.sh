#!/bin/sh
# build.sh OUT: makes OUT/initrd from the packages in dist/systemd (scripts/setup).
set -eu
here=$PWD
out=$1
packages=$here/../../../dist/systemd
provium=${PROVIUM:-$here/../../../bin/provium}
PATH=$PATH:/usr/sbin:/sbin
rm -rf "$out/host"
mkdir -p "$out/host"
"$provium" image build --profile host --out "$out/host" >"$out/build.log"
"$provium" image overlay "$out/overlay"
release=$(sed -n 's/^  kernel .*, \([^ ]*\)$/\1/p' "$out/build.log")

# Making it takes seconds, so what is still right is kept.
stamp=$({ echo "$release"; cat "$out/overlay" build.sh tree.sh guest-link.service "$packages/usr/lib/systemd/systemd"; } | cksum)
if [ -e "$out/initrd" ] && [ "$stamp" = "$(cat "$out/stamp" 2>/dev/null)" ]; then
	exit 0
fi

sh ./tree.sh "$out/tree" "$packages"
cd "$out/tree"
mkdir -p opt "usr/lib/modules/$release"

(cd "$out/host" && gzip -dc "$out/overlay" | cpio --quiet -idm sbin/provium-agent)
install -m 0755 "$out/host/sbin/provium-agent" opt/guest-link
(cd "$out/host" && cpio --quiet -idm --no-absolute-filenames '.provium/modules*' <initrd)
find "$out/host/.provium" -name '*.ko' -exec cp {} "usr/lib/modules/$release" \;
depmod -b . "$release"
mkdir -p etc/modules-load.d
printf '%s\n' virtio_pci virtio_console virtio_net virtio_blk virtio_rng >etc/modules-load.d/virtio.conf

units=etc/systemd/system
cp "$here/guest-link.service" "$units"
ln -s ../guest-link.service "$units/multi-user.target.wants/"
"$here/../../../scripts/pack-initrd" . "$out/initrd"
echo "$stamp" >"$out/stamp"
