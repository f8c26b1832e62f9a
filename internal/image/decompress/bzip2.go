package decompress

import (
	"compress/bzip2"
	"errors"
	"io"
	"slices"
)

// bzip2Reader ends at the end of one stream. The decoder of the standard library
// goes on to look for a further stream behind it, taking two bytes: these are
// put back.
type bzip2Reader struct {
	src *Source
	in  lastTwo
	z   io.Reader
}

const errContinuation = bzip2.StructuralError("bad magic value in continuation file")

func (b *bzip2Reader) Read(p []byte) (int, error) {
	n, err := b.z.Read(p)
	if errors.Is(err, errContinuation) {
		b.src.unread(slices.Clone(b.in.last[:]))
		err = io.EOF
		b.z = eof{}
	}
	return n, err
}

func (b *bzip2Reader) Close() error { return nil }

// lastTwo hands out single bytes and remembers the last two of them.
type lastTwo struct {
	src  *Source
	last [2]byte
}

func (l *lastTwo) ReadByte() (byte, error) {
	c, err := l.src.ReadByte()
	if err == nil {
		l.last[0], l.last[1] = l.last[1], c
	}
	return c, err
}

func (l *lastTwo) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c, err := l.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = c
	return 1, nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
