#!/bin/sh
# tree.sh TREE PACKAGES: makes TREE, a root file system with systemd and busybox, from unpacked packages.
# Its default target is multi-user.target.
set -eu
rm -rf "$1"
mkdir -p "$1"
cp -a "$2/." "$1"
cd "$1"
mkdir -p dev proc root run sys tmp usr/lib/x86_64-linux-gnu
rm -rf usr/share usr/lib/udev usr/lib/*/gconv usr/lib/*/perl-base usr/lib/systemd/system-generators
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
ln -s /lib/systemd/system/multi-user.target "$units/default.target"
# An emulated guest on a busy machine is slow, and healthy.
mkdir -p etc/systemd/system.conf.d
printf '[Manager]\nDefaultTimeoutStartSec=15min\nDefaultDeviceTimeoutSec=15min\n' >etc/systemd/system.conf.d/busy.conf
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
