package vnet

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// Sizes of frames, in bytes.
const (
	// MinFrame is the smallest frame: its header.
	MinFrame = headerLen
	// MaxPayload is the largest payload that passes the switch.
	MaxPayload = 9216
	// MaxFrame is the largest frame, with two VLAN tags.
	MaxFrame = headerLen + 2*vlanTagLen + MaxPayload

	headerLen  = 14
	vlanTagLen = 4

	prefixLen = 4 // big-endian length before each frame of a stream
	// maxWire is the longest frame that a length may announce, which is the size of
	// QEMU's buffers. A longer one means that the stream is out of step.
	maxWire = 4096 + 65536
)

// LengthError is returned for a stream whose next frame cannot be as long as announced.
// The start of the frame after it is unknown, so the connection cannot be used further.
type LengthError struct{ Length uint32 }

func (e *LengthError) Error() string {
	return fmt.Sprintf("frame of %d bytes announced, at most %d are possible", e.Length, maxWire)
}

// cut returns the first frame in a stream's bytes, and its size with its length. Without
// a whole frame, it returns nil.
func cut(b []byte) (frame []byte, size int, err error) {
	if len(b) < prefixLen {
		return nil, 0, nil
	}
	n := binary.BigEndian.Uint32(b)
	if n > maxWire {
		return nil, 0, &LengthError{n}
	}
	size = prefixLen + int(n)
	if len(b) < size {
		return nil, 0, nil
	}
	return b[prefixLen:size:size], size, nil
}

// appendFrame adds a frame with its length to a stream's bytes.
func appendFrame(b, frame []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(frame)))
	return append(b, frame...)
}

// readBuffer is the size of one read from a connection; it holds any frame.
const readBuffer = 256 << 10

// readFrames passes on the frames of a stream, as many at a time as have come. They are
// valid during the call. It returns io.EOF at the end of the stream.
func readFrames(r io.Reader, handle func(frames [][]byte)) error {
	buf := make([]byte, readBuffer)
	frames := make([][]byte, 0, 256)
	have := 0
	for {
		n, err := r.Read(buf[have:])
		have += n
		at := 0
		frames = frames[:0]
		for {
			frame, size, bad := cut(buf[at:have])
			if bad != nil {
				handle(frames)
				return bad
			}
			if size == 0 {
				break
			}
			at += size
			frames = append(frames, frame)
		}
		if len(frames) > 0 {
			handle(frames)
		}
		have = copy(buf, buf[at:have])
		if err != nil {
			return err
		}
	}
}

// address is a MAC as a number, for fast lookups.
type address uint64

// addressAt reads the six bytes at the start of b.
func addressAt(b []byte) address {
	return address(b[0])<<40 | address(b[1])<<32 | address(binary.BigEndian.Uint32(b[2:]))
}

// group reports whether the address is multicast or broadcast.
func (a address) group() bool { return a>>40&1 != 0 }

// bufferPool reuses the copies of delayed frames. Its zero value is ready to use.
// The switch's lock guards it.
type bufferPool struct{ small, large [][]byte }

const (
	smallBuffer = 2048
	poolLimit   = 1024 // buffers kept per size
)

func (p *bufferPool) copy(frame []byte) []byte {
	free, size := &p.small, smallBuffer
	if len(frame) > smallBuffer {
		free, size = &p.large, MaxFrame
	}
	if n := len(*free); n > 0 {
		b := (*free)[n-1]
		*free = (*free)[:n-1]
		return append(b[:0], frame...)
	}
	return append(make([]byte, 0, size), frame...)
}

func (p *bufferPool) release(b []byte) {
	free := &p.small
	if cap(b) > smallBuffer {
		free = &p.large
	}
	if len(*free) < poolLimit {
		*free = append(*free, b)
	}
}

// flip inverts one bit of a frame.
func flip(frame []byte, bit int) { frame[bit/8] ^= 1 << (bit % 8) }

// fifo is a queue that reuses its memory.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) front() *T { return &q.items[q.head] }

func (q *fifo[T]) push(v T) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		q.items = slices.Delete(q.items, 0, q.head)
		q.head = 0
	}
	q.items = append(q.items, v)
}

func (q *fifo[T]) pop() T {
	v := q.items[q.head]
	var zero T
	q.items[q.head] = zero
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return v
}

// all returns the queued items in order.
func (q *fifo[T]) all() []T { return q.items[q.head:] }
