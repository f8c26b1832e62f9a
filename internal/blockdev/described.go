package blockdev

import (
	"io"
	"sync/atomic"
)

// described is a source that a file describes, see Contents.
type described struct {
	contents Contents
	refs     atomic.Int32
}

func (d *described) readAt(p []byte, off int64) error {
	n, err := d.contents.ReadAt(p, off)
	if err == io.EOF {
		clear(p[n:])
		err = nil
	}
	return err
}

// hole looks at nothing: what is not known to be zeroes is read.
func (d *described) hole(_, limit int64) (bool, int64) { return false, limit }

func (d *described) retain() { d.refs.Add(1) }

func (d *described) release() error {
	if d.refs.Add(-1) > 0 {
		return nil
	}
	return d.contents.Close()
}
