// Package dialog carries what a person types to the Lua state that runs it, and back what
// came of it. Both ends may be in different processes: then each has an Exchange, and what
// joins them passes the values on.
//
// It knows neither terminals nor Lua. Start with Exchange.
package dialog

import (
	"context"
	"errors"
	"io"
	"sync"
)

// Typed is what a person asks for: to run a piece of code, or to complete a line.
type Typed struct {
	Source   string
	Complete bool // Source is a line up to the cursor
}

// Shown is what came of a Typed.
type Shown struct {
	Text       string // values or an error; it may be of a guest
	Incomplete bool   // more lines are expected: nothing was run
	Names      []string
}

// Exchange joins a person with code. The methods of each end are for one goroutine, but
// Break, Close and End may be called from any.
type Exchange struct {
	typed  chan Typed
	shown  chan Shown
	breaks chan struct{}

	closing, ending sync.Once
	closed, ended   chan struct{}
	err             error // of End
}

// New returns an Exchange.
func New() *Exchange {
	return &Exchange{typed: make(chan Typed), shown: make(chan Shown), breaks: make(chan struct{}, 1),
		closed: make(chan struct{}), ended: make(chan struct{})}
}

// ErrEnded is returned to the person when the code has gone.
var ErrEnded = errors.New("what was looked at has ended")

// Ask sends a wish and waits for what comes of it. A Break that came too late for the wish
// before is dropped.
func (x *Exchange) Ask(t Typed) (Shown, error) {
	select {
	case <-x.breaks:
	default:
	}
	select {
	case x.typed <- t:
	case <-x.ended:
		return Shown{}, x.err
	}
	select {
	case s := <-x.shown:
		return s, nil
	case <-x.ended:
		return Shown{}, x.err
	}
}

// Run asks for a piece of code to be run.
func (x *Exchange) Run(source string) (Shown, error) { return x.Ask(Typed{Source: source}) }

// Complete asks for the lines that a line may become.
func (x *Exchange) Complete(line string) ([]string, error) {
	s, err := x.Ask(Typed{Source: line, Complete: true})
	return s.Names, err
}

// Break asks for the end of what runs.
func (x *Exchange) Break() {
	select {
	case x.breaks <- struct{}{}:
	default: // one is on its way
	}
}

// Close says that the person has left.
func (x *Exchange) Close() { x.closing.Do(func() { close(x.closed) }) }

// Receive waits for the next wish. It returns io.EOF when the person has left.
func (x *Exchange) Receive(ctx context.Context) (Typed, error) {
	select {
	case t := <-x.typed:
		return t, nil
	case <-x.closed:
		return Typed{}, io.EOF
	case <-ctx.Done():
		return Typed{}, context.Cause(ctx)
	}
}

// Answer sends what came of the last wish.
func (x *Exchange) Answer(s Shown) error {
	select {
	case x.shown <- s:
		return nil
	case <-x.closed:
		return io.EOF
	case <-x.ended:
		return x.err
	}
}

// Breaks gets a value when what runs shall end.
func (x *Exchange) Breaks() <-chan struct{} { return x.breaks }

// Ended is closed by End.
func (x *Exchange) Ended() <-chan struct{} { return x.ended }

// End says that the code has gone; nil stands for ErrEnded.
func (x *Exchange) End(err error) {
	x.ending.Do(func() {
		if x.err = err; err == nil {
			x.err = ErrEnded
		}
		close(x.ended)
	})
}
