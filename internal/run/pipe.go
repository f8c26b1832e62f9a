package run

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"provium/internal/config"
)

// maxMessage caps one message between dispatcher and runner. The largest are
// events with the log of a test.
const maxMessage = 256 << 20

// message is what dispatcher and runner tell each other over their pipe: a
// 4-byte big-endian length and this struct as msgpack. Exactly one field is
// set.
type message struct {
	// From the dispatcher.
	Job       *job     `msgpack:",omitempty"` // first message: the file to run
	Answer    *answer  `msgpack:",omitempty"` // to an acquire or a claim
	Interrupt *stopNow `msgpack:",omitempty"` // end the file: Ctrl-C or its time is up

	// From the runner.
	Event      []byte      `msgpack:",omitempty"` // a frame of package event
	Registered *registered `msgpack:",omitempty"` // the chunk has run
	Acquire    *acquire    `msgpack:",omitempty"`
	Release    *release    `msgpack:",omitempty"`
	Claim      *acquire    `msgpack:",omitempty"`
	Waits      *waits      `msgpack:",omitempty"`
	Done       *done       `msgpack:",omitempty"` // last message
}

// job is one test file and all that its runner needs to know.
type job struct {
	Path        string // relative to the project
	Abs         string
	Project     string // directory, the runner's working directory
	ConfigPath  string
	Roots       []string
	Profiles    map[string]config.Profile
	Oops        []string // oops_patterns
	OopsIgnore  []string
	Filter      string // JSON form of the per-test filter
	TempDir     string // private to this runner, exists
	ImageCache  string
	BootCache   string // "" has every boot really boot
	Fixtures    string // directory of the fixture cache
	Version     string // identity of the program
	Overlay     string // of $PROVIUM_OVERLAY, or ""
	Self        string // our program, beside which an installed overlay is looked for
	QEMU        string
	Local       bool // no kernel is booted
	JSONOutput  bool // stdout carries JSON: print goes to stderr
	Seed        uint64
	ShuffleOn   bool // of tests, where each starts from one state
	ShuffleSeed uint64
	NoKSM       bool
}

type stopNow struct {
	Reason string
	Status string // "timed_out" or "interrupted"
}

type acquire struct {
	ID     uint64
	VM     string
	Memory int64 // bytes
	CPUs   int
}

type release struct{ ID uint64 }

// waits tells that a wait which counts against no limit begins, or has ended.
type waits struct{ Begin bool }

type answer struct {
	ID  uint64
	Err string // "" when granted
}

// registered lists the tests of a file, so that a runner that is killed leaves
// a complete report behind.
type registered struct{ Tests []string }

type done struct {
	ChunkError string
	Poisoned   bool
	Duration   time.Duration
}

// messagePipe sends and receives messages. Sending is safe for concurrent use,
// receiving is for one goroutine.
type messagePipe struct {
	mu sync.Mutex
	w  io.Writer
	r  *bufio.Reader
}

func newMessagePipe(r io.Reader, w io.Writer) *messagePipe {
	return &messagePipe{w: w, r: bufio.NewReaderSize(r, 64<<10)}
}

func (p *messagePipe) send(m *message) error {
	body, err := msgpack.Marshal(m)
	if err != nil {
		return fmt.Errorf("runner message encode: %w", err)
	}
	if len(body) > maxMessage {
		return fmt.Errorf("runner message encode: %d bytes exceed %d", len(body), maxMessage)
	}
	frame := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	frame = append(frame, body...)
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.w.Write(frame); err != nil {
		return fmt.Errorf("runner message send: %w", err)
	}
	return nil
}

// receive returns io.EOF when the other end is gone.
func (p *messagePipe) receive() (*message, error) {
	return readMessage(p.r)
}

func readMessage(r io.Reader) (*message, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxMessage {
		return nil, fmt.Errorf("runner message of %d bytes exceeds %d", n, maxMessage)
	}
	// Grow with what arrives: the length alone commits no memory.
	body, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return nil, fmt.Errorf("runner message: %w", err)
	}
	if len(body) < int(n) {
		return nil, io.EOF
	}
	var m message
	if err := msgpack.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("runner message decode: %w", err)
	}
	return &m, nil
}
