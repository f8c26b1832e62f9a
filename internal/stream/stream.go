package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"provium/internal/pattern"
)

// Site is the line of a test that opened something, and the test's name.
type Site struct {
	File string
	Line int
	Test string
}

// Source is where a stream's bytes come from.
type Source interface {
	// Next waits for bytes. It returns io.EOF at the end. A stream calls it from
	// one goroutine at a time.
	Next(ctx context.Context) ([]byte, error)
	// Ended reports whether no more bytes will come.
	Ended() bool
	// Close releases the source. unread is the number of bytes that Next
	// returned last and that no reader of the stream has seen.
	Close(unread int)
}

// Config describes a stream.
type Config struct {
	Kind   string // what opened it: "tail_file", "console_read" ...
	Detail string // path, number or name
	Noun   string // "stream", "console", "capture": in messages
	Site   Site
	Source Source
	Closed func() // called once, at the end of Close; nil does nothing
}

// Stream returns bytes as they appear. Bytes behind a match are held back for
// the next call. Calls exclude each other; Close may be called meanwhile.
type Stream struct {
	cfg    Config
	turn   chan struct{}   // has a token while a call is under way
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	closed bool // Close has had its effect; guarded by turn

	mu    sync.Mutex
	held  []byte // held back
	given int64  // number of bytes that callers have got
	split bool   // held begins in the middle of a piece of the source
	end   error  // io.EOF, or why the source failed
}

const (
	// maxHeld bounds what a search without a match holds, in bytes.
	maxHeld = 256 << 20
	// shownTail is how much of what arrived an error shows, in bytes.
	shownTail = 1 << 10
)

var errLimit = errors.New("timeout")

// New returns a stream of what cfg.Source brings.
func New(cfg Config) *Stream {
	s := &Stream{cfg: cfg, turn: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Site returns where the stream was opened.
func (s *Stream) Site() Site { return s.cfg.Site }

// Kind returns what opened the stream.
func (s *Stream) Kind() string { return s.cfg.Kind }

// Source returns where the bytes come from.
func (s *Stream) Source() Source { return s.cfg.Source }

// Held returns the number of bytes that the source has brought and that are
// held back for the next call.
func (s *Stream) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)
}

// String returns the stream's name and where it was opened:
// `tail_file("/var/log/app.log") at tests/log.test.lua:12`.
func (s *Stream) String() string {
	text := fmt.Sprintf("%s(%s)", s.cfg.Kind, s.cfg.Detail)
	if s.cfg.Site.Line > 0 {
		text += fmt.Sprintf(" at %s:%d", s.cfg.Site.File, s.cfg.Site.Line)
	}
	if s.cfg.Site.Test != "" {
		text += fmt.Sprintf(" (test `%s`)", s.cfg.Site.Test)
	}
	return text
}

// begin acquires the stream for one call. The context that it returns ends with
// ctx, at the limit, or when the stream is closed.
func (s *Stream) begin(ctx context.Context, limit time.Duration) (context.Context, func(), error) {
	limited, cancel := context.WithTimeoutCause(ctx, limit, errLimit)
	stop := context.AfterFunc(s.ctx, cancel)
	release := func() { <-s.turn; stop(); cancel() }
	select { // also for a limit of 0: what is there already can be had
	case s.turn <- struct{}{}:
		return limited, release, nil
	default:
	}
	select {
	case s.turn <- struct{}{}:
		return limited, release, nil
	case <-limited.Done():
		stop()
		cancel()
		return nil, nil, context.Cause(limited)
	}
}

// take waits for a piece of the source and appends it to the bytes held back.
func (s *Stream) take(ctx context.Context) error {
	s.mu.Lock()
	end := s.end
	s.mu.Unlock()
	if end != nil {
		return end
	}
	p, err := s.cfg.Source.Next(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, p...)
	if err != nil && ctx.Err() == nil {
		s.end = err
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// outcome returns what the caller of a method sees of err: nil for the limit, the
// close and the end of the stream.
func (s *Stream) outcome(ctx context.Context, err error) error {
	switch {
	case s.ctx.Err() != nil, errors.Is(err, errLimit), err == io.EOF:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}

func (s *Stream) takeHeld() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.held
	s.held, s.split = nil, false
	s.given += int64(len(p))
	return p
}

// Next returns the next bytes, nil at the limit and at the end.
func (s *Stream) Next(ctx context.Context, limit time.Duration) ([]byte, error) {
	call, done, err := s.begin(ctx, limit)
	if err != nil {
		return nil, s.outcome(ctx, err)
	}
	defer done()
	if p := s.takeHeld(); len(p) > 0 {
		return p, nil
	}
	err = s.take(call)
	if p := s.takeHeld(); len(p) > 0 {
		return p, nil
	}
	return nil, s.outcome(ctx, err)
}

// Drain returns the pieces that come until the limit or the end.
func (s *Stream) Drain(ctx context.Context, limit time.Duration) ([][]byte, error) {
	return s.DrainFrom(ctx, limit, func(Position) error { return nil })
}

// Position is how far the readers of a stream have come.
type Position struct {
	Given int64 // number of bytes they have got
	Split bool  // the next byte is in the middle of a piece of the source
}

// DrainFrom is Drain, unless check refuses where the stream stands. Nobody else
// reads the stream between the check and the end of the call.
func (s *Stream) DrainFrom(ctx context.Context, limit time.Duration, check func(Position) error) ([][]byte, error) {
	call, done, err := s.begin(ctx, limit)
	if err != nil {
		return nil, s.outcome(ctx, err)
	}
	defer done()
	s.mu.Lock()
	at := Position{s.given, s.split}
	s.mu.Unlock()
	if err := check(at); err != nil {
		return nil, err
	}
	var all [][]byte
	for {
		if p := s.takeHeld(); len(p) > 0 {
			all = append(all, p)
		}
		if err := s.take(call); err != nil {
			if p := s.takeHeld(); len(p) > 0 {
				all = append(all, p)
			}
			if err = s.outcome(ctx, err); len(all) > 0 && ctx.Err() == nil {
				err = nil // what has come is not lost; the next call returns the error
			}
			return all, err
		}
	}
}

// Found is what a search has found.
type Found struct {
	All []byte // everything up to and including the match
	*pattern.Match
}

// ReadUntil returns everything up to and including a match of p. It fails when there is
// none within limit; what did come is held back. op is the name of the call in messages.
func (s *Stream) ReadUntil(ctx context.Context, op string, p pattern.Pattern, limit time.Duration) (*Found, error) {
	if s.ctx.Err() != nil {
		return nil, fmt.Errorf("%s closed", s.cfg.Noun)
	}
	call, done, err := s.begin(ctx, limit)
	if err == nil {
		defer done()
		var found *Found
		if found, err = s.search(call, p); err == nil {
			return found, nil
		}
	}
	switch {
	case s.ctx.Err() != nil:
		return nil, fmt.Errorf("%s closed", s.cfg.Noun)
	case errors.Is(err, pattern.ErrSlow) && errors.Is(err, errLimit):
		return nil, fmt.Errorf("%s timed out waiting for `%s`: %w%s", op, p, pattern.ErrSlow, s.seen())
	case errors.Is(err, errLimit):
		return nil, fmt.Errorf("%s timed out waiting for `%s`%s", op, p, s.seen())
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err == io.EOF:
		return nil, fmt.Errorf("%s EOF while waiting for `%s`%s", s.cfg.Noun, p, s.seen())
	}
	return nil, err
}

// search waits for a match. The caller has the stream's turn, so that nobody else takes
// bytes.
func (s *Stream) search(ctx context.Context, p pattern.Pattern) (*Found, error) {
	from := 0
	for {
		s.mu.Lock()
		held := s.held
		s.mu.Unlock()
		n := len(held)
		m, next, err := p.Find(ctx, held, from, false)
		if err != nil {
			return nil, err
		}
		if m != nil {
			s.mu.Lock()
			s.held, s.split = s.held[m.End:], m.End < len(s.held)
			s.given += int64(m.End)
			s.mu.Unlock()
			return &Found{held[:m.End:m.End], m}, nil
		}
		if from = next; n > maxHeld {
			return nil, fmt.Errorf("no `%s` in %d bytes", p, n)
		}
		if err := s.take(ctx); err != nil {
			s.mu.Lock()
			more := len(s.held) > n
			s.mu.Unlock()
			if !more {
				return nil, err
			}
		}
	}
}

// seen describes what arrived, for an error.
func (s *Stream) seen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) == 0 {
		return "; nothing arrived"
	}
	return "; what arrived ends with:\n" + string(s.held[max(0, len(s.held)-shownTail):])
}

// EOF reports whether the stream was closed, or the source has ended and no
// bytes are held back.
func (s *Stream) EOF() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ctx.Err() != nil || len(s.held) == 0 && (s.end != nil || s.cfg.Source.Ended())
}

// Close ends the stream, the calls under way too, and drops the bytes held back.
// Only the first call has an effect; every call returns when the stream is
// closed.
func (s *Stream) Close() {
	s.cancel()
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.closed {
		return
	}
	s.closed = true
	s.cfg.Source.Close(len(s.takeHeld()))
	if s.cfg.Closed != nil {
		s.cfg.Closed()
	}
}
