package userland

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"provium/internal/cachedir"
	"provium/internal/erofs"
)

// An index is a file of these parts:
//
//	header    one block: the magic, then the fields of header
//	metadata  the beginning of the image, whole blocks
//	extents   of the image, ordered by their begin, each extentSize long
//	sources   files of the host, each sourceSize long
//	paths     of the sources
//
// Numbers are little-endian and 64 bits long.
const (
	indexMagic  = "provium userland 1\n"
	extentSize  = 4 * 8
	sourceSize  = 6 * 8
	headerStart = 64 // of the numbers, behind the magic

	// Limits for files that are damaged or forged.
	maxEntries = 1 << 26
	maxPaths   = 1 << 34
)

var le = binary.LittleEndian

// header says how long the parts of an index are.
type header struct {
	Meta    int64 // bytes
	Image   int64 // bytes that the guest sees
	Extents int64 // count
	Sources int64 // count
	Paths   int64 // bytes
}

func (h *header) fields() []*int64 {
	return []*int64{&h.Meta, &h.Image, &h.Extents, &h.Sources, &h.Paths}
}

// extentsAt, sourcesAt, pathsAt and end are offsets in the index.
func (h *header) extentsAt() int64 { return erofs.BlockSize + h.Meta }
func (h *header) sourcesAt() int64 { return h.extentsAt() + h.Extents*extentSize }
func (h *header) pathsAt() int64   { return h.sourcesAt() + h.Sources*sourceSize }
func (h *header) end() int64       { return h.pathsAt() + h.Paths }

// extent says where a piece of the image is.
type extent struct {
	at, size int64 // in the image
	source   int64 // number of the file
	offset   int64 // in that file
}

// writeIndex writes the index of a tree.
func writeIndex(path string, t *tree) error {
	img, err := erofs.Layout(t.root)
	if err != nil {
		return err
	}
	var extents []extent
	for _, n := range img.Files {
		p := t.pieces[n]
		extents = append(extents, extent{n.Offset(), n.Size, int64(p.source), p.offset})
	}
	return writeParts(path, img.Meta, img.Size, extents, t.sources)
}

// writeParts writes the index of an image of size bytes, which begins with meta.
func writeParts(path string, meta []byte, size int64, extents []extent, sources []source) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := header{Meta: int64(len(meta)), Image: size, Extents: int64(len(extents)), Sources: int64(len(sources))}
	for _, s := range sources {
		h.Paths += int64(len(s.path))
	}
	w := bufio.NewWriterSize(f, 1<<20)
	first := make([]byte, erofs.BlockSize)
	copy(first, indexMagic)
	for i, v := range h.fields() {
		le.PutUint64(first[headerStart+8*i:], uint64(*v))
	}
	w.Write(first) // errors stay until Flush
	w.Write(meta)
	numbers := func(values ...int64) {
		for _, v := range values {
			w.Write(le.AppendUint64(w.AvailableBuffer(), uint64(v)))
		}
	}
	for _, e := range extents {
		numbers(e.at, e.size, e.source, e.offset)
	}
	at := int64(0)
	for _, s := range sources {
		numbers(at, int64(len(s.path)), s.size, s.modified, s.change, int64(s.inode))
		at += int64(len(s.path))
	}
	for _, s := range sources {
		w.WriteString(s.path)
	}
	return w.Flush()
}

// index is an open index.
type index struct {
	f *os.File
	header
}

func openIndex(path string) (*index, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("userland index: %w", err)
	}
	x := &index{f: f}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err == nil {
		// It names files that the guest gets to read, and may stand in a foreign snapshot.
		err = cachedir.CheckFile(&st)
	}
	if err == nil {
		err = x.readHeader()
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("userland index %s: %w", path, err)
	}
	return x, nil
}

// readHeader reads the header and compares it with the file.
func (x *index) readHeader() error {
	first := make([]byte, erofs.BlockSize)
	if _, err := io.ReadFull(x.f, first); err != nil || string(first[:len(indexMagic)]) != indexMagic {
		return errors.New("it is damaged, or something else")
	}
	for i, v := range x.fields() {
		*v = int64(le.Uint64(first[headerStart+8*i:]))
	}
	info, err := x.f.Stat()
	switch {
	case err != nil:
		return reason(err)
	case x.Meta <= 0 || x.Image < x.Meta || x.Image > erofs.MaxSize || x.Meta%erofs.BlockSize != 0,
		x.Extents < 0 || x.Extents > maxEntries || x.Sources < 0 || x.Sources > maxEntries,
		x.Paths < 0 || x.Paths > maxPaths, info.Size() != x.end():
		return errors.New("it is damaged: its parts have other lengths than it says")
	}
	return nil
}

// numbers reads the i-th record of a table.
func (x *index) numbers(table, i int64, out []int64) error {
	var p [sourceSize]byte
	b := p[:8*len(out)]
	if _, err := x.f.ReadAt(b, table+i*int64(len(b))); err != nil {
		return err
	}
	for k := range out {
		out[k] = int64(le.Uint64(b[8*k:]))
	}
	return nil
}

func (x *index) extent(i int64) (extent, error) {
	var v [4]int64
	err := x.numbers(x.extentsAt(), i, v[:])
	e := extent{v[0], v[1], v[2], v[3]}
	if err == nil && (e.at < x.Meta || e.size <= 0 || e.at > x.Image-e.size || e.source < 0 || e.source >= x.Sources ||
		e.offset < 0) {
		err = fmt.Errorf("extent %d is damaged", i)
	}
	return e, err
}

// maxPath is the longest path of a source, in bytes.
const maxPath = 64 << 10

func (x *index) source(i int64) (source, error) {
	var v [6]int64
	if err := x.numbers(x.sourcesAt(), i, v[:]); err != nil {
		return source{}, err
	}
	at, n := v[0], v[1]
	if at < 0 || n <= 0 || n > maxPath || at > x.Paths-n {
		return source{}, fmt.Errorf("source %d is damaged", i)
	}
	path := make([]byte, n)
	if _, err := x.f.ReadAt(path, x.pathsAt()+at); err != nil {
		return source{}, err
	}
	return source{string(path), v[2], v[3], v[4], uint64(v[5])}, nil
}

// find returns the number of the first extent that ends behind off.
func (x *index) find(off int64) (int64, error) {
	low, high := int64(0), x.Extents
	for low < high {
		mid := low + (high-low)/2
		e, err := x.extent(mid)
		if err != nil {
			return 0, err
		}
		if e.at+e.size <= off {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, nil
}
