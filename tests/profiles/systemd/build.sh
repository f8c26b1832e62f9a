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
# What such a guest needs none of, and an emulated one takes seconds for.
for unit in getty.target remote-fs.target cryptsetup.target integritysetup.target veritysetup.target timers.target \
	systemd-firstboot.service systemd-machine-id-commit.service systemd-random-seed.service systemd-sysctl.service \
	systemd-sysusers.service systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service \
	systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-user-sessions.service \
	systemd-journald-audit.socket systemd-journal-flush.service systemd-journal-catalog-update.service \
	systemd-initctl.socket modprobe@.service dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount \
	sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
	proc-sys-fs-binfmt_misc.automount kmod-static-nodes.service; do
	ln -sf /dev/null "$units/$unit"
done
"$here/../../../scripts/pack-initrd" . "$out/initrd"
echo "$stamp" >"$out/stamp"
