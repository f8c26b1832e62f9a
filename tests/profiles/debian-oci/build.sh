#!/bin/sh
# build.sh OUT: makes OUT/image, an OCI layout with a whole Debian bookworm. That takes minutes, so it is made for the
# slow tests alone, and once a month.
set -eu
out=$1
[ -n "${PROVIUM_TEST_FULL:-}" ] || exit 0
stamp=$(date +%Y-%m; cat build.sh ../oci/layout.sh | cksum)
[ "$stamp" != "$(cat "$out/stamp" 2>/dev/null)" ] || exit 0
rm -rf "$out/root.tar"
mmdebstrap --quiet --variant=minbase --include=systemd-sysv,udev,dbus,kmod,procps,iproute2 \
	--customize-hook='echo debian >"$1/etc/hostname"' bookworm "$out/root.tar"
sh ../oci/layout.sh "$out/root.tar" "$out/image"
rm "$out/root.tar"
echo "$stamp" >"$out/stamp"
