package file

import (
	"io"

	"golang.org/x/sys/unix"

	"provium/internal/agent/session"
	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// source is an open file as wire.DataReader wants it.
type source struct {
	in  *sys.Interruptible
	fd  int
	get func(fd int, p []byte) (int, error)
}

// Read reads once. It returns 0 at the end.
func (s *source) Read(p []byte) (int, error) { return s.get(s.fd, p) }

// Seek is lseek.
func (s *source) Seek(offset int64, whence int) (at int64, err error) {
	err = s.in.Do(func() error {
		at, err = unix.Seek(s.fd, offset, whence)
		return err
	})
	return at, err
}

// mayHaveHoles reports whether a file takes less room than it has bytes.
func mayHaveHoles(st *unix.Stat_t) bool {
	const block = 512
	return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Blocks < (st.Size+block-1)/block
}

// sendPieces streams the data of a file.
func sendPieces(o *session.Op, in *sys.Interruptible, fd int, st *unix.Stat_t,
	get func(fd int, p []byte) (int, error)) error {
	r := wire.NewDataReader(&source{in, fd, get}, mayHaveHoles(st))
	b := o.Buffer()
	defer o.Release(b)
	for {
		if err := o.Context().Err(); err != nil {
			return err
		}
		offset, n, err := r.Next(b.Payload()[wire.PieceHeader:])
		if err != nil && err != io.EOF {
			return err
		}
		wire.PutPiece(b.Payload(), offset, n)
		if e := o.Stream(wire.StreamData, b, wire.PieceHeader+n); e != nil || err == io.EOF {
			return e
		}
	}
}

// takePieces writes the pieces from body. Where the file is not a regular one, what is
// there already may show in holes: they are written as zeros.
func (t *target) takePieces(body *session.Body) error {
	var st unix.Stat_t
	if err := t.in.Do(func() error { return unix.Fstat(t.fd, &st) }); err != nil {
		return err
	}
	regular := st.Mode&unix.S_IFMT == unix.S_IFREG
	at := int64(0)
	moveTo := func(offset int64) error {
		if regular {
			at = offset
			return t.in.Do(func() error {
				_, err := unix.Seek(t.fd, offset, io.SeekStart)
				return err
			})
		}
		zeros := make([]byte, wire.ChunkSize)
		for at < offset {
			n := min(offset-at, int64(len(zeros)))
			if err := t.write(zeros[:n]); err != nil {
				return err
			}
			at += n
		}
		return nil
	}
	var pieces wire.Pieces
	for {
		p, err := body.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = pieces.Feed(p, func(offset int64, p []byte) error {
				if offset != at {
					if err := moveTo(offset); err != nil {
						return err
					}
				}
				at += int64(len(p))
				return t.write(p)
			})
		}
		if err != nil {
			return err
		}
	}
	size, err := pieces.Size()
	switch {
	case err != nil || size == at:
		return err
	case regular:
		return t.in.Do(func() error { return unix.Ftruncate(t.fd, size) })
	}
	return moveTo(size)
}
