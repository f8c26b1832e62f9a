#!/bin/sh
# build.sh OUT: makes OUT/initrd and OUT/root.img.
set -eu
here=$PWD
out=$1
provium=${PROVIUM:-$PWD/../../../bin/provium}
PATH=$PATH:/usr/sbin:/sbin
rm -rf "$out/tree" "$out/disk" "$out/host"
mkdir -p "$out/host"

# The kernel of the profile "host", and its modules.
printf '[profiles.host]\nmodules = ["ext4"]\n' >"$out/host/provium.toml"
(cd "$out/host" && "$provium" image build --profile host --out . >build.log)
release=$(sed -n 's/^  kernel .*, \([^ ]*\)$/\1/p' "$out/host/build.log")
(cd "$out/host" && cpio --quiet -idm --no-absolute-filenames '.provium/modules*' <initrd)

# The one file of the overlay, signed as modules are, for all to execute.
"$provium" image overlay "$out/overlay"
(cd "$out/host" && gzip -dc "$out/overlay" | cpio --quiet -idm sbin/provium-agent)
for dir in bin sbin etc opt/staged proc sys dev run tmp root new; do mkdir -p "$out/tree/$dir"; done
cd "$out/tree"
chmod 1777 tmp
{
	cat "$out/host/sbin/provium-agent"
	head -c 300 /dev/zero | tr '\0' s
	printf '~Module signature appended~\n'
} >opt/staged/guest-link
chmod 0555 opt/staged/guest-link
install -m 0755 /bin/busybox bin/busybox
for name in sh mount readlink cat; do ln -s busybox "bin/$name"; done

# The same on a disk that a PID 1 of the initramfs may switch to.
mkdir "$out/disk"
cp -a . "$out/disk"
rm -f "$out/root.img"
mkfs.ext4 -q -d "$out/disk" "$out/root.img" 32M

ln -s opt/staged/guest-link init
cp opt/staged/guest-link bin/foo # another file
ln -s ../bin/busybox sbin/init
ln -s ../bin/busybox sbin/modprobe
mkdir -p "lib/modules/$release"
find "$out/host/.provium" -name '*.ko' -exec cp {} "lib/modules/$release" \;
depmod -b . "$release"
install -m 0755 "$here/rcS" "$here/service" "$here/to-disk" etc
printf '::sysinit:/etc/rcS\n::respawn:/etc/service\n' >etc/inittab
echo root:x:0:0:root:/root:/bin/sh >etc/passwd
echo nobody:x:65534:65534:nobody:/:/bin/sh >>etc/passwd
echo staged >etc/hostname
"$here/../../../scripts/pack-initrd" . "$out/initrd"
