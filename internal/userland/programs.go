package userland

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/arch"
	"provium/internal/erofs"
)

// programs are the files that every guest of a userland starts, if they are there.
var programs = [...]string{initPath, "/bin/sh"}

// initPath is the init of a userland.
const initPath = "/sbin/init"

// checkPrograms returns an error for a userland whose programs are for another architecture than its guests.
func (t *tree) checkPrograms() error {
	for _, name := range programs {
		machine, ok := t.machineOf(name)
		if !ok || machine == arch.AMD64.ELF || machine == elf.EM_386 { // which x86-64 runs, too
			continue
		}
		what := machine.String()
		if a := arch.OfELF(machine); a != nil {
			what = a.Name
		}
		return fmt.Errorf("its %s is a program for %s, and guests with a userland are x86-64 (amd64)", name, what)
	}
	return nil
}

// machineOf returns the architecture of a program in the tree. ok is false for what is not an ELF file, or cannot be
// read now.
func (t *tree) machineOf(name string) (machine elf.Machine, ok bool) {
	n := t.follow(name)
	if n == nil {
		return 0, false
	}
	var head [20]byte // up to the field with the architecture
	p, ok := t.pieces[n]
	if !ok || n.Size < int64(len(head)) {
		return 0, false
	}
	fd, err := unix.Open(t.sources[p.source].path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, false
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if _, err := f.ReadAt(head[:], p.offset); err != nil || string(head[:4]) != elf.ELFMAG {
		return 0, false
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	return elf.Machine(order.Uint16(head[18:])), true
}

// follow returns what has a path in the tree, with all symlinks followed; nil for nothing.
func (t *tree) follow(name string) *erofs.Node {
	for range maxLinks {
		dir, base := path.Split(name)
		to, err := t.walk(dir, false)
		if err != nil {
			return nil
		}
		n := to.Child(base)
		if n == nil || n.Type() != unix.S_IFLNK {
			return n
		}
		// Not joined: `..` is that of the directory to which the symlinks lead.
		if name = n.Target; !strings.HasPrefix(name, "/") {
			name = dir + name
		}
	}
	return nil
}
