package kmodules

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"provium/internal/kallsyms/fakesymbols"
)

// Where the parts of the memory lie.
const (
	types = fakesymbols.First + iota*fakesymbols.Piece
	list
	tables
	code
)

// describe returns the description of a kernel's types. With old, modules have the parts that they had before Linux
// 6.4.
func describe(t testing.TB, old bool) []byte {
	t.Helper()
	number := func(size uint32) btf.Type { return &btf.Int{Name: "number", Size: size} }
	field := func(name string, kind btf.Type, at uint32) btf.Member {
		return btf.Member{Name: name, Type: kind, Offset: btf.Bits(8 * at)}
	}
	text := func(n uint32) btf.Type { return &btf.Array{Index: number(4), Type: number(1), Nelems: n} }
	table := &btf.Struct{Name: "mod_kallsyms", Size: 32, Members: []btf.Member{field("symtab", number(8), 0),
		field("num_symtab", number(4), 8), field("strtab", number(8), 16)}}
	part := &btf.Struct{Name: "part", Size: 16, Members: []btf.Member{field("base", number(8), 0),
		field("size", number(4), 8)}}
	inner := &btf.Struct{Size: 8, Members: []btf.Member{field("kallsyms", &btf.Pointer{Target: table}, 0)}}
	members := []btf.Member{field("state", number(4), 0), field("list", number(8), 8), field("name", text(56), 24),
		field("", inner, 80)}
	if old {
		members = append(members, field("init_layout", part, 96), field("core_layout", part, 112))
	} else {
		members = append(members, field("mem", &btf.Array{Index: number(4), Type: part, Nelems: 2}, 96))
	}
	b, err := btf.NewBuilder([]btf.Type{&btf.Struct{Name: "module", Size: 128, Members: members}, table}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// symbolTable returns a table of symbols that are called by their own names, and its names behind it.
func symbolTable(symbols map[string]uint64) (table []byte, strings []byte) {
	strings = []byte{0}
	for name, value := range symbols {
		e := make([]byte, symbolSize)
		binary.LittleEndian.PutUint32(e, uint32(len(strings)))
		binary.LittleEndian.PutUint16(e[6:], 1)
		binary.LittleEndian.PutUint64(e[8:], value)
		table, strings = append(table, e...), append(append(strings, name...), 0)
	}
	return table, strings
}

// kernel returns the memory of one with two modules, the second of which has functions.
func kernel(description []byte) fakesymbols.Memory {
	m := fakesymbols.Memory{types: description, code: nil}
	m.SetSymbols(map[string]uint64{"Dmodules": list, "R__start_BTF": types,
		"R__stop_BTF": types + uint64(len(description))})
	const first, second = list + 256, list + 512
	m.Put(list, first+8)
	m.Put(first+8, second+8)
	m.Put(second+8, list)
	m.Write(first+24, []byte("other"))
	m.Write(second+24, []byte("crash"))
	m.Put(second+80, tables)
	m.Put(second+96, code, 0x100, code+0x1000, 0x100)
	table, strings := symbolTable(map[string]uint64{"crash_null": code + 0x10, "crash_deaf": code + 0x40,
		"$x": code + 0x44, "": code + 0x48, "crash_exit": code + 0x1010, "data": code + 0x5000})
	m.Put(tables, tables+0x100, uint64(len(table)/symbolSize), tables+0x800)
	m.Write(tables+0x100, table)
	m.Write(tables+0x800, strings)
	return m
}

func TestResolve(t *testing.T) {
	for _, old := range []bool{false, true} {
		m := kernel(describe(t, old))
		got, err := Resolve(m, []uint64{code + 0x10, code + 0x4a, code + 0x1018, code + 0x5000, code + 0x100, code, 7})
		want := "[crash_null+0x0/0x30 [crash] crash_deaf+0xa/0xc0 [crash] crash_exit+0x8/0xf0 [crash] " +
			"+0x0/0x0 +0x0/0x0 +0x0/0x0 +0x0/0x0]"
		if fmt.Sprint(got) != want || err != nil || !got[0].IsText {
			t.Errorf("old %v: %v, %v\nwant %s", old, got, err, want)
		}
	}
	if got, err := Resolve(fakesymbols.Memory{}, nil); len(got) > 0 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestResolveRefuses(t *testing.T) {
	for want, damage := range map[string]func(m fakesymbols.Memory){
		"does not describe its types": func(m fakesymbols.Memory) { m.Rename("__start_BTF", "__begin_BTF") },
		"cannot be read":              func(m fakesymbols.Memory) { m[types][0] = 0 },
		"does not end":                func(m fakesymbols.Memory) { m.Put(list+512+8, list+256+8) },
		"not mapped":                  func(m fakesymbols.Memory) { m.Put(list+512+8, 1<<40) },
		"symbols":                     func(m fakesymbols.Memory) { m.Put(tables+8, 1<<31) },
	} {
		m := kernel(describe(t, false))
		damage(m)
		got, err := Resolve(m, []uint64{code + 0x10})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
}

// FuzzResolve damages the types, the list and the tables at any place.
func FuzzResolve(f *testing.F) {
	f.Add(uint32(types), []byte{1, 2, 3})
	f.Add(uint32(list+256), []byte{0xff, 0xff})
	f.Add(uint32(tables+8), []byte{0xff, 0xff, 3})
	f.Add(uint32(tables+0x100), []byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		m := kernel(describe(t, at%2 == 0))
		m.Damage(at, patch)
		addresses := []uint64{code + 0x10, code + 0x1018, 7, 1 << 63}
		got, err := Resolve(m, addresses)
		for i, s := range got {
			if s.Name != "" && (s.Offset > addresses[i] || len(s.Name) > maxName+64 || len(s.Module) > maxName) {
				t.Errorf("%#x: %+v, %v", addresses[i], s, err)
			}
		}
	})
}
