package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// FrameType says what a frame's payload is.
type FrameType uint8

// Frame types. Zero is no type, so that padding is never taken for a frame.
const (
	// FrameHello opens a session; host to agent, op 0.
	FrameHello FrameType = 1 + iota
	// FrameHelloOk accepts it.
	FrameHelloOk
	// FrameHelloErr refuses it.
	FrameHelloErr
	// FrameRequest asks for an operation; the op id is new.
	FrameRequest
	// FrameResult is the last frame of an operation, agent to host.
	FrameResult
	// FrameData carries raw bytes of one stream of an operation.
	FrameData
	// FrameCredit lets the receiver of Data frames ask for more; its payload
	// is a 32-bit count of bytes.
	FrameCredit
	// FrameCancel asks the agent to stop an operation; its Result follows.
	FrameCancel
	// FrameExpect announces how many bytes a stream of an operation will
	// carry, agent to host, as a 64-bit count: a hint to make room for them.
	FrameExpect

	frameTypeEnd
)

// Frame flags.
const (
	// FlagMore on a Request or Result says that the message goes on in the
	// next frame of the same type and op.
	FlagMore uint8 = 1 << iota
	// FlagEnd on a Data frame says that it is the stream's last one.
	FlagEnd

	flagsEnd
)

// Streams of an operation, numbered per direction.
const (
	// StreamData is file contents, and from the host also standard input.
	StreamData uint16 = iota
	// StreamStdout is a command's standard output.
	StreamStdout
	// StreamStderr is a command's standard error.
	StreamStderr
	// Streams is how many streams an operation has.
	Streams
)

// Header precedes every frame's payload.
type Header struct {
	Length uint32 // payload bytes
	Type   FrameType
	Flags  uint8
	Stream uint16
	Op     uint64
}

// ErrDesync is returned for bytes that are not a header where one belongs: the
// stream position is lost, and only a new session finds it again.
var ErrDesync = errors.New("link out of step")

// ErrPadding is the ErrDesync of a header of zeros: the padding before a
// preamble that was sent again. It tells nothing about the frames before it.
var ErrPadding = fmt.Errorf("%w: padding", ErrDesync)

// ErrPreamble is the ErrDesync of a preamble where a header belongs: another
// session begins. An agent that was restored from a snapshot meets one first
// thing, and making up an error for it would be a good part of what it does.
var ErrPreamble = fmt.Errorf("%w: preamble", ErrDesync)

// Put writes the header to the first HeaderSize bytes of b.
func (h Header) Put(b []byte) {
	binary.BigEndian.PutUint32(b, h.Length)
	b[4] = byte(h.Type)
	b[5] = h.Flags
	binary.BigEndian.PutUint16(b[6:], h.Stream)
	binary.BigEndian.PutUint64(b[8:], h.Op)
}

// ParseHeader decodes and checks the header at the start of b, which must have
// HeaderSize bytes.
func ParseHeader(b []byte) (Header, error) {
	_ = b[HeaderSize-1]
	h := Header{
		Length: binary.BigEndian.Uint32(b),
		Type:   FrameType(b[4]),
		Flags:  b[5],
		Stream: binary.BigEndian.Uint16(b[6:]),
		Op:     binary.BigEndian.Uint64(b[8:]),
	}
	switch {
	case string(b[:len(magic)]) == magic:
		return h, ErrPreamble
	case h == Header{}:
		return h, ErrPadding
	case h.Type == 0 || h.Type >= frameTypeEnd:
		return h, fmt.Errorf("%w: frame type %d", ErrDesync, h.Type)
	case h.Length > MaxPayload:
		return h, fmt.Errorf("%w: payload of %d bytes, limit %d", ErrDesync, h.Length, MaxPayload)
	case h.Flags >= flagsEnd:
		return h, fmt.Errorf("%w: frame flags 0x%x", ErrDesync, h.Flags)
	case h.Stream >= Streams:
		return h, fmt.Errorf("%w: stream %d", ErrDesync, h.Stream)
	case h.Type == FrameCredit && h.Length != 4, h.Type == FrameExpect && h.Length != 8:
		return h, fmt.Errorf("%w: frame type %d of %d bytes", ErrDesync, h.Type, h.Length)
	}
	return h, nil
}

// AppendFrame appends a whole frame; the payload must not exceed MaxPayload.
func AppendFrame(b []byte, h Header, payload []byte) []byte {
	h.Length = uint32(len(payload))
	n := len(b)
	b = append(b, make([]byte, HeaderSize)...)
	h.Put(b[n:])
	return append(b, payload...)
}

// AppendMessage appends a Request or Result as as many frames as it needs.
func AppendMessage(b []byte, t FrameType, op uint64, message []byte) []byte {
	for len(message) > MaxPayload {
		b = AppendFrame(b, Header{Type: t, Flags: FlagMore, Op: op}, message[:MaxPayload])
		message = message[MaxPayload:]
	}
	return AppendFrame(b, Header{Type: t, Op: op}, message)
}

// AppendCredit appends a Credit frame for n more bytes of a stream.
func AppendCredit(b []byte, op uint64, stream uint16, n uint32) []byte {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], n)
	return AppendFrame(b, Header{Type: FrameCredit, Op: op, Stream: stream}, p[:])
}

// AppendExpect appends an Expect frame for n bytes of a stream.
func AppendExpect(b []byte, op uint64, stream uint16, n uint64) []byte {
	var p [8]byte
	binary.BigEndian.PutUint64(p[:], n)
	return AppendFrame(b, Header{Type: FrameExpect, Op: op, Stream: stream}, p[:])
}

// ParseExpect decodes an Expect frame's payload. The count is not to be
// trusted beyond what the receiver would take anyway.
func ParseExpect(p []byte) (uint64, error) {
	if len(p) != 8 {
		return 0, malformed("expect of %d bytes", len(p))
	}
	return binary.BigEndian.Uint64(p), nil
}

// ParseCredit decodes a Credit frame's payload.
func ParseCredit(p []byte) (uint32, error) {
	if len(p) != 4 {
		return 0, malformed("credit of %d bytes", len(p))
	}
	n := binary.BigEndian.Uint32(p)
	if n == 0 || n > Window {
		return 0, malformed("credit for %d bytes, limit %d", n, Window)
	}
	return n, nil
}
