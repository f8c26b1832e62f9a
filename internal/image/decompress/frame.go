package decompress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// frame passes the bytes of one compressed stream through and reports io.EOF at
// its end, because the xz and zstd decoders read ahead. It understands only the
// outer structure: where the next header stands and how long the data behind it
// is.
type frame struct {
	src  *Source
	next step   // reads the next header; nil at the end of the stream
	head []byte // header bytes that were read and not yet passed on
	skip int64  // payload bytes to pass on before the next header
	err  error
}

// step reads one header from f.src with f.take and sets f.skip and f.next.
type step func(f *frame) error

func (f *frame) Read(p []byte) (int, error) {
	for {
		switch {
		case len(p) == 0:
			return 0, nil
		case len(f.head) > 0:
			n := copy(p, f.head)
			f.head = f.head[n:]
			return n, nil
		case f.skip > 0:
			n, err := f.src.Read(p[:min(int64(len(p)), f.skip)])
			f.skip -= int64(n)
			if n > 0 {
				return n, nil
			}
			if err != nil {
				f.err = noEOF(err)
				return 0, f.err
			}
		case f.err != nil:
			return 0, f.err
		case f.next == nil:
			return 0, io.EOF
		default:
			f.err = noEOF(f.next(f))
		}
	}
}

// take reads n header bytes and queues them for the decoder. The slice is valid
// until the next call of take.
func (f *frame) take(n int) ([]byte, error) {
	at := len(f.head)
	f.head = append(f.head, make([]byte, n)...)
	got, err := io.ReadFull(f.src, f.head[at:])
	f.head = f.head[:at+got]
	return f.head[at:], err
}

// zstdStart reads a frame header (RFC 8878, 3.1.1.1).
func zstdStart(f *frame) error {
	h, err := f.take(5)
	if err != nil {
		return err
	}
	desc := h[4]
	single := desc&0x20 != 0
	rest := [4]int{0, 1, 2, 4}[desc&3] // dictionary id
	switch desc >> 6 {                 // content size
	case 0:
		if single {
			rest++
		}
	case 1:
		rest += 2
	case 2:
		rest += 4
	case 3:
		rest += 8
	}
	if !single {
		rest++ // window descriptor
	}
	if _, err := f.take(rest); err != nil {
		return err
	}
	checksum := desc&4 != 0
	f.next = func(f *frame) error { return zstdBlock(f, checksum) }
	return nil
}

func zstdBlock(f *frame, checksum bool) error {
	h, err := f.take(3)
	if err != nil {
		return err
	}
	v := uint32(h[0]) | uint32(h[1])<<8 | uint32(h[2])<<16
	f.skip = int64(v >> 3)
	switch v >> 1 & 3 {
	case 1: // a run: one byte, repeated
		f.skip = 1
	case 3:
		return errors.New("reserved block type")
	}
	if v&1 != 0 {
		f.next = nil
		if checksum {
			f.next = func(f *frame) error {
				f.next = nil
				_, err := f.take(4)
				return err
			}
		}
	}
	return nil
}

// xzWalker follows the structure of an .xz stream: header, blocks made of LZMA2
// chunks, index, footer.
type xzWalker struct {
	checkSize int
	begin     int64 // offset of the block's data
}

func (w *xzWalker) start(f *frame) error {
	h, err := f.take(12)
	if err != nil {
		return err
	}
	// The check's size follows from its id: 0, then 4, 8, 16, 32, 64, three each.
	if id := int(h[7] & 0xf); id > 0 {
		w.checkSize = 4 << ((id - 1) / 3)
	}
	f.next = w.block
	return nil
}

func (w *xzWalker) block(f *frame) error {
	h, err := f.take(1)
	if err != nil {
		return err
	}
	if h[0] == 0 {
		return w.index(f)
	}
	if _, err := f.take(int(h[0])*4 + 3); err != nil {
		return err
	}
	w.begin = f.src.Offset()
	f.next = w.chunk
	return nil
}

func (w *xzWalker) chunk(f *frame) error {
	h, err := f.take(1)
	if err != nil {
		return err
	}
	c := h[0]
	switch {
	case c == 0: // end of the block's data: padding and check follow
		used := f.src.Offset() - w.begin
		f.skip = -used&3 + int64(w.checkSize)
		f.next = w.block
	case c < 3: // stored
		h, err := f.take(2)
		if err != nil {
			return err
		}
		f.skip = int64(binary.BigEndian.Uint16(h)) + 1
	case c >= 0x80:
		h, err := f.take(4)
		if err != nil {
			return err
		}
		f.skip = int64(binary.BigEndian.Uint16(h[2:])) + 1
		if c >= 0xc0 {
			f.skip++ // properties byte
		}
	default:
		return fmt.Errorf("bad LZMA2 control byte 0x%02x", c)
	}
	return nil
}

// maxXZRecords bounds the index of a stream, which has one record per block.
const maxXZRecords = 1 << 20

func (w *xzWalker) index(f *frame) error {
	size := 1
	varint := func() (uint64, error) {
		var v uint64
		for shift := 0; shift < 63; shift += 7 {
			b, err := f.take(1)
			if err != nil {
				return 0, err
			}
			size++
			v |= uint64(b[0]&0x7f) << shift
			if b[0] < 0x80 {
				return v, nil
			}
		}
		return 0, errors.New("bad number in index")
	}
	records, err := varint()
	if err != nil {
		return err
	}
	if records > maxXZRecords {
		return fmt.Errorf("index has %d records, at most %d are read", records, maxXZRecords)
	}
	for range records * 2 {
		if _, err := varint(); err != nil {
			return err
		}
	}
	// Padding to four bytes, CRC32, footer.
	f.skip = int64(-size&3) + 4 + 12
	f.next = nil
	return nil
}
