package display

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"provium/internal/event"
)

// progress is what the events of a run have told so far. It is used from one goroutine at a
// time.
type progress struct {
	expected func(path string) time.Duration // of a file, 0: unknown

	started  time.Time // of the iteration
	waiting  map[string]*waitingFile
	running  map[string]*runningFile
	jobs     map[string]*job
	done     int // files
	failed   int // of them
	took     time.Duration
	used     event.Amount
	pool     event.Amount
	complete bool // the iteration is over
}

// waitingFile is a file that was selected and has not started.
type waitingFile struct {
	expected time.Duration
	reason   event.BlockReason // "" unless it waits for the pool
}

// runningFile is a file that has started and not ended.
type runningFile struct {
	path                    string
	expected                time.Duration
	started                 time.Time
	passed, failed, skipped int // tests

	test    string // "" at file scope
	where   string // of the test
	since   time.Time
	noticed time.Duration // how long the test had lasted at the last notice

	ops    map[uint64]*operation
	boots  map[string]*boot // by VM
	guests map[string]bool
}

// operation is a call of a test that takes long.
type operation struct {
	id              uint64
	call, vm, where string
	since           time.Time
}

// boot is a guest that comes up.
type boot struct {
	vm    string
	stage event.BootStage
	since time.Time
}

// longLook is how long one look of a wait_until takes that is shown as what the test waits for, too.
const longLook = 2 * time.Second

// job is something that is prepared: a build or a download.
type job struct {
	what        string
	since       time.Time
	done, total uint64 // bytes; 0: unknown
	noticed     time.Duration
}

func newProgress(expected func(string) time.Duration) *progress {
	if expected == nil {
		expected = func(string) time.Duration { return 0 }
	}
	p := &progress{expected: expected, jobs: map[string]*job{}}
	p.begin(time.Time{})
	return p
}

// begin starts an iteration. What is prepared goes on.
func (p *progress) begin(now time.Time) {
	p.started, p.complete = now, false
	p.waiting, p.running = map[string]*waitingFile{}, map[string]*runningFile{}
	p.done, p.failed, p.took = 0, 0, 0
}

// apply takes an event that has happened now.
func (p *progress) apply(now time.Time, e event.Event) {
	switch e := e.(type) {
	case event.RunStarted:
		p.begin(now)
		p.pool = e.Pool
	case event.RunCompleted:
		p.complete = true
	case event.PoolState:
		p.used = e.Used
		p.pool = event.Amount{MemoryBytes: e.Used.MemoryBytes + e.Available.MemoryBytes,
			CPUs: e.Used.CPUs + e.Available.CPUs}
	case event.FileDiscovered:
		p.waiting[e.Path] = &waitingFile{expected: p.expected(e.Path)}
	case event.FileBlocked:
		if w := p.waiting[e.Path]; w != nil {
			w.reason = e.Reason
		}
	case event.FileDispatched:
		f := &runningFile{path: e.Path, started: now, since: now, ops: map[uint64]*operation{},
			boots: map[string]*boot{}, guests: map[string]bool{}}
		if w := p.waiting[e.Path]; w != nil {
			f.expected = w.expected
			delete(p.waiting, e.Path)
		}
		p.running[e.Path] = f
	case event.FileCompleted:
		p.completed(e)
	default:
		p.applyJob(now, e)
		p.applyTest(now, e)
	}
}

func (p *progress) completed(e event.FileCompleted) {
	if p.running[e.Path] == nil {
		return
	}
	delete(p.running, e.Path)
	p.done++
	p.took += time.Duration(min(e.DurationNS, 1<<62))
	if e.Status != event.FilePassed {
		p.failed++
	}
}

// applyJob takes events of builds and downloads.
func (p *progress) applyJob(now time.Time, e event.Event) {
	begin := func(what string) { p.jobs[what] = &job{what: what, since: now} }
	switch e := e.(type) {
	case event.ProfileBuildStarted:
		begin("profile " + e.Profile + " builds")
	case event.ProfileBuildDone:
		delete(p.jobs, "profile "+e.Profile+" builds")
	case event.DownloadStarted:
		begin("download of " + e.What)
	case event.DownloadProgress:
		if j := p.jobs["download of "+e.What]; j != nil {
			j.done, j.total = e.DoneBytes, e.TotalBytes
		}
	case event.DownloadDone:
		delete(p.jobs, "download of "+e.What)
	case event.FixtureBuildStarted:
		begin("fixture " + e.Path + " builds")
	case event.FixtureBuildDone:
		delete(p.jobs, "fixture "+e.Path+" builds")
	}
}

// applyTest takes events of the tests and the guests of a file.
func (p *progress) applyTest(now time.Time, e event.Event) {
	var f *runningFile
	of := func(path string) bool { f = p.running[path]; return f != nil }
	switch e := e.(type) {
	case event.TestStarted:
		if of(e.Path) {
			f.begin(e.Name, e.Where, now)
		}
	case event.TestPassed:
		if of(e.Path) {
			f.passed++
			f.begin("", "", now)
		}
	case event.TestFailed:
		if of(e.Path) {
			f.failed++
			f.begin("", "", now)
		}
	case event.TestSkipped:
		if of(e.Path) {
			f.skipped++
			f.begin("", "", now)
		}
	case event.OperationStarted:
		if of(e.Path) {
			since := min(now.UnixNano(), e.StartNS)
			f.ops[e.ID] = &operation{id: e.ID, call: e.Call, vm: e.VMName, where: e.Where, since: time.Unix(0, since)}
		}
	case event.OperationEnded:
		if of(e.Path) {
			delete(f.ops, e.ID)
		}
	case event.VMBootStarted:
		if of(e.File) {
			f.boots[e.VMName] = &boot{vm: e.VMName, since: now}
		}
	case event.VMBootStage:
		if of(e.File) && f.boots[e.VMName] != nil {
			f.boots[e.VMName].stage = e.Stage
		}
	case event.VMBootFailed:
		if of(e.File) {
			delete(f.boots, e.VMName)
		}
	case event.VMSpawned:
		if of(e.File) {
			delete(f.boots, e.VMName)
			f.guests[e.VMName] = true
		}
	case event.VMShutdown:
		if of(e.File) {
			delete(f.guests, e.VMName)
		}
	}
}

// begin says that a test runs, or, without a name, what lies between tests.
func (f *runningFile) begin(test, where string, now time.Time) {
	f.test, f.where, f.since, f.noticed = test, where, now, 0
}

// files returns the running files in the order in which they have started.
func (p *progress) files() []*runningFile {
	return slices.SortedFunc(maps.Values(p.running), func(a, b *runningFile) int {
		return cmp.Or(a.started.Compare(b.started), cmp.Compare(a.path, b.path))
	})
}

// inOrder returns the jobs in the order in which they have started.
func (p *progress) inOrder() []*job {
	return slices.SortedFunc(maps.Values(p.jobs), func(a, b *job) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.what, b.what))
	})
}

// guests counts those that run.
func (p *progress) guests() (n int) {
	for _, f := range p.running {
		n += len(f.guests)
	}
	return n
}

// waitReason is why some files wait.
type waitReason struct {
	text  string
	count int
}

// reasons counts the files that wait for the pool.
func (p *progress) reasons() (out []waitReason) {
	counts := map[event.BlockReason]int{}
	for _, w := range p.waiting {
		counts[w.reason]++
	}
	for _, r := range []event.BlockReason{event.BlockedPoolFull, event.BlockedPSIPressure, event.BlockedJobsLimit} {
		if counts[r] > 0 {
			out = append(out, waitReason{strings.ReplaceAll(string(r), "_", " "), counts[r]})
		}
	}
	return out
}

// operations returns what a file waits for, the longest first. What a wait_until looks at again and again
// is left out, unless one look takes long.
func (f *runningFile) operations(now time.Time) []*operation {
	all := slices.SortedFunc(maps.Values(f.ops), func(a, b *operation) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.id, b.id))
	})
	waits := false
	return slices.DeleteFunc(all, func(op *operation) bool {
		isWait := strings.HasPrefix(op.call, "wait_until(")
		isLook := waits && !isWait && now.Sub(op.since) < longLook
		waits = waits || isWait
		return isLook
	})
}

// booting returns the guests that come up, the longest first.
func (f *runningFile) booting() []*boot {
	return slices.SortedFunc(maps.Values(f.boots), func(a, b *boot) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.vm, b.vm))
	})
}

// left estimates how long the iteration takes from now on. It is false while too little is
// known: of most files, neither earlier runs nor this one have shown how long they take.
func (p *progress) left(now time.Time) (time.Duration, bool) {
	mean, ok := p.mean()
	if !ok {
		return 0, false
	}
	or := func(d time.Duration) time.Duration {
		if d == 0 {
			return mean
		}
		return d
	}
	var longest, all time.Duration
	for _, f := range p.running {
		rest := max(0, or(f.expected)-now.Sub(f.started))
		longest, all = max(longest, rest), all+rest
	}
	for _, w := range p.waiting {
		longest, all = max(longest, or(w.expected)), all+or(w.expected)
	}
	return max(longest, all/time.Duration(max(1, len(p.running)))), longest > 0
}

// mean returns how long a file takes of which nothing is known.
func (p *progress) mean() (time.Duration, bool) {
	sum, n := p.took, p.done
	for _, f := range p.running {
		if f.expected > 0 {
			sum, n = sum+f.expected, n+1
		}
	}
	for _, w := range p.waiting {
		if w.expected > 0 {
			sum, n = sum+w.expected, n+1
		}
	}
	if all := p.done + len(p.running) + len(p.waiting); n == 0 || 2*n < all {
		return 0, false
	}
	return sum / time.Duration(n), true
}
