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

# The addresses are those of systemd's documentation of its stub: they must not overlap.
objcopy \
	--add-section .osrel=/etc/os-release --change-section-vma .osrel=0x20000 \
	--add-section .cmdline="$out/host/cmdline" --change-section-vma .cmdline=0x30000 \
	--add-section .linux="$kernel" --change-section-vma .linux=0x2000000 \
	--add-section .initrd="$out/host/initrd" --change-section-vma .initrd=0x3000000 \
	"$stub" "$out/kernel.efi"

# One partition of 62 MiB from 1 MiB on.
rm -f "$out/disk.raw"
truncate -s 64M "$out/disk.raw"
printf 'label: gpt\nstart=2048, size=126976, type=uefi\n' | sfdisk -q "$out/disk.raw"
export MTOOLS_SKIP_CHECK=1
mformat -i "$out/disk.raw@@1M" -T 126976 -h 64 -s 32 -F ::
mmd -i "$out/disk.raw@@1M" ::EFI ::EFI/BOOT
mcopy -i "$out/disk.raw@@1M" "$out/kernel.efi" ::EFI/BOOT/BOOTX64.EFI
echo "$stamp" >"$out/stamp"
