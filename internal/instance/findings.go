package instance

import (
	"slices"
	"sync"

	"provium/internal/kernelreport"
)

// Findings are the failure reports of a VM's guests that nobody has taken yet. Those of a
// guest that has not answered yet are kept apart: when its boot fails, they are part of
// that error and no failure beside it. It is safe for concurrent use; the zero value is
// empty.
type Findings struct {
	mu      sync.Mutex
	list    []Finding
	boot    int // where in list those of the present boot begin
	booting bool
	apart   []Finding // of the guest that is booting
}

// Begin is called when a guest is started. Answered or Failed must follow.
func (f *Findings) Begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.booting, f.apart, f.boot = true, nil, len(f.list)
}

// Answered is called when the guest has answered for the first time. It returns the
// reports that count from now on. With stamped, those without a time stamp are not
// from its kernel and are dropped.
func (f *Findings) Answered(stamped bool) []Finding {
	f.mu.Lock()
	defer f.mu.Unlock()
	var counted []Finding
	apart := f.apart
	f.booting, f.apart = false, nil
	for _, finding := range apart {
		if stamped && !finding.Stamped && finding.Kind != kernelreport.KindPattern {
			continue
		}
		if f.add(finding) {
			counted = append(counted, finding)
		}
	}
	return counted
}

// Failed is called when the guest has ended without an answer. It returns and drops its
// reports.
func (f *Findings) Failed() []Finding {
	f.mu.Lock()
	defer f.mu.Unlock()
	apart := f.apart
	f.booting, f.apart = false, nil
	return apart
}

// Rebooted is called when the guest begins a further boot.
func (f *Findings) Rebooted() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.boot = len(f.list)
}

// Add adds a report, and returns whether it counts. An expected panic does not, nor do
// the reports of that boot that led to it.
func (f *Findings) Add(finding Finding) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.booting {
		f.apart = append(f.apart, finding)
		return false
	}
	return f.add(finding)
}

// add is Add for a guest that has answered. The caller must hold f.mu.
func (f *Findings) add(finding Finding) bool {
	if finding.Expected {
		f.list = f.list[:f.boot]
		return false
	}
	f.list = append(f.list, finding)
	return true
}

// Drop drops the reports for which a function returns true.
func (f *Findings) Drop(drop func(Finding) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = slices.DeleteFunc(f.list, drop)
	f.boot = min(f.boot, len(f.list))
}

// IsEmpty reports whether there is no report that counts.
func (f *Findings) IsEmpty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.list) == 0
}

// Take returns the reports that count since the last call.
func (f *Findings) Take() []Finding {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.list
	f.list, f.boot = nil, 0
	return list
}
