package instance

import (
	"context"
	"encoding/hex"
	"strconv"
	"strings"

	"provium/internal/qemu"
)

// FindBootID returns where in its memory a guest that has booted keeps the kernel's boot
// id, 0 when that is not found. Linux makes the id when it is first read, and never
// changes it.
func FindBootID(ctx context.Context, i *Instance) int64 {
	link, err := i.Client(ctx)
	if err != nil {
		return 0
	}
	read := func(path string) string {
		text, err := link.ReadFile(ctx, path)
		if err != nil {
			return ""
		}
		return string(text)
	}
	id, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(read("/proc/sys/kernel/random/boot_id")), "-", ""))
	if err != nil || len(id) != 16 {
		return 0
	}
	for _, r := range kernelData(read("/proc/iomem")) {
		if at, ok := i.machine.FindInMemory(id, r); ok {
			return at
		}
	}
	return 0
}

// kernelData returns where the kernel's variables are, by /proc/iomem.
func kernelData(iomem string) (out []qemu.Range) {
	for line := range strings.Lines(iomem) {
		span, name, _ := strings.Cut(strings.TrimSpace(line), " : ")
		if name != "Kernel data" && name != "Kernel bss" {
			continue
		}
		first, last, _ := strings.Cut(span, "-")
		from, err := strconv.ParseInt(first, 16, 64)
		to, err2 := strconv.ParseInt(last, 16, 64)
		if err == nil && err2 == nil && from > 0 && to > from && to-from < maxKernelData {
			out = append(out, qemu.Range{At: from, Length: to - from + 1})
		}
	}
	return out
}

// maxKernelData is the most that is read of a kernel's variables, in bytes.
const maxKernelData = 64 << 20
