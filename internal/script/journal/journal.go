// Package journal records what the calls of a test file do: operations with their results,
// and changes of networks, disks and clocks. It emits them as events.
//
// It carries out nothing, and keeps nothing but the operations that run. Start with Journal.
package journal

import (
	"sync"
	"time"

	"provium/internal/event"
	"provium/internal/lua"
)

// startDelay is after how long the start of an operation that has not ended is emitted.
const startDelay = 10 * time.Millisecond

// Journal emits what the calls of one file do. It is safe for concurrent use.
type Journal struct {
	Emit func(event.Event)
	Path string // of the file
	On   bool   // else nothing is emitted
	// Brief says that only operations are emitted that take long.
	Brief bool

	mu sync.Mutex
	id uint64 // of the last operation
}

// Call is a call of the Lua API.
type Call struct {
	Test  string // name of the test, empty for the chunk
	VM    string // that it concerns, or empty
	Text  string // with its arguments
	Where string // file and line
}

// Operation is a call that waits for something.
type Operation struct {
	j     *Journal
	call  Call
	id    uint64
	start time.Time
	spent time.Duration // from start to Waited

	mu    sync.Mutex
	over  bool
	told  bool // the start was emitted
	timer *time.Timer
}

// Begin records that an operation starts at the time now.
func (j *Journal) Begin(c Call, now time.Time) *Operation {
	if !j.On {
		return nil
	}
	j.mu.Lock()
	j.id++
	op := &Operation{j: j, call: c, id: j.id, start: now}
	j.mu.Unlock()
	op.mu.Lock()
	defer op.mu.Unlock()
	op.timer = time.AfterFunc(startDelay, op.announce)
	return op
}

// announce emits the start of an operation that takes long.
func (op *Operation) announce() {
	op.mu.Lock()
	defer op.mu.Unlock()
	if op.over {
		return
	}
	op.told = true
	op.j.Emit(event.OperationStarted{Path: op.j.Path, Name: op.call.Test, ID: op.id, VMName: op.call.VM,
		Call: op.call.Text, Where: op.call.Where, StartNS: op.start.UnixNano()})
}

// Waited records that the wait is over, at the time now. End must follow.
func (op *Operation) Waited(now time.Time) {
	if op == nil {
		return
	}
	op.timer.Stop()
	op.mu.Lock()
	defer op.mu.Unlock()
	op.over, op.spent = true, now.Sub(op.start)
}

// End emits the operation with what it returned.
func (op *Operation) End(o Outcome) {
	if op == nil {
		return
	}
	op.mu.Lock()
	wanted := op.told || !op.j.Brief
	op.mu.Unlock()
	if !wanted {
		return
	}
	e := event.OperationEnded{Path: op.j.Path, Name: op.call.Test, ID: op.id, VMName: op.call.VM,
		Call: op.call.Text, Where: op.call.Where, StartNS: op.start.UnixNano(), DurationNS: uint64(max(0, op.spent)),
		Status: event.OperationOK, Result: o.Text, ExitCode: o.ExitCode, Errno: o.Errno, Output: o.Output}
	if o.Failed {
		e.Status = event.OperationFailed
	}
	op.j.Emit(e)
}

// Returned is Waited and End with what a call has returned at the time now.
func (op *Operation) Returned(now time.Time, values []lua.Value, err error) {
	op.Waited(now)
	op.End(OutcomeOf(values, err))
}

// Changed emits what a method that returned without an error has changed, if it is one
// that changes a network, a disk or a clock.
func (j *Journal) Changed(c Call, method string, object any, values []lua.Value) {
	if !j.On || j.Brief {
		return
	}
	if e := change(j.Path, c, method, object, values); e != nil {
		j.Emit(e)
	}
}
