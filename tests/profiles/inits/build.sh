#!/bin/sh
# build.sh OUT: makes OUT/root, a tree with sysvinit, OpenRC and busybox, from the packages in dist/inits
# (scripts/setup). Without them there is no tree, and the tests are skipped.
set -eu
root=$1/root
packages=$PWD/../../../dist/inits
[ -x "$packages/usr/sbin/openrc-init" ] || { rm -rf "$root" "$1/stamp"; exit 0; }
stamp=$(cat build.sh "$packages/usr/sbin/openrc-init" "$packages/usr/sbin/init" /bin/busybox | cksum)
[ "$stamp" != "$(cat "$1/stamp" 2>/dev/null)" ] || exit 0
rm -rf "$root"
mkdir -p "$root"
cp -a "$packages/." "$root"
cd "$root"
mkdir -p dev proc root run sys tmp var/log
rm -rf usr/share usr/lib/*/gconv usr/lib/*/perl-base etc/init.d/* etc/runlevels/*/*
install -m 0755 /bin/busybox usr/bin/busybox
/bin/busybox --list | while read -r name; do
	[ -e "usr/bin/$name" ] || [ -e "usr/sbin/$name" ] || ln -s busybox "usr/bin/$name"
done
echo root:x:0:0:root:/root:/bin/sh >etc/passwd
printf 'root:x:0:\nuucp:x:10:\n' >etc/group
cat >etc/inittab <<INIT
id:2:initdefault:
si::sysinit:/bin/mount -t proc proc /proc
l2:2:wait:/bin/touch /tmp/level-2
l3:3:wait:/bin/touch /tmp/level-3
INIT
for level in sysinit boot default; do mkdir -p "etc/runlevels/$level"; done
cat >etc/init.d/noted <<'SERVICE'
#!/sbin/openrc-run
start() { : >/tmp/noted; }
SERVICE
chmod 755 etc/init.d/noted
ln -s /etc/init.d/noted etc/runlevels/default/noted
echo "$stamp" >"$1/stamp"
