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
	data *blockdev.Disk // that is recorded; a restore replaces that of the disk
	rec  *blockdev.Recording
}

// Record starts a recording of at most limit bytes of data.
func (d *Disk) Record(limit int64) (*Recording, error) {
	r, err := d.record(limit)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recording = r
	return r, nil
}

// record starts a recording that LastRecording does not return.
func (d *Disk) record(limit int64) (*Recording, error) {
	data, err := d.backend()
	if err != nil {
		return nil, err
	}
	rec, err := data.Record(limit)
	if err != nil {
		return nil, err
	}
	return d.own(data, rec)
}

// errRestored is returned when a restore has replaced the contents meanwhile.
var errRestored = errors.New("disk was restored meanwhile")

// own makes the disk close a recording together with the contents data.
func (d *Disk) own(data *blockdev.Disk, rec *blockdev.Recording) (*Recording, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.detached:
		return nil, errors.Join(errDetached, rec.Close())
	case d.data != data:
		return nil, errors.Join(errRestored, rec.Close())
	}
	d.recordings = append(d.recordings, rec)
	return &Recording{d, data, rec}, nil
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
	return d.own(data, rec)
}

// LastRecording returns the latest recording of the disk, nil without one.
func (d *Disk) LastRecording() *Recording {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.recording
}

// errNoRecording is returned for a mark on a disk that has no recording.
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
		r.data.StopRecording()
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

// states stops the recording and returns the states that a power cut could have
// left.
func (r *Recording) states() (*blockdev.States, error) {
	d := r.disk
	d.mu.Lock()
	detached, open := d.detached, slices.Contains(d.recordings, r.rec)
	d.mu.Unlock()
	switch {
	case detached:
		return nil, errDetached
	case !open:
		return nil, errors.New("the recording was closed")
	}
	r.Stop()
	return r.rec.States()
}
