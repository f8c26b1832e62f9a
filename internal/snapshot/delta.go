package snapshot

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
)

// A delta is a snapshot of a machine that was itself restored: its file holds only
// the memory that is no longer what it was in the parent's. The parent is always a
// complete one, also where the machine was restored from a delta, so that there are
// no chains.

// Parent names the complete snapshot that a delta belongs to.
type Parent struct {
	Path string `json:"path"`
	ID   FileID `json:"id"` // a file that is another one by now is no parent
}

// Range is a part of the memory, whole pages, in bytes.
type Range struct{ At, Length int64 }

// maxRanges bounds what a delta may list.
const maxRanges = 1 << 20

// SetParent makes the snapshot a delta: changed are the parts of the memory that it
// holds, in order. It must come before Commit.
func (w *Writer) SetParent(p Parent, changed []Range) error {
	if len(changed) > maxRanges {
		return fmt.Errorf("snapshot delta: %d changed parts, at most %d are possible", len(changed), maxRanges)
	}
	text := make([]byte, 0, 16*len(changed))
	for _, r := range changed {
		text = binary.LittleEndian.AppendUint64(text, uint64(r.At))
		text = binary.LittleEndian.AppendUint64(text, uint64(r.Length))
	}
	if err := w.PutSection(sectionChanged, text); err != nil {
		return err
	}
	w.parent = &p
	return nil
}

// FillRAM copies from the parent's memory what was not changed: the snapshot becomes
// a complete one.
func (w *Writer) FillRAM(from *os.File, changed []Range) error {
	next := int64(0)
	for _, r := range append(slices.Clone(changed), Range{At: w.ram}) {
		err := dataExtents(from, next, r.At, func(at, end int64) error {
			at, end = max(at/PageSize*PageSize, next), min((end+PageSize-1)/PageSize*PageSize, r.At)
			for at < end {
				p := w.buf[:min(int64(len(w.buf)), end-at)]
				if _, err := from.ReadAt(p, at); err != nil {
					return err
				}
				if err := w.PutRAM(at, p); err != nil {
					return err
				}
				at += int64(len(p))
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("snapshot RAM copy: %w", err)
		}
		next = r.At + r.Length
	}
	return nil
}

// AppendRange adds a part behind those that are there, joining what touches.
func AppendRange(all []Range, at, length int64) []Range {
	if n := len(all); n > 0 && all[n-1].At+all[n-1].Length == at {
		all[n-1].Length += length
		return all
	}
	return append(all, Range{at, length})
}

// Changed lists the parts of the memory that a delta holds, in order; those of a
// complete snapshot, which holds all of it, are none.
func (r *Reader) Changed() ([]Range, error) {
	if r.manifest.Parent == nil {
		return nil, nil
	}
	text, err := r.section(sectionChanged)
	var out []Range
	if err == nil {
		out, err = decodeRanges(text, r.manifest.RAM)
	}
	if err != nil {
		return nil, &Error{r.path, err}
	}
	return out, nil
}

func decodeRanges(text []byte, ram int64) ([]Range, error) {
	if len(text)%16 != 0 || len(text)/16 > maxRanges {
		return nil, damaged("%d bytes of changed parts", len(text))
	}
	out := make([]Range, 0, len(text)/16)
	next := int64(0)
	for ; len(text) > 0; text = text[16:] {
		r := Range{int64(binary.LittleEndian.Uint64(text)), int64(binary.LittleEndian.Uint64(text[8:]))}
		if r.At < next || r.At%PageSize != 0 || r.Length <= 0 || r.Length%PageSize != 0 || r.At > ram || r.Length > ram-r.At {
			return nil, damaged("a changed part of %d bytes at %d", r.Length, r.At)
		}
		out = append(out, r)
		next = r.At + r.Length
	}
	return out, nil
}
