package kernelsource

import (
	"context"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"
)

const (
	maxUnits = 1 << 17
	maxRows  = 1 << 22 // of a unit's table of lines
	maxPath  = 256     // bytes
)

// lines are the lines of source of addresses.
type lines struct {
	at   map[uint64]string // "file:line"; none of those that are not known
	root string            // of the source, if it is known
}

// lines finds the lines of addresses. Paths begin behind root, or the object's own.
func (o *object) lines(ctx context.Context, addresses []uint64, root string) (*lines, error) {
	if o.file.Section(".debug_info") == nil || o.file.Section(".debug_line") == nil {
		return nil, errNoLines
	}
	d, err := o.dwarf()
	if err != nil {
		return nil, err
	}
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	out := &lines{at: map[uint64]string{}, root: root}
	r := d.Reader()
	var names []string        // of units, with whole paths
	tops := map[string]bool{} // directories that those of others begin with
	dirs := map[uint64]string{}
	for _, unit := range o.units() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		r.Seek(unit)
		e, err := r.Next()
		if err != nil || e == nil || e.Tag != dwarf.TagCompileUnit {
			continue // one that is damaged costs its own lines
		}
		if name, _ := e.Val(dwarf.AttrName).(string); path.IsAbs(name) {
			names = append(names, name)
		} else if top, _, ok := strings.Cut(name, "/"); ok && top != "." && top != ".." {
			tops[top] = true
		}
		inside := within(d, e, addresses)
		if len(inside) == 0 {
			continue
		}
		table, err := d.LineReader(e)
		if err != nil || table == nil {
			continue
		}
		dir, _ := e.Val(dwarf.AttrCompDir).(string)
		for address, line := range linesIn(table, inside) {
			out.at[address], dirs[address] = line, dir
		}
	}
	if len(out.at) == 0 {
		return nil, errors.New("its debug information does not have the functions")
	}
	if out.root == "" && o.file.Type != elf.ET_REL {
		out.root = above(names, tops)
	}
	for address, place := range out.at {
		out.at[address] = readable(place, dirs[address], out.root)
	}
	return out, nil
}

// linesIn returns the lines of sorted addresses by the table of a unit. Its sequences, one for each
// section of code, are in any order, which LineReader.SeekPC does not expect.
func linesIn(table *dwarf.LineReader, addresses []uint64) map[uint64]string {
	found := map[uint64]string{}
	var row, next dwarf.LineEntry
	row.EndSequence = true
	for range maxRows {
		if err := table.Next(&next); err != nil {
			break // the end, or what is damaged
		}
		if !row.EndSequence && row.File != nil && row.Line > 0 {
			n, _ := slices.BinarySearch(addresses, row.Address)
			for ; n < len(addresses) && addresses[n] < next.Address; n++ {
				found[addresses[n]] = fmt.Sprintf("%s:%d", path.Clean(row.File.Name), row.Line)
			}
		}
		row = next
	}
	return found
}

// units returns where in the debug information the entries of units begin.
func (o *object) units() (offsets []dwarf.Offset) {
	for at := uint64(0); at+12 <= uint64(len(o.info)) && len(offsets) < maxUnits; {
		length := uint64(binary.LittleEndian.Uint32(o.info[at:]))
		if length >= 0xfffffff0 {
			break // 64-bit DWARF, which no kernel has
		}
		header := uint64(11)
		if binary.LittleEndian.Uint16(o.info[at+4:]) >= 5 {
			header = 12
		}
		offsets = append(offsets, dwarf.Offset(at+header))
		at += 4 + length
	}
	return offsets
}

// within returns those of sorted addresses that a unit has code at, sorted.
func within(d *dwarf.Data, unit *dwarf.Entry, addresses []uint64) (inside []uint64) {
	ranges, err := d.Ranges(unit)
	if err != nil {
		return nil
	}
	for _, r := range ranges {
		from, _ := slices.BinarySearch(addresses, r[0])
		for ; from < len(addresses) && addresses[from] < r[1]; from++ {
			inside = append(inside, addresses[from])
		}
	}
	slices.Sort(inside) // ranges are in any order
	return slices.Compact(inside)
}

// above returns the directory that has all files, and those in tops; "" if only the root of the
// file system has them.
func above(files []string, tops map[string]bool) string {
	if len(files) == 0 {
		return ""
	}
	dir := path.Dir(path.Clean(files[0]))
	for _, f := range files[1:] {
		for f = path.Clean(f); dir != "/" && !strings.HasPrefix(f, dir+"/"); {
			dir = path.Dir(dir)
		}
	}
	parts := strings.Split(dir, "/")
	if n := slices.IndexFunc(parts, func(part string) bool { return tops[part] }); n > 0 {
		dir = strings.Join(parts[:n], "/")
	}
	if dir == "/" {
		return ""
	}
	return dir
}

// readable returns a place as people read it: relative to the source of the kernel, or to where
// it was built. It returns "" for what no file is called.
func readable(place, built, root string) string {
	for _, dir := range []string{root, path.Clean(built)} {
		if short, ok := strings.CutPrefix(place, dir+"/"); ok && dir != "" {
			place = short
			break
		}
	}
	if len(place) > maxPath || strings.ContainsFunc(place, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	return place
}
