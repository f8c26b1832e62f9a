#!/bin/sh
# build.sh OUT: makes OUT/disk.KIND with the tree of the profile `tree` for each file system whose tools are installed.
set -eu
out=$1
PATH=$PATH:/usr/sbin:/sbin
(cd ../tree && sh build.sh "$out")
root=$(readlink -f "$out/root")
tools=$(for t in mkfs.erofs mksquashfs mkfs.xfs mkfs.btrfs; do command -v $t || true; done)
stamp=$(echo "$tools" | cat - build.sh "$root/etc/motd" "$out/stamp" | cksum)
[ "$stamp" != "$(cat "$out/disk.stamp" 2>/dev/null)" ] || exit 0
rm -f "$out"/disk.*
has() { command -v "$1" >/dev/null; }
make() { # KIND COMMAND...: a file system that cannot be made is left out
	kind=$1
	shift
	"$@" >"$out/log" 2>&1 || { cat "$out/log"; rm -f "$out/disk.$kind"; }
}
has mkfs.erofs && make erofs mkfs.erofs "$out/disk.erofs" "$root"
has mksquashfs && make squashfs mksquashfs "$root" "$out/disk.squashfs" -no-progress -all-root
if has mkfs.btrfs; then
	truncate -s 128M "$out/disk.btrfs"
	make btrfs mkfs.btrfs -q --rootdir "$root" "$out/disk.btrfs"
fi
if has mkfs.xfs; then
	truncate -s 320M "$out/disk.xfs"
	# The prototype of mkfs.xfs has no hard links: each name is a file.
	{
		printf '/\n0 0\nd--755 0 0\n'
		(cd "$root" && find . -mindepth 1 -maxdepth 1 | sort) | while read -r name; do
			name=${name#./}
			if [ -d "$root/$name" ]; then
				echo "$name d--755 0 0"
				(cd "$root/$name" && find . -mindepth 1 -maxdepth 1 \( -type f -o -type l \) | sort) |
					while read -r file; do
						file=${file#./} path=$root/$name/$file
						if [ -L "$path" ]; then
							echo "$file l--777 0 0 $(readlink "$path")"
						else
							echo "$file ---$(stat -c %a "$path") 0 0 $path"
						fi
					done
				echo '$'
			fi
		done
		echo '$'
	} >"$out/proto"
	make xfs mkfs.xfs -q -p "$out/proto" "$out/disk.xfs"
fi
echo "$stamp" >"$out/disk.stamp"
