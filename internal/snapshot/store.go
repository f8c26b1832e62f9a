package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Store remembers what this process knows of snapshot files, one record per
// file: whether it was read through, what its taker said of it, which base a
// diff needs, and how often it was restored. E is what an agent held when the
// snapshot was taken, D the contents of disks that are not in the file.
//
// The zero value is ready. A Store is safe for concurrent use.
type Store[E any, D io.Closer] struct {
	mu      sync.Mutex
	records map[FileID]*record[E, D]
	bases   map[FileID]*heldBase
}

type record[E any, D io.Closer] struct {
	verified bool
	// ctimeNS is that of the verified file, 0 until it is opened for the first time.
	ctimeNS  int64
	restores int
	taken    *Taken[E, D] // nil: another process took it
}

// Taken is what the process that takes a snapshot knows of it beyond the file.
type Taken[E any, D io.Closer] struct {
	Epoch E

	// Token names Disks, which the file refers to by it; "" is a file that is
	// complete in itself, without Disks.
	Token string
	Disks D

	// BaseID is the full snapshot that a diff lies over. Base, its open file,
	// is duplicated and held until the diff is forgotten. Nil holds nothing.
	BaseID FileID
	Base   *os.File
}

// heldBase is a full snapshot that outlives its name while diffs need it.
type heldBase struct {
	file *os.File
	uses int // diffs over it
}

// record returns the record of a file, which it makes if there is none. The
// caller must hold s.mu.
func (s *Store[E, D]) record(id FileID) *record[E, D] {
	if s.records == nil {
		s.records = map[FileID]*record[E, D]{}
	}
	r := s.records[id]
	if r == nil {
		r = &record[E, D]{}
		s.records[id] = r
	}
	return r
}

// Trust marks a file as read through and found good.
func (s *Store[E, D]) Trust(id FileID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.record(id)
	r.verified, r.ctimeNS = true, 0
}

// Verify reads a snapshot through, unless that was done before.
func (s *Store[E, D]) Verify(ctx context.Context, r *Reader) error {
	if s.isVerified(r.state) {
		return nil
	}
	if err := r.Verify(ctx); err != nil {
		return err
	}
	s.Trust(r.ID())
	s.isVerified(r.state) // remembers when it changed
	return nil
}

// isVerified reports whether a file was verified as it is now.
func (s *Store[E, D]) isVerified(now state) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.records[now.FileID]
	if known == nil || !known.verified {
		return false
	}
	if known.ctimeNS == 0 {
		known.ctimeNS = now.ctimeNS
	}
	return known.ctimeNS == now.ctimeNS
}

// Put records a snapshot that this process has taken and marks it as verified.
// It owns t.Disks from the call on, also when it fails. What is known of the
// file already, as its restores, stays.
func (s *Store[E, D]) Put(id FileID, t Taken[E, D]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Base != nil {
		if err := s.holdBase(t.BaseID, t.Base); err != nil {
			if t.Token != "" {
				err = errors.Join(err, t.Disks.Close())
			}
			return err
		}
	}
	r := s.record(id)
	before := r.taken
	r.verified, r.ctimeNS, r.taken = true, 0, &t
	return s.release(before)
}

// holdBase counts one more diff over a base. The caller must hold s.mu.
func (s *Store[E, D]) holdBase(id FileID, file *os.File) error {
	have := s.bases[id]
	if have == nil {
		f, err := Dup(file)
		if err != nil {
			return err
		}
		if s.bases == nil {
			s.bases = map[FileID]*heldBase{}
		}
		have = &heldBase{file: f}
		s.bases[id] = have
	}
	have.uses++
	return nil
}

// release frees what a taken snapshot holds. The caller must hold s.mu.
func (s *Store[E, D]) release(t *Taken[E, D]) error {
	if t == nil {
		return nil
	}
	var err error
	if t.Token != "" {
		err = t.Disks.Close()
	}
	if t.Base != nil {
		have := s.bases[t.BaseID]
		if have.uses--; have.uses == 0 {
			_ = have.file.Close() // only read
			delete(s.bases, t.BaseID)
		}
	}
	return err
}

// Epoch returns what the agent held when a snapshot was taken; the zero value
// for one that this process has not taken.
func (s *Store[E, D]) Epoch(id FileID) (epoch E) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.records[id]; r != nil && r.taken != nil {
		epoch = r.taken.Epoch
	}
	return epoch
}

// UseDisks calls use with the disks of that token, which stay open meanwhile. It
// reports whether there are any.
func (s *Store[E, D]) UseDisks(token string, use func(D)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.records {
		if t := r.taken; t != nil && t.Token != "" && t.Token == token {
			use(t.Disks)
			return true
		}
	}
	return false
}

// OpenBase returns an open file of the full snapshot that a diff lies over, read
// through before, as Reader.Mappable returns it with dir. The caller closes it.
func (s *Store[E, D]) OpenBase(ctx context.Context, diff *Reader, dir string) (*os.File, error) {
	b := diff.Manifest().Base
	if f, err := s.openHeld(b.ID); f != nil || err != nil {
		return f, err
	}
	base, err := Open(b.Path)
	if err != nil {
		return nil, fmt.Errorf("snapshot `%s` holds only what changed since another one: %w", diff.Path(), err)
	}
	defer base.Close()
	if base.ID() != b.ID || base.Manifest().Base != nil {
		return nil, fmt.Errorf("snapshot `%s` holds only what changed since `%s`, which is another file by now",
			diff.Path(), b.Path)
	}
	if err := s.Verify(ctx, base); err != nil {
		return nil, err
	}
	f, err := base.Mappable(dir)
	if err != nil {
		return nil, err
	}
	return Dup(f)
}

// openHeld returns a descriptor of a held base, nil when it is not held.
func (s *Store[E, D]) openHeld(id FileID) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.bases[id]; have != nil {
		return Dup(have.file)
	}
	return nil, nil
}

// Restored counts a restore from a file and returns how many there were.
func (s *Store[E, D]) Restored(id FileID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.record(id)
	r.restores++
	return r.restores
}

// Restores returns how often the snapshot was restored.
func (s *Store[E, D]) Restores(id FileID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record(id).restores
}

// Forget releases all that is held for a file. Guests that were restored from it
// go on.
func (s *Store[E, D]) Forget(id FileID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[id]
	if r == nil {
		return nil
	}
	delete(s.records, id)
	return s.release(r.taken)
}

// Close forgets all files. The Store can be used again.
func (s *Store[E, D]) Close() error {
	s.mu.Lock()
	ids := make([]FileID, 0, len(s.records))
	for id := range s.records {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	var errs []error
	for id := range slices.Values(ids) {
		errs = append(errs, s.Forget(id))
	}
	return errors.Join(errs...)
}

// Dup returns a second descriptor of a file, which another goroutine may be
// closing.
func Dup(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("dup %s: %w", f.Name(), err)
	}
	copied := -1
	controlErr := raw.Control(func(fd uintptr) { copied, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) })
	if err = errors.Join(controlErr, err); err != nil {
		return nil, fmt.Errorf("dup %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(copied), f.Name()), nil
}
