#!/bin/sh
# build.sh OUT: makes OUT/disk.raw of the kernel and the initrd of the profile `uefi`.
set -eu
out=$1
provium=${PROVIUM:-$PWD/../../../bin/provium}
stub=/usr/lib/systemd/boot/efi/linuxx64.efi.stub
PATH=$PATH:/usr/sbin:/sbin
rm -rf "$out/host"
mkdir -p "$out/host"
"$provium" image build --profile uefi --out "$out/host" >"$out/build.log"
kernel=$(sed -n 's/^  kernel  *\([^ ]*\) .*/\1/p' "$out/build.log")
ln -sfn "${kernel%/boot/*}/lib" "$out/lib" # for whoever boots kernel.efi by itself

# A disk that is there is kept: with it, boots come from the cache.
stamp=$(cat build.sh "$kernel" "$out/host/initrd" "$out/host/cmdline" "$stub" | cksum)
[ "$stamp" != "$(cat "$out/stamp" 2>/dev/null)" ] || exit 0

# With fixed ids and dates it is the same of the same, in another clone too.
export SOURCE_DATE_EPOCH=1700000000

# The addresses are those of systemd's documentation of its stub: they must not overlap.
objcopy \
	--add-section .osrel=/etc/os-release --change-section-vma .osrel=0x20000 \
	--add-section .cmdline="$out/host/cmdline" --change-section-vma .cmdline=0x30000 \
	--add-section .linux="$kernel" --change-section-vma .linux=0x2000000 \
	--add-section .initrd="$out/host/initrd" --change-section-vma .initrd=0x3000000 \
	"$stub" "$out/kernel.efi"
# Its header has the time at which objcopy has made it, and a sum over that, which nothing looks at.
header=$(od -An -tu4 -j 60 -N 4 "$out/kernel.efi")
for at in 8 88; do
	head -c 4 /dev/zero | dd of="$out/kernel.efi" bs=1 seek=$((header + at)) conv=notrunc status=none
done

# One partition of 62 MiB from 1 MiB on.
rm -f "$out/disk.raw"
truncate -s 64M "$out/disk.raw"
printf 'label: gpt\nlabel-id: 5d6b1e38-2f6e-4d6c-9d2f-6a1c4f0e7b11\n%s\n' \
	'start=2048, size=126976, type=uefi, uuid=0b7c2c7e-7c55-4c61-8a3a-2f1f9d3b9e22' | sfdisk -q "$out/disk.raw"
export MTOOLS_SKIP_CHECK=1
mformat -i "$out/disk.raw@@1M" -N 12345678 -T 126976 -h 64 -s 32 -F ::
mmd -i "$out/disk.raw@@1M" ::EFI ::EFI/BOOT
mcopy -i "$out/disk.raw@@1M" "$out/kernel.efi" ::EFI/BOOT/BOOTX64.EFI
echo "$stamp" >"$out/stamp"
