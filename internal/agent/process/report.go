package process

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// What is on the other end of a report; executor/program/protocol.h has the numbers.
const (
	reportCwd = 1 + iota
	reportUser
	reportExec
	reportStarted
	reportEnded
	// ReportKept stands in an answer: the child is a keeper, and that of the executor.
	ReportKept

	reportSize = 8
)

// report is how a command began and ended, as its executor tells on a pipe. A nil
// report has nothing to tell. It is safe for concurrent use.
type report struct {
	launch  *Launch
	waiters *sys.Waiters

	mu      sync.Mutex
	fd      int // does not block; -1 when nothing more comes
	started bool
	failed  error
	status  unix.WaitStatus
	ended   bool // status is known
}

// take reads what comes until done or the end of the report. The caller must hold
// r.mu.
func (r *report) take(done func() bool) error {
	var message [reportSize]byte // written at once
	for r.fd >= 0 && !done() {
		n, err := sys.ReadNow(r.fd, message[:])
		switch {
		case err == unix.EAGAIN:
			err = r.await()
		case err == nil && n == len(message):
			e := binary.NativeEndian
			r.add(int32(e.Uint32(message[:])), int32(e.Uint32(message[4:])))
		case err == nil:
			// The end is also the sign of a program that was executed.
			r.started = true
			r.shut()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// await waits until there is something to read.
func (r *report) await() error {
	w, err := r.waiters.Get()
	if err != nil {
		return err
	}
	if err = w.Watch(r.fd, 0); err == nil {
		var events [1]unix.EpollEvent
		_, err = w.Await(events[:])
	}
	if err != nil || w.Unwatch(r.fd) != nil {
		w.Close()
		return err
	}
	r.waiters.Put(w)
	return nil
}

// add takes one message.
func (r *report) add(kind, value int32) {
	switch kind {
	case reportStarted:
		r.started = true
	case reportEnded:
		r.status, r.ended = unix.WaitStatus(value), true
	default:
		r.failed = r.launch.failure(uint32(kind), unix.Errno(value))
	}
}

// begin waits until the program is executed. It returns an error where it was not.
func (r *report) begin() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.take(func() bool { return r.started || r.failed != nil }); err != nil {
		return err
	}
	return r.failed
}

// end returns the status if the report has it, or why there was nothing to end. The
// command must have ended. Nothing may be asked of the report after that.
func (r *report) end() (ws unix.WaitStatus, known bool, failed error) {
	if r == nil {
		return 0, false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.shut()
	if err := r.take(func() bool { return r.ended || r.failed != nil }); err != nil {
		return 0, false, err
	}
	return r.status, r.ended, r.failed
}

func (r *report) shut() {
	if r.fd >= 0 {
		sys.CloseNow(r.fd)
		r.fd = -1
	}
}
