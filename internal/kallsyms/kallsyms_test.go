package kallsyms_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"provium/internal/kallsyms"
)

// table is the memory of a kernel that has only a table of symbols.
type table map[string][]byte

// Where the parts lie.
var places = map[string]uint64{"kallsyms_num_syms": 1 << 20, "kallsyms_names": 2 << 20,
	"kallsyms_token_table": 4 << 20, "kallsyms_token_index": 5 << 20, "kallsyms_offsets": 6 << 20,
	"kallsyms_relative_base": 8 << 20}

func (t table) Symbol(name string) (uint64, bool) {
	_, ok := t[name]
	return places[name], ok
}

func (t table) Read(p []byte, address uint64) error {
	clear(p)
	for name, at := range places {
		if address >= at && address < at+1<<20 {
			if content := t[name]; address-at < uint64(len(content)) {
				copy(p, content[address-at:])
			}
			return nil
		}
	}
	return errors.New("not mapped")
}

const base = 0xffffffff81000000

type symbol struct {
	kind   byte
	offset uint32
	name   string
}

// newTable compresses nothing but "spin_": token 1.
func newTable(old bool, symbols ...symbol) table {
	t := table{}
	var texts []byte
	index := make([]byte, 512)
	for i := range 256 {
		binary.LittleEndian.PutUint16(index[2*i:], uint16(len(texts)))
		token := string([]byte{byte(i)})
		switch i {
		case 0:
			token = ""
		case 1:
			token = "spin_"
		}
		texts = append(append(texts, token...), 0)
	}
	var names, offsets []byte
	for _, s := range symbols {
		text := string([]byte{s.kind}) + strings.ReplaceAll(s.name, "spin_", "\x01")
		if len(text) >= 0x80 {
			names = append(names, byte(len(text)&0x7f|0x80), byte(len(text)>>7))
		} else {
			names = append(names, byte(len(text)))
		}
		names = append(names, text...)
		offset := s.offset
		if old && s.kind != 'A' {
			offset = ^s.offset
		}
		offsets = binary.LittleEndian.AppendUint32(offsets, offset)
	}
	t["kallsyms_token_table"], t["kallsyms_token_index"], t["kallsyms_names"] = texts, index, names
	t["kallsyms_offsets"] = offsets
	t["kallsyms_num_syms"] = binary.LittleEndian.AppendUint32(nil, uint32(len(symbols)))
	t["kallsyms_relative_base"] = binary.LittleEndian.AppendUint64(nil, base)
	return t
}

func TestResolve(t *testing.T) {
	long := strings.Repeat("x", 300)
	symbols := []symbol{{'T', 0, "_text"}, {'T', 0, "_stext"}, {'t', 0x40, "native_queued_spin_lock"},
		{'W', 0x100, long}, {'D', 0x200000, "jiffies"}}
	addresses := []uint64{base, base + 0x50, base + 0x140, base + 0x200008, base - 1, base + 1<<30, 0}
	want := fmt.Sprint([]string{"_text+0x0/0x40", "native_queued_spin_lock+0x10/0xc0", long + "+0x40/0x1fff00",
		"jiffies+0x8/0x0", "+0x0/0x0", "+0x0/0x0", "+0x0/0x0"})
	for _, old := range []bool{false, true} {
		all := symbols
		if old {
			all = append([]symbol{{'A', 0, "cpu_start"}}, all...)
		}
		got, err := kallsyms.Resolve(newTable(old, all...), addresses)
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if got[i].Name == "" || got[i].Name == "cpu_start" {
				got[i] = kallsyms.Symbol{}
			}
		}
		if fmt.Sprint(got) != want || !got[1].IsText || got[3].IsText {
			t.Errorf("got\n%v\nwant\n%v", got, want)
		}
	}
}

func TestFind(t *testing.T) {
	m := newTable(false, symbol{'T', 0, "first"}, symbol{'D', 8, "modules"}, symbol{'d', 16, "modules"},
		symbol{'R', 24, "__start_BTF"}, symbol{'t', 32, "last"})
	got, err := kallsyms.Find(m, "modules", "__start_BTF", "none")
	if want := fmt.Sprint(map[string]uint64{"modules": base + 8, "__start_BTF": base + 24}); err != nil ||
		fmt.Sprint(got) != want {
		t.Errorf("%v, %v, want %s", got, err, want)
	}
	delete(m, "kallsyms_names")
	if got, err := kallsyms.Find(m, "modules"); err == nil {
		t.Error(got)
	}
}

func TestResolveRefuses(t *testing.T) {
	good := func() table { return newTable(false, symbol{'T', 0, "a"}, symbol{'T', 8, "b"}) }
	for name, damage := range map[string]func(table){
		"no table":      func(t table) { delete(t, "kallsyms_offsets") },
		"no symbols":    func(t table) { t["kallsyms_num_syms"] = nil },
		"many symbols":  func(t table) { t["kallsyms_num_syms"] = []byte{0xff, 0xff, 0xff, 0xff} },
		"out of order":  func(t table) { t["kallsyms_offsets"][0] = 9 },
		"empty name":    func(t table) { t["kallsyms_names"][0] = 0 },
		"long name":     func(t table) { copy(t["kallsyms_names"], "\xff\xff") },
		"token index":   func(t table) { copy(t["kallsyms_token_index"], "\xff\xff") },
		"endless token": func(t table) { t["kallsyms_token_table"] = []byte(strings.Repeat("x", 1<<16)) },
	} {
		m := good()
		damage(m)
		if got, err := kallsyms.Resolve(m, []uint64{base + 8}); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// FuzzResolve damages a table at any place.
func FuzzResolve(f *testing.F) {
	f.Add("kallsyms_names", uint16(0), []byte{0x80, 1})
	f.Add("kallsyms_num_syms", uint16(0), []byte{0, 0, 1})
	f.Add("kallsyms_token_index", uint16(2), []byte{255})
	f.Fuzz(func(t *testing.T, part string, at uint16, patch []byte) {
		m := newTable(false, symbol{'T', 0, "first"}, symbol{'T', 8, "spin_second"})
		if len(m[part]) > 0 {
			copy(m[part][int(at)%len(m[part]):], patch)
		}
		if found, err := kallsyms.Find(m, "first", "spin_second"); len(found) > 2 {
			t.Errorf("%v, %v", found, err)
		}
		got, err := kallsyms.Resolve(m, []uint64{base, base + 9})
		for _, s := range got {
			if len(s.Name) > 512 {
				t.Errorf("%q, %v", s.Name, err)
			}
		}
	})
}
