// Package decompress recognises and undoes the compressions that the Linux
// kernel build, depmod and the initramfs tools use: gzip, xz, zstd, lz4 (legacy
// frame), lzma, bzip2 and lzop.
//
// A reader made here ends exactly where its compressed stream ends, so that a
// caller can walk files in which streams follow each other, as in an initramfs.
// The package does not compress, does not limit the size of what comes out
// (wrap the reader for that) and knows neither kernels nor archives.
package decompress

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
	"github.com/ulikunitz/xz/lzma"
)

// maxWindow bounds the history a stream may ask a decoder to hold, in bytes.
// xz -9 needs 64 MiB, zstd --ultra -22 needs 128 MiB.
const maxWindow = 128 << 20

// Format names a compression.
type Format string

// The formats that Detect tells apart. None means that no magic number matched.
const (
	None  Format = ""
	Gzip  Format = "gzip"
	XZ    Format = "xz"
	Zstd  Format = "zstd"
	LZ4   Format = "lz4"
	LZMA  Format = "lzma"
	Bzip2 Format = "bzip2"
	LZO   Format = "lzo"
)

// MagicLen is the number of leading bytes that Detect looks at, at most.
const MagicLen = 9

var magics = [...]struct {
	format Format
	magic  string
}{
	{Gzip, "\x1f\x8b"},
	{XZ, "\xfd7zXZ\x00"},
	{Zstd, "\x28\xb5\x2f\xfd"},
	{LZ4, lz4Magic},
	{LZO, lzopMagic},
	{Bzip2, "BZh"},
	// The lzma format has no magic number: this is its properties byte as every
	// encoder in use writes it, and the low bytes of a dictionary size.
	{LZMA, "\x5d\x00\x00"},
}

// Detect returns the compression that prefix begins with, or None.
func Detect(prefix []byte) Format {
	for _, m := range magics {
		if bytes.HasPrefix(prefix, []byte(m.magic)) {
			return m.format
		}
	}
	return None
}

// Source is a buffered input that knows how many bytes were taken from it. The
// readers of this package take exactly the bytes of their stream. It is not
// safe for concurrent use.
type Source struct {
	r   *bufio.Reader
	off int64
}

// NewSource reads from r, which is taken to stand at offset 0.
func NewSource(r io.Reader) *Source {
	return &Source{r: bufio.NewReaderSize(r, 64<<10)}
}

// Offset returns the number of bytes taken so far.
func (s *Source) Offset() int64 { return s.off }

// Peek returns up to n bytes without taking them; fewer only at the end of the
// input or on an error, which is then returned.
func (s *Source) Peek(n int) ([]byte, error) { return s.r.Peek(n) }

// Read takes bytes.
func (s *Source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.off += int64(n)
	return n, err
}

// ReadByte takes one byte.
func (s *Source) ReadByte() (byte, error) {
	b, err := s.r.ReadByte()
	if err == nil {
		s.off++
	}
	return b, err
}

// unread puts bytes back that were taken last.
func (s *Source) unread(b []byte) {
	s.r = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(b), s.r), 64<<10)
	s.off -= int64(len(b))
}

// NewReader decompresses the one stream of the given format that starts at src's
// position. After io.EOF src stands behind the stream. Close frees the decoder;
// it does not close what src reads from.
func NewReader(f Format, src *Source) (io.ReadCloser, error) {
	r, err := newReader(f, src)
	if err != nil {
		return nil, fmt.Errorf("read %s stream: %w", f, noEOF(err))
	}
	return &reader{f, r}, nil
}

func newReader(f Format, src *Source) (io.ReadCloser, error) {
	switch f {
	case Gzip:
		z, err := gzip.NewReader(src)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		return z, nil
	case XZ:
		z, err := xz.NewReader(&frame{src: src, next: new(xzWalker).start}, maxWindow)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(z), nil
	case Zstd:
		z, err := zstd.NewReader(&frame{src: src, next: zstdStart},
			zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case LZ4:
		return newLZ4(src)
	case LZO:
		return newLZO(src)
	case Bzip2:
		b := &bzip2Reader{src: src}
		b.z = bzip2.NewReader(&b.in)
		b.in.src = src
		return b, nil
	case LZMA:
		z, err := lzma.ReaderConfig{DictCap: maxWindow}.NewReader(src)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(z), nil
	}
	return nil, fmt.Errorf("unknown compression %q", f)
}

// reader names the format in errors and turns the end of the input in the
// middle of a stream into io.ErrUnexpectedEOF.
type reader struct {
	format Format
	io.ReadCloser
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("read %s stream: %w", r.format, err)
	}
	return n, err
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Bytes decompresses data if it begins with a known magic number and returns it
// unchanged if not. More than limit bytes of output is an error.
func Bytes(data []byte, limit int64) ([]byte, error) {
	f := Detect(data)
	if f == None {
		if int64(len(data)) > limit {
			return nil, tooLarge(limit)
		}
		return data, nil
	}
	r, err := NewReader(f, NewSource(bytes.NewReader(data)))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	out, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(out)) > limit {
		return nil, tooLarge(limit)
	}
	return out, nil
}

func tooLarge(limit int64) error {
	return fmt.Errorf("decompressed data exceeds %d bytes", limit)
}
