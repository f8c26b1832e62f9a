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
stamp=$({ echo "$release"; cat "$out/overlay" build.sh guest-link.service "$packages/usr/lib/systemd/systemd"; } | cksum)
if [ -e "$out/initrd" ] && [ "$stamp" = "$(cat "$out/stamp" 2>/dev/null)" ]; then
	exit 0
fi

rm -rf "$out/tree"
mkdir "$out/tree"
cp -a "$packages/." "$out/tree"
cd "$out/tree"
mkdir -p dev opt proc root run sys tmp usr/lib/x86_64-linux-gnu "usr/lib/modules/$release"
rm -rf usr/share usr/lib/udev usr/lib/*/gconv usr/lib/*/perl-base usr/lib/systemd/system-generators

(cd "$out/host" && gzip -dc "$out/overlay" | cpio --quiet -idm sbin/provium-agent)
install -m 0755 "$out/host/sbin/provium-agent" opt/guest-link
(cd "$out/host" && cpio --quiet -idm --no-absolute-filenames '.provium/modules*' <initrd)
find "$out/host/.provium" -name '*.ko' -exec cp {} "usr/lib/modules/$release" \;
depmod -b . "$release"
mkdir -p etc/modules-load.d
printf '%s\n' virtio_pci virtio_console virtio_net virtio_blk virtio_rng >etc/modules-load.d/virtio.conf

install -m 0755 /bin/busybox usr/bin/busybox
/bin/busybox --list | while read -r name; do
	[ -e "usr/bin/$name" ] || [ -e "usr/sbin/$name" ] || ln -s busybox "usr/bin/$name"
done
echo root:x:0:0:root:/root:/bin/sh >etc/passwd
echo root:x:0: >etc/group
echo box >etc/hostname
: >etc/machine-id # one for each boot
units=etc/systemd/system
mkdir -p "$units/multi-user.target.wants"
cp "$here/guest-link.service" "$units"
ln -s ../guest-link.service "$units/multi-user.target.wants/"
ln -s /lib/systemd/system/multi-user.target "$units/default.target"
for unit in getty.target systemd-firstboot.service systemd-machine-id-commit.service; do
	ln -sf /dev/null "$units/$unit"
done
find . | cpio --quiet -o -H newc >"$out/initrd.new"
mv "$out/initrd.new" "$out/initrd"
echo "$stamp" >"$out/stamp"
