package sink

import (
	"errors"
	"fmt"
	"io"
	"os"

	"provium/internal/event"
)

// File saves a stream to a file. Every batch goes out with one write, unbuffered, so that
// a crash of the process costs at most the event being written, and a reader finds the
// end by [event.ErrTruncated].
type File struct {
	f      *os.File
	format event.Format
	end    int64 // end of the last whole event
}

// Create opens the file at path for a new stream, emptying it. A directory or an
// unwritable place is an error with the path, before anything has run.
func Create(path string, format event.Format) (*File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("event file create: %w", err)
	}
	return &File{f: f, format: format}, nil
}

// Put implements [event.Sink]. When the disk is full, what was written of the batch
// is taken back.
func (s *File) Put(b *event.Batch) error {
	p, err := b.Bytes(s.format)
	if err != nil {
		return err
	}
	n, err := s.f.Write(p)
	if err != nil {
		err = fmt.Errorf("event file write: %w", err)
		if n > 0 {
			err = errors.Join(err, s.cut(s.end))
		}
		return err
	}
	s.end += int64(n)
	return nil
}

// Restart empties the file for the next iteration of a watched run. What is no regular file
// cannot be emptied.
func (s *File) Restart() error {
	if info, err := s.f.Stat(); err != nil || !info.Mode().IsRegular() {
		return err
	}
	return s.cut(0)
}

func (s *File) cut(size int64) error {
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
func (s *File) Close() error {
	if err := s.f.Close(); err != nil {
		return fmt.Errorf("event file close: %w", err)
	}
	return nil
}
