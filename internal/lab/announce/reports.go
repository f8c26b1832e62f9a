package announce

import (
	"context"
	"sync"
	"time"

	"provium/internal/event"
	"provium/internal/kernelreport"
)

// Source puts lines of source behind the frames in a text. The text that it returns is good also with an error.
type Source func(ctx context.Context, text string) (string, error)

// sourceLimit is how long the lines of source of one report may take.
const sourceLimit = 2 * time.Second

// reports are those of kernels that are still to be emitted: lines of source are looked up beside the reading of a
// console, which must not wait.
type reports struct {
	mu      sync.Mutex
	waiting []kernelreport.Finding
	idle    chan struct{} // closed when all are emitted; nil: nothing is under way
}

// Reported emits a report of a guest's kernel, with lines of source where there are some. See AwaitReports.
func (v *VM) Reported(f kernelreport.Finding) {
	if v.Source == nil {
		v.emitReport(f)
		return
	}
	r := &v.reports
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, f)
	if r.idle == nil {
		r.idle = make(chan struct{})
		go v.emitReports()
	}
}

func (v *VM) emitReports() {
	r := &v.reports
	for {
		r.mu.Lock()
		if len(r.waiting) == 0 {
			close(r.idle)
			r.idle = nil
			r.mu.Unlock()
			return
		}
		f := r.waiting[0]
		r.waiting = r.waiting[1:]
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), sourceLimit)
		f.Excerpt, _ = v.Source(ctx, f.Excerpt)
		cancel()
		v.emitReport(f)
	}
}

func (v *VM) emitReport(f kernelreport.Finding) {
	v.Emit(event.KernelReport{File: v.File, VMName: v.Name, Title: f.Title, Text: f.Excerpt, Panic: f.Panic,
		Sort: string(f.Kind), Function: f.Function, Taint: f.Taint})
}

// AwaitReports waits until all reports so far are emitted.
func (v *VM) AwaitReports() {
	v.reports.mu.Lock()
	idle := v.reports.idle
	v.reports.mu.Unlock()
	if idle != nil {
		<-idle
	}
}
