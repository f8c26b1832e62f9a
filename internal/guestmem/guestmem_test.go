package guestmem_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/guestmem"
	"provium/internal/guestmem/fakekernel"
)

// file returns a Source of that size with pieces of memory in it.
func file(t testing.TB, size int64, pieces map[int64][]byte) *guestmem.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "ram"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for at, p := range pieces {
		if _, err := f.WriteAt(p, at); err != nil {
			t.Fatal(err)
		}
	}
	return &guestmem.File{F: f, Layout: guestmem.Layout{Low: size, Size: size}}
}

func TestFind(t *testing.T) {
	for name, k := range map[string]*fakekernel.Kernel{
		"plain":       {Base: 16 << 20},
		"moved":       {Base: 48 << 20, Offset: 512 << 20},
		"five levels": {Base: 32 << 20, Offset: 32 << 20, FiveLevels: true},
	} {
		t.Run(name, func(t *testing.T) {
			k.Messages = []fakekernel.Message{{Text: "x"}}
			source := file(t, 64<<20, map[int64][]byte{k.Base: k.Memory()})
			got, err := guestmem.Find(context.Background(), source, []int64{0x1000, -1, 1 << 40}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.Note.Release != "6.1.0-fake" || got.Note.KernelOffset() != k.Offset {
				t.Errorf("%q %#x", got.Note.Release, got.Note.KernelOffset())
			}
			at, err := got.Translate(guestmem.TextStart + k.Offset + 0x1234)
			if err != nil || at != k.Base+0x1234 {
				t.Errorf("%#x, %v", at, err)
			}
			p := make([]byte, 3<<20) // over a page of 2 MiB
			err = got.Read(p, guestmem.TextStart+k.Offset+0x5000)
			if err != nil || !bytes.HasPrefix(p, []byte("OSRELEASE")) {
				t.Errorf("%q, %v", p[:10], err)
			}
			for _, bad := range []uint64{0x1000, 1 << 60, 0xffff888000000000, guestmem.TextStart - 8} {
				if _, err := got.Translate(bad); !errors.Is(err, guestmem.ErrNotMapped) {
					t.Errorf("%#x: %v", bad, err)
				}
			}
			if cr3 := uint64(k.Base + fakekernel.CR3); !got.Runs(cr3) || !got.Runs(cr3|1) || got.Runs(0x3000) {
				t.Error("the kernel's page tables are not known, or others are")
			}
		})
	}
}

// TestFindRefuses has notes that are no kernel's, before one that is.
func TestFindRefuses(t *testing.T) {
	real := &fakekernel.Kernel{Base: 16 << 20, Messages: []fakekernel.Message{{Text: "x"}}}
	good := real.Note()
	pieces := map[int64][]byte{16 << 20: real.Memory(), 0x200000 - 0x1000: []byte(good)[:5]}
	for i, note := range []string{
		"OSRELEASE=\n", "OSRELEASE=1\n", strings.Repeat("OSRELEASE=1\n", 341),
		strings.Replace(good, "SYMBOL(init_top_pgt)", "SYMBOL(x)", 1),
		strings.Replace(good, "NUMBER(phys_base)=16777216", "NUMBER(phys_base)=-1", 1),
		strings.Replace(good, "NUMBER(phys_base)=16777216", "NUMBER(phys_base)=99999999999999999999", 1),
		strings.Replace(good, "SYMBOL(init_top_pgt)=ffffffff80010000", "SYMBOL(init_top_pgt)=7", 1),
	} {
		pieces[int64(i+1)<<12] = []byte(note)
	}
	source := file(t, 32<<20, pieces)
	k, err := guestmem.Find(context.Background(), source, nil, nil)
	if err != nil || k.Note.At != 16<<20+0x5000 {
		t.Fatalf("%v %v", k, err)
	}
	refuse := func(*guestmem.Kernel) bool { return false }
	if _, err := guestmem.Find(context.Background(), source, nil, refuse); !errors.Is(err, guestmem.ErrNoKernel) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := guestmem.Find(ctx, source, nil, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	empty := file(t, 1<<30, nil)
	if _, err := guestmem.Find(context.Background(), empty, nil, nil); !errors.Is(err, guestmem.ErrNoKernel) {
		t.Error(err)
	}
}

func TestLayout(t *testing.T) {
	l := guestmem.Layout{Low: 0x1000, Size: 0x3000}
	for address, want := range map[int64]int64{0: 0, 0xfff: 0xfff, 0x1000: -1, 1<<32 - 1: -1, 1 << 32: 0x1000,
		1<<32 + 0x1fff: 0x2fff, 1<<32 + 0x2000: -1, -1: -1, 1<<63 - 1: -1} {
		got, run, ok := l.Offset(address)
		if !ok {
			got = -1
		}
		if got != want || ok && (run <= 0 || l.Address(got) != address) {
			t.Errorf("%#x: %#x %d %v, want %#x", address, got, run, ok, want)
		}
	}
	f := file(t, 0x3000, map[int64][]byte{0xffe: []byte("abcd")})
	f.Layout = l
	p := make([]byte, 4)
	if n, err := f.ReadAt(p, 0xffe); n != 2 || err == nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := f.ReadAt(p[:2], 1<<32); n != 2 || err != nil || string(p[:2]) != "cd" {
		t.Errorf("%d, %v, %q", n, err, p)
	}
}

// FuzzParseNote checks that a note is read in bounded steps and describes itself.
func FuzzParseNote(f *testing.F) {
	f.Add([]byte((&fakekernel.Kernel{}).Note()))
	f.Add([]byte("OSRELEASE=x\nKERNELOFFSET=0\nNUMBER(phys_base)=-1\nSYMBOL(init_top_pgt)=ffffffffffffffff\n"))
	f.Add([]byte("OSRELEASE=\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := guestmem.ParseNote(text)
		if err != nil {
			return
		}
		if n.Release == "" || len(n.Text) > 4096 || bytes.IndexByte(n.Text, 0) >= 0 {
			t.Errorf("%+v", n)
		}
		if v, ok := n.Size("printk_info"); ok && (v < 0 || v > 64<<10) {
			t.Error(v)
		}
	})
}

// bytesSource is a memory that is small and wraps, so that any address has something.
type bytesSource []byte

func (b bytesSource) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 || len(b) == 0 {
		return 0, errors.New("hole")
	}
	for n := 0; n < len(p); {
		n += copy(p[n:], b[(at+int64(n))%int64(len(b)):])
	}
	return len(p), nil
}

func (b bytesSource) Scan(_ context.Context, visit func(int64, []byte) error) error {
	return visit(0, b)
}

// FuzzFind has a memory with something in two places: what is found must be readable in bounded steps.
func FuzzFind(f *testing.F) {
	k := &fakekernel.Kernel{Messages: []fakekernel.Message{{Text: "x"}}}
	memory := bytesSource(k.Memory()[:0x15000])
	f.Add(uint32(0), []byte(nil), uint32(0), []byte(nil))
	f.Add(uint32(0x5000), []byte("OSRELEASE=x\nPAGESIZE=4096\n"), uint32(0x10000), []byte{1, 0x10})
	f.Add(uint32(0), []byte(k.Note()), uint32(0x5000), []byte("x"))
	f.Add(uint32(0x10ff8), []byte{0x83, 0, 0, 0, 0, 0, 0, 0}, uint32(0x11ff0), []byte{1, 0, 1})
	p := make([]byte, 10000)
	put := func(at uint32, patch []byte) (restore func()) {
		place := memory[int(at)%len(memory):]
		was := append([]byte(nil), place[:min(len(place), len(patch))]...)
		copy(place, patch)
		return func() { copy(place, was) }
	}
	f.Fuzz(func(t *testing.T, at uint32, patch []byte, at2 uint32, patch2 []byte) {
		defer put(at, patch)()
		defer put(at2, patch2)()
		found, err := guestmem.Find(context.Background(), memory, []int64{0}, nil)
		if err != nil {
			return
		}
		_ = found.Read(p, guestmem.TextStart+0x5000)
		_ = found.Runs(0)
	})
}
