package run

import (
	"errors"
	"fmt"
	"os"
	"time"

	"provium/internal/event"
	"provium/internal/event/sink"
	"provium/internal/image"
)

// EventOptions say where the event stream of a run goes. The zero value is nowhere.
type EventOptions struct {
	File   string       // or ""
	Pipe   *os.File     // standard output, or nil
	Socket string       // path of a unix socket, or ""
	Format event.Format // of all of them; "" is event.Msgpack
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
	s.Bus = event.NewBus(time.Now, sinks...)
	return s, nil
}

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

// downloadEvents returns what emits the progress of downloads. One downloads at a time.
func downloadEvents(emit func(event.Event)) func(image.Download) {
	var started time.Time
	return func(d image.Download) {
		switch {
		case d.Ended:
			done := event.DownloadDone{What: d.What, DurationNS: uint64(time.Since(started))}
			if d.Err != nil {
				done.Error = d.Err.Error()
			}
			emit(event.DownloadProgress{What: d.What, DoneBytes: uint64(d.Done), TotalBytes: uint64(d.Total)})
			emit(done)
		case d.Began:
			started = time.Now()
			emit(event.DownloadStarted{What: d.What})
		default:
			emit(event.DownloadProgress{What: d.What, DoneBytes: uint64(d.Done), TotalBytes: uint64(d.Total)})
		}
	}
}
