package kerneltypes

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// memory is that of a kernel from address 1 on.
type memory []byte

func (memory) Symbol(string) (uint64, bool) { return 0, false }

func (m memory) Read(p []byte, address uint64) error {
	if address-1+uint64(len(p)) > uint64(len(m)) {
		return errors.New("not mapped")
	}
	copy(p, m[address-1:])
	return nil
}

// describe returns the description of a structure with others in it, of which one has no name.
func describe(t testing.TB) memory {
	t.Helper()
	number := &btf.Int{Name: "number", Size: 8}
	inner := &btf.Struct{Size: 8, Members: []btf.Member{{Name: "inner", Type: number}}}
	either := &btf.Union{Size: 8, Members: []btf.Member{{Name: "one", Type: number}, {Name: "other", Type: number}}}
	b, err := btf.NewBuilder([]btf.Type{&btf.Struct{Name: "outer", Size: 24, Members: []btf.Member{
		{Name: "first", Type: number}, {Type: inner, Offset: 64}, {Type: either, Offset: 128}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestStruct(t *testing.T) {
	m := describe(t)
	types, err := Read(m, map[string]uint64{Start: 1, Stop: 1 + uint64(len(m))})
	if err != nil {
		t.Fatal(err)
	}
	f, err := types.Struct("outer", "inner")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"first": 0, "inner": 8, "one": 16, "other": 16} {
		if at, err := f.Offset(name, 8); at != want || err != nil {
			t.Errorf("%s: %d, %v", name, at, err)
		}
	}
	for name, size := range map[string]int{"absent": 8, "other": 9} {
		if _, err := f.Offset(name, size); err == nil || !strings.Contains(err.Error(), "no field `"+name) {
			t.Error(err)
		}
	}
	for name, with := range map[string]string{"outer": "absent", "absent": "inner"} {
		if _, err := types.Struct(name, with); err == nil {
			t.Errorf("there is %s with %s", name, with)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	m := describe(t)
	for want, at := range map[string]map[string]uint64{
		"does not describe": {Start: 1},
		"not mapped":        {Start: 1, Stop: 2 + uint64(len(m))},
		"cannot be read":    {Start: 2, Stop: 1 + uint64(len(m))},
	} {
		if _, err := Read(m, at); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// FuzzStruct damages the description: fields lie in their structure.
func FuzzStruct(f *testing.F) {
	f.Add(uint16(0), []byte{1})
	f.Add(uint16(30), []byte{0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, at uint16, patch []byte) {
		m := describe(t)
		copy(m[int(at)%len(m):], patch)
		types, err := Read(m, map[string]uint64{Start: 1, Stop: 1 + uint64(len(m))})
		if err != nil {
			return
		}
		s, err := types.Struct("outer", "inner")
		if err != nil {
			return
		}
		if at, err := s.Offset("inner", 8); err == nil && (at < 0 || at+8 > s.Size || s.Size > maxStruct) {
			t.Errorf("%d of %d", at, s.Size)
		}
	})
}
