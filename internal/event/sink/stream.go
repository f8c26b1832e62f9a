package sink

import (
	"errors"
	"fmt"
	"os"
	"time"

	"provium/internal/event"
)

// Options say where the event stream of a run goes. The zero value is nowhere.
type Options struct {
	File   string       // or ""
	Pipe   *os.File     // standard output, or nil
	Socket string       // path of a unix socket, or ""
	Format event.Format // of all of them; "" is event.Msgpack
	Other  []Place      // further places
}

// Place is where events go, and what a user chose it with.
type Place struct {
	Flag string // such as --report, or "" for one that nobody has asked for
	// Level is how much is wanted at least. The zero value is event.Everything for a place
	// that was asked for.
	Level event.Level
	To    interface {
		event.Sink
		Close() error
	}
}

// Stream is the event stream of a run with the places that it goes to.
type Stream struct {
	*event.Bus
	level   event.Level
	closers []func() error
	starts  []restarter
}

// restarter is a place that keeps the events of the latest iteration only.
type restarter interface{ Restart() error }

// Open opens all places that events are to go to. An error names the flag.
func Open(o Options) (*Stream, error) {
	format := o.Format
	if format == "" {
		format = event.Msgpack
	}
	s := &Stream{}
	var sinks []event.Sink
	add := func(p Place) {
		sinks = append(sinks, p.To)
		if p.Flag != "" && p.Level == event.Results {
			p.Level = event.Everything
		}
		s.level = max(s.level, p.Level)
		if r, ok := p.To.(restarter); ok {
			s.starts = append(s.starts, r)
		}
		s.closers = append(s.closers, func() error { return flagError(p.Flag, p.To.Close()) })
	}
	if o.File != "" {
		file, err := Create(o.File, format)
		if err != nil {
			return nil, flagError("--save-events", err)
		}
		add(Place{Flag: "--save-events", To: file})
	}
	if o.Socket != "" {
		socket, err := Listen(o.Socket, format)
		if err != nil {
			return nil, errors.Join(flagError("--events-socket", err), s.Close())
		}
		add(Place{Flag: "--events-socket", To: socket})
	}
	if o.Pipe != nil {
		add(Place{Flag: "--events-stdout", To: NewPipe(o.Pipe, format)})
	}
	for _, p := range o.Other {
		add(p)
	}
	s.Bus = event.NewBus(time.Now, sinks...)
	return s, nil
}

func flagError(flag string, err error) error {
	if err == nil || flag == "" {
		return err
	}
	return fmt.Errorf("%s: %w", flag, err)
}

// Level returns how much is wanted of what happens within tests.
func (s *Stream) Level() event.Level { return s.level }

// Restart has places that keep the events of the latest iteration only, such as files, forget
// what they have. It must not be called while events come.
func (s *Stream) Restart() error {
	var errs []error
	for _, r := range s.starts {
		errs = append(errs, r.Restart())
	}
	return errors.Join(errs...)
}

// Close closes all places and returns what kept events from their places.
func (s *Stream) Close() error {
	var errs []error
	if s.Bus != nil {
		errs = append(errs, s.Err())
	}
	for _, c := range s.closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}
