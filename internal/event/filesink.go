package event

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// FileSink saves a stream to a file. Every frame goes out whole with one
// write, unbuffered, so that a crash of the process costs at most the frame
// being written, and a reader finds the end by [ErrTruncated]. It is used
// from one goroutine at a time.
type FileSink struct {
	f   *os.File
	buf []byte
	end int64 // end of the last whole frame
}

// CreateFile opens the file at path for a new stream, emptying it. A directory or
// an unwritable place is an error with the path, before anything has run.
func CreateFile(path string) (*FileSink, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("event file create: %w", err)
	}
	return &FileSink{f: f}, nil
}

// Put implements [Sink]. When the disk is full, what was written of the frame
// is taken back.
func (s *FileSink) Put(env Envelope) error {
	var err error
	if s.buf, err = AppendFrame(s.buf[:0], env); err != nil {
		return err
	}
	n, err := s.f.Write(s.buf)
	if err != nil {
		err = fmt.Errorf("event file write: %w", err)
		if n > 0 {
			err = errors.Join(err, s.cut(s.end))
		}
		return err
	}
	s.end += int64(n)
	if cap(s.buf) > 1<<20 {
		s.buf = nil
	}
	return nil
}

// Reset empties the file, as for the next iteration of a watched run.
func (s *FileSink) Reset() error { return s.cut(0) }

func (s *FileSink) cut(size int64) error {
	if err := s.f.Truncate(size); err != nil {
		// Pipes and devices cannot be cut; there is nothing to take back either.
		return fmt.Errorf("event file truncate: %w", err)
	}
	if _, err := s.f.Seek(size, io.SeekStart); err != nil {
		return fmt.Errorf("event file seek: %w", err)
	}
	s.end = size
	return nil
}

// Close closes the file.
func (s *FileSink) Close() error {
	if err := s.f.Close(); err != nil {
		return fmt.Errorf("event file close: %w", err)
	}
	return nil
}
