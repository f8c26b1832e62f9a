#!/bin/sh
# build.sh OUT: makes OUT/image, an OCI layout with one image: busybox, and what an image says
# about its commands.
set -eu
out=$1 stamp=$(cat build.sh /bin/busybox | cksum)
[ "$stamp" != "$(cat "$out/stamp" 2>/dev/null)" ] || exit 0
rm -rf "$out/root" "$out/image"
mkdir -p "$out/root/bin" "$out/root/etc" "$out/image/blobs/sha256"
cp /bin/busybox "$out/root/bin/busybox"
for a in sh cat id pwd env; do ln -s busybox "$out/root/bin/$a"; done
printf 'root:x:0:0:root:/root:/bin/sh\napp:x:1234:1234::/home/app:/bin/sh\n' >"$out/root/etc/passwd"
blob() { # blob FILE: moves it to its digest, and prints the two members that name it
	sum=$(sha256sum "$1" | cut -d ' ' -f 1) size=$(stat -c %s "$1")
	mv "$1" "$out/image/blobs/sha256/$sum"
	printf '"digest":"sha256:%s","size":%d' "$sum" "$size"
}
tar -C "$out/root" --owner 0 --group 0 --numeric-owner -cf "$out/layer" .
diff=$(sha256sum "$out/layer" | cut -d ' ' -f 1)
layer=$(blob "$out/layer")
cat >"$out/config" <<CONFIG
{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:$diff"]},"config":{
"Env":["GREETING=hello world","PATH=/opt/bin:/bin"],"WorkingDir":"/srv/app","User":"app:app","Cmd":["server"]}}
CONFIG
oci=application/vnd.oci.image
config=$(blob "$out/config")
cat >"$out/manifest" <<MANIFEST
{"schemaVersion":2,"mediaType":"$oci.manifest.v1+json","config":{"mediaType":"$oci.config.v1+json",$config},
"layers":[{"mediaType":"$oci.layer.v1.tar",$layer}]}
MANIFEST
manifest=$(blob "$out/manifest")
echo "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"$oci.manifest.v1+json\",$manifest}]}" >"$out/image/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' >"$out/image/oci-layout"
echo "$stamp" >"$out/stamp"
