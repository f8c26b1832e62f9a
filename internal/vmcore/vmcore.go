// Package vmcore writes the memory of an x86-64 Linux guest as an ELF core that crash and drgn
// read: the registers of the CPUs, the kernel's note about itself, and all memory.
//
// It looks at no guest by itself, and compresses nothing.
//
// Start reading at Write.
package vmcore

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"

	"provium/internal/guestmem"
)

// CPU are the registers of a virtual CPU by name, as QEMU names them.
type CPU struct {
	Number    int
	PID       uint32 // of the task that runs on it, by which debuggers choose the registers; 0 for an idle one
	Registers map[string]uint64
}

// Core is what is written.
type Core struct {
	CPUs   []CPU
	Note   []byte // the kernel's, see guestmem.Note; empty without one
	Layout guestmem.Layout
	// PhysBase is that of the kernel; see guestmem.Kernel.
	PhysBase int64
	Memory   io.ReaderAt // by physical addresses
}

const (
	headerSize  = 64
	segmentSize = 56
	maxCPUs     = 1024
	chunk       = 1 << 20
)

// registers are the names in the order of struct user_regs_struct.
var registers = [...]string{"R15", "R14", "R13", "R12", "RBP", "RBX", "R11", "R10", "R9", "R8", "RAX", "RCX", "RDX",
	"RSI", "RDI", "", "RIP", "CS", "RFL", "RSP", "SS", "FS.base", "GS.base", "DS", "ES", "FS", "GS"}

// status returns the content of an NT_PRSTATUS note.
func (c *CPU) status() []byte {
	const size, pid, regs = 336, 32, 112
	p := make([]byte, size)
	binary.LittleEndian.PutUint32(p[pid:], c.PID)
	for i, name := range registers {
		binary.LittleEndian.PutUint64(p[regs+8*i:], c.Registers[name])
	}
	return p
}

// appendNote appends a note of an ELF file.
func appendNote(to []byte, name string, kind uint32, content []byte) []byte {
	pad := func() {
		for len(to)%4 != 0 {
			to = append(to, 0)
		}
	}
	for _, n := range []uint32{uint32(len(name) + 1), uint32(len(content)), kind} {
		to = binary.LittleEndian.AppendUint32(to, n)
	}
	to = append(append(to, name...), 0)
	pad()
	to = append(to, content...)
	pad()
	return to
}

// segments returns the program headers for the memory, whose content begins at offset.
func (c *Core) segments(offset uint64) (out []elf.Prog64) {
	low := min(c.Layout.Low, c.Layout.Size)
	for _, r := range []struct{ at, size int64 }{{0, low}, {guestmem.HighAt, c.Layout.Size - low}} {
		if r.size == 0 {
			continue
		}
		p := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W | elf.PF_X), Off: offset,
			Paddr: uint64(r.at), Filesz: uint64(r.size), Memsz: uint64(r.size)}
		if r.at == 0 { // where the kernel's image is, which debuggers read first
			p.Vaddr = guestmem.TextStart - uint64(c.PhysBase)
		}
		out = append(out, p)
		offset += uint64(r.size)
	}
	return out
}

// Write writes the core. The guest should stand still. Parts of the memory that cannot be read
// are zero.
func (c *Core) Write(ctx context.Context, w io.Writer) error {
	var notes []byte
	for i := range c.CPUs[:min(len(c.CPUs), maxCPUs)] {
		notes = appendNote(notes, "CORE", uint32(elf.NT_PRSTATUS), c.CPUs[i].status())
	}
	if len(c.Note) > 0 {
		notes = appendNote(notes, "VMCOREINFO", 0, c.Note)
	}
	loads := len(c.segments(0))
	notesAt := uint64(headerSize + segmentSize*(1+loads))
	memoryAt := (notesAt + uint64(len(notes)) + guestmem.PageSize - 1) &^ (guestmem.PageSize - 1)
	header := elf.Header64{Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Phoff: headerSize, Ehsize: headerSize, Phentsize: segmentSize, Phnum: uint16(1 + loads)}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	var head bytes.Buffer
	all := []any{header, elf.Prog64{Type: uint32(elf.PT_NOTE), Off: notesAt, Filesz: uint64(len(notes))}}
	for _, s := range c.segments(memoryAt) {
		all = append(all, s)
	}
	for _, part := range all {
		if err := binary.Write(&head, binary.LittleEndian, part); err != nil {
			return fmt.Errorf("core: %w", err)
		}
	}
	head.Write(notes)
	head.Write(make([]byte, memoryAt-uint64(head.Len())))
	if _, err := w.Write(head.Bytes()); err != nil {
		return fmt.Errorf("core: %w", err)
	}
	return c.writeMemory(ctx, w)
}

// writeMemory writes the content of all segments.
func (c *Core) writeMemory(ctx context.Context, w io.Writer) error {
	buf := make([]byte, chunk)
	for _, s := range c.segments(0) {
		for done := uint64(0); done < s.Filesz; {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			p := buf[:min(chunk, s.Filesz-done)]
			if n, err := c.Memory.ReadAt(p, int64(s.Paddr+done)); err != nil {
				clear(p[n:])
			}
			if _, err := w.Write(p); err != nil {
				return fmt.Errorf("core: %w", err)
			}
			done += uint64(len(p))
		}
	}
	return nil
}
