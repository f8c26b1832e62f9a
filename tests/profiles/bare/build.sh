#!/bin/sh
# build.sh OUT: makes OUT/initrd, a cpio archive with /init alone.
set -eu
out=$1
cc=${CC:-gcc}
rm -rf "$out/tree"
mkdir -p "$out/tree"
"$cc" -static -Os -Wall -Wextra -o "$out/tree/init" init.c
(cd "$out/tree" && echo init | cpio --quiet -o -H newc) >"$out/initrd.new"
mv "$out/initrd.new" "$out/initrd"
