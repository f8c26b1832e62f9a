#!/bin/sh
# layout.sh TREE IMAGE [CONFIG]: makes IMAGE, an OCI layout with one image of one layer: the tree, whose files belong
# to root, or a tar file, as it is. CONFIG is what the image says about its commands, a JSON object.
set -eu
tree=$1 image=$2 said=${3:-'{}'}
work=$image.tmp
rm -rf "$image" "$work"
mkdir -p "$image/blobs/sha256" "$work"
blob() { # blob FILE: moves it to its digest, and prints the two members that name it
	sum=$(sha256sum "$1" | cut -d ' ' -f 1) size=$(stat -c %s "$1")
	mv "$1" "$image/blobs/sha256/$sum"
	printf '"digest":"sha256:%s","size":%d' "$sum" "$size"
}
if [ -d "$tree" ]; then
	# The same of the same, in another clone too: so the boot cache has what boots from it.
	tar -C "$tree" --sort=name --mtime=@1700000000 --owner 0 --group 0 --numeric-owner -cf "$work/layer" .
else
	cp "$tree" "$work/layer"
fi
diff=$(sha256sum "$work/layer" | cut -d ' ' -f 1)
layer=$(blob "$work/layer")
cat >"$work/config" <<CONFIG
{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:$diff"]},"config":$said}
CONFIG
oci=application/vnd.oci.image
config=$(blob "$work/config")
cat >"$work/manifest" <<MANIFEST
{"schemaVersion":2,"mediaType":"$oci.manifest.v1+json","config":{"mediaType":"$oci.config.v1+json",$config},
"layers":[{"mediaType":"$oci.layer.v1.tar",$layer}]}
MANIFEST
manifest=$(blob "$work/manifest")
echo "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"$oci.manifest.v1+json\",$manifest}]}" >"$image/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' >"$image/oci-layout"
rm -rf "$work"
