package kernelsource

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	maxFile     = 8 << 30
	maxModule   = 512 << 20 // bytes of a file whose addresses are still to be relocated
	maxUnpacked = 1 << 30   // bytes of compressed sections
	maxSections = 1 << 16
	maxSymbols  = 4 << 20
	maxName     = 512 // bytes
	maxTwins    = 64  // functions of one name and length
	// padding is how much longer a function may seem than it is, by what fills the gap before
	// the next one.
	padding = 64
	// sectionStep is between the addresses that are given to the sections of a module.
	sectionStep = 1 << 32
)

var (
	errNoObject = errors.New("it is no ELF file of a 64-bit, little-endian kernel")
	errNoLines  = errors.New("it has no debug information (DWARF)")

	errNoSymbols = errors.New("it has no table of symbols")
)

// object is an ELF file: a vmlinux, or a module.
type object struct {
	data []byte // of the file
	file *elf.File
	base []uint64 // by section: added to addresses in it, which all begin at 0 in a module
	info []byte   // the section .debug_info, once dwarf has been called
}

// openObject reads the headers of a file, which must not change while the object is used.
func openObject(data []byte) (*object, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoObject, err)
	}
	if f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB || len(f.Sections) > maxSections {
		return nil, errNoObject
	}
	o := &object{data: data, file: f, base: make([]uint64, len(f.Sections))}
	if f.Type != elf.ET_REL {
		return o, nil
	}
	if len(data) > maxModule {
		return nil, fmt.Errorf("it has %d bytes, at most %d are read of a module", len(data), maxModule)
	}
	for i, s := range f.Sections {
		if s.Flags&elf.SHF_EXECINSTR != 0 {
			o.base[i] = uint64(i+1) * sectionStep
		}
	}
	return o, nil
}

// section returns the bytes of a section as they are in the file.
func (o *object) section(s *elf.Section) ([]byte, error) {
	end := s.Offset + s.FileSize
	if s.Type == elf.SHT_NOBITS || end < s.Offset || end > uint64(len(o.data)) {
		return nil, fmt.Errorf("its section %.40q is damaged", s.Name)
	}
	return o.data[s.Offset:end], nil
}

// symbolSize is the size of an entry of a table of symbols.
const symbolSize = 24

// symbols calls visit for each function of the table of symbols.
func (o *object) symbols(visit func(name []byte, address, size uint64)) error {
	table := o.file.SectionByType(elf.SHT_SYMTAB)
	if table == nil || int(table.Link) >= len(o.file.Sections) {
		return errNoSymbols
	}
	raw, err := o.section(table)
	if err != nil {
		return err
	}
	names, err := o.section(o.file.Sections[table.Link])
	if err != nil {
		return err
	}
	for n := 0; n < maxSymbols && len(raw) >= symbolSize; n, raw = n+1, raw[symbolSize:] {
		at := binary.LittleEndian.Uint32(raw)
		kind, section := elf.SymType(raw[4]&0xf), int(binary.LittleEndian.Uint16(raw[6:]))
		if kind > elf.STT_FUNC || section == 0 || section >= len(o.file.Sections) || int64(at) >= int64(len(names)) ||
			o.file.Sections[section].Flags&elf.SHF_EXECINSTR == 0 {
			continue
		}
		name := names[at:]
		name = name[:min(len(name), maxName)]
		if end := bytes.IndexByte(name, 0); end > 0 {
			visit(name[:end], binary.LittleEndian.Uint64(raw[8:])+o.base[section],
				binary.LittleEndian.Uint64(raw[16:]))
		}
	}
	return nil
}

// resolve returns the addresses that each frame may stand for: those of functions of its name that
// are as long as it says. It returns none for what is not there.
func (o *object) resolve(frames []frame) [][]uint64 {
	type function struct{ address, size uint64 }
	wanted := map[string][]function{}
	for _, f := range frames {
		wanted[f.name] = nil
	}
	var starts []uint64
	err := o.symbols(func(name []byte, address, size uint64) {
		starts = append(starts, address)
		if all, ok := wanted[string(name)]; ok && len(all) < maxTwins {
			wanted[string(name)] = append(all, function{address, size})
		}
	})
	out := make([][]uint64, len(frames))
	if err != nil {
		return out
	}
	slices.Sort(starts)
	for i, f := range frames {
		for _, fn := range wanted[f.name] {
			next, _ := slices.BinarySearch(starts, fn.address+1)
			isLong := next < len(starts) && starts[next]-fn.address == f.size
			if fn.size > 0 && f.size >= fn.size && f.size-fn.size < padding {
				isLong = true
			}
			if !isLong {
				continue
			}
			address := fn.address + f.offset
			if f.isReturn {
				address--
			}
			out[i] = append(out[i], address)
		}
	}
	return out
}

// dwarf returns the debug information, with the addresses that resolve returns.
func (o *object) dwarf() (*dwarf.Data, error) {
	var parts [len(debugSections)][]byte
	if o.file.Type == elf.ET_REL {
		d, err := o.relocated()
		if err != nil {
			return nil, fmt.Errorf("its debug information is damaged: %w", err)
		}
		return d, nil
	}
	unpacked := uint64(0)
	for i, name := range debugSections {
		s := o.file.Section("." + name)
		if s == nil {
			continue
		}
		var err error
		if s.Flags&elf.SHF_COMPRESSED != 0 {
			if unpacked += s.Size; s.Size > maxUnpacked || unpacked > maxUnpacked {
				return nil, fmt.Errorf("its debug information has more than %d bytes", maxUnpacked)
			}
			parts[i], err = s.Data()
		} else {
			parts[i], err = o.section(s)
		}
		if err != nil {
			return nil, err
		}
	}
	o.info = parts[1]
	d, err := dwarf.New(parts[0], nil, nil, o.info, parts[2], nil, parts[3], parts[4])
	if err != nil {
		return nil, fmt.Errorf("its debug information is damaged: %w", err)
	}
	for i := 5; i < len(parts); i++ {
		if parts[i] == nil {
			continue
		}
		if err := d.AddSection("."+debugSections[i], parts[i]); err != nil {
			return nil, fmt.Errorf("its debug information is damaged: %w", err)
		}
	}
	return d, nil
}

// debugSections are what is read of DWARF: the first five as dwarf.New has them.
var debugSections = [...]string{
	"debug_abbrev", "debug_info", "debug_line", "debug_ranges", "debug_str",
	"debug_addr", "debug_line_str", "debug_rnglists", "debug_str_offsets",
}

// relocated returns the debug information of a module. Package elf relocates it by the table of
// symbols: a copy of the file has other addresses there for each section of code.
func (o *object) relocated() (*dwarf.Data, error) {
	unpacked := uint64(0)
	for _, s := range o.file.Sections {
		if strings.HasPrefix(s.Name, ".debug") && s.Flags&elf.SHF_COMPRESSED != 0 {
			if unpacked += s.Size; s.Size > maxUnpacked || unpacked > maxUnpacked {
				return nil, fmt.Errorf("it has more than %d bytes", maxUnpacked)
			}
		}
	}
	table := o.file.SectionByType(elf.SHT_SYMTAB)
	if table == nil {
		return nil, errNoSymbols
	}
	var err error
	if o.info, err = o.file.Section(".debug_info").Data(); err != nil {
		return nil, err
	}
	moved := slices.Clone(o.data)
	end := min(table.Offset+table.FileSize, uint64(len(moved)))
	for at := table.Offset; at+symbolSize <= end && at < end; at += symbolSize {
		section := int(binary.LittleEndian.Uint16(moved[at+6:]))
		if section < len(o.base) {
			value := moved[at+8:]
			binary.LittleEndian.PutUint64(value, binary.LittleEndian.Uint64(value)+o.base[section])
		}
	}
	f, err := elf.NewFile(bytes.NewReader(moved))
	if err != nil {
		return nil, err
	}
	return f.DWARF()
}
