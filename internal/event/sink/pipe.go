package sink

import (
	"fmt"
	"io"
	"time"

	"provium/internal/event"
)

const (
	// pipeRoom is how many bytes may wait for the reader of a pipe.
	pipeRoom = 64 << 20
	// pipePatience is how long the reader of a pipe may take nothing once the run is over.
	pipePatience = 30 * time.Second
)

// Pipe writes a stream to standard output or another pipe, from a goroutine of its own. It
// loses nothing: when 64 MiB wait for the reader, the run waits, too.
type Pipe struct {
	queue  *queue
	format event.Format
}

// NewPipe returns a Pipe that writes to w. The caller must call Close.
func NewPipe(w io.Writer, format event.Format) *Pipe { return &Pipe{newQueue(w, pipeRoom), format} }

// Put implements [event.Sink].
func (s *Pipe) Put(b *event.Batch) error {
	p, err := b.Bytes(s.format)
	if err != nil {
		return err
	}
	if err := s.queue.put(p); err != nil {
		return fmt.Errorf("event write: %w", err)
	}
	return nil
}

// Close waits until everything is written, or the reader has taken nothing for 30 s. It
// does not close the writer.
func (s *Pipe) Close() error {
	if err := s.queue.drain(pipePatience); err != nil {
		return fmt.Errorf("event write: %w", err)
	}
	return nil
}
