package instance

import (
	"context"
	"time"

	"provium/internal/kernelreport"
	"provium/internal/printk"
)

// This file finds out, from outside, that a guest has ended whose QEMU still runs.

const (
	// logLimit is how long the kernel's log may take that says whether the guest has panicked.
	logLimit = 300 * time.Millisecond
	// lastRecords is how many messages are searched for a panic.
	lastRecords = 400
	// unanswered is for how long the agent leaves a question without an answer before the log is searched for a panic,
	// and before that is done again.
	unanswered = time.Second
	// haltStep is the time between two looks at CPUs that are about to halt.
	haltStep = 20 * time.Millisecond
	// haltWords is what a kernel prints before it halts.
	haltWords = "reboot: System halted"
)

const (
	guestHalted   = "the guest has halted without powering off"
	guestPanicked = "guest panicked"
)

// panicInLog returns the panic in the log of the guest's kernel, if there is one.
func (i *Instance) panicInLog() (Finding, bool) {
	ctx, cancel := context.WithTimeout(i.ctx, logLimit)
	defer cancel()
	records, err := i.cfg.Inspect.KernelLog(ctx)
	if err != nil {
		return Finding{}, false
	}
	var own []printk.Record
	for _, r := range records[max(0, len(records)-lastRecords):] {
		if r.Facility == 0 { // others are of programs
			own = append(own, r)
		}
	}
	d := kernelreport.NewDetector(kernelreport.Rules{Stamps: kernelreport.HasStamps})
	for _, f := range append(d.Feed(printk.AppendText(nil, own)), d.Flush()...) {
		if f.Panic {
			return f, true
		}
	}
	return Finding{}, false
}

// lookForPanic looks for a panic in the log of a guest whose agent does not answer: a kernel whose console prints
// nothing says so nowhere else, and the silence alone is believed much later.
func (i *Instance) lookForPanic() {
	i.mu.Lock()
	link, known := i.link, i.check != nil || i.reason != "" || i.ctx.Err() != nil
	i.mu.Unlock()
	if known || link == nil {
		return
	}
	silent := link.SilentFor()
	i.mu.Lock()
	due := silent >= unanswered && (silent < i.searched || silent >= i.searched+unanswered)
	if due || silent < i.searched {
		i.searched = silent
	}
	i.mu.Unlock()
	if !due {
		return
	}
	if f, ok := i.panicInLog(); ok {
		i.confirmPanic(f)
	}
}

// onPanicEvent takes the guest's word, by its pvpanic device, that its kernel has panicked. QEMU
// has stopped the guest: its memory and its CPUs are those of the panic. It must not block.
func (i *Instance) onPanicEvent() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ctx.Err() != nil {
		return
	}
	i.work.Go(func() {
		<-i.ready
		if i.cfg.Hooks.ExpectsPanic() {
			// What its kernel prints, and a reboot or another agent, tell the rest.
			if err := i.machine.Cont(i.ctx); err != nil && i.ctx.Err() == nil {
				i.cfg.Hooks.Warn("vm `%s` after a panic: %v", i.cfg.VM, err)
			}
			return
		}
		i.machine.SyncConsole()
		i.lastWords()
		i.mu.Lock()
		known := i.reason != ""
		i.mu.Unlock()
		if known {
			return
		}
		if f, ok := i.panicInLog(); ok {
			i.confirmPanic(f)
			return
		}
		i.fail(guestPanicked)
	})
}

// mayHaveHalted is called when the console says that the guest halts, which anybody can write
// there: the CPUs must have done so.
func (i *Instance) mayHaveHalted() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ctx.Err() != nil || i.halting || i.expected {
		return
	}
	i.halting = true
	i.work.Go(func() {
		<-i.ready
		ctx, cancel := context.WithTimeout(i.ctx, i.cfg.Grace)
		defer cancel()
		step := time.NewTicker(haltStep)
		defer step.Stop()
		for ctx.Err() == nil {
			if i.isHalted(ctx) {
				i.fail(guestHalted)
				return
			}
			select {
			case <-step.C:
			case <-ctx.Done():
			}
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		i.halting = false
	})
}

// isHalted reports whether all CPUs are halted and no interrupt can end that.
func (i *Instance) isHalted(ctx context.Context) bool {
	cpus, err := i.machine.Registers(ctx)
	if err != nil {
		return false
	}
	for _, c := range cpus {
		if _, forEver := c.IsHalted(); !forEver {
			return false
		}
	}
	return true
}
