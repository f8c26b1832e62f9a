package recording

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"io"
	"slices"
)

// Symbol is a name of the kernel at the address that it has in the guest.
type Symbol struct {
	Address uint64
	Name    string
}

// WriteSymbols writes an ELF file for gdb that has these symbols and nothing else.
func WriteSymbols(w io.Writer, symbols []Symbol) error {
	const header, section, symbol = 64, 64, 24
	symbols = slices.Clone(symbols)
	slices.SortStableFunc(symbols, func(a, b Symbol) int { return cmp.Compare(a.Address, b.Address) })
	var first, last uint64
	if len(symbols) > 0 {
		first, last = symbols[0].Address, symbols[len(symbols)-1].Address
	}
	var table, names bytes.Buffer
	names.WriteByte(0)
	put := func(b *bytes.Buffer, values ...any) {
		for _, v := range values {
			_ = binary.Write(b, binary.LittleEndian, v) // to memory
		}
	}
	put(&table, uint32(0), uint16(0), uint16(0), uint64(0), uint64(0))
	for i, s := range symbols {
		size := uint64(0)
		if i+1 < len(symbols) {
			size = symbols[i+1].Address - s.Address
		}
		const globalFunction = 1<<4 | 2
		put(&table, uint32(names.Len()), uint16(globalFunction), uint16(1), s.Address, size)
		names.WriteString(s.Name)
		names.WriteByte(0)
	}
	titles := []byte("\x00.text\x00.symtab\x00.strtab\x00.shstrtab\x00")
	at := uint64(header)
	var out, sections bytes.Buffer
	put(&sections, make([]byte, section))
	add := func(name, kind uint32, flags, address, size uint64, link, info uint32, entry uint64) {
		put(&sections, name, kind, flags, address, at, size, link, info, uint64(8), entry)
		const noBits = 8
		if kind != noBits {
			at += size
		}
	}
	add(1, 8, 2|4, first, last-first+1, 0, 0, 0)       // .text: of the memory, and code
	add(7, 2, 0, 0, uint64(table.Len()), 3, 1, symbol) // .symtab
	add(15, 3, 0, 0, uint64(names.Len()), 0, 0, 0)     // .strtab
	add(23, 3, 0, 0, uint64(len(titles)), 0, 0, 0)     // .shstrtab
	out.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	put(&out, uint16(2), uint16(62), uint32(1), uint64(0), uint64(0), at, uint32(0), uint16(header), uint16(0),
		uint16(0),
		uint16(section), uint16(5), uint16(4)) // an x86-64 program with 5 sections
	for _, part := range [][]byte{out.Bytes(), table.Bytes(), names.Bytes(), titles, sections.Bytes()} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}
