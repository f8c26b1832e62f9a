package printk_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"provium/internal/guestmem"
	"provium/internal/guestmem/fakekernel"
	"provium/internal/printk"
)

// memory is a guest's memory from address 0 on.
type memory []byte

func (m memory) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(p)) > int64(len(m)) {
		return 0, errors.New("hole")
	}
	return copy(p, m[at:]), nil
}

func (m memory) Scan(_ context.Context, visit func(int64, []byte) error) error { return visit(0, m) }

// kernel is a kernel in a memory.
type kernel struct {
	*guestmem.Kernel
	*guestmem.Note
}

func open(m memory) (printk.Memory, error) {
	k, err := guestmem.Find(context.Background(), m, nil, nil)
	if err != nil {
		return nil, err
	}
	return kernel{k, k.Note}, nil
}

func read(t testing.TB, m memory) []printk.Record {
	t.Helper()
	k, err := open(m)
	if err != nil {
		t.Fatal(err)
	}
	records, err := printk.Read(k)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func TestRead(t *testing.T) {
	k := fakekernel.Kernel{Offset: 64 << 20, Seq: 5, Messages: []fakekernel.Message{
		{Level: 5, NS: 0, Text: "Linux version 6.1"},
		{Level: 3, NS: 1_234_567_890, Text: "two\nlines"},
		{Level: 6, NS: 2e9, Text: ""},
		{Level: 4, Facility: 1, NS: 123456_000_001_000, Text: "from a program\x00\xff"},
	}}
	got := read(t, k.Memory())
	want := []printk.Record{
		{Seq: 5, Level: 5, Text: "Linux version 6.1"},
		{Seq: 6, Level: 3, Time: 1234567890, Text: "two\nlines"},
		{Seq: 7, Level: 6, Time: 2 * time.Second},
		{Seq: 8, Level: 4, Facility: 1, Time: 123456000001000, Text: "from a program\x00\xff"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	text := "<5>[    0.000000] Linux version 6.1\n<3>[    1.234567] two\n<3>[    1.234567] lines\n" +
		"<6>[    2.000000] \n<12>[123456.000001] from a program\x00\xff\n"
	if lines := string(printk.AppendLines(nil, got)); lines != text {
		t.Errorf("got\n%q\nwant\n%q", lines, text)
	}
	k.Cleared = 7
	all := read(t, k.Memory())
	if got := printk.Shown(all); len(all) != len(want) || len(got) != 2 || got[0].Seq != 7 {
		t.Errorf("after it was cleared: %+v of %+v", got, all)
	}
}

// TestReadWrapped has logs that have overwritten their beginning, by text or by number.
func TestReadWrapped(t *testing.T) {
	for _, bits := range [][2]uint{{8, 12}, {4, 12}, {8, 7}, {1, 16}} {
		for _, n := range []int{1, 15, 16, 17, 100, 257, 1000} {
			k := fakekernel.Kernel{CountBits: bits[0], SizeBits: bits[1]}
			for i := range n {
				k.Messages = append(k.Messages, fakekernel.Message{NS: uint64(i),
					Text: fmt.Sprintf("message %d%s", i, strings.Repeat("x", i%23))})
			}
			got := read(t, k.Memory())
			if len(got) == 0 || uint64(len(got)) > 1<<bits[0] || n < 3 && len(got) != n {
				t.Errorf("%v, %d messages: %d are left", bits, n, len(got))
			}
			for i, r := range got {
				if at := n - len(got) + i; r.Seq != uint64(at) || r.Text != k.Messages[at].Text {
					t.Fatalf("%v, %d messages: %+v", bits, n, r)
				}
			}
		}
	}
}

// TestReadDamaged changes numbers of the ring, one at a time.
func TestReadDamaged(t *testing.T) {
	k := fakekernel.Kernel{Messages: []fakekernel.Message{{Text: "a"}, {Text: "b"}}}
	const ring = 0x20008
	for _, at := range []int{0x20000, ring, ring + 8, ring + 16, ring + 24, ring + 32, ring + 40, ring + 48} {
		for _, v := range []uint64{0, 1, 0x15, 0x1f, 1 << 62, 1<<64 - 1, 0xffffffff80000000} {
			m := memory(k.Memory())
			binary.LittleEndian.PutUint64(m[at:], v)
			if mem, err := open(m); err == nil {
				records, err := printk.Read(mem)
				if err == nil && len(records) > 2 {
					t.Errorf("%#x is %#x: %d records", at, v, len(records))
				}
			}
		}
	}
	m := memory(k.Memory())
	binary.LittleEndian.PutUint32(m[ring:], 30)
	mem, err := open(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := printk.Read(mem); !errors.Is(err, printk.ErrDamaged) {
		t.Errorf("2^30 messages: %v", err)
	}
}

// changing is a memory that changes after some reads of descriptors.
type changing struct {
	printk.Memory
	memory
	reads int
	at    int
}

func (c *changing) Read(p []byte, address uint64) error {
	if len(p) == 2*24 {
		if c.reads++; c.reads == 2 {
			binary.LittleEndian.PutUint64(c.memory[c.at:], 0)
		}
	}
	return c.Memory.Read(p, address)
}

// TestReadWhileItChanges has a message that is overwritten while it is read.
func TestReadWhileItChanges(t *testing.T) {
	k := fakekernel.Kernel{Messages: []fakekernel.Message{{Text: "old"}, {Text: "new"}}}
	m := memory(k.Memory())
	mem, err := open(m)
	if err != nil {
		t.Fatal(err)
	}
	const descs, firstSlot = 0x40000, 0 // the first number is a multiple of the count
	records, err := printk.Read(&changing{Memory: mem, memory: m, at: descs + firstSlot*24})
	if err != nil || len(records) != 1 || records[0].Text != "new" {
		t.Errorf("%+v, %v", records, err)
	}
}

// FuzzRead damages a log at any place: what is read is bounded.
func FuzzRead(f *testing.F) {
	k := fakekernel.Kernel{CountBits: 4, SizeBits: 8}
	for i := range 20 {
		k.Messages = append(k.Messages, fakekernel.Message{NS: uint64(i), Text: fmt.Sprint("message ", i)})
	}
	image := k.Memory()
	f.Add(uint32(0x20008), []byte{20})
	f.Add(uint32(0x20008+40), []byte{25})
	f.Add(uint32(0x40008), []byte{1, 0, 0, 0, 0, 0, 0, 0, 0xff})
	f.Add(uint32(0x5000+60), []byte("SYMBOL(prb)=ffffffff80000000\n"))
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		place := image[int(at)%len(image):]
		was := append([]byte(nil), place[:min(len(place), len(patch))]...)
		copy(place, patch)
		defer copy(place, was)
		mem, err := open(memory(image))
		if err != nil {
			return
		}
		records, err := printk.Read(mem)
		total := 0
		for _, r := range records {
			total += len(r.Text)
			if r.Level < 0 || r.Level > 7 || r.Time < 0 {
				t.Errorf("%+v", r)
			}
		}
		if total > 16<<20 || len(records) > 1<<20 {
			t.Errorf("%d records of %d bytes, %v", len(records), total, err)
		}
	})
}
