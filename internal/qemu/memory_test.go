package qemu

import "testing"

// TestLayout has memories around the sizes from which on a part lies above 4 GiB.
func TestLayout(t *testing.T) {
	for _, c := range []struct {
		machine   string
		size, low int64
	}{
		{"q35", 512 << 20, 512 << 20}, {"q35", 0xb0000000 - 4096, 0xb0000000 - 4096}, {"q35", 0xb0000000, 0x80000000},
		{"pc-q35-7.2", 4 << 30, 0x80000000}, {"pc", 3 << 30, 3 << 30}, {"pc", 4 << 30, 0xc0000000},
		{"microvm", 4 << 30, 0xc0000000},
	} {
		if l := (&Config{Machine: c.machine, Memory: c.size}).layout(); l.Low != c.low || l.Size != c.size {
			t.Errorf("%s with %d: %+v", c.machine, c.size, l)
		}
	}
}
