package recording

import (
	"errors"
	"os"
)

// Range is a part of a memory.
type Range struct{ At, Length int64 }

// Tape is what is needed to run a recorded guest again. Its files are open.
type Tape struct {
	Memory, State, Log *os.File
	StateAt, StateLen  int64           // of the devices' state, in State
	Changed            []Range         // parts of the memory that State has, at their offsets, in order
	Done               <-chan struct{} // closed when the log is complete
	Recorder           *Recorder
	Manifest           Manifest // but for what the recorder and the files know
}

// IsComplete reports whether the guest has ended, and with it the log.
func (t *Tape) IsComplete() bool {
	select {
	case <-t.Done:
		return true
	default:
		return false
	}
}

// Close closes the files.
func (t *Tape) Close() error {
	var errs []error
	for _, f := range []*os.File{t.Memory, t.State, t.Log} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
