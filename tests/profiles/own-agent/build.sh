#!/bin/sh
# build.sh OUT: makes OUT/initrd from busybox, the agent overlay, and the modules
# that the image of the profile "host" loads.
set -eu
out=$1
provium=${PROVIUM:-$PWD/../../../bin/provium}
pack=$PWD/../../../scripts/pack-initrd
rm -rf "$out/tree" "$out/host"
mkdir -p "$out/tree/bin" "$out/tree/modules" "$out/host"
install -m 0755 init "$out/tree/init"
ln "$out/tree/init" "$out/tree/other-name" # tests replace this link, and the directory
mkdir "$out/tree/empty"
install -m 0755 /bin/busybox "$out/tree/bin/busybox"
"$provium" image overlay "$out/overlay"
"$provium" image build --profile host --out "$out/host" >"$out/build.log"
cd "$out/tree"
gzip -dc "$out/overlay" | cpio --quiet -idm
(cd "$out/host" && cpio --quiet -idm --no-absolute-filenames '.provium/modules*' <initrd)
find "$out/host/.provium" -name '*.ko' -exec cp {} modules/ \; # none if all is built in
cat "$out/host/.provium/modules.early" "$out/host/.provium/modules.late" >modules/order
"$pack" . "$out/initrd"
