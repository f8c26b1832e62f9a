package announce

import (
	"time"

	"provium/internal/disk"
	"provium/internal/event"
)

// faultWindow is how long faults that are alike are counted before they are told.
const faultWindow = 50 * time.Millisecond

// faultKey says which faults are alike.
type faultKey struct{ disk, rule, op, effect string }

// Fault reports a request to a disk that has met a fault: at once, or together with
// others that follow one like it.
func (v *VM) Fault(id string, met disk.Fault) {
	key := faultKey{id, met.By, string(met.Op), met.Effect}
	e := event.DiskFault{Path: v.File, VMName: v.Name, Disk: id, Rule: met.By, Op: string(met.Op),
		Sector: uint64(met.Off) / disk.SectorSize, Sectors: uint64(met.N+disk.SectorSize-1) / disk.SectorSize,
		Effect: met.Effect, Count: 1}
	v.mu.Lock()
	defer v.mu.Unlock()
	held, alike := v.met[key]
	switch {
	case held != nil:
		held.Count++
		return
	case alike:
		v.met[key] = &e
		return
	}
	if v.met == nil {
		v.met = map[faultKey]*event.DiskFault{}
	}
	v.met[key] = nil
	if len(v.met) == 1 {
		v.faults = time.AfterFunc(faultWindow, v.flushFaults)
	}
	v.Emit(e)
}

// flushFaults reports all faults that were counted.
func (v *VM) flushFaults() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.met) == 0 {
		return
	}
	v.faults.Stop()
	for _, e := range v.met {
		if e != nil {
			v.Emit(*e)
		}
	}
	v.met = nil
}
