package kmodules

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"

	"provium/internal/kallsyms"
	"provium/internal/kerneltypes"
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

// readLayout reads the description of a kernel's types, which is at Start and Stop of kerneltypes.
func readLayout(m kallsyms.Memory, at map[string]uint64) (l *layout, err error) {
	defer func() {
		if p := recover(); p != nil { // the description is the guest's
			l, err = nil, fmt.Errorf("the kernel's description of its types cannot be read: %v", p)
		}
	}()
	types, err := kerneltypes.Read(m, at)
	if err != nil {
		return nil, err
	}
	mod, err := types.Struct("module", "kallsyms")
	if err != nil {
		return nil, err
	}
	table, err := types.Struct("mod_kallsyms", "symtab")
	if err != nil {
		return nil, err
	}
	l = &layout{size: mod.Size, tableSize: table.Size}
	for _, f := range []struct {
		of   *kerneltypes.Fields
		name string
		to   *int
		size int
	}{
		{mod, "list", &l.list, 8}, {mod, "name", &l.name, 8}, {mod, "kallsyms", &l.kallsyms, 8},
		{table, "symtab", &l.symtab, 8}, {table, "num_symtab", &l.count, 4}, {table, "strtab", &l.strtab, 8},
	} {
		if *f.to, err = f.of.Offset(f.name, f.size); err != nil {
			return nil, err
		}
	}
	if name, ok := btf.UnderlyingType(mod.Of["name"].Type).(*btf.Array); ok {
		l.nameSize = int(min(name.Nelems, maxName))
	}
	if l.nameSize == 0 || l.name+l.nameSize > l.size {
		return nil, errors.New("the kernel's modules have no names")
	}
	l.regions, err = regionsOf(mod)
	return l, err
}

// regionsOf finds the parts of a module: an array since Linux 6.4, and two structures before.
func regionsOf(mod *kerneltypes.Fields) (all []regionAt, err error) {
	add := func(at int, t btf.Type) error {
		part, ok := btf.UnderlyingType(t).(*btf.Struct)
		if !ok {
			return errors.New("the kernel's modules have no parts")
		}
		f := kerneltypes.FieldsOf(part, mod.Size-at)
		base, err := f.Offset("base", 8)
		if err != nil {
			return err
		}
		size, err := f.Offset("size", 4)
		all = append(all, regionAt{at + base, at + size})
		return err
	}
	if mem, ok := mod.Of["mem"]; ok {
		array, ok := btf.UnderlyingType(mem.Type).(*btf.Array)
		if !ok {
			return nil, errors.New("the kernel's modules have no parts")
		}
		size, err := btf.Sizeof(array.Type)
		if err != nil {
			return nil, err
		}
		for i := range int(min(array.Nelems, maxRegions)) {
			if err := add(mem.At+i*size, array.Type); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	for _, name := range []string{"core_layout", "init_layout"} {
		if part, ok := mod.Of[name]; ok {
			if err := add(part.At, part.Type); err != nil {
				return nil, err
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the kernel's modules have no parts")
	}
	return all, nil
}
