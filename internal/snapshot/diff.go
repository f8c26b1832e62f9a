package snapshot

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
)

// A diff is a snapshot of a machine which was itself restored: its file holds only
// the memory that differs from the base's. The base is always a full snapshot, also
// where the machine was restored from a diff, so there are no chains.

// Base names the full snapshot that a diff lies over.
type Base struct {
	Path string `json:"path"`
	ID   FileID `json:"id"` // a file with another identity is not the base
}

// Range is a part of the memory, whole pages, in bytes.
type Range struct{ At, Length int64 }

// maxRanges bounds the parts that a diff may list.
const maxRanges = 1 << 20

// SetBase makes the snapshot a diff over b: changed are the parts of the memory that
// it holds, in order. It must be called before Commit.
func (w *Writer) SetBase(b Base, changed []Range) error {
	if len(changed) > maxRanges {
		return fmt.Errorf("snapshot diff: %d changed parts, at most %d are possible", len(changed), maxRanges)
	}
	text := make([]byte, 0, 16*len(changed))
	for _, r := range changed {
		text = binary.LittleEndian.AppendUint64(text, uint64(r.At))
		text = binary.LittleEndian.AppendUint64(text, uint64(r.Length))
	}
	if err := w.PutSection(sectionChanged, text); err != nil {
		return err
	}
	w.base = &b
	return nil
}

// FillRAM copies from the base's memory what was not changed: the snapshot becomes
// a full one.
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

// AppendRange appends a part to all, which end before it, and joins adjacent parts.
func AppendRange(all []Range, at, length int64) []Range {
	if n := len(all); n > 0 && all[n-1].At+all[n-1].Length == at {
		all[n-1].Length += length
		return all
	}
	return append(all, Range{at, length})
}

// Changed returns the parts of the memory that a diff holds, in order, and nil for a
// full snapshot.
func (r *Reader) Changed() ([]Range, error) {
	if r.manifest.Base == nil {
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
		if r.At < next || r.At%PageSize != 0 || r.Length <= 0 || r.Length%PageSize != 0 || r.At > ram ||
			r.Length > ram-r.At {
			return nil, damaged("a changed part of %d bytes at %d", r.Length, r.At)
		}
		out = append(out, r)
		next = r.At + r.Length
	}
	return out, nil
}
