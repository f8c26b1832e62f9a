package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"provium/internal/qemu"
	"provium/internal/snapshot"
)

// deltaShare is how much of a guest's memory may have changed, as a divisor, for its
// snapshot to be a delta: what would be more than that is made complete.
const deltaShare = 4

// bases are the complete snapshots that temporary deltas belong to. They are held
// open, so that a delta outlives its parent's name. The zero value is ready.
type bases struct {
	mu    sync.Mutex
	files map[snapshot.FileID]*base
	of    map[snapshot.FileID]snapshot.FileID // by delta
}

type base struct {
	file *os.File
	uses int
}

// keep holds a base for a delta.
func (b *bases) keep(delta, id snapshot.FileID, file *os.File) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.files == nil {
		b.files, b.of = map[snapshot.FileID]*base{}, map[snapshot.FileID]snapshot.FileID{}
	}
	have := b.files[id]
	if have == nil {
		f, err := dupFile(file)
		if err != nil {
			return err
		}
		have = &base{file: f}
		b.files[id] = have
	}
	have.uses++
	b.of[delta] = id
	return nil
}

// drop lets go of a deleted delta's base.
func (b *bases) drop(delta snapshot.FileID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id, ok := b.of[delta]
	if !ok {
		return
	}
	delete(b.of, delta)
	if have := b.files[id]; have.uses > 1 {
		have.uses--
	} else {
		_ = have.file.Close() // it was only read
		delete(b.files, id)
	}
}

// open gives the base of that identity, nil when it is not held.
func (b *bases) open(id snapshot.FileID) (*os.File, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if have := b.files[id]; have != nil {
		return dupFile(have.file)
	}
	return nil, nil
}

// dupFile gives a second descriptor of a file, which somebody may be closing.
func dupFile(f *os.File) (*os.File, error) {
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

// parent opens what a delta lies over.
func (h *Host) parent(ctx context.Context, r *snapshot.Reader) (*os.File, error) {
	p := r.Manifest().Base
	if f, err := h.bases.open(p.ID); f != nil || err != nil {
		return f, err
	}
	parent, err := snapshot.Open(p.Path)
	if err != nil {
		return nil, fmt.Errorf("snapshot `%s` holds only what changed since another one: %w", r.Path(), err)
	}
	defer parent.Close()
	if parent.ID() != p.ID || parent.Manifest().Base != nil {
		return nil, fmt.Errorf("snapshot `%s` holds only what changed since `%s`, which is another file by now", r.Path(), p.Path)
	}
	if err := h.verify(ctx, parent); err != nil {
		return nil, err
	}
	return dupFile(parent.File())
}

// settle makes a snapshot of a restored guest a delta, or complete where too much has
// changed.
func (i *instance) settle(w *snapshot.Writer, changed []snapshot.Range) (delta bool, err error) {
	var sum int64
	for _, c := range changed {
		sum += c.Length
	}
	if sum > i.plan.cfg.Memory/deltaShare {
		return false, w.FillRAM(i.machine.RAM(), changed)
	}
	return true, w.SetBase(i.plan.parent, changed)
}

// ranges are those of package qemu.
func ranges(changed []snapshot.Range) []qemu.Range {
	out := make([]qemu.Range, len(changed))
	for i, c := range changed {
		out[i] = qemu.Range{At: c.At, Length: c.Length}
	}
	return out
}
