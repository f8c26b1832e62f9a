#!/bin/sh
# build.sh OUT: makes OUT/image, an OCI layout with the tree of the profile `services`.
set -eu
out=$1
(cd ../services && sh build.sh "$out")
stamp=$(cat build.sh ../oci/layout.sh "$out/root/stamp" | cksum)
[ "$stamp" != "$(cat "$out/stamp" 2>/dev/null)" ] || exit 0
sh ../oci/layout.sh "$out/root" "$out/image"
echo "$stamp" >"$out/stamp"
