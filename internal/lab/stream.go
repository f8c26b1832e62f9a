package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"provium/internal/guest"
)

// Site is the line of a test that opened something, and the test's name.
type Site struct {
	File string
	Line int
	Test string
}

// source is where a stream's bytes come from. next is called by one goroutine
// at a time; it gives io.EOF at the end.
type source interface {
	next(ctx context.Context) ([]byte, error)
	ended() bool
	close(unread int) // bytes that were given and not used
}

// Stream gives bytes as they appear. Bytes behind a match are held back for
// the next call. Calls exclude each other; Close may be called meanwhile.
type Stream struct {
	vm     *VM    // nil for captures
	forget func() // takes the stream off the list of open ones
	kind   string // "tail_file", "console_read" ...
	detail string // path, number or name
	site   Site
	src    source
	noun   string // "stream", "console": in messages
	turn   chan struct{}
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu    sync.Mutex
	kept  []byte // held back
	given int64  // bytes that callers have
	split bool   // kept begins in the middle of a piece of the source
	end   error  // io.EOF, or why the source failed
}

// maxKept bounds what a search without a match holds, in bytes.
const maxKept = 256 << 20

var errStreamLimit = errors.New("timeout")

func (v *VM) newStream(kind, detail, noun string, site Site, src source) *Stream {
	s := &Stream{vm: v, kind: kind, detail: detail, noun: noun, site: site, src: src, turn: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.forget = func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.streams = slices.DeleteFunc(v.streams, func(x *Stream) bool { return x == s })
	}
	v.mu.Lock()
	v.streams = append(v.streams, s)
	v.mu.Unlock()
	return s
}

// openStream opens a stream of the agent, for the VM or one of its workers.
func openStream(ctx context.Context, by Caller, kind, detail string, site Site, open func(*guest.Client, uint64) (*guest.Stream, error)) (s *Stream, err error) {
	v := by.VM()
	err = by.call(ctx, kind, func(c *guest.Client, executor uint64) error {
		inst, err := v.running(kind, Booted)
		if err != nil {
			return err
		}
		gen := inst.generation()
		src, err := open(c, executor)
		if err == nil {
			s = v.newStream(kind, detail, "stream", site, agentSource{src, gen})
		}
		return err
	})
	return s, err
}

// TailFile opens a stream of what is added to a file behind start, or with
// fromEnd behind its end plus start. The file is what by finds under the path,
// with its credentials.
func TailFile(ctx context.Context, by Caller, path string, start int64, fromEnd bool, site Site) (*Stream, error) {
	return openStream(ctx, by, "tail_file", strconv.Quote(path), site, func(c *guest.Client, executor uint64) (*guest.Stream, error) {
		return c.TailFile(ctx, path, start, fromEnd, executor)
	})
}

type agentSource struct {
	s   *guest.Stream
	gen *generation // whose agent serves it
}

func (a agentSource) next(ctx context.Context) ([]byte, error) { return a.s.Next(ctx) }
func (a agentSource) ended() bool                              { return a.s.Ended() }
func (a agentSource) close(int)                                { a.s.Close() }

// VM is the machine the stream concerns; nil for a capture.
func (s *Stream) VM() *VM { return s.vm }

// Site is where the stream was opened.
func (s *Stream) Site() Site { return s.site }

// String names the stream and where it was opened:
// `tail_file("/var/log/app.log") at tests/log.test.lua:12`.
func (s *Stream) String() string {
	text := fmt.Sprintf("%s(%s)", s.kind, s.detail)
	if s.site.Line > 0 {
		text += fmt.Sprintf(" at %s:%d", s.site.File, s.site.Line)
	}
	if s.site.Test != "" {
		text += fmt.Sprintf(" (test `%s`)", s.site.Test)
	}
	return text
}

// begin takes the stream for one call, whose context ends with ctx, at the
// limit, or when the stream is closed.
func (s *Stream) begin(ctx context.Context, limit time.Duration) (context.Context, func(), error) {
	limited, cancel := context.WithTimeoutCause(ctx, limit, errStreamLimit)
	stop := context.AfterFunc(s.ctx, cancel)
	begun := func() { <-s.turn; stop(); cancel() }
	select { // also for a limit of 0: what is there already can be had
	case s.turn <- struct{}{}:
		return limited, begun, nil
	default:
	}
	select {
	case s.turn <- struct{}{}:
		return limited, begun, nil
	case <-limited.Done():
		stop()
		cancel()
		return nil, nil, context.Cause(limited)
	}
}

// take waits for a piece of the source and appends it to what is held back.
func (s *Stream) take(ctx context.Context) error {
	s.mu.Lock()
	end := s.end
	s.mu.Unlock()
	if end != nil {
		return end
	}
	p, err := s.src.next(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, p...)
	if err != nil && ctx.Err() == nil {
		s.end = err
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// settle turns the end of a call into what its caller should see: nothing for
// the limit, the close and the end of the stream.
func (s *Stream) settle(ctx context.Context, err error) error {
	switch {
	case s.ctx.Err() != nil, errors.Is(err, errStreamLimit), err == io.EOF:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}

func (s *Stream) takeKept() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.kept
	s.kept, s.split = nil, false
	s.given += int64(len(p))
	return p
}

// Next returns the next bytes, nil at the limit and at the end.
func (s *Stream) Next(ctx context.Context, limit time.Duration) ([]byte, error) {
	call, done, err := s.begin(ctx, limit)
	if err != nil {
		return nil, s.settle(ctx, err)
	}
	defer done()
	if p := s.takeKept(); len(p) > 0 {
		return p, nil
	}
	err = s.take(call)
	if p := s.takeKept(); len(p) > 0 {
		return p, nil
	}
	return nil, s.settle(ctx, err)
}

// Drain collects the pieces that come until the limit or the end.
func (s *Stream) Drain(ctx context.Context, limit time.Duration) ([][]byte, error) {
	return s.drain(ctx, limit, func() error { return nil })
}

// drain is Drain after a look at the stream, which nobody else reads by then.
func (s *Stream) drain(ctx context.Context, limit time.Duration, look func() error) ([][]byte, error) {
	call, done, err := s.begin(ctx, limit)
	if err != nil {
		return nil, s.settle(ctx, err)
	}
	defer done()
	if err := look(); err != nil {
		return nil, err
	}
	var all [][]byte
	for {
		if p := s.takeKept(); len(p) > 0 {
			all = append(all, p)
		}
		if err := s.take(call); err != nil {
			if p := s.takeKept(); len(p) > 0 {
				all = append(all, p)
			}
			if err = s.settle(ctx, err); len(all) > 0 && ctx.Err() == nil {
				err = nil // what has come is not lost; the next call tells
			}
			return all, err
		}
	}
}

// ReadUntil returns everything up to and including pattern. When that does not
// come it fails, and what did come is held back. op is the name in messages.
func (s *Stream) ReadUntil(ctx context.Context, op, pattern string, limit time.Duration) ([]byte, error) {
	if s.ctx.Err() != nil {
		return nil, fmt.Errorf("%s closed", s.noun)
	}
	call, done, err := s.begin(ctx, limit)
	if err == nil {
		defer done()
		var found []byte
		if found, err = s.search(call, []byte(pattern)); err == nil {
			return found, nil
		}
	}
	switch {
	case s.ctx.Err() != nil:
		return nil, fmt.Errorf("%s closed", s.noun)
	case errors.Is(err, errStreamLimit):
		return nil, fmt.Errorf("%s timed out waiting for `%s`%s", op, pattern, s.seen())
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err == io.EOF:
		return nil, fmt.Errorf("%s EOF while waiting for `%s`%s", s.noun, pattern, s.seen())
	}
	return nil, err
}

func (s *Stream) search(ctx context.Context, pattern []byte) ([]byte, error) {
	from := 0
	for {
		s.mu.Lock()
		if i := bytes.Index(s.kept[from:], pattern); i >= 0 {
			end := from + i + len(pattern)
			found := s.kept[:end:end]
			s.kept, s.split = s.kept[end:], end < len(s.kept)
			s.given += int64(end)
			s.mu.Unlock()
			return found, nil
		}
		n := len(s.kept)
		from = max(0, n-len(pattern)+1)
		s.mu.Unlock()
		if n > maxKept {
			return nil, fmt.Errorf("no `%s` in %d bytes", pattern, n)
		}
		if err := s.take(ctx); err != nil {
			s.mu.Lock()
			more := len(s.kept) > n
			s.mu.Unlock()
			if !more {
				return nil, err
			}
		}
	}
}

// seen shows the end of what did arrive.
func (s *Stream) seen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) == 0 {
		return "; nothing arrived"
	}
	return "; what arrived ends with:\n" + string(s.kept[max(0, len(s.kept)-expectTail):])
}

// EOF tells whether the source has ended and no bytes are held back.
func (s *Stream) EOF() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ctx.Err() != nil || len(s.kept) == 0 && (s.end != nil || s.src.ended())
}

// Close ends the stream and drops what is held back. Repeating it does
// nothing.
func (s *Stream) Close() {
	if s.ctx.Err() != nil {
		return
	}
	s.cancel()
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.src.close(len(s.takeKept()))
	s.forget()
}

// Streams lists the open streams that concern the VM, in order of opening.
// Those of an agent that is gone are none any more.
func (v *VM) Streams() []*Stream {
	captures := v.captured()
	v.mu.Lock()
	defer v.mu.Unlock()
	var gen *generation
	if v.inst != nil {
		gen = v.inst.generation()
	}
	var open []*Stream
	for _, s := range v.streams {
		if src, ok := s.src.(agentSource); !ok || src.gen == gen {
			open = append(open, s)
		}
	}
	return append(open, captures...)
}
