// Package kerneltypes says where the fields of a Linux kernel's structures lie, by the kernel's own description of its
// types (BTF) in its memory.
//
// It reads no structures. The description may be forged: fields that reach out of their structure are refused, and it
// is bounded.
//
// Start reading at Read.
package kerneltypes

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"

	"provium/internal/kallsyms"
)

// Start and Stop are the symbols between which the description lies.
const (
	Start = "__start_BTF"
	Stop  = "__stop_BTF"
)

const (
	maxTypes  = 32 << 20 // bytes of the description
	maxStruct = 64 << 10 // bytes of a structure
)

// Types is a kernel's description of its types.
type Types struct{ spec *btf.Spec }

// Read reads the description. at has the addresses of Start and Stop, as kallsyms.Find returns them.
func Read(m kallsyms.Memory, at map[string]uint64) (*Types, error) {
	if at[Start] == 0 || at[Stop] <= at[Start] || at[Stop]-at[Start] > maxTypes {
		return nil, errors.New("the kernel does not describe its types")
	}
	raw := make([]byte, at[Stop]-at[Start])
	if err := m.Read(raw, at[Start]); err != nil {
		return nil, err
	}
	return parse(raw)
}

func parse(raw []byte) (t *Types, err error) {
	defer unreadable(&err)
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("the kernel's description of its types cannot be read: %w", err)
	}
	return &Types{spec}, nil
}

// unreadable makes a panic of the library an error, since the description is the guest's.
func unreadable(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the kernel's description of its types cannot be read: %v", p)
	}
}

// Fields are those of a structure, with those of structures without a name in it.
type Fields struct {
	Name string // of the structure
	Size int    // of the structure, in bytes
	Of   map[string]Field
}

// Field is where a field begins in its structure, and its type.
type Field struct {
	At   int
	Type btf.Type
}

// Struct returns the fields of the structure of that name that has a certain field.
func (t *Types) Struct(name, with string) (f *Fields, err error) {
	defer unreadable(&err)
	types, err := t.spec.AnyTypesByName(name)
	if err != nil {
		return nil, fmt.Errorf("the kernel's type `%s`: %w", name, err)
	}
	for _, t := range types {
		if s, ok := t.(*btf.Struct); ok && s.Size <= maxStruct {
			f := FieldsOf(s, int(s.Size))
			if _, ok := f.Of[with]; ok {
				return f, nil
			}
		}
	}
	return nil, fmt.Errorf("the kernel's type `%s` has no field `%s`", name, with)
}

// FieldsOf returns the fields of a structure, which must lie in its first size bytes.
func FieldsOf(s *btf.Struct, size int) *Fields {
	f := &Fields{Name: s.Name, Size: size, Of: map[string]Field{}}
	f.add(s, 0, 0)
	return f
}

// add adds the members of a structure that lies at an offset.
func (f *Fields) add(t btf.Type, at, depth int) {
	const deepest = 8
	var members []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		members = t.Members
	case *btf.Union:
		members = t.Members
	}
	for _, m := range members {
		offset := at + int(m.Offset.Bytes())
		if m.Name == "" {
			if depth < deepest {
				f.add(m.Type, offset, depth+1)
			}
			continue
		}
		if _, known := f.Of[m.Name]; !known {
			f.Of[m.Name] = Field{offset, m.Type}
		}
	}
}

// Offset returns where a field is, which has at least so many bytes.
func (f *Fields) Offset(name string, size int) (int, error) {
	field, ok := f.Of[name]
	if !ok || field.At < 0 || field.At+size > f.Size {
		return 0, fmt.Errorf("the kernel's type `%s` has no field `%s`", f.Name, name)
	}
	return field.At, nil
}
