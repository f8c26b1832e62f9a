package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"provium/internal/event"
	"provium/internal/event/sink"
	"provium/internal/history"
	"provium/internal/report"
	"provium/internal/run/evidence"
	"provium/internal/run/workers"
	"provium/internal/sched"
	"provium/internal/tempdir"
	"provium/internal/templates"
	"provium/internal/userland"
)

// dispatcher runs the files of one iteration side by side.
type dispatcher struct {
	o       *Options
	command *workers.Command
	idle    *workers.Kept
	pool    *sched.Pool
	temp    *tempdir.Dir
	kept    *evidence.Keeper
	events  *sink.Stream

	// stopAll is closed to end all running files, why is set before; killAll to
	// end them without a report.
	stopAll, killAll chan struct{}
	why              stopNow
	ignored          *ignoredReports

	// early is called for a failed test of a file that goes on.
	early func(path string, t report.TestResult)

	learned history.History // files that ran, for the next run

	mu      sync.Mutex
	vmDirs  int
	waiting map[string]map[string]bool // what is known of the boots of files that have not started, and may
	running map[*sched.File]running
	begins  map[string]map[string]bool // boots of files that have started and have no worker yet, by path
	waited  map[int]time.Duration      // for a CPU, by worker
}

// run runs the candidates and returns their results in candidate order; nil
// stands for a file that never started. ended is called for each candidate when it has
// ended, or when it is known that it never starts, with its number.
func (d *dispatcher) run(
	ctx context.Context, candidates []Candidate, ended func(int, *report.FileResult),
) []*report.FileResult {
	results := make([]*report.FileResult, len(candidates))
	noMore, stopStarting := context.WithCancelCause(ctx)
	defer stopStarting(nil)
	files := make([]*sched.File, len(candidates))
	rejected := make([]error, len(candidates))
	known := d.known(candidates)
	d.waiting = map[string]map[string]bool{}
	for _, i := range d.order(candidates, known) {
		if candidates[i].Skipped != nil {
			continue
		}
		d.waiting[candidates[i].Path] = known[i].Boots
		files[i], rejected[i] = d.pool.Enqueue(candidates[i].Path, claimAmount(candidates[i]), known[i].CPUs())
	}
	failed := func() {
		if d.o.FailFast {
			stopStarting(errors.New("an earlier file failed"))
		}
	}
	over := make(chan int)
	for i := range candidates {
		go func() {
			results[i] = d.one(noMore, candidates[i], files[i], rejected[i], failed)
			over <- i
		}()
	}
	for range candidates {
		i := <-over
		ended(i, results[i])
	}
	return results
}

func claimAmount(c Candidate) sched.Amount {
	if c.Claim == nil {
		return sched.Amount{}
	}
	return sched.Amount{Memory: int64(c.Claim.MemoryBytes), CPUs: int(c.Claim.CPUs)}
}

// one runs one file when the pool lets it start. It returns nil when the file never
// started. It calls failed for a file that did not pass, before the file's share of
// the pool lets another one start.
func (d *dispatcher) one(
	ctx context.Context, c Candidate, file *sched.File, rejected error, failed func(),
) (result *report.FileResult) {
	if c.Skipped != nil {
		return d.leaveOut(c)
	}
	if rejected != nil {
		failed()
		return d.refuse(c, rejected)
	}
	defer file.Done()
	defer func() {
		if result != nil && result.Status != report.FilePassed {
			failed()
		}
	}()
	err := file.Start(ctx)
	userlands := d.o.userlands.For(ctx, d.o.needed(c))
	if err != nil || ctx.Err() != nil {
		return nil
	}
	d.begin(c.Path)
	held := file.Reservation()
	d.events.Emit(event.FileDispatched{Path: c.Path, Reservation: eventAmount(held)})
	fileCtx, cancel := context.WithCancel(context.Background())
	client := newPoolClient(fileCtx, file)
	defer func() {
		cancel()
		client.wait()
	}()
	job, err := d.job(c, userlands)
	if err != nil {
		return d.refuse(c, err)
	}
	defer os.RemoveAll(job.TempDir)
	f := &fileRun{
		job: job, command: d.command, idle: d.idle, resources: client, person: d.o.Person, early: d.early,
		limit: d.o.FileTimeout, fair: d.o.FairTimeout, emit: d.events.Forward, stderr: d.o.Stderr,
	}
	f.suits = func(w *workers.Worker) int { return d.suits(c.Path, w) }
	f.launched = func(pid int) { d.launched(file, f, pid) }
	r := f.run(d.stopAll, d.killAll, &d.why)
	d.ended(file, c, &r, f)
	d.ignored.add(f.done)
	return &r
}

// begin notes that a file is about to get a worker.
func (d *dispatcher) begin(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.begins == nil {
		d.begins = map[string]map[string]bool{}
	}
	d.begins[path] = d.waiting[path]
}

// suits returns how well a worker suits a file that starts: of how many of its boots it may have templates. It is below
// 0 for one that has none of them, but some of another file that starts at this moment.
func (d *dispatcher) suits(path string, w *workers.Worker) (how int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	others := false
	for boot := range w.Boots {
		if _, is := d.begins[path][boot]; is {
			how++
		}
		for other, boots := range d.begins {
			_, is := boots[boot]
			others = others || is && other != path
		}
	}
	if how == 0 && others {
		return -1
	}
	return how
}

// refuse reports a file that cannot be run at all.
func (d *dispatcher) refuse(c Candidate, err error) *report.FileResult {
	d.events.Emit(event.FileDispatched{Path: c.Path})
	d.events.Emit(event.FileCompleted{Path: c.Path, Status: event.FileFailed})
	return &report.FileResult{Path: c.Path, Status: report.FileFailed, ChunkError: err.Error()}
}

// leaveOut reports a file of which every test is left out. It does not run.
func (d *dispatcher) leaveOut(c Candidate) *report.FileResult {
	d.events.Emit(event.FileDispatched{Path: c.Path})
	result := report.NewCollector(c.Path)
	for _, t := range c.Skipped {
		d.events.Emit(event.TestStarted{Path: c.Path, Name: t.Name, Meta: t.Meta})
		skipped := event.TestSkipped{Path: c.Path, Name: t.Name, Reason: t.Reason, Meta: t.Meta}
		result.Add(skipped)
		d.events.Emit(skipped)
	}
	d.events.Emit(event.FileCompleted{Path: c.Path, Status: event.FilePassed})
	r := result.Result(report.FilePassed, "", 0)
	return &r
}

func (d *dispatcher) job(c Candidate, userlands map[string]*userland.Userland) (*job, error) {
	d.mu.Lock()
	d.vmDirs++
	boots := templates.BootsOf(c.Path, d.waiting)
	delete(d.waiting, c.Path)
	more := len(d.waiting) > 0
	temp := filepath.Join(d.temp.Path(), fmt.Sprint(d.vmDirs))
	d.mu.Unlock()
	if err := os.Mkdir(temp, 0o700); err != nil {
		return nil, fmt.Errorf("temporary directory: %w", err)
	}
	j := d.o.job(c, temp)
	j.Userlands, j.MayReuse, j.Boots = userlands, more, boots
	j.Level = d.events.Level()
	j.Kept = evidence.Job{Place: d.kept.Place, Record: d.o.record(c, temp), QEMU: d.o.QEMU,
		Replayed: d.o.Kept.Profiles, Dump: d.o.Kept.Dump}
	return j, nil
}

// job is what a runner needs to know of a file.
func (o *Options) job(c Candidate, temp string) *job {
	cfg := o.Config
	bootCache := o.BootCache
	if o.Cold || o.Local {
		bootCache = ""
	}
	fixtures := cfg.CacheDir
	if o.Local {
		fixtures = localFixtures(temp)
	}
	return &job{
		Picks: c.Picks, Retries: o.Retries,
		Repeat: o.repeatOf(c), Capture: !o.JSON, ShuffleOn: o.Select.Shuffle, ShuffleSeed: o.ShuffleSeed,
		Path: c.Path, Abs: c.Abs, Project: cfg.Dir, ConfigPath: cfg.Path, Roots: cfg.Roots, Profiles: cfg.Profiles,
		Oops: cfg.OopsPatterns, OopsIgnore: cfg.OopsIgnore, TempDir: temp,
		ImageCache: o.ImageCache, BootCache: bootCache, Fixtures: fixtures, Version: o.Version,
		CanPause: o.Person != nil, PauseOnFailure: o.PauseOnFailure, Rewind: o.Rewind,
		Overlay: o.Overlay, Self: o.Self, QEMU: o.QEMU, Local: o.Local, Seed: o.Seed, CheckDir: o.CheckDir,
	}
}

// reportPool emits the pool's state every second until ctx ends.
func (d *dispatcher) reportPool(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			used, free := d.pool.State()
			d.events.Emit(event.PoolState{Used: eventAmount(used), Available: eventAmount(free)})
		case <-ctx.Done():
			return
		}
	}
}

func eventAmount(a sched.Amount) event.Amount {
	return event.Amount{MemoryBytes: uint64(a.Memory), CPUs: uint32(a.CPUs)}
}
