// Package fakesymbols makes memories of kernels that have symbols, for tests of what is found by those.
//
// It knows nothing of what the symbols stand for: tests write that into the memory.
//
// Start reading at Memory.
package fakesymbols

import (
	"encoding/binary"
	"errors"
	"slices"

	"provium/internal/kallsyms"
)

// Piece is the size of the pieces of a memory. The first places are for the table of symbols.
const (
	Piece = 1 << 20
	First = 6 * Piece // the first place that is free
)

const names, tokens, index, offsets, numbers = 1 * Piece, 2 * Piece, 3 * Piece, 4 * Piece, 5 * Piece

// Memory has the content of pieces by the addresses at which they begin. Behind a content are zeros up to the end of
// its piece; the rest is not mapped.
type Memory map[uint64][]byte

var _ kallsyms.Memory = Memory{}

// Symbol returns the address of a part of the table of symbols.
func (m Memory) Symbol(name string) (uint64, bool) {
	at, ok := map[string]uint64{"kallsyms_num_syms": numbers, "kallsyms_names": names, "kallsyms_token_table": tokens,
		"kallsyms_token_index": index, "kallsyms_offsets": offsets, "kallsyms_relative_base": numbers + 8}[name]
	return at, ok
}

// Read reads from one piece.
func (m Memory) Read(p []byte, address uint64) error {
	content, ok := m[address/Piece*Piece]
	if !ok {
		return errors.New("not mapped")
	}
	clear(p)
	if at := address % Piece; at < uint64(len(content)) {
		copy(p, content[at:])
	}
	return nil
}

// Put writes numbers of eight bytes, one behind the other.
func (m Memory) Put(address uint64, values ...uint64) {
	for _, v := range values {
		m.Write(address, binary.LittleEndian.AppendUint64(nil, v))
		address += 8
	}
}

// Write writes bytes. They must lie in one piece.
func (m Memory) Write(address uint64, p []byte) {
	piece, at := address/Piece*Piece, int(address%Piece)
	if need := at + len(p); len(m[piece]) < need {
		m[piece] = append(m[piece], make([]byte, need-len(m[piece]))...)
	}
	copy(m[piece][at:], p)
}

// SetSymbols writes the table of symbols: the address of each by its type and name, as in "Tvprintk".
func (m Memory) SetSymbols(symbols map[string]uint64) {
	for _, at := range []uint64{names, tokens, index, offsets, numbers} {
		m[at] = nil
	}
	for i := range 256 { // each token is the byte itself
		m[index] = binary.LittleEndian.AppendUint16(m[index], uint16(2*i))
		m[tokens] = append(m[tokens], byte(i), 0)
	}
	var sorted []string
	for name := range symbols {
		sorted = append(sorted, name)
	}
	slices.SortFunc(sorted, func(a, b string) int { return int(symbols[a]) - int(symbols[b]) })
	for _, name := range sorted {
		m[names] = append(append(m[names], byte(len(name))), name...)
		m[offsets] = binary.LittleEndian.AppendUint32(m[offsets], uint32(symbols[name]))
	}
	m.Put(numbers, uint64(len(sorted)), 0)
}

// Rename changes the name of a symbol of the table to another one of the same length. It panics without the symbol.
func (m Memory) Rename(name, other string) {
	all := m[names]
	for at := 0; at < len(all); at += 1 + int(all[at]) {
		if entry := all[at+1 : at+1+int(all[at])]; string(entry[1:]) == name && len(other) == len(name) {
			copy(entry[1:], other)
			return
		}
	}
	panic("no symbol " + name)
}

// Unname removes the names of all symbols.
func (m Memory) Unname() { delete(m, names) }

// Damage overwrites a content at any place, as tests of forged memories do.
func (m Memory) Damage(at uint32, patch []byte) {
	if content := m[uint64(at)/Piece*Piece]; len(content) > 0 {
		copy(content[int(at)%Piece%len(content):], patch)
	}
}
