package msgpack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// frameHead is the size of what stands before a frame: its length, big-endian.
const frameHead = 4

// AppendFrame appends a struct as a frame: 4 bytes of length, then what AppendStruct appends.
func AppendFrame(b []byte, v any, limit int) ([]byte, error) {
	start := len(b)
	b, err := AppendStruct(append(b, make([]byte, frameHead)...), v)
	if err != nil {
		return nil, err
	}
	n := len(b) - start - frameHead
	if n > limit {
		return nil, fmt.Errorf("%d bytes exceed %d", n, limit)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(n))
	return b, nil
}

// ReadFrame reads a frame into a pointer to a struct. It returns io.EOF when the reader ends,
// also within a frame, and an error that wraps malformed for a frame that makes no sense.
func ReadFrame(r io.Reader, v any, limit int, malformed error) error {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(limit) {
		return fmt.Errorf("%w: %d bytes exceed %d", malformed, n, limit)
	}
	// Grow with what arrives: the length alone commits no memory.
	body, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return err
	}
	if len(body) < int(n) {
		return io.EOF
	}
	d := NewDecoder(body, malformed)
	if d.Struct(v); d.End() != nil {
		return d.Err()
	}
	return nil
}
