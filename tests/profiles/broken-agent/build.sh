#!/bin/sh
# build.sh OUT: makes OUT/overlay with the script in the agent's place.
set -eu
out=$1
rm -rf "$out/tree"
mkdir -p "$out/tree/sbin"
install -m 0755 agent.sh "$out/tree/sbin/provium-agent"
../../../scripts/pack-initrd "$out/tree" "$out/overlay" sbin/provium-agent
