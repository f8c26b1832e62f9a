package image

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckMemory(t *testing.T) {
	dir := t.TempDir()
	kernel := put(t, make([]byte, 2<<20), dir, "kernel")
	initrd := put(t, make([]byte, 1<<20), dir, "initrd")
	for _, c := range []struct {
		kernel, initrd string
		memory         int64
		want           string
	}{
		{kernel, initrd, 3 << 20, ""},
		{kernel, "", 2 << 20, ""},
		{kernel, initrd, 3<<20 - 1, "memory is too small: 3.0 MiB, and the kernel takes the first 2.0 MiB and the " +
			"initrd 1.0 MiB; a guest needs at least 3.0 MiB"},
		{kernel, initrd, 64 << 10, "memory is too small: 64 KiB, "},
		{filepath.Join(dir, "none"), "", 1 << 30, "no such file"},
		{kernel, filepath.Join(dir, "none"), 1 << 30, "no such file"},
	} {
		err := CheckMemory(c.kernel, c.initrd, c.memory)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
