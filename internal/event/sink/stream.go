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
	Flag string // such as --report
	To   interface {
		event.Sink
		Close() error
	}
}

// Stream is the event stream of a run with the places that it goes to.
type Stream struct {
	*event.Bus
	closers []func() error
}

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
		s.closers = append(s.closers, func() error { return flagError(p.Flag, p.To.Close()) })
	}
	if o.File != "" {
		file, err := Create(o.File, format)
		if err != nil {
			return nil, flagError("--save-events", err)
		}
		add(Place{"--save-events", file})
	}
	if o.Socket != "" {
		socket, err := Listen(o.Socket, format)
		if err != nil {
			return nil, errors.Join(flagError("--events-socket", err), s.Close())
		}
		add(Place{"--events-socket", socket})
	}
	if o.Pipe != nil {
		add(Place{"--events-stdout", NewPipe(o.Pipe, format)})
	}
	for _, p := range o.Other {
		add(p)
	}
	s.Bus = event.NewBus(time.Now, sinks...)
	return s, nil
}

func flagError(flag string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", flag, err)
}

// IsRead reports whether events go anywhere, so that those of all kinds are wanted.
func (s *Stream) IsRead() bool { return len(s.closers) > 0 }

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
