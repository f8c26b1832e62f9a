package qemu

import (
	"testing"
)

func TestFindInMemory(t *testing.T) {
	ram, err := newRAM(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer ram.Close()
	m := &Machine{cfg: Config{Memory: 1 << 20}, ram: ram}
	put := func(at int64) {
		if _, err := ram.WriteAt([]byte("needle"), at); err != nil {
			t.Fatal(err)
		}
	}
	find := func(at, length int64) int64 {
		found, ok := m.FindInMemory([]byte("needle"), Range{at, length})
		if !ok {
			return -1
		}
		return found
	}
	put(5000)
	if got := find(4096, 4096); got != 5000 {
		t.Error(got)
	}
	if find(0, 4096) != -1 || find(1<<20, 1) != -1 || find(-1, 10) != -1 {
		t.Error("found where it is not")
	}
	put(6000)
	if find(4096, 4096) != -1 {
		t.Error("one of two was chosen")
	}
	m.cfg.Restore = &Restore{}
	if find(4096, 1000) != -1 {
		t.Error("found in the memory of a restored guest")
	}
}

func TestNewUUID(t *testing.T) {
	a, b := newUUID(), newUUID()
	if a == b || a[6]>>4 != 4 || a[8]>>6 != 2 {
		t.Errorf("%x, %x", a, b)
	}
}
