package kmodules

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// layout says where the fields of a kernel's structures lie, in bytes.
type layout struct {
	size, list, name, nameSize, kallsyms int // struct module
	regions                              []regionAt
	tableSize, symtab, count, strtab     int // struct mod_kallsyms
}

// regionAt is where a module says where code of it is.
type regionAt struct{ base, size int }

// maxRegions is how many parts a module has at most.
const maxRegions = 16

// readLayout reads the description of a kernel's types.
func readLayout(types []byte) (l *layout, err error) {
	defer func() {
		if p := recover(); p != nil { // the description is the guest's
			l, err = nil, fmt.Errorf("the kernel's description of its types cannot be read: %v", p)
		}
	}()
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(types))
	if err != nil {
		return nil, fmt.Errorf("the kernel's description of its types cannot be read: %w", err)
	}
	mod, err := fieldsOf(spec, "module", "kallsyms")
	if err != nil {
		return nil, err
	}
	table, err := fieldsOf(spec, "mod_kallsyms", "symtab")
	if err != nil {
		return nil, err
	}
	l = &layout{size: mod.size, tableSize: table.size}
	for _, f := range []struct {
		of   *fields
		name string
		to   *int
		size int
	}{
		{mod, "list", &l.list, 8}, {mod, "name", &l.name, 8}, {mod, "kallsyms", &l.kallsyms, 8},
		{table, "symtab", &l.symtab, 8}, {table, "num_symtab", &l.count, 4}, {table, "strtab", &l.strtab, 8},
	} {
		if *f.to, err = f.of.offset(f.name, f.size); err != nil {
			return nil, err
		}
	}
	if name, ok := btf.UnderlyingType(mod.of["name"].kind).(*btf.Array); ok {
		l.nameSize = int(min(name.Nelems, maxName))
	}
	if l.nameSize == 0 || l.name+l.nameSize > l.size {
		return nil, errors.New("the kernel's modules have no names")
	}
	l.regions, err = regionsOf(mod)
	return l, err
}

// regionsOf finds the parts of a module: an array since Linux 6.4, and two structures before.
func regionsOf(mod *fields) (all []regionAt, err error) {
	add := func(at int, t btf.Type) error {
		part, ok := btf.UnderlyingType(t).(*btf.Struct)
		if !ok {
			return errors.New("the kernel's modules have no parts")
		}
		f := &fields{name: part.Name, size: mod.size - at, of: map[string]fieldAt{}}
		f.add(part, 0, 0)
		base, err := f.offset("base", 8)
		if err != nil {
			return err
		}
		size, err := f.offset("size", 4)
		all = append(all, regionAt{at + base, at + size})
		return err
	}
	if mem, ok := mod.of["mem"]; ok {
		array, ok := btf.UnderlyingType(mem.kind).(*btf.Array)
		if !ok {
			return nil, errors.New("the kernel's modules have no parts")
		}
		size, err := btf.Sizeof(array.Type)
		if err != nil {
			return nil, err
		}
		for i := range int(min(array.Nelems, maxRegions)) {
			if err := add(mem.at+i*size, array.Type); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	for _, name := range []string{"core_layout", "init_layout"} {
		if part, ok := mod.of[name]; ok {
			if err := add(part.at, part.kind); err != nil {
				return nil, err
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the kernel's modules have no parts")
	}
	return all, nil
}

// fields are those of a structure, with those of structures without a name in it.
type fields struct {
	name string
	size int
	of   map[string]fieldAt
}

type fieldAt struct {
	at   int
	kind btf.Type
}

// fieldsOf returns the fields of the structure of that name that has a certain field.
func fieldsOf(spec *btf.Spec, name, with string) (*fields, error) {
	types, err := spec.AnyTypesByName(name)
	if err != nil {
		return nil, fmt.Errorf("the kernel's type `%s`: %w", name, err)
	}
	for _, t := range types {
		if s, ok := t.(*btf.Struct); ok && s.Size <= maxModule {
			f := &fields{name: name, size: int(s.Size), of: map[string]fieldAt{}}
			f.add(s, 0, 0)
			if _, ok := f.of[with]; ok {
				return f, nil
			}
		}
	}
	return nil, fmt.Errorf("the kernel's type `%s` has no field `%s`", name, with)
}

// add adds the members of a structure that lies at an offset.
func (f *fields) add(t btf.Type, at, depth int) {
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
		if _, known := f.of[m.Name]; !known {
			f.of[m.Name] = fieldAt{offset, m.Type}
		}
	}
}

// offset returns where a field is, which has at least so many bytes.
func (f *fields) offset(name string, size int) (int, error) {
	field, ok := f.of[name]
	if !ok || field.at < 0 || field.at+size > f.size {
		return 0, fmt.Errorf("the kernel's type `%s` has no field `%s`", f.name, name)
	}
	return field.at, nil
}
