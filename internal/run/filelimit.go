package run

import (
	"math"
	"time"

	"provium/internal/deadline"
)

const (
	// stopGrace is how long a runner that was told to stop may take to close
	// its guests and report, before it is killed. One that says nothing for
	// stopQuiet is stuck in a call that never returns and goes at once.
	stopGrace = 15 * time.Second
	stopQuiet = 6 * time.Second
)

// own begins a limit of ours: time in which a loaded host leaves the file's processes no CPU does not count.
func (f *fileRun) own(limit time.Duration) *deadline.Deadline {
	return deadline.Begin(limit, deadline.Clock{Hindered: func() time.Duration {
		return time.Duration(f.hindered.Load())
	}})
}

// beginLimit begins the limit of the file. expired is closed when it is over, unless stop was called before.
func (f *fileRun) beginLimit() (limit *deadline.Deadline, expired <-chan struct{}, stop func()) {
	over := make(chan struct{})
	switch {
	case f.limit <= 0:
		return deadline.Begin(math.MaxInt64/deadline.Cap, deadline.Clock{}), nil, func() {}
	case f.fair:
		limit = f.own(f.limit)
	default:
		limit = deadline.Begin(f.limit, deadline.Clock{})
	}
	return limit, over, limit.After(func() { close(over) })
}

// endings are the limits of a runner that was told to stop.
type endings struct {
	f     *fileRun
	over  chan struct{} // has a token when the runner is to be killed
	grace func()        // stops the one for all
	quiet func()        // stops the one since its last word
}

func (f *fileRun) newEndings() *endings {
	return &endings{f: f, over: make(chan struct{}, 1), grace: func() {}, quiet: func() {}}
}

func (e *endings) begin() {
	e.grace = e.f.own(stopGrace).After(e.kill)
	e.heard()
}

// heard has the runner say something.
func (e *endings) heard() {
	e.quiet()
	e.quiet = e.f.own(stopQuiet).After(e.kill)
}

func (e *endings) kill() {
	select {
	case e.over <- struct{}{}:
	default:
	}
}

func (e *endings) stop() {
	e.grace()
	e.quiet()
}
