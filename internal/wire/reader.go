package wire

import (
	"bytes"
	"io"
)

// Nonce distinguishes one session's preamble from another's.
type Nonce [16]byte

// magic begins a preamble. Its first byte makes it an impossible header (the
// length would exceed MaxPayload), so a preamble is seen at any frame border.
const magic = "\xffPROVIUM"

// PreambleSize is the length of a preamble.
const PreambleSize = len(magic) + len(Nonce{})

// ResyncPadding is how many zero bytes before a repeated preamble are enough
// to fill up whatever frame the other side may believe it is in the middle of.
const ResyncPadding = HeaderSize + MaxPayload

// AppendPreamble appends the preamble of session n.
func AppendPreamble(b []byte, n Nonce) []byte {
	return append(append(b, magic...), n[:]...)
}

// Reader takes frames from a byte stream with as few reads as it can: a small
// frame costs one. It is for one goroutine.
type Reader struct {
	r      io.Reader
	buf    []byte
	lo, hi int
}

// NewReader returns a Reader with a buffer of at least size bytes.
func NewReader(r io.Reader, size int) *Reader {
	return &Reader{r: r, buf: make([]byte, max(size, 4096))}
}

// fill reads until at least n bytes are buffered. The buffer must have room for n.
func (r *Reader) fill(n int) error {
	if r.hi-r.lo >= n {
		return nil
	}
	if r.lo == r.hi {
		r.lo, r.hi = 0, 0
	} else if len(r.buf)-r.lo < n {
		r.hi = copy(r.buf, r.buf[r.lo:r.hi])
		r.lo = 0
	}
	for r.hi-r.lo < n {
		k, err := r.r.Read(r.buf[r.hi:])
		r.hi += k
		if err != nil && r.hi-r.lo < n {
			if err == io.EOF && r.hi > r.lo {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// Next reads a frame's header. After ErrDesync the stream stands where the
// header should have been, and Resync may be called. The payload must be taken
// with Payload or ReadInto before the next call.
func (r *Reader) Next() (Header, error) {
	if err := r.fill(HeaderSize); err != nil {
		return Header{}, err
	}
	h, err := ParseHeader(r.buf[r.lo:])
	if err == nil {
		r.lo += HeaderSize
	}
	return h, err
}

// Buffered consumes and returns up to n bytes that have been read already. They are
// valid until the next call. It returns none when the buffer is empty; the caller
// then calls ReadInto or Payload.
func (r *Reader) Buffered(n int) []byte {
	p := r.buf[r.lo:min(r.hi, r.lo+n)]
	r.lo += len(p)
	return p
}

// Some reads between one and n bytes of a payload, whatever is there first;
// they are valid until the next call.
func (r *Reader) Some(n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	if err := r.fill(1); err != nil {
		return nil, err
	}
	return r.Buffered(n), nil
}

// Payload reads n bytes. They are valid until the next call when they fit the
// buffer, and in memory of their own otherwise.
func (r *Reader) Payload(n int) ([]byte, error) {
	if n > len(r.buf) {
		p := make([]byte, n)
		return p, r.ReadInto(p)
	}
	if err := r.fill(n); err != nil {
		return nil, err
	}
	return r.Buffered(n), nil
}

// ReadInto fills p.
func (r *Reader) ReadInto(p []byte) error {
	n := copy(p, r.Buffered(len(p)))
	if n == len(p) {
		return nil
	}
	_, err := io.ReadFull(r.r, p[n:])
	if err == io.EOF && n > 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// SkipPreamble takes session n's preamble off the stream if that is what
// stands there, after Next reported ErrDesync.
func (r *Reader) SkipPreamble(n Nonce) (bool, error) {
	if !bytes.HasPrefix(r.buf[r.lo:r.hi], []byte(magic)) {
		return false, nil
	}
	if err := r.fill(PreambleSize); err != nil {
		return false, err
	}
	if !bytes.Equal(r.buf[r.lo+len(magic):][:len(n)], n[:]) {
		return false, nil
	}
	r.lo += PreambleSize
	return true, nil
}

// Resync throws bytes away up to and including the next preamble and returns
// that one's nonce.
func (r *Reader) Resync() (Nonce, error) {
	for {
		at := bytes.Index(r.buf[r.lo:r.hi], []byte(magic))
		if at >= 0 {
			r.lo += at
			if err := r.fill(PreambleSize); err != nil {
				return Nonce{}, err
			}
			var n Nonce
			copy(n[:], r.buf[r.lo+len(magic):])
			r.lo += PreambleSize
			return n, nil
		}
		// The tail may be the beginning of a preamble.
		keep := min(r.hi-r.lo, len(magic)-1)
		r.lo = r.hi - keep
		if err := r.fill(keep + 1); err != nil {
			return Nonce{}, err
		}
	}
}
