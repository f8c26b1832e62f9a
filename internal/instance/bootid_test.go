package instance

import (
	"slices"
	"testing"

	"provium/internal/qemu"
)

func TestKernelData(t *testing.T) {
	const iomem = "00000000-00000fff : Reserved\n00100000-1fffffff : System RAM\n" +
		"  01000000-01ffffff : Kernel code\n  02c00000-02ffffff : Kernel data\n" +
		"  03200000-033fffff : Kernel bss\n  x-y : Kernel bss\n  00000000-00000000 : Kernel data\n"
	want := []qemu.Range{{At: 0x2c00000, Length: 4 << 20}, {At: 0x3200000, Length: 2 << 20}}
	if got := kernelData(iomem); !slices.Equal(got, want) {
		t.Error(got)
	}
}
