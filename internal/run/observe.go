package run

import (
	"cmp"
	"maps"
	"strings"
	"time"

	"provium/internal/history"
	"provium/internal/hostload"
	"provium/internal/report"
	"provium/internal/sched"
)

// observeEvery is how often the machine and the running files are measured. It costs
// about a millisecond for 40 files.
const observeEvery = 500 * time.Millisecond

// observe measures the machine and the running files until over is closed, and tells the
// pool. An interrupted run is measured too, since its files may still wait for the pool.
func (d *dispatcher) observe(over <-chan struct{}) {
	root := hostload.Root()
	cpus, names := sched.HostCPUs(root)
	meter := hostload.NewMeter(root, cpus, names)
	meter.Measure(time.Now(), nil)
	tick := time.NewTicker(observeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-over:
			return
		}
		runners := d.runners()
		pids := d.idle.PIDs()
		for _, r := range runners {
			pids = append(pids, r.pid)
		}
		machine, processes := meter.Measure(time.Now(), pids)
		uses := map[*sched.File]sched.Use{}
		for file, r := range runners {
			p := processes[r.pid]
			uses[file] = sched.Use{CPUs: p.CPUs, Memory: p.Memory}
			r.run.hindered.Store(int64(p.Hindered - r.before))
		}
		d.setWaited(processes)
		d.pool.Observe(sched.Load{CPUs: machine.CPUs, Busy: machine.Busy, Waiting: machine.Waiting,
			Stalled: machine.Stalled, MemoryFree: machine.MemoryFree}, uses)
	}
}

// setWaited takes how long the workers have waited for a CPU.
func (d *dispatcher) setWaited(processes map[int]hostload.Process) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waited = map[int]time.Duration{}
	for pid, p := range processes {
		d.waited[pid] = p.Hindered
	}
}

// running is the runner of a file.
type running struct {
	pid    int
	run    *fileRun
	before time.Duration // that its process has waited for a CPU for other files
}

// runners returns the runners.
func (d *dispatcher) runners() map[*sched.File]running {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.running)
}

func (d *dispatcher) launched(file *sched.File, f *fileRun, pid int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running == nil {
		d.running = map[*sched.File]running{}
	}
	d.running[file] = running{pid, f, d.waited[pid]}
	delete(d.begins, f.job.Path)
}

// ended takes what a file has used, unless it was cut short.
func (d *dispatcher) ended(file *sched.File, c Candidate, r *report.FileResult, f *fileRun) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.running, file)
	delete(d.begins, c.Path) // where no worker could be started
	if r.Status != report.FilePassed && r.Status != report.FileFailed {
		return
	}
	if d.learned == nil {
		d.learned = history.History{}
	}
	learned := history.Record{Seconds: (r.Duration - f.waited).Seconds(), CPUSeconds: f.cpu.Seconds()}
	if f.done != nil {
		if learned.Boots = f.done.Boots; learned.Boots == nil {
			learned.Boots = map[string]bool{} // known to be none
		}
	}
	d.learned[canonical(c.Abs)] = learned
}

// known returns what earlier runs have shown of the candidates.
func (d *dispatcher) known(candidates []Candidate) []history.Record {
	out := make([]history.Record, len(candidates))
	if d.o.History == "" {
		return out
	}
	all := history.Read(d.o.History)
	for i, c := range candidates {
		out[i] = all.Of(canonical(d.o.Config.Dir), canonical(c.Abs))
	}
	return out
}

// Expected returns what tells how long a file took in earlier runs, by its path in events; 0 if
// that is not known.
func (o *Options) Expected() func(path string) time.Duration {
	if o.History == "" {
		return func(string) time.Duration { return 0 }
	}
	all := history.Read(o.History)
	return func(path string) time.Duration {
		known := all.Of(canonical(o.Config.Dir), canonical(inDir(o.Config.Dir, path)))
		return time.Duration(known.Seconds * float64(time.Second))
	}
}

// order returns the numbers of the candidates in the order in which they are to start: the
// longest first, unless their own order is wanted.
func (d *dispatcher) order(candidates []Candidate, known []history.Record) []int {
	files := make([]sched.Candidate, len(candidates))
	asGiven := d.o.Select.Shuffle || d.o.Jobs == 1 || d.o.FailFast || d.o.History == ""
	for i, c := range candidates {
		if !asGiven {
			files[i] = sched.Candidate{Seconds: known[i].Seconds, Group: cmp.Or(
				strings.Join(c.FixtureRefs, " "), strings.Join(c.Profiles, " "))}
		}
	}
	return sched.Order(files)
}
