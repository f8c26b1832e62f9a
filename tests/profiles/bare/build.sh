#!/bin/sh
# build.sh OUT: makes OUT/initrd, a cpio archive with /init alone.
set -eu
out=$1
cc=${CC:-gcc}
rm -rf "$out/tree"
mkdir -p "$out/tree"
"$cc" -static -Os -Wall -Wextra -o "$out/tree/init" init.c
../../../scripts/pack-initrd "$out/tree" "$out/initrd" init
