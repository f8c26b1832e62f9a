#!/bin/sh
# build.sh OUT: makes OUT/image, an OCI layout with one image: busybox, and what an image says
# about its commands.
set -eu
out=$1 stamp=$(cat build.sh layout.sh /bin/busybox | cksum)
[ "$stamp" != "$(cat "$out/stamp" 2>/dev/null)" ] || exit 0
rm -rf "$out/root"
mkdir -p "$out/root/bin" "$out/root/etc"
cp /bin/busybox "$out/root/bin/busybox"
for a in sh cat id pwd env; do ln -s busybox "$out/root/bin/$a"; done
printf 'root:x:0:0:root:/root:/bin/sh\napp:x:1234:1234::/home/app:/bin/sh\n' >"$out/root/etc/passwd"
sh layout.sh "$out/root" "$out/image" \
	'{"Env":["GREETING=hello world","PATH=/opt/bin:/bin"],"WorkingDir":"/srv/app","User":"app:app","Cmd":["server"]}'
echo "$stamp" >"$out/stamp"
