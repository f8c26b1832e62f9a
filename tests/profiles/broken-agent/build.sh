#!/bin/sh
# build.sh OUT: makes OUT/overlay with the script in the agent's place.
set -eu
out=$1
rm -rf "$out/tree"
mkdir -p "$out/tree/sbin"
install -m 0755 agent.sh "$out/tree/sbin/provium-agent"
(cd "$out/tree" && echo sbin/provium-agent | cpio --quiet -o -H newc) >"$out/overlay.new"
mv "$out/overlay.new" "$out/overlay"
