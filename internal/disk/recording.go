package disk

import (
	"errors"
	"fmt"
	"slices"

	"provium/internal/blockdev"
	"provium/internal/blockdev/crash"
)

// Recording is the log of what was written to a disk and flushed. It belongs to
// the disk and ends with it. It is safe for concurrent use.
type Recording struct {
	disk *Disk
	rec  *blockdev.Recording
}

// Record starts a recording of at most limit bytes of data.
func (d *Disk) Record(limit int64) (*Recording, error) {
	rec, err := d.record(limit)
	if err != nil {
		return nil, err
	}
	r := &Recording{d, rec}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recording = r
	return r, nil
}

func (d *Disk) record(limit int64) (*blockdev.Recording, error) {
	data, err := d.backend()
	if err != nil {
		return nil, err
	}
	rec, err := data.Record(limit)
	if err != nil {
		return nil, err
	}
	return rec, d.own(rec)
}

// own makes the disk close a recording with itself.
func (d *Disk) own(rec *blockdev.Recording) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.detached {
		return errors.Join(errDetached, rec.Close())
	}
	d.recordings = append(d.recordings, rec)
	return nil
}

// LoadRecording opens a saved recording of a disk of the same size.
func (d *Disk) LoadRecording(path string) (*Recording, error) {
	data, err := d.backend()
	if err != nil {
		return nil, err
	}
	rec, err := blockdev.LoadRecording(path)
	if err != nil {
		return nil, err
	}
	if rec.Size() != data.Size() {
		return nil, errors.Join(fmt.Errorf("recording `%s` is of a disk of %d bytes, disk `%s` has %d",
			path, rec.Size(), d.id, data.Size()), rec.Close())
	}
	return &Recording{d, rec}, d.own(rec)
}

// LastRecording returns the latest recording of the disk, nil without one.
func (d *Disk) LastRecording() *Recording {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.recording
}

// errNoRecording is a disk without a recording, or one that has ended.
var errNoRecording = errors.New("is not being recorded; disk:record() begins a recording")

// Mark adds a mark to the disk's recording: all earlier entries were done before it.
func (d *Disk) Mark(label string) error {
	if _, err := d.backend(); err != nil {
		return err
	}
	r := d.LastRecording()
	if r == nil {
		return errNoRecording
	}
	return r.Mark(label)
}

// Disk returns the recorded disk.
func (r *Recording) Disk() *Disk { return r.disk }

// Stop ends the recording. Repeating it does nothing.
func (r *Recording) Stop() {
	if why, _ := r.rec.Ended(); why == "" {
		r.disk.contents().StopRecording()
	}
}

// Save writes the recording, which must have ended, to a file.
func (r *Recording) Save(path string) error { return r.rec.Save(path) }

// Close stops the recording and releases its file. Repeating it does nothing.
func (r *Recording) Close() error {
	r.Stop()
	d := r.disk
	d.mu.Lock()
	i := slices.Index(d.recordings, r.rec)
	if i >= 0 {
		d.recordings = slices.Delete(d.recordings, i, i+1)
	}
	if d.recording == r {
		d.recording = nil
	}
	d.mu.Unlock()
	if i < 0 {
		return nil
	}
	return r.rec.Close()
}

// Mark adds a mark: all earlier entries were done before it.
func (r *Recording) Mark(label string) error { return r.rec.Mark(label) }

// Log returns the entries so far.
func (r *Recording) Log() []crash.Op { return r.rec.Log() }

// Len returns the number of entries so far.
func (r *Recording) Len() int { return r.rec.Len() }

// Bytes returns the bytes of data so far.
func (r *Recording) Bytes() int64 { return r.rec.Bytes() }

// Ended returns why the recording ended, "" while it goes on. An error says that it
// is not complete.
func (r *Recording) Ended() (string, error) { return r.rec.Ended() }
