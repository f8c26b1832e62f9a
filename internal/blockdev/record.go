package blockdev

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"provium/internal/blockdev/crash"
)

// Recording is a log of the writes and flushes of a disk, with the data, and the medium
// as it was before. It is safe for concurrent use.
type Recording struct {
	limit int64
	size  int64 // of the disk
	base  *stack
	refs  atomic.Int32
	data  *os.File // of the writes, one behind the other
	// dataAt is where in it they begin.
	dataAt int64

	mu      sync.Mutex
	spool   *spool // to data; finished when the recording has ended
	log     []crash.Op
	at      []int64 // per entry: its data in the file; -1 for zeroes
	written int64
	ended   string // why it ended; "" while it goes on
	failed  bool   // it does not have everything
}

// maxRecorded is the number of entries that a recording can have.
const maxRecorded = crash.MaxOps

// RecordLimit is the default limit for the data of a recording, in bytes.
const RecordLimit = 8 << 30

// ErrRecording is returned for a disk that is being recorded already.
var ErrRecording = errors.New("is being recorded already")

// Record begins a recording of at most limit bytes of data. The caller must close it.
func (d *Disk) Record(limit int64) (*Recording, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return nil, ErrClosed
	case d.recording.goesOn():
		return nil, ErrRecording
	case d.off:
		return nil, errors.New("has no power: call disk:power_on() or reset the VM first")
	}
	if s, ok := d.medium.(*stack); ok {
		if _, ok := s.base.(*described); ok {
			return nil, errors.New("has the guest's userland, which is read-only: there is nothing to record")
		}
	}
	r := &Recording{limit: limit, size: d.size.Load()}
	var err error
	if r.data, err = temporary(d.cfg.TempDir, 0); err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	r.spool = newSpool(r.data)
	r.base = d.medium.seal()
	r.refs.Store(1)
	// What is in the cache was written, and can be lost.
	_ = d.cache.table.held(d.size.Load()/SectorSize, func(first, n int64, at place) error {
		if at == zeroed {
			r.write(first, n, nil, false)
		} else {
			r.write(first, n, fileSource(d.cache.file(at), first*SectorSize), false)
		}
		return nil
	})
	if _, err := r.Ended(); err != nil {
		return nil, errors.Join(fmt.Errorf("recording: %w", err), r.Close())
	}
	d.recording = r
	d.meddlings.Add(1)
	return r, nil
}

// StopRecording ends the recording of the disk, if there is one.
func (d *Disk) StopRecording() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopRecording("it was stopped")
}

// stopRecording ends the recording, if there is one, with a reason. The caller must hold d.mu.
func (d *Disk) stopRecording(why string) {
	if d.recording != nil {
		d.recording.end(why)
		d.recording = nil
	}
}

func (r *Recording) end(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endLocked(why, false)
}

// endLocked ends the recording, unless it has ended. The caller must hold r.mu.
func (r *Recording) endLocked(why string, failed bool) {
	if r.ended != "" {
		return
	}
	r.ended, r.failed = why, failed
	if err := r.spool.finish(); err != nil {
		r.ended, r.failed = err.Error(), true
	}
}

func (r *Recording) goesOn() bool {
	if r == nil {
		return false
	}
	why, _ := r.Ended()
	return why == ""
}

// dataSource fills p with the next data of a write.
type dataSource func(p []byte) error

func memorySource(p []byte) dataSource {
	return func(to []byte) error {
		p = p[copy(to, p):]
		return nil
	}
}

func fileSource(b *blob, at int64) dataSource {
	return func(to []byte) error {
		err := b.readAt(to, at)
		at += int64(len(to))
		return err
	}
}

// write adds a write to the log; data is nil for zeroes.
func (r *Recording) write(first, count int64, data dataSource, fua bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := int64(-1)
	if data != nil && r.ended == "" {
		n := count * SectorSize
		if r.written+n > r.limit {
			r.endLocked(fmt.Sprintf("more than its limit of %d bytes was written", r.limit), true)
			return
		}
		at = r.written
		if err := r.spool.append(n, data); err != nil {
			r.endLocked(err.Error(), true)
			return
		}
		r.written += n
	}
	r.add(crash.Op{First: first, Count: count, FUA: fua}, at)
}

// add adds an entry to the log. The caller must hold r.mu.
func (r *Recording) add(op crash.Op, at int64) {
	if r.ended == "" && len(r.log) == maxRecorded {
		r.endLocked(fmt.Sprintf("it has %d entries, more are not kept", maxRecorded), true)
	}
	if r.ended == "" {
		r.log, r.at = append(r.log, op), append(r.at, at)
	}
}

func (r *Recording) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(crash.Op{Kind: crash.Flush}, 0)
}

// Mark adds a mark to the log: all entries before it were done when it was called.
func (r *Recording) Mark(label string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != "" {
		return fmt.Errorf("the recording has ended: %s", r.ended)
	}
	r.add(crash.Op{Kind: crash.Mark, Label: label}, 0)
	return nil
}

// Size returns the size of the disk in bytes.
func (r *Recording) Size() int64 { return r.size }

// Log returns the entries so far.
func (r *Recording) Log() []crash.Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// Len returns the number of entries so far.
func (r *Recording) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.log)
}

// Bytes returns how many bytes of data the recording has so far.
func (r *Recording) Bytes() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.written
}

// Ended returns why the recording ended, or "" while it goes on. It returns an error if
// the recording is not complete.
func (r *Recording) Ended() (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed {
		return r.ended, fmt.Errorf("the recording is not complete: %s", r.ended)
	}
	return r.ended, nil
}

// Close closes the files, as soon as no disk has a content of the recording. Its States
// must not be used any more.
func (r *Recording) Close() error {
	r.end("it was closed")
	return r.release()
}

func (r *Recording) release() error {
	if r.refs.Add(-1) > 0 {
		return nil
	}
	return errors.Join(r.base.close(), r.data.Close())
}

// note must be called before a write of whole sectors, for power cuts and recordings; p
// is nil for zeroes. The caller must hold d.mu.
func (d *Disk) note(off, n int64, p []byte, settled bool) error {
	if err := d.unflushed.note(d.cache, d.cfg.TempDir, off, n, settled); err != nil {
		return err
	}
	if d.recording != nil {
		var data dataSource
		if p != nil {
			data = memorySource(p)
		}
		d.recording.write(off/SectorSize, n/SectorSize, data, settled)
	}
	return nil
}

// noteSectors is note for a write of sectors to the medium. The rest of a sector
// that is covered in part is as the medium has it. The caller must hold d.mu.
func (d *Disk) noteSectors(first int64, p []byte) error {
	n := wholeSectors(int64(len(p)))
	if d.recording == nil || n == int64(len(p)) {
		return d.note(first*SectorSize, n, p, true)
	}
	whole := make([]byte, n)
	last := n - SectorSize
	if err := d.medium.readAt(whole[last:], first*SectorSize+last); err != nil {
		return err
	}
	copy(whole, p)
	return d.note(first*SectorSize, n, whole, true)
}
