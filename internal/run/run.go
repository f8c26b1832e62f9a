// Package run carries out a run: it finds the test files, decides which to run
// and in what order, lets each be run by a runner process of its own as the
// pool has room, keeps their time limits and collects their results.
//
// It holds both ends of the pipe between the dispatcher (Run, in the process
// the user started) and the runner (Runner, one process per file). It knows no
// Lua, which is package script, and prints nothing but through package report.
// Start with Run, then fileRun.supervise; the runner's side begins at Runner.
package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"provium/internal/arch"
	"provium/internal/choose"
	"provium/internal/event"
	"provium/internal/event/sink"
	"provium/internal/fixture"
	"provium/internal/history"
	"provium/internal/image"
	"provium/internal/preparation"
	"provium/internal/proc"
	"provium/internal/qemu/accelerator"
	"provium/internal/report"
	"provium/internal/run/evidence"
	"provium/internal/run/workers"
	"provium/internal/sched"
	"provium/internal/shard"
	"provium/internal/tempdir"
)

// The exit codes of a run.
const (
	ExitOK     = 0 // no file failed
	ExitFailed = 1 // a file failed, crashed, timed out or was interrupted
	ExitError  = 2 // usage, configuration, build, or internal error
)

// Run carries out a whole run and returns its exit code; an error, which goes
// with ExitError, is for the caller to print.
func Run(ctx context.Context, o Options) (int, error) {
	candidates, err := Select(o.Config, o.selection(ctx), o.ShuffleSeed)
	if err != nil {
		return ExitError, err
	}
	if err := o.Exports.check(o.Events.File); err != nil {
		return ExitError, err
	}
	if len(candidates.Files) == 0 {
		out := o.Stdout
		if o.JSON {
			out = o.Stderr // what is on stdout is JSON
		}
		if _, err := fmt.Fprintln(out, candidates.Notice); err != nil {
			return ExitError, fmt.Errorf("output: %w", err)
		}
		if err := newExported(&o, "").add(nil); err != nil {
			return ExitError, err
		}
		return o.emptyShard(candidates.Digest)
	}
	kept, err := o.Kept.Open(o.Stderr)
	if err != nil {
		return ExitError, err
	}
	defer kept.Close()
	tempdir.Sweep(o.TempBase)
	o.pruneFixtures()
	temp, err := tempdir.New(o.TempBase)
	if err != nil {
		return ExitError, err
	}
	defer temp.Remove()
	starter := proc.NewStarter()
	defer starter.Close()
	header := report.Header{Files: len(candidates.Files), Notes: o.Notes}
	if !o.Local {
		accel, err := accelerator.Choose("auto", arch.Host(), accelerator.This())
		if err != nil {
			return ExitError, err
		}
		header.Accelerator, header.Why = accel.Name, accel.Why
	}
	budget, err := o.budget()
	if err != nil {
		return ExitError, err
	}
	filter, err := o.Filter.JSON()
	if err != nil {
		return ExitError, err
	}
	events, closeEvents := o.Stream, func() error { return nil }
	if events == nil {
		if events, err = o.OpenEvents(); err != nil {
			return ExitError, err
		}
		closeEvents = events.Close
	}
	if o.Begin != nil {
		o.Begin()
	}
	fmt.Fprintln(o.Stderr, header)
	r := &session{o: &o, starter: starter, temp: temp, budget: budget, events: events,
		command:   o.runnerCommand(starter, string(filter)),
		selection: candidates.Digest, kept: kept, accelerator: header.Accelerator,
		exported: newExported(&o, header.Accelerator)}
	if header.Accelerator == "tcg" {
		r.coldBoots = max(2, budget.CPUs) // each keeps a CPU busy
	}
	code, err := r.run(ctx, candidates.Files)
	r.idle.Close()
	kept.Tell(o.Stderr)
	if err == nil && code == ExitOK {
		code, err = r.checkMatched()
	}
	if cerr := closeEvents(); err == nil && cerr != nil {
		code, err = ExitError, cerr
	}
	return code, err
}

// runnerCommand starts the processes that run files. filter is the JSON form of the per-test filter.
func (o *Options) runnerCommand(starter *proc.Starter, filter string) *workers.Command {
	c := &workers.Command{Program: o.Self, Verb: o.RunnerVerb, Env: []string{"PROVIUM_TEST_FILTER=" + filter},
		Starter: starter, Stdout: o.Stdout, Stderr: o.Stderr}
	if o.JSON {
		c.Stdout = o.Stderr
	}
	return c
}

// emptyShard writes the event stream of a shard without files, so that it is not missed where
// shards are merged.
func (o *Options) emptyShard(selection string) (int, error) {
	if o.Select.Shard.Count == 0 || o.Stream != nil {
		return ExitOK, nil
	}
	events, err := o.OpenEvents()
	if err != nil {
		return ExitError, err
	}
	s := &session{o: o, selection: selection, events: events}
	s.announce(1, nil)
	events.Emit(event.RunCompleted{})
	if err := events.Close(); err != nil {
		return ExitError, err
	}
	return ExitOK, nil
}

// OpenEvents opens all places that events are to go to. The caller must close the stream.
func (o *Options) OpenEvents() (*sink.Stream, error) {
	to := o.Events
	if o.Exports.Page != "" {
		to.Other = append(slices.Clone(to.Other), sink.Place{Flag: "--report", To: newPageFile(o.Exports.Page)})
	}
	return sink.Open(to)
}

// prepare runs the build commands of the profiles, and gets what those boot from that the
// candidates name. The first signal ends it.
func (s *session) prepare(ctx context.Context, candidates []Candidate) (interrupted bool, err error) {
	o := s.o
	if o.Local {
		return false, nil // nothing of that is booted
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		err := preparation.BuildProfiles(ctx, s.starter, o.Config.Profiles, o.Stderr, s.events.Emit)
		if err == nil {
			err = s.prepareImages(ctx, candidates)
		}
		ended <- err
	}()
	for {
		select {
		case err := <-ended:
			return interrupted, err
		case <-o.Signals:
			interrupted = true
			cancel()
		}
	}
}

// prepareImages gets what the profiles boot from that the candidates name.
func (s *session) prepareImages(ctx context.Context, candidates []Candidate) error {
	var specs []image.Spec
	for _, name := range s.o.needed(candidates...) {
		if p, ok := s.o.Config.Profiles[name]; ok {
			specs = append(specs, ImageSpec(p))
		}
	}
	if len(specs) == 0 {
		return nil
	}
	images, err := newImages(s.o.job(Candidate{}, ""), s.starter, s.events.Emit, nil)
	if err != nil {
		return err
	}
	if err := images.Trim(time.Now()); err != nil {
		fmt.Fprintf(s.o.Stderr, "provium: %v\n", err)
	}
	s.o.userlands, err = preparation.BeginImages(ctx, images, specs)
	return err
}

// needed returns the profiles that the candidates name.
func (o *Options) needed(candidates ...Candidate) []string {
	var files []preparation.File
	for _, c := range candidates {
		if c.Skipped == nil {
			files = append(files, preparation.File{Profiles: c.Profiles, Fixtures: c.FixtureRefs})
		}
	}
	return preparation.Needed(o.Config.Roots, files)
}

// pruneFixtures keeps the cache of fixtures at its size. The build that needs it reports one that cannot be used.
func (o *Options) pruneFixtures() {
	err := (&fixture.Cache{Dir: o.Config.CacheDir, Limit: o.Config.CacheMaxSize}).Prune()
	if large := (*fixture.TooLargeError)(nil); errors.As(err, &large) {
		fmt.Fprintf(o.Stderr, "provium: %v\n", large)
	}
}

func (o *Options) budget() (sched.Amount, error) {
	b, err := sched.HostBudget(os.DirFS("/"))
	if err != nil && (o.Memory == 0 || o.CPUs == 0) {
		return b, fmt.Errorf("pool budget: %w; give --mem and --cpus", err)
	}
	if o.Memory != 0 {
		b.Memory = o.Memory
	}
	if o.CPUs != 0 {
		b.CPUs = o.CPUs
	}
	if o.CPUOvercommit != 0 {
		cpus, clamped := sched.Overcommit(b.CPUs, o.CPUOvercommit)
		if clamped {
			fmt.Fprintf(o.Stderr, "provium: --cpu-overcommit %v is clamped (valid: %v to %v)\n",
				o.CPUOvercommit, sched.MinOvercommit, sched.MaxOvercommit)
		}
		b.CPUs = cpus
	}
	return b, nil
}

// session is a run after everything that can be refused was checked.
type session struct {
	o       *Options
	starter *proc.Starter
	temp    *tempdir.Dir
	kept    *evidence.Keeper
	budget  sched.Amount
	command *workers.Command
	idle    workers.Kept

	selection   string // digest of all files of which these are a part
	coldBoots   int    // guests that may boot at a time; 0: any number
	accelerator string
	events      *sink.Stream

	matched bool                    // a test had a name that was asked for
	names   []string                // of all tests
	ran     map[string]*fileOutcome // what the files have shown that ran in any iteration

	exported *exported
	ignored  ignoredReports
}

// run builds what the candidates need and runs them.
func (s *session) run(ctx context.Context, candidates []Candidate) (int, error) {
	interrupted, err := s.prepare(ctx, candidates)
	defer s.o.userlands.Close()
	if interrupted {
		fmt.Fprintln(s.o.Stderr, "provium: interrupted before any file started")
		return ExitFailed, nil
	} else if err != nil {
		return ExitError, err
	}
	if !s.o.Local {
		_, stop := s.o.startSpotCheck(ctx)
		defer stop()
	}
	return s.iterations(ctx, candidates)
}

// announce emits the start of an iteration and what it consists of.
func (s *session) announce(iteration int, candidates []Candidate) {
	part, durations := "", ""
	if s.o.Select.Shard != (shard.Shard{}) {
		part = s.o.Select.Shard.String()
	}
	if s.o.Select.Durations != nil {
		durations = s.o.Select.Durations.Digest
	}
	s.events.Emit(event.RunStarted{
		ProtocolVersion: event.ProtocolVersion, Version: s.o.Release, Project: s.o.Config.Dir,
		Iteration: uint32(iteration), Files: uint32(len(candidates)), Shard: part, Seed: s.o.Seed,
		Selection: s.selection, Durations: durations,
		Repeat: s.o.repeat(), Accelerator: s.accelerator, Pool: eventAmount(s.budget),
	})
	for _, c := range candidates {
		s.events.Emit(event.FileDiscovered{Path: c.Path, FixtureRefs: c.FixtureRefs, DeclaredClaim: c.Claim})
	}
}

// iterations runs the candidates as often as asked for.
func (s *session) iterations(ctx context.Context, candidates []Candidate) (int, error) {
	times := max(s.o.Repeat, 1)
	if s.o.UntilFail && s.o.Repeat == 0 {
		times = 0 // without end
	}
	code, started, stopped := ExitOK, time.Now(), false
	p := newPrinter(s.o, times != 1)
	for n := 1; times == 0 || n <= times; n++ {
		if times != 1 {
			fmt.Fprintf(s.o.Stderr, "provium: iteration %d\n", n)
		}
		s.announce(n, candidates)
		c, interrupted, err := s.iteration(ctx, candidates, p)
		if err != nil {
			return ExitError, err
		}
		code = max(code, c)
		if interrupted.twice.Load() {
			return code, nil
		}
		if stopped = interrupted.once.Load() || p.counts.NotStarted > 0; stopped || c != ExitOK && s.o.UntilFail {
			break
		}
	}
	if p.tally != nil {
		p.end(p.tally.Summary(time.Since(started)))
	}
	if s.o.isWhole() && !stopped {
		s.ignored.note(s.o.Stderr, s.o.Config.OopsIgnore)
	}
	return code, p.err
}

// iteration runs the candidates once.
func (s *session) iteration(ctx context.Context, candidates []Candidate, printer *printer) (
	code int, interrupted *interrupts, err error) {
	started := time.Now()
	pool, err := sched.New(sched.Config{
		Total: s.budget, Jobs: s.o.Jobs, CountCPUs: s.o.CPUOvercommit != 0, ColdBoots: s.coldBoots,
		Blocked: func(file string, waitingFor sched.Amount, why sched.Reason) {
			s.events.Emit(event.FileBlocked{
				Path: file, WaitingFor: eventAmount(waitingFor), Reason: event.BlockReason(why),
			})
		},
	})
	if err != nil {
		return ExitError, nil, fmt.Errorf("pool: %w", err)
	}
	d := &dispatcher{o: s.o, command: s.command, idle: &s.idle, pool: pool, temp: s.temp, kept: s.kept,
		events:  s.events,
		stopAll: make(chan struct{}), killAll: make(chan struct{}), early: printer.failed,
		ignored: &s.ignored}
	runCtx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Add(3)
	go func() { defer background.Done(); d.reportPool(runCtx) }()
	over := make(chan struct{})
	go func() { defer background.Done(); d.observe(over) }()
	interrupted = &interrupts{signals: s.o.Signals, stderr: s.o.Stderr, person: s.o.Person,
		stop: func(reason string) {
			d.why = stopNow{Reason: reason, Status: string(report.FileInterrupted)}
			close(d.stopAll)
			cancel()
		},
		kill: func(string) { close(d.killAll) },
	}
	go func() { defer background.Done(); interrupted.watch(over) }()

	results := d.run(runCtx, candidates, printer.ended)
	cancel()
	close(over)
	background.Wait()
	if !printer.counts.OK() || interrupted.once.Load() {
		code = ExitFailed
	}
	printer.iteration(time.Since(started), notStarted(results), !interrupted.twice.Load())
	s.noteMatched(results)
	unwritten := s.exported.add(results)
	if unwritten != nil {
		code = ExitError
	}
	s.events.Emit(event.RunCompleted{ExitCode: uint32(code), DurationNS: uint64(time.Since(started)),
		NotStarted: uint32(notStarted(results)), Interrupted: interrupted.once.Load()})
	if err := s.remember(candidates, results); err != nil {
		fmt.Fprintf(s.o.Stderr, "provium: rerun state: %v\n", err)
	}
	if s.o.History != "" && len(d.learned) > 0 {
		if err := history.Update(s.o.History, d.learned); err != nil {
			fmt.Fprintf(s.o.Stderr, "provium: %v\n", err)
		}
	}
	return code, interrupted, errors.Join(unwritten, printer.err)
}

func notStarted(results []*report.FileResult) int {
	n := 0
	for _, r := range results {
		if r == nil {
			n++
		}
	}
	return n
}

// checkMatched returns an error if a run that asked for tests by name found none, which may
// show only when files have run.
func (s *session) checkMatched() (int, error) {
	sel := s.o.selection(context.Background())
	asks := len(sel.Tests.Names) > 0 || sel.Tests.Keyword != "" || slices.ContainsFunc(sel.Paths,
		func(text string) bool {
			_, name, line := splitPath(sel.WorkDir, text)
			return name != "" || line > 0
		})
	if s.matched || !asks || sel.AllowEmpty || sel.Shard.Count > 1 {
		return ExitOK, nil
	}
	wanted := append(slices.Clone(sel.Tests.Names), sel.Tests.Keyword)
	return ExitError, fmt.Errorf("no test matches what was asked for%s", proposal(choose.Nearest(wanted[0], s.names)))
}

// noteMatched looks for tests that were not left out by their name.
func (s *session) noteMatched(results []*report.FileResult) {
	for _, r := range results {
		if r == nil {
			continue
		}
		for _, t := range r.Tests {
			s.names = append(s.names, t.Name)
			s.matched = s.matched || t.Status != report.TestSkipped ||
				!strings.HasPrefix(t.Message, "filtered: did not match ")
		}
	}
}

// remember updates the rerun state after an iteration. What failed in one iteration stays in
// the state, also when it passes in a later one.
func (s *session) remember(candidates []Candidate, results []*report.FileResult) error {
	if s.o.RerunState == "" {
		return nil
	}
	if s.ran == nil {
		s.ran = map[string]*fileOutcome{}
	}
	for i, r := range results {
		if r == nil || candidates[i].Skipped != nil {
			continue
		}
		path := candidates[i].Abs
		if s.ran[path] == nil {
			s.ran[path] = &fileOutcome{}
		}
		s.ran[path].add(*r)
	}
	return updateRerun(s.o.RerunState, s.ran)
}
