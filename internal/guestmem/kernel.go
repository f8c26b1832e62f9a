package guestmem

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// textStart is where an x86-64 kernel's image begins in virtual memory, and the image's
// addresses minus this plus phys_base are physical (__START_KERNEL_map).
const textStart = 0xffffffff80000000

// Bits of an entry of a page table (Intel SDM, volume 3, "4-Level Paging and 5-Level Paging").
const (
	pagePresent = 1 << 0
	pageLarge   = 1 << 7
	pageAddress = 0x000ffffffffff000
)

// maxCached is how many translations a Kernel keeps.
const maxCached = 4096

// ErrNotMapped is returned for virtual addresses that the kernel has not mapped.
var ErrNotMapped = errors.New("not mapped")

// Kernel is a running Linux kernel in a Source. It is not safe for concurrent use.
type Kernel struct {
	Note   *Note
	source Source
	top    int64 // physical address of the topmost page table
	levels int
	cached map[uint64]int64 // physical addresses by page
}

// NewKernel returns the kernel that a note describes. It fails where the note lacks what the
// page tables are found by.
func NewKernel(source Source, note *Note) (*Kernel, error) {
	table, ok := note.Symbol("init_top_pgt")
	if !ok {
		table, ok = note.Symbol("swapper_pg_dir")
	}
	base, okBase := note.Number("phys_base")
	if !ok || !okBase || table < textStart || table%PageSize != 0 {
		return nil, errors.New("the note does not say where the page tables are")
	}
	k := &Kernel{Note: note, source: source, top: int64(table-textStart) + base, levels: 4,
		cached: map[uint64]int64{}}
	if five, _ := note.Number("pgtable_l5_enabled"); five == 1 {
		k.levels = 5
	}
	if k.top < 0 || k.top%PageSize != 0 {
		return nil, errors.New("the page tables are at an impossible address")
	}
	return k, nil
}

// Runs reports whether the page tables at the address in a CPU's CR3 are of this kernel: the
// part of the address space that has the kernel's image is the same in all of them.
func (k *Kernel) Runs(cr3 uint64) bool {
	image := func(table int64) uint64 {
		var raw [8]byte
		if _, err := k.source.ReadAt(raw[:], table+511*8); err != nil {
			return 0
		}
		return binary.LittleEndian.Uint64(raw[:]) & (pageAddress | pagePresent)
	}
	own, at := image(k.top), int64(cr3&pageAddress)
	// Those that programs run with have a page of their own behind the kernel's (KPTI).
	return own&pagePresent != 0 && (image(at) == own || image(at&^PageSize) == own)
}

// PhysBase returns the difference between physical addresses and those of the kernel's image
// in virtual memory, which begins at TextStart.
func (k *Kernel) PhysBase() int64 {
	base, _ := k.Note.Number("phys_base")
	return base
}

// TextStart is the virtual address that PhysBase refers to.
const TextStart = textStart

// Translate returns the physical address of a virtual one.
func (k *Kernel) Translate(address uint64) (int64, error) {
	page := address &^ (PageSize - 1)
	if at, ok := k.cached[page]; ok {
		return at + int64(address-page), nil
	}
	at, err := k.walk(page)
	if err != nil {
		return 0, err
	}
	if len(k.cached) >= maxCached {
		clear(k.cached)
	}
	k.cached[page] = at
	return at + int64(address-page), nil
}

// walk looks a page up in the page tables.
func (k *Kernel) walk(page uint64) (int64, error) {
	shift := 12 + 9*k.levels
	if top := int64(page) >> (shift - 1); top != 0 && top != -1 {
		return 0, fmt.Errorf("%#x: %w: it is not canonical", page, ErrNotMapped)
	}
	table := k.top
	for level := k.levels; level > 0; level-- {
		shift -= 9
		var raw [8]byte
		if _, err := k.source.ReadAt(raw[:], table+int64(page>>shift&511)*8); err != nil {
			return 0, err
		}
		entry := binary.LittleEndian.Uint64(raw[:])
		if entry&pagePresent == 0 {
			return 0, fmt.Errorf("%#x: %w", page, ErrNotMapped)
		}
		table = int64(entry & pageAddress)
		if level > 1 && level < 4 && entry&pageLarge != 0 {
			mask := uint64(1)<<shift - 1
			return table&^int64(mask) + int64(page&mask), nil
		}
	}
	return table, nil
}

// Read reads p from a virtual address of the kernel.
func (k *Kernel) Read(p []byte, address uint64) error {
	for len(p) > 0 {
		at, err := k.Translate(address)
		if err != nil {
			return err
		}
		n := min(uint64(len(p)), PageSize-address%PageSize)
		// Pages that follow each other in both memories are read at once.
		for n < uint64(len(p)) {
			next, err := k.Translate(address + n)
			if err != nil || next != at+int64(n) {
				break
			}
			n = min(uint64(len(p)), n+PageSize)
		}
		if _, err := k.source.ReadAt(p[:n], at); err != nil {
			return err
		}
		p, address = p[n:], address+n
	}
	return nil
}

// Uint64 reads a number.
func (k *Kernel) Uint64(address uint64) (uint64, error) {
	var raw [8]byte
	err := k.Read(raw[:], address)
	return binary.LittleEndian.Uint64(raw[:]), err
}

// Uint32 reads a number.
func (k *Kernel) Uint32(address uint64) (uint32, error) {
	var raw [4]byte
	err := k.Read(raw[:], address)
	return binary.LittleEndian.Uint32(raw[:]), err
}
