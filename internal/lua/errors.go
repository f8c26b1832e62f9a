package lua

// #include "glue.h"
import "C"

import (
	"errors"
	"fmt"
	"hash/maphash"
	"regexp"
)

// Error is an error that left Lua.
type Error struct {
	// Value is the error object.
	Value Value
	// Message is the error object as text.
	Message string
	// Traceback is the Lua stack where it was raised. It is empty without one,
	// as for a failure to compile.
	Traceback string
	// At is the nearest Lua line where it was raised.
	At Position

	cause error
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the Go error that a GoFunc raised or that the thread was
// interrupted with, or nil for an error of Lua itself.
func (e *Error) Unwrap() error { return e.cause }

// Raise is an error for a GoFunc to return which determines the error value that
// Lua code sees.
type Raise struct {
	// Value is the error object.
	Value Value
	// Level is, for a string, the stack level whose line is put before it, as by
	// Lua's error function: 1 is the caller. With 0, and for a level that is not
	// Lua code, nothing is put before it.
	Level int
	// Err is the Go error behind it, for errors.Is and errors.As. It may be nil.
	Err error
}

// Error returns the value as text.
func (r *Raise) Error() string {
	if s, ok := r.Value.(string); ok {
		return s
	}
	if r.Err != nil {
		return r.Err.Error()
	}
	return fmt.Sprintf("(error object is a %s value)", TypeName(r.Value))
}

// Unwrap returns Err.
func (r *Raise) Unwrap() error { return r.Err }

// PanicError is a panic in a GoFunc. It interrupts the thread.
type PanicError struct {
	Function string // name of the GoFunc
	Value    any    // what panic was called with
	Stack    string // of the goroutine
}

// Error returns the name of the function and the panic's value.
func (p *PanicError) Error() string { return fmt.Sprintf("panic in %s: %v", p.Function, p.Value) }

// Unwrap returns the panic's value if it is an error.
func (p *PanicError) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// errorValue returns what Lua code sees of an error that a GoFunc returned.
func (s *State) errorValue(err error) Value {
	switch e := err.(type) {
	case *Error:
		if text, ok := e.Value.(string); ok {
			s.raised.note(text, raisedError{cause: e.cause, traceback: e.Traceback, at: e.At})
		}
		return e.Value
	case *Raise:
		text, ok := e.Value.(string)
		if !ok {
			return e.Value
		}
		if e.Level > 0 {
			if at, _ := s.where(e.Level); at.Line > 0 {
				text = at.String() + ": " + text
			}
		}
		s.raised.note(text, raisedError{cause: err})
		return text
	}
	text := err.Error()
	if at := s.nearest(func(Position) bool { return true }); at.Line > 0 {
		text = at.String() + ": " + text
	}
	s.raised.note(text, raisedError{cause: err})
	return text
}

// newError returns the error that gl_call ended with. vals[0] is its object.
func (s *State) newError(r *C.gl_result, vals []Value) error {
	if s.thread != nil && s.thread.stopped() {
		return s.thread.stopError()
	}
	e := &Error{}
	e.Message, _ = s.unmarshal(&r.msg).(string)
	if r.trace.text != nil {
		e.Traceback = C.GoString(r.trace.text)
	}
	e.At = position(&r.trace)
	if len(vals) == 0 {
		e.Value = e.Message
		return e
	}
	e.Value = vals[0]
	if text, ok := e.Value.(string); ok {
		if known, ok := s.raised.find(text); ok {
			e.cause = known.cause
			if known.traceback != "" {
				e.Traceback, e.At = known.traceback, known.at
			}
		}
	}
	return e
}

// position returns the position in t.
func position(t *C.gl_trace) Position {
	if t.line <= 0 || t.source == nil {
		return Position{}
	}
	p := Position{Line: int(t.line)}
	src := C.GoString(t.source)
	switch {
	case src != "" && src[0] == '@':
		p.Source, p.File = src[1:], true
	case src != "" && src[0] == '=':
		p.Source = src[1:]
	default:
		p.Source = "[string]"
	}
	return p
}

// raisedErrors remembers the last errors that went from Go into Lua, so that
// one that leaves Lua with the same text is recognised. Lua's error object is
// only the text, which tests compare, cut and print. Texts are kept as hashes,
// since they may be long.
type raisedErrors struct {
	seed maphash.Seed
	last [64]raisedError
	next int
}

type raisedError struct {
	hash      uint64
	length    int
	cause     error
	traceback string
	at        Position
}

func (r *raisedErrors) note(text string, e raisedError) {
	if r.seed == (maphash.Seed{}) {
		r.seed = maphash.MakeSeed()
	}
	if e.cause == nil && e.traceback == "" {
		return
	}
	e.hash, e.length = maphash.String(r.seed, text), len(text)
	r.last[r.next] = e
	r.next = (r.next + 1) % len(r.last)
}

// find returns the latest error with the text. It also looks behind positions
// which error and coroutine.wrap put before it.
func (r *raisedErrors) find(text string) (raisedError, bool) {
	if r.seed == (maphash.Seed{}) {
		return raisedError{}, false
	}
	for range 8 {
		if e, ok := r.exactly(text); ok {
			return e, true
		}
		at := linePrefix.FindString(text)
		if at == "" {
			break
		}
		text = text[len(at):]
	}
	return raisedError{}, false
}

var linePrefix = regexp.MustCompile(`^[^\n]*?:[0-9]+: `)

func (r *raisedErrors) exactly(text string) (raisedError, bool) {
	hash := maphash.String(r.seed, text)
	for i := range r.last {
		e := &r.last[(r.next-1-i+2*len(r.last))%len(r.last)]
		if e.length == len(text) && e.hash == hash && (e.cause != nil || e.traceback != "") {
			return *e, true
		}
	}
	return raisedError{}, false
}

var errNested = errors.New("stack overflow: too many threads started inside one another")
