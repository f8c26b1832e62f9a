package wire

import (
	"errors"
	"fmt"

	"provium/internal/msgpack"
)

// ErrMalformed is wrapped by every decoder's error: the bytes are not a message
// of this protocol.
var ErrMalformed = errors.New("malformed message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// fields builds a message.
type fields = msgpack.Fields

// decoder reads one message of the protocol.
type decoder struct {
	msgpack.Decoder
	inPlace bool // the buffers of a system call stay in the message
}

func newDecoder(message []byte) *decoder {
	return &decoder{Decoder: msgpack.NewDecoder(message, ErrMalformed)}
}
