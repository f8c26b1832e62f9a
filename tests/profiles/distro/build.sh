#!/bin/sh
# build.sh OUT: makes OUT/initrd with mkinitramfs. The kernel need not be installed
# on this machine: its modules, those that a guest needs, come with a hook.
set -eu
out=$1
provium=${PROVIUM:-$PWD/../../../bin/provium}
PATH=$PATH:/usr/sbin:/sbin
rm -rf "$out/host" "$out/conf"
mkdir -p "$out/host" "$out/conf"
"$provium" image build --profile host --out "$out/host" >"$out/build.log"
(cd "$out/host" && cpio --quiet -idm --no-absolute-filenames '.provium/modules*' <initrd)
modules=$out/host/.provium/modules
release=$(sed -n 's/^  kernel .*, \([^ ]*\)$/\1/p' "$out/build.log")
[ -n "$release" ] || { echo "no kernel release in:"; cat "$out/build.log"; exit 1; }

# Making it takes seconds, so what is still right is kept.
stamp=$({ echo "$release"; find "$modules" -name '*.ko' | sort | xargs cat; cat build.sh /usr/sbin/mkinitramfs /usr/share/initramfs-tools/init; } | cksum)
if [ -e "$out/initrd" ] && [ "$stamp" = "$(cat "$out/stamp" 2>/dev/null)" ]; then
	exit 0
fi

cp -R /etc/initramfs-tools/. "$out/conf"
mkdir -p "$out/conf/hooks" "$out/conf/scripts" "$out/conf/conf.d"
sed -i 's/^MODULES=.*/MODULES=list/; s/^COMPRESS=.*/COMPRESS=gzip/' "$out/conf/initramfs.conf"
cat >"$out/conf/hooks/guest-modules" <<HOOK
#!/bin/sh
[ "\${1:-}" = prereqs ] && exit 0
mkdir -p "\$DESTDIR/lib/modules/$release/kernel"
find "$modules" -name '*.ko' -exec cp {} "\$DESTDIR/lib/modules/$release/kernel" \;
depmod -b "\$DESTDIR" "$release"
HOOK
chmod +x "$out/conf/hooks/guest-modules"
# It looks for the kernel's configuration in /boot, to see that it can do gzip.
echo CONFIG_RD_GZIP=y >"$out/config-$release"
sed "s,/boot/config-,$out/config-,g" "$(command -v mkinitramfs)" >"$out/mkinitramfs"
# With a date, it makes the same of the same, which the boot cache has then.
TMPDIR=$out SOURCE_DATE_EPOCH=0 sh "$out/mkinitramfs" -d "$out/conf" -o "$out/initrd.new" "$release" >"$out/mkinitramfs.log" 2>&1 || {
	cat "$out/mkinitramfs.log"
	exit 1
}
mv "$out/initrd.new" "$out/initrd"
echo "$stamp" >"$out/stamp"
