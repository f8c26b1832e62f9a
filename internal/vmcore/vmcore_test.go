package vmcore

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"provium/internal/guestmem"
)

// lowAndHigh is a memory whose bytes say where they are.
type lowAndHigh struct{ guestmem.Layout }

func (m lowAndHigh) ReadAt(p []byte, at int64) (int, error) {
	return m.Layout.ReadAt(p, at, func(p []byte, offset int64) (int, error) {
		for i := range p {
			p[i] = byte((offset + int64(i)) >> 12)
		}
		return len(p), nil
	})
}

func TestWrite(t *testing.T) {
	l := guestmem.Layout{Low: 3 << 20, Size: 5 << 20}
	first := CPU{PID: 86, Registers: map[string]uint64{"RIP": 0xffffffff81000000, "R15": 15, "GS": 7, "CS": 0x10}}
	c := Core{Layout: l, Memory: lowAndHigh{l}, Note: []byte("OSRELEASE=6.1\n"), PhysBase: -0x200000,
		CPUs: []CPU{first, {Number: 1}}}
	var out bytes.Buffer
	if err := c.Write(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_CORE || f.Machine != elf.EM_X86_64 || len(f.Progs) != 3 {
		t.Fatalf("%+v", f)
	}
	notes, err := io.ReadAll(f.Progs[0].Open())
	if err != nil {
		t.Fatal(err)
	}
	const content = 12 + 8 // head and name of a note
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(notes[at:]) }
	if word(content+112) != 15 || word(content+112+16*8) != 0xffffffff81000000 || word(content+112+26*8) != 7 {
		t.Errorf("registers: % x", notes[content:content+336])
	}
	if pid := uint32(word(content + 32)); pid != 86 {
		t.Errorf("the registers are those of process %d", pid)
	}
	if !bytes.Contains(notes, []byte("VMCOREINFO\x00\x00OSRELEASE=6.1\n")) || len(notes) != 2*(content+336)+12+12+16 {
		t.Errorf("%d bytes of notes: %q", len(notes), notes[2*(content+336):])
	}
	low, high := f.Progs[1], f.Progs[2]
	if low.Paddr != 0 || low.Vaddr != 0xffffffff80200000 || low.Filesz != 3<<20 || low.Off%4096 != 0 ||
		high.Paddr != 1<<32 || high.Vaddr != 0 || high.Filesz != 2<<20 {
		t.Errorf("%+v %+v", low.ProgHeader, high.ProgHeader)
	}
	var b [2]byte
	if _, err := high.ReadAt(b[:], 0x1fff); err != nil || b != [2]byte{0x01, 0x02} {
		t.Errorf("% x, %v", b, err)
	}
	if uint64(out.Len()) != high.Off+high.Filesz {
		t.Errorf("%d bytes", out.Len())
	}
}

func TestWriteEnds(t *testing.T) {
	l := guestmem.Layout{Low: 1 << 20, Size: 1 << 20}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := (&Core{Layout: l, Memory: lowAndHigh{l}}).Write(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
