package run

import (
	"errors"
	"fmt"
	"os"
	"time"

	"provium/internal/event"
	"provium/internal/event/sink"
	"provium/internal/report/page"
)

// EventOptions say where the event stream of a run goes. The zero value is nowhere.
type EventOptions struct {
	File   string       // or ""
	Pipe   *os.File     // standard output, or nil
	Socket string       // path of a unix socket, or ""
	Format event.Format // of all of them; "" is event.Msgpack
	Page   string       // file of the HTML page that is made of them, or ""
}

// eventStream is the event stream of a run with the places that it goes to.
type eventStream struct {
	*event.Bus
	closers []func() error
}

// openEvents opens all places that events are to go to. An error names the flag.
func openEvents(o EventOptions) (*eventStream, error) {
	format := o.Format
	if format == "" {
		format = event.Msgpack
	}
	s := &eventStream{}
	var sinks []event.Sink
	add := func(flag string, to interface {
		event.Sink
		Close() error
	}) {
		sinks = append(sinks, to)
		s.closers = append(s.closers, func() error { return flagError(flag, to.Close()) })
	}
	if o.File != "" {
		file, err := sink.Create(o.File, format)
		if err != nil {
			return nil, flagError("--save-events", err)
		}
		add("--save-events", file)
	}
	if o.Socket != "" {
		socket, err := sink.Listen(o.Socket, format)
		if err != nil {
			return nil, errors.Join(flagError("--events-socket", err), s.close())
		}
		add("--events-socket", socket)
	}
	if o.Pipe != nil {
		add("--events-stdout", sink.NewPipe(o.Pipe, format))
	}
	if o.Page != "" {
		if err := checkWritable(o.Page); err != nil {
			return nil, errors.Join(flagError("--report", err), s.close())
		}
		add("--report", &pageFile{path: o.Page})
	}
	s.Bus = event.NewBus(time.Now, sinks...)
	return s, nil
}

// pageFile makes a page of all events at the end.
type pageFile struct {
	page.Builder
	path string
}

func (p *pageFile) Close() error { return WriteWhole(p.path, p.Write) }

func flagError(flag string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", flag, err)
}

// isRead reports whether events go anywhere, so that those of all kinds are wanted.
func (s *eventStream) isRead() bool { return len(s.closers) > 0 }

// close returns what kept events from their places.
func (s *eventStream) close() error {
	var errs []error
	if s.Bus != nil {
		errs = append(errs, s.Err())
	}
	for _, c := range s.closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}
