// Package kmodules names addresses in the modules of a Linux kernel by the tables of symbols that the modules have in
// its memory.
//
// Where the fields of those structures lie is known from the kernel's description of its types, so that it works
// for any kernel that has one. What is read may be forged: it is checked, and costs a
// bounded number of steps and bytes.
//
// Start reading at Resolve.
package kmodules

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"provium/internal/kallsyms"
	"provium/internal/kerneltypes"
)

const (
	maxModules = 1024
	maxSymbols = 1 << 18 // of all modules that are looked at
	maxNames   = 16      // that are looked at for an address
	maxName    = 512
	symbolSize = 24 // of an Elf64_Sym
)

var errDamaged = errors.New("the kernel's list of modules is damaged")

// Resolve returns the symbols of addresses, in their order. Those that no module has are empty.
func Resolve(m kallsyms.Memory, addresses []uint64) ([]kallsyms.Symbol, error) {
	out := make([]kallsyms.Symbol, len(addresses))
	if len(addresses) == 0 {
		return out, nil
	}
	const head = "modules"
	at, err := kallsyms.Find(m, head, kerneltypes.Start, kerneltypes.Stop)
	if err != nil {
		return nil, err
	}
	l, err := readLayout(m, at)
	if err != nil {
		return nil, err
	}
	if at[head] == 0 {
		return nil, errors.New("the kernel does not say where its modules are")
	}
	left := maxSymbols
	return out, l.each(m, at[head], func(module *module) error {
		for i, address := range addresses {
			if out[i].Name != "" {
				continue
			}
			if r, ok := module.find(address); ok {
				if out[i], err = module.symbol(m, address, r, &left); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// module is a module in memory.
type module struct {
	*layout
	raw     []byte  // the structure
	symbols []entry // in the order of their values; nil before they are read
	strings uint64  // address of their names
}

// entry is a symbol.
type entry struct {
	value uint64
	name  uint32 // where it is in the names
}

// each calls visit with the modules of the list.
func (l *layout) each(m kallsyms.Memory, head uint64, visit func(*module) error) error {
	var raw [8]byte
	at := head
	for range maxModules {
		if err := m.Read(raw[:], at); err != nil {
			return err
		}
		if at = binary.LittleEndian.Uint64(raw[:]); at == head {
			return nil
		}
		mod := &module{layout: l, raw: make([]byte, l.size)}
		if err := m.Read(mod.raw, at-uint64(l.list)); err != nil {
			return err
		}
		if err := visit(mod); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: it does not end", errDamaged)
}

func (mod *module) uint64(at int) uint64 { return binary.LittleEndian.Uint64(mod.raw[at:]) }

// region is where code of a module lies.
type region struct{ start, end uint64 }

func (r region) has(address uint64) bool { return address >= r.start && address < r.end }

// find returns the region that an address is in.
func (mod *module) find(address uint64) (r region, ok bool) {
	for _, at := range mod.regions {
		r.start = mod.uint64(at.base)
		r.end = r.start + uint64(binary.LittleEndian.Uint32(mod.raw[at.size:]))
		if r.has(address) {
			return r, true
		}
	}
	return region{}, false
}

func (mod *module) moduleName() string {
	name, _, _ := bytes.Cut(mod.raw[mod.name:mod.name+mod.nameSize], []byte{0})
	return string(name)
}

// symbol returns the last symbol of a region that does not begin behind an address. left is how many symbols may be
// read yet.
func (mod *module) symbol(m kallsyms.Memory, address uint64, r region, left *int) (s kallsyms.Symbol, err error) {
	if mod.symbols == nil {
		if err := mod.readSymbols(m, left); err != nil {
			return s, err
		}
	}
	next, _ := slices.BinarySearchFunc(mod.symbols, address, func(e entry, address uint64) int {
		if e.value > address {
			return 1
		}
		return -1
	})
	end := r.end
	for i := next; i < min(len(mod.symbols), next+maxNames) && r.has(mod.symbols[i].value); i++ {
		if name, err := mod.symbolName(m, mod.symbols[i].name); err != nil {
			return s, err
		} else if name != "" {
			end = mod.symbols[i].value
			break
		}
	}
	for i := next - 1; i >= max(0, next-maxNames) && r.has(mod.symbols[i].value); i-- {
		name, err := mod.symbolName(m, mod.symbols[i].name)
		if err != nil {
			return s, err
		}
		if name != "" {
			start := mod.symbols[i].value
			return kallsyms.Symbol{Name: name, Offset: address - start, Size: end - start, IsText: true,
				Module: mod.moduleName()}, nil
		}
	}
	return s, nil
}

// readSymbols reads the table of symbols.
func (mod *module) readSymbols(m kallsyms.Memory, left *int) error {
	mod.symbols = []entry{}
	at := mod.uint64(mod.kallsyms)
	if at == 0 {
		return nil
	}
	table := make([]byte, mod.tableSize)
	if err := m.Read(table, at); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(table[mod.count:])
	if int64(n) > int64(*left) {
		return fmt.Errorf("%w: a module has %d symbols", errDamaged, n)
	}
	*left -= int(n)
	mod.strings = binary.LittleEndian.Uint64(table[mod.strtab:])
	raw := make([]byte, symbolSize*int(n))
	if err := m.Read(raw, binary.LittleEndian.Uint64(table[mod.symtab:])); err != nil {
		return err
	}
	for ; len(raw) > 0; raw = raw[symbolSize:] {
		if section := binary.LittleEndian.Uint16(raw[6:]); section != 0 {
			mod.symbols = append(mod.symbols,
				entry{binary.LittleEndian.Uint64(raw[8:]), binary.LittleEndian.Uint32(raw)})
		}
	}
	slices.SortStableFunc(mod.symbols, func(a, b entry) int { return cmp.Compare(a.value, b.value) })
	return nil
}

// symbolName reads the name at an offset of the names. It returns "" for names that only tools use.
func (mod *module) symbolName(m kallsyms.Memory, offset uint32) (string, error) {
	var text []byte
	for at := mod.strings + uint64(offset); len(text) < maxName; {
		var piece [64]byte
		n := 64 - at%64 // the page behind may not be there
		if err := m.Read(piece[:n], at); err != nil {
			return "", err
		}
		if end := bytes.IndexByte(piece[:n], 0); end >= 0 {
			name := string(append(text, piece[:end]...))
			if strings.HasPrefix(name, ".L") || strings.HasPrefix(name, "$") {
				name = ""
			}
			return name, nil
		}
		text, at = append(text, piece[:n]...), at+n
	}
	return "", fmt.Errorf("%w: a name does not end", errDamaged)
}
