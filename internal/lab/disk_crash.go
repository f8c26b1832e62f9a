package lab

import (
	"errors"
	"fmt"
	"slices"

	"provium/internal/blockdev"
	"provium/internal/blockdev/crash"
	"provium/internal/blockdev/fault"
)

// DiskCut is how a power cut is to go; its zero value keeps nothing that was not
// flushed.
type DiskCut = blockdev.Cut

// DiskCutResult is what a power cut did.
type DiskCutResult = blockdev.CutResult

// DiskKeep says what a power cut keeps of what was not flushed.
type DiskKeep = blockdev.Keep

// What a power cut can keep.
const (
	KeepNone   = blockdev.KeepNone
	KeepPrefix = blockdev.KeepPrefix
)

// DiskKeeps lists what a power cut can keep.
func DiskKeeps() []DiskKeep { return blockdev.Keeps() }

// DiskRecordLimit is how much data a recording keeps unless told otherwise, in
// bytes.
const DiskRecordLimit = blockdev.RecordLimit

// DiskOp is an entry of a recording's log.
type DiskOp = crash.Op

// Kinds of entries.
const (
	DiskWrite = crash.Write
	DiskFlush = crash.Flush
	DiskMark  = crash.Mark
)

// PowerCut loses what the guest has not flushed, except for what c keeps. Until
// the machine is reset, or booted again, the disk can be read but not changed by
// the guest.
func (d *Disk) PowerCut(c DiskCut) (DiskCutResult, error) {
	data, err := d.backend()
	if err != nil {
		return DiskCutResult{}, err
	}
	return data.PowerCut(c)
}

// PowerOn ends a power cut without a reset of the machine.
func (d *Disk) PowerOn() error {
	data, err := d.backend()
	if err == nil {
		data.PowerOn()
	}
	return err
}

// Recording is the log of what was written to a disk and flushed. It belongs to
// the disk and ends with it.
type Recording struct {
	disk *Disk
	rec  *blockdev.Recording
}

// Record begins a recording of at most limit bytes of data.
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
	return rec, d.keep(rec)
}

// keep has a recording closed with the disk.
func (d *Disk) keep(rec *blockdev.Recording) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.detached {
		return errors.Join(errDetached, rec.Close())
	}
	d.recordings = append(d.recordings, rec)
	return nil
}

// LoadRecording gives a recording that was saved, of a disk of the same size.
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
		return nil, errors.Join(fmt.Errorf("recording `%s` is of a disk of %d bytes, disk `%s` has %d", path, rec.Size(), d.spec.ID, data.Size()), rec.Close())
	}
	return &Recording{d, rec}, d.keep(rec)
}

// LastRecording is the latest one of the disk; nil when there is none.
func (d *Disk) LastRecording() *Recording {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.recording
}

// errNoRecording is a disk without a recording, or one that has ended.
var errNoRecording = errors.New("is not being recorded; disk:record() begins a recording")

// Mark notes in the disk's recording that all it has so far was done before now.
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

// Disk is what was recorded.
func (r *Recording) Disk() *Disk { return r.disk }

// Stop ends the recording. Repeating it does nothing.
func (r *Recording) Stop() {
	if why, _ := r.rec.Ended(); why == "" && r.disk.contents() != nil {
		r.disk.contents().StopRecording()
	}
}

// Save writes the recording, which must have ended, to a file.
func (r *Recording) Save(path string) error { return r.rec.Save(path) }

// Close gives back what the recording takes. Repeating it does nothing.
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

// Mark notes that all that the log has so far was done before now.
func (r *Recording) Mark(label string) error { return r.rec.Mark(label) }

// Log is what was noted so far.
func (r *Recording) Log() []DiskOp { return r.rec.Log() }

// Len is how many entries were noted so far, Bytes how much data.
func (r *Recording) Len() int { return r.rec.Len() }

// Bytes is how many bytes of data were noted so far.
func (r *Recording) Bytes() int64 { return r.rec.Bytes() }

// Ended tells why the recording ended, "" while it goes on. An error tells that
// it does not have everything.
func (r *Recording) Ended() (string, error) { return r.rec.Ended() }

// DiskRequest is a kind of request of guests.
type DiskRequest = fault.Op

// WriteRequest is the one that tells of writes.
const WriteRequest = fault.Write

// DiskRequests lists the kinds.
func DiskRequests() []DiskRequest { return fault.CountOps() }

// CountRequests counts the guest's requests of a kind from now on, and has the
// n-th one fail; with 0 none does. StopCounting ends that.
func (d *Disk) CountRequests(kind DiskRequest, n int64) (*fault.Count, error) {
	data, err := d.backend()
	if err != nil {
		return nil, err
	}
	return data.CountRequests(kind, n), nil
}

// StopCounting ends what CountRequests began.
func (d *Disk) StopCounting() {
	if d.data != nil {
		d.data.StopCounting()
	}
}
