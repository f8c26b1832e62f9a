package decompress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	lzo "github.com/anchore/go-lzo"
	"github.com/pierrec/lz4/v4"
)

const (
	lz4Magic = "\x02\x21\x4c\x18"
	// lz4Block is the size of a legacy block's content, fixed by the format.
	lz4Block = 8 << 20

	lzopMagic = "\x89LZO\x00\r\n\x1a\n"
	// lzopBlock bounds a block's content; the kernel's decoder takes 256 KiB.
	lzopBlock = 8 << 20
)

// blocks turns a function that decodes one block into a reader. The function
// returns io.EOF behind the last block.
type blocks struct {
	next func() ([]byte, error)
	data []byte
	err  error
}

func (b *blocks) Read(p []byte) (int, error) {
	for len(b.data) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		b.data, b.err = b.next()
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

func (b *blocks) Close() error { return nil }

// newLZ4 reads the legacy format: blocks with a length in front and no mark at
// the end. Like the kernel it ends at the input's end, at a length of 0, or at
// a length that no block can have (the next thing in the file).
func newLZ4(src *Source) (io.ReadCloser, error) {
	if err := magic(src, lz4Magic); err != nil {
		return nil, err
	}
	bound := lz4.CompressBlockBound(lz4Block)
	var in, out []byte
	next := func() ([]byte, error) {
		for {
			h, err := src.Peek(4)
			if len(h) < 4 {
				if err == io.EOF && len(h) > 0 && !zero(h) {
					return nil, io.ErrUnexpectedEOF
				}
				return nil, err
			}
			n := binary.LittleEndian.Uint32(h)
			isMagic := string(h) == lz4Magic
			if !isMagic && (n == 0 || n > uint32(bound)) {
				return nil, io.EOF
			}
			if _, err := io.CopyN(io.Discard, src, 4); err != nil {
				return nil, err
			}
			if isMagic {
				continue // a further frame
			}
			if in, err = readBlock(src, in, int(n)); err != nil {
				return nil, err
			}
			if out == nil {
				out = make([]byte, lz4Block)
			}
			m, err := lz4.UncompressBlock(in, out)
			if err != nil {
				return nil, err
			}
			return out[:m], nil
		}
	}
	return &blocks{next: next}, nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func magic(src *Source, want string) error {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(src, got); err != nil {
		return err
	}
	if string(got) != want {
		return errors.New("bad magic number")
	}
	return nil
}

// readBlock reads n bytes, growing the buffer with what really arrives, so that
// a false length costs no memory.
func readBlock(src io.Reader, buf []byte, n int) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < n {
		part := min(n-len(buf), 256<<10)
		at := len(buf)
		if cap(buf) >= at+part {
			buf = buf[:at+part]
		} else {
			buf = append(buf, make([]byte, part)...)
		}
		if _, err := io.ReadFull(src, buf[at:]); err != nil {
			return nil, noEOF(err)
		}
	}
	return buf, nil
}

// Flags of an lzop header.
const (
	lzopAdlerD = 1 << 0
	lzopAdlerC = 1 << 1
	lzopExtra  = 1 << 6
	lzopCrcD   = 1 << 8
	lzopCrcC   = 1 << 9
	lzopFilter = 1 << 11
)

// lzopFields is a cursor over big-endian fields that keeps the first error.
type lzopFields struct {
	src *Source
	err error
}

func (f *lzopFields) uint(n int) uint32 {
	var v uint32
	for range n {
		b, err := f.src.ReadByte()
		if err != nil && f.err == nil {
			f.err = noEOF(err)
		}
		v = v<<8 | uint32(b)
	}
	return v
}

func (f *lzopFields) skip(n int64) {
	if f.err == nil {
		_, err := io.CopyN(io.Discard, f.src, n)
		f.err = noEOF(err)
	}
}

// newLZO reads lzop's container. Checksums are skipped: the content is verified
// by what it is used for.
func newLZO(src *Source) (io.ReadCloser, error) {
	if err := magic(src, lzopMagic); err != nil {
		return nil, err
	}
	f := &lzopFields{src: src}
	version := f.uint(2)
	f.uint(2)
	modern := version >= 0x0940
	if modern {
		f.uint(2)
	}
	f.uint(1) // method: all of them decompress alike
	if modern {
		f.uint(1)
	}
	flags := f.uint(4)
	f.uint(4) // mode
	f.uint(4) // time
	if modern {
		f.uint(4)
	}
	f.skip(int64(f.uint(1))) // file name
	f.uint(4)                // header checksum
	if flags&lzopExtra != 0 {
		f.skip(int64(f.uint(4)))
		f.uint(4)
	}
	if flags&lzopFilter != 0 && f.err == nil {
		f.err = errors.New("lzop filters are not supported")
	}
	if f.err != nil {
		return nil, f.err
	}
	var in []byte
	next := func() ([]byte, error) {
		size := f.uint(4)
		if f.err != nil {
			return nil, f.err
		}
		if size == 0 {
			return nil, io.EOF
		}
		packed := f.uint(4)
		if size > lzopBlock || packed > size {
			return nil, fmt.Errorf("block of %d bytes in %d is out of bounds", size, packed)
		}
		for _, flag := range []uint32{lzopAdlerD, lzopCrcD} {
			if flags&flag != 0 {
				f.uint(4)
			}
		}
		if packed < size {
			for _, flag := range []uint32{lzopAdlerC, lzopCrcC} {
				if flags&flag != 0 {
					f.uint(4)
				}
			}
		}
		if f.err != nil {
			return nil, f.err
		}
		var err error
		if in, err = readBlock(src, in, int(packed)); err != nil {
			return nil, err
		}
		if packed == size {
			return in, nil
		}
		out := make([]byte, size)
		n, err := lzo.Decompress(in, out)
		if err != nil {
			return nil, err
		}
		return out[:n], nil
	}
	return &blocks{next: next}, nil
}
