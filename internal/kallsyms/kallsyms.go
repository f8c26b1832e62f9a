// Package kallsyms names addresses of a Linux kernel (6.0 or newer) by the table of symbols that
// the kernel has in its own memory.
//
// It does not know symbols of modules, which package kmodules does, and finds nothing in memory by itself: a Memory
// comes from package guestmem. What it reads may be forged: it is checked, and costs a bounded number
// of steps and bytes.
//
// Start reading at Resolve.
package kallsyms

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Memory is the virtual memory of a kernel, with what the kernel says of its variables.
type Memory interface {
	Read(p []byte, address uint64) error
	Symbol(name string) (address uint64, ok bool)
}

// Symbol is an address as people read it.
type Symbol struct {
	Name   string // "" if the address has no name
	Offset uint64 // from the symbol on
	Size   uint64 // up to the next symbol at another address; 0 for the last one
	IsText bool   // the symbol is a function
	Module string // that has it; "" for the kernel itself
}

// String returns the symbol as kernels print it: name+offset/size [module].
func (s Symbol) String() string {
	text := fmt.Sprintf("%s+0x%x/0x%x", s.Name, s.Offset, s.Size)
	if s.Module != "" {
		text += " [" + s.Module + "]"
	}
	return text
}

const (
	maxSymbols   = 1 << 20
	maxNames     = 32 << 20 // bytes of the compressed names
	maxToken     = 64       // bytes
	maxName      = 512      // bytes, as the kernel has it
	maxOffset    = 1 << 20  // from a symbol on; more is something else, such as a module
	maxAddresses = 4096
)

var errDamaged = errors.New("the kernel's table of symbols is damaged")

// Resolve returns the symbols of addresses, in their order.
func Resolve(m Memory, addresses []uint64) ([]Symbol, error) {
	if len(addresses) > maxAddresses {
		return nil, fmt.Errorf("%d addresses, at most %d are possible", len(addresses), maxAddresses)
	}
	at, starts, err := open(m)
	if err != nil {
		return nil, err
	}
	out := make([]Symbol, len(addresses))
	wanted := map[int][]int{} // which of out, by the number of the symbol
	for i, address := range addresses {
		if n, ok := starts.find(address); ok {
			out[i].Offset, out[i].Size = address-starts[n], starts.size(n)
			wanted[n] = append(wanted[n], i)
		}
	}
	if len(wanted) == 0 {
		return out, nil
	}
	tokens, err := readTokens(m, at["token_table"], at["token_index"])
	if err != nil {
		return nil, err
	}
	isWanted := func(symbol int) bool { return len(wanted[symbol]) > 0 }
	return out, eachName(m, at["names"], len(starts), isWanted, func(symbol int, name []byte) {
		text := tokens.expand(name)
		if len(text) < 2 {
			return
		}
		for _, i := range wanted[symbol] {
			out[i].Name, out[i].IsText = text[1:], slices.Contains([]byte("tTwW"), text[0])
		}
	})
}

// Find returns the addresses of symbols by their names; those that the kernel does not have are left out. Of several
// symbols of one name it returns the first one.
func Find(m Memory, names ...string) (map[string]uint64, error) {
	at, starts, err := open(m)
	if err != nil {
		return nil, err
	}
	tokens, err := readTokens(m, at["token_table"], at["token_index"])
	if err != nil {
		return nil, err
	}
	found := map[string]uint64{}
	every := func(int) bool { return len(found) < len(names) }
	return found, eachName(m, at["names"], len(starts), every, func(symbol int, name []byte) {
		text := tokens.expand(name)
		if len(text) < 2 || !slices.Contains(names, text[1:]) {
			return
		}
		if _, known := found[text[1:]]; !known {
			found[text[1:]] = starts[symbol]
		}
	})
}

// Each calls visit with all symbols.
func Each(m Memory, visit func(address uint64, name string)) error {
	at, starts, err := open(m)
	if err != nil {
		return err
	}
	tokens, err := readTokens(m, at["token_table"], at["token_index"])
	if err != nil {
		return err
	}
	every := func(int) bool { return true }
	return eachName(m, at["names"], len(starts), every, func(symbol int, name []byte) {
		if text := tokens.expand(name); len(text) > 1 {
			visit(starts[symbol], text[1:])
		}
	})
}

// open returns where the parts of the table are, and the addresses of all symbols.
func open(m Memory) (at map[string]uint64, all starts, err error) {
	at = map[string]uint64{}
	for _, name := range []string{"num_syms", "names", "token_table", "token_index", "offsets", "relative_base"} {
		var ok bool
		if at[name], ok = m.Symbol("kallsyms_" + name); !ok {
			return nil, nil, errors.New("the kernel does not say where its symbols are; it is older than 6.0")
		}
	}
	all, err = readStarts(m, at)
	return at, all, err
}

// starts are the addresses of symbols, in the order of their numbers.
type starts []uint64

// readStarts reads the addresses of all symbols.
func readStarts(m Memory, at map[string]uint64) (starts, error) {
	var raw [8]byte
	if err := m.Read(raw[:4], at["num_syms"]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(raw[:4])
	if err := m.Read(raw[:], at["relative_base"]); err != nil {
		return nil, err
	}
	base := binary.LittleEndian.Uint64(raw[:])
	if n == 0 || n > maxSymbols {
		return nil, fmt.Errorf("%w: %d symbols", errDamaged, n)
	}
	offsets := make([]byte, 4*n)
	if err := m.Read(offsets, at["offsets"]); err != nil {
		return nil, err
	}
	// Kernels before 6.15 have the complement of the offset from the base there, and of what
	// each CPU has for itself the address.
	negative := 0
	for i := range n {
		if int32(binary.LittleEndian.Uint32(offsets[4*i:])) < 0 {
			negative++
		}
	}
	old := negative > int(n)/2
	out := make(starts, n)
	for i := range out {
		offset := binary.LittleEndian.Uint32(offsets[4*i:])
		switch {
		case !old:
			out[i] = base + uint64(offset)
		case int32(offset) < 0:
			out[i] = base - 1 - uint64(int64(int32(offset)))
		default:
			out[i] = uint64(offset)
		}
	}
	if !slices.IsSorted(out) {
		return nil, fmt.Errorf("%w: it is not in order", errDamaged)
	}
	return out, nil
}

// find returns the first symbol at the last address that is not above.
func (s starts) find(address uint64) (int, bool) {
	i, exact := slices.BinarySearch(s, address)
	if !exact {
		if i == 0 {
			return 0, false
		}
		i, _ = slices.BinarySearch(s, s[i-1])
	}
	return i, address-s[i] <= maxOffset
}

// size returns how far it is from a symbol to the next one at another address.
func (s starts) size(n int) uint64 {
	next, _ := slices.BinarySearch(s, s[n]+1)
	if next == len(s) {
		return 0
	}
	return s[next] - s[n]
}

// tokens are what the bytes of compressed names stand for.
type tokens [256]string

func readTokens(m Memory, table, index uint64) (t tokens, err error) {
	var at [512]byte
	if err := m.Read(at[:], index); err != nil {
		return t, err
	}
	last := uint64(binary.LittleEndian.Uint16(at[510:]))
	text := make([]byte, last+maxToken)
	if err := m.Read(text, table); err != nil {
		return t, err
	}
	for i := range t {
		from := uint64(binary.LittleEndian.Uint16(at[2*i:]))
		if from > last {
			return t, fmt.Errorf("%w: token %d", errDamaged, i)
		}
		token := text[from:][:maxToken]
		end := slices.Index(token, 0)
		if end < 0 {
			return t, fmt.Errorf("%w: token %d", errDamaged, i)
		}
		t[i] = string(token[:end])
	}
	return t, nil
}

// expand returns the text of a compressed name, which begins with the symbol's type.
func (t *tokens) expand(name []byte) string {
	var out []byte
	for _, b := range name {
		if out = append(out, t[b]...); len(out) > maxName {
			return ""
		}
	}
	return string(out)
}

// eachName calls visit with the compressed names of those symbols that are wanted.
func eachName(m Memory, at uint64, symbols int, wanted func(symbol int) bool, visit func(symbol int, name []byte),
) error {
	const piece = 64 << 10
	var buf []byte
	done := 0
	for symbol := range symbols {
		if len(buf) < 2*maxName && done < maxNames {
			// What follows the names is the kernel's, too, but perhaps not all of a piece.
			more := make([]byte, piece)
			if err := m.Read(more, at+uint64(done)); err != nil {
				more = more[:piece/16]
				if err := m.Read(more, at+uint64(done)); err != nil && len(buf) == 0 {
					return err
				}
			}
			buf = append(buf, more...)
			done += len(more)
		}
		if len(buf) < 2 {
			return errDamaged
		}
		length, head := int(buf[0]), 1
		if length&0x80 != 0 {
			length, head = length&0x7f|int(buf[1])<<7, 2
		}
		if length == 0 || length > maxName || head+length > len(buf) {
			return fmt.Errorf("%w: a name of %d bytes", errDamaged, length)
		}
		if wanted(symbol) {
			visit(symbol, buf[head:head+length])
		}
		buf = buf[head+length:]
	}
	return nil
}
