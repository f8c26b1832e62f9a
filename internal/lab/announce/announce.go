// Package announce tells what becomes of the guests of one VM, as events: boots with their
// stages, guests and their ends, what they print, what their kernels report.
//
// It starts and ends nothing. Start with VM.
package announce

import (
	"sync"
	"time"

	"provium/internal/event"
)

// VM emits the events of one VM. It is safe for concurrent use.
type VM struct {
	Emit    func(event.Event)
	File    string // the test file
	Name    string
	Profile string
	Source  Source // of the guests' kernel; may be nil

	mu    sync.Mutex
	began time.Time // when the present boot began; zero: there is none

	reports reports

	met    map[faultKey]*event.DiskFault // not yet told, since the like was told a moment ago
	faults *time.Timer                   // runs while there is a like
}

// Booting begins a boot or a restore. The caller must call done with its error.
func (v *VM) Booting() (done func(error)) {
	v.mu.Lock()
	v.began = time.Now()
	v.mu.Unlock()
	v.Emit(event.VMBootStarted{File: v.File, VMName: v.Name, Profile: v.Profile})
	return func(err error) {
		spent := v.sinceStart()
		v.mu.Lock()
		v.began = time.Time{}
		v.mu.Unlock()
		if err != nil {
			v.Emit(event.VMBootFailed{File: v.File, VMName: v.Name, DurationNS: spent, Reason: err.Error()})
		}
	}
}

func (v *VM) sinceStart() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.began.IsZero() {
		return 0
	}
	return uint64(time.Since(v.began))
}

// Reached tells that the boot has come to a stage.
func (v *VM) Reached(stage event.BootStage) {
	v.Emit(event.VMBootStage{File: v.File, VMName: v.Name, Stage: stage, DurationNS: v.sinceStart()})
}

// Printed tells what a guest has printed, in whole lines.
func (v *VM) Printed(text []byte) {
	v.Emit(event.ConsoleOutput{File: v.File, VMName: v.Name, Text: string(text)})
}

// Guest is one guest of the VM. Its end is announced exactly once if its start was.
type Guest struct {
	VM *VM

	mu        sync.Mutex
	startedAt time.Time // zero: not announced
	over      bool
	reason    string
}

// Started announces the guest. restored says that it comes from a snapshot, cached that
// this is one of the boot cache. args are those that the user has added for QEMU.
func (g *Guest) Started(memory int64, cid uint32, restored, cached bool, args []string) {
	source := event.BootCold
	switch {
	case cached:
		source = event.BootCache
	case restored:
		source = event.BootSnapshot
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.startedAt = time.Now()
	v := g.VM
	v.Emit(event.VMSpawned{File: v.File, VMName: v.Name, Profile: v.Profile, MemoryBytes: uint64(memory), CID: cid,
		Source: source, QEMUArgs: args})
	if g.over { // it died in this very moment
		g.announceEnd()
	}
}

// Ended announces the end of the guest. reason is empty for one that was asked to end.
func (g *Guest) Ended(reason string) {
	g.VM.flushFaults()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over, g.reason = true, reason
	if !g.startedAt.IsZero() {
		g.announceEnd()
	}
}

func (g *Guest) announceEnd() {
	g.VM.Emit(event.VMShutdown{File: g.VM.File, VMName: g.VM.Name, DurationNS: uint64(time.Since(g.startedAt)),
		Reason: g.reason})
}
