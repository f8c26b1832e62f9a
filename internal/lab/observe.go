package lab

import (
	"slices"

	"provium/internal/instance"
)

// Observer is told what happens on a host. Nil functions are skipped.
type Observer struct {
	// Finding is called for each guest failure, and each expected panic, as soon as it is seen, from a
	// goroutine of the VM. It must not block.
	Finding func(vm *VM, f instance.Finding)
	// PoolWait is called before the pool is asked for a share, and what it
	// returns when the pool has answered.
	PoolWait func() (done func())
	// ExpectsPanic reports whether panics of guests are expected now. It must not block.
	ExpectsPanic func() bool
}

// Observe adds o to the host's observers until stop is called. It is safe for concurrent use.
func (h *Host) Observe(o Observer) (stop func()) { return h.observers.Add(&o) }

// found tells the observers of a guest failure.
func (h *Host) found(vm *VM, f instance.Finding) {
	if !f.Expected {
		vm.news.Reported(f)
	}
	for _, o := range h.observers.All() {
		if o.Finding != nil {
			o.Finding(vm, f)
		}
	}
}

// expectsPanic reports whether an observer expects panics of guests now.
func (h *Host) expectsPanic() bool {
	return slices.ContainsFunc(h.observers.All(), func(o *Observer) bool {
		return o.ExpectsPanic != nil && o.ExpectsPanic()
	})
}

// poolWait tells the observers that a wait for the pool begins. The caller must
// call done when it has ended.
func (h *Host) poolWait() (done func()) {
	var ends []func()
	for _, o := range h.observers.All() {
		if o.PoolWait != nil {
			ends = append(ends, o.PoolWait())
		}
	}
	return func() {
		for _, end := range slices.Backward(ends) {
			end()
		}
	}
}
