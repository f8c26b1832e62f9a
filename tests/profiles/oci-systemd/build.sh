#!/bin/sh
# build.sh OUT: makes OUT/image, an OCI layout with the tree of the profile `services`.
set -eu
out=$1
# The tree has a stamp of its own: one for both would have both made each time.
mkdir -p "$out/services"
(cd ../services && sh build.sh "$out/services")
stamp=$(cat build.sh ../oci/layout.sh "$out/services/stamp" | cksum)
[ "$stamp" != "$(cat "$out/stamp" 2>/dev/null)" ] || exit 0
sh ../oci/layout.sh "$out/services/root" "$out/image"
echo "$stamp" >"$out/stamp"
