package run

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"provium/internal/admission"
	"provium/internal/choose"
	"provium/internal/config"
	"provium/internal/event"
	"provium/internal/msgpack"
	"provium/internal/report"
	"provium/internal/run/evidence"
	"provium/internal/templates"
	"provium/internal/userland"
)

// maxMessage caps one message between dispatcher and runner. The largest are
// events with the log of a test.
const maxMessage = 256 << 20

var errMalformed = errors.New("malformed message")

// message is what dispatcher and runner send each other over their pipe, as frames of
// package msgpack. Exactly one field is set.
type message struct {
	// From the dispatcher.
	Job       *job     // first message: the file to run
	Answer    *answer  // to an acquire or a claim
	Interrupt *stopNow // end the file: Ctrl-C or its time is up
	Typed     *typed   // by a person, about the test that is paused

	// From the runner.
	Begun      bool // first message: the file may have done something from now on
	Events     []encodedEvent
	Registered *registered // the chunk has run
	Collected  *collected  // the same, where the tests do not run
	Acquire    *acquire
	Release    *release
	Claim      *claim
	Waits      *waits
	Paused     *paused
	Shown      *shown
	Done       *done // last message
}

// encodedEvent is an event on its way to the event stream, which has the payload
// as the runner has encoded it.
type encodedEvent struct {
	Kind    string
	Payload []byte // of event.EncodePayload
}

// job is one test file and all that its runner needs to know.
type job struct {
	Path        string // relative to the project
	Abs         string
	Project     string // directory, the runner's working directory
	ConfigPath  string
	Roots       []string
	Profiles    map[string]config.Profile
	Userlands   map[string]*userland.Userland // those that were made before, by profile
	Oops        []string                      // oops_patterns
	OopsIgnore  []string
	Filter      string // JSON form of the per-test filter
	Picks       choose.Picks
	TempDir     string // private to this runner, exists
	ImageCache  string
	BootCache   string // "" has every boot really boot
	Fixtures    string // directory of the fixture cache
	Version     string // identity of the program
	Overlay     string // of $PROVIUM_OVERLAY, or ""
	Self        string // our program, beside which an installed overlay is looked for
	QEMU        string
	Repeat      report.Repeat // how a failure is repeated
	Kept        evidence.Job
	Capture     bool        // what is printed is shown with its test
	Local       bool        // no kernel is booted
	Level       event.Level // of events that are wanted
	Retries     int         // of a test that has failed
	Collect     bool        // the chunk runs, its tests do not
	Seed        uint64
	CheckDir    string // as that of Options
	ShuffleOn   bool   // of tests, where each starts from one state
	ShuffleSeed uint64

	MayReuse       bool             // the process may run another file after this one
	Boots          *templates.Boots // nil: not all of them are known
	CanPause       bool             // a person can look at tests
	PauseOnFailure bool
	Rewind         bool
}

type stopNow struct {
	Reason string
	Status string // "timed_out" or "interrupted"
}

// acquire asks for the shares of guests, all at once.
type acquire struct {
	ID     uint64
	What   string // in messages
	Shares []admission.Share
}

// release releases one of the shares that were granted under an id, by its number, or
// forgets the request when it is withdrawn.
type release struct {
	ID     uint64
	Share  int
	Forget bool
}

type claim struct {
	ID     uint64
	Memory int64 // bytes
	CPUs   int
}

// waits says that a wait which counts against no limit begins, or has ended.
type waits struct{ Begin bool }

type answer struct {
	ID  uint64
	Err string // "" when granted
}

// registered lists the tests of a file, so that a runner that is killed leaves
// a complete report behind.
type registered struct{ Tests []string }

// collected are the tests of a file whose chunk has run.
type collected struct{ Tests []collectedTest }

type done struct {
	ChunkError string
	Artifacts  string // folder of that
	Poisoned   bool
	Duration   time.Duration
	Ignored    []string // patterns of oops_ignore that have taken out a report
	// Reusable says that the process waits for the job of another file. CPU is what this one has used.
	Reusable bool
	CPU      time.Duration
	Boots    map[string]bool // what templates.Boots.Own is for the next run
}

// messagePipe sends and receives messages. Sending is safe for concurrent use,
// receiving is for one goroutine.
type messagePipe struct {
	mu   sync.Mutex
	w    io.Writer
	over bool // nothing is sent any more
	r    *bufio.Reader
}

func newMessagePipe(r io.Reader, w io.Writer) *messagePipe {
	return &messagePipe{w: w, r: bufio.NewReaderSize(r, 64<<10)}
}

func (p *messagePipe) send(m *message) error {
	frame, err := msgpack.AppendFrame(make([]byte, 0, 256), m, maxMessage)
	if err != nil {
		return fmt.Errorf("runner message encode: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return errors.New("runner message send: it is over")
	}
	p.over = m.Done != nil // what comes late is not of the file that is next
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
	m := &message{}
	err := msgpack.ReadFrame(r, m, maxMessage, errMalformed)
	if err == io.EOF {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("runner message: %w", err)
	}
	return m, nil
}
