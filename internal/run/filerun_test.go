package run

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"provium/internal/admission"
	"provium/internal/choose"
	"provium/internal/config"
	"provium/internal/deadline"
	"provium/internal/event"
	"provium/internal/proc"
	"provium/internal/report"
	"provium/internal/run/workers"
)

// fakeRunnerVar makes the test binary act as a runner that speaks the real
// protocol; its value names the behaviour.
const fakeRunnerVar = "RUN_TEST_FAKE_RUNNER"

func TestMain(m *testing.M) {
	switch behaviour := os.Getenv(fakeRunnerVar); behaviour {
	case "": // the tests themselves
	case "real":
		if err := Runner(os.NewFile(RunnerFD, "pipe"), os.Getenv("PROVIUM_TEST_FILTER")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	default:
		fakeRunner(behaviour)
		return
	}
	os.Exit(m.Run())
}

func fakeRunner(behaviour string) {
	f := os.NewFile(RunnerFD, "pipe")
	r := &runner{pipe: newMessagePipe(f, f), waiting: map[uint64]chan answer{}}
	first, err := r.pipe.receive()
	if err != nil || first.Job == nil {
		os.Exit(9)
	}
	path := first.Job.Path
	r.begin(first.Job)
	start := func(name string) { r.emit(event.TestStarted{Path: path, Name: name}) }
	pass := func(name string) { start(name); r.emit(event.TestPassed{Path: path, Name: name}) }
	tests := func(names ...string) { _ = r.pipe.send(&message{Registered: &registered{Tests: names}}) }
	finish := func(d done) { _ = r.pipe.send(&message{Done: &d}) }
	switch behaviour {
	case "pass":
		tests("a", "b")
		pass("a")
		pass("b")
		finish(done{})
	case "leaves": // does not wait for another file
		tests("a", "b")
		pass("a")
		pass("b")
		finish(done{Reusable: true})
	case "stays": // waits for another file, also when it was told to stop
		tests("a")
		start("a")
		m, _ := r.pipe.receive()
		r.emit(event.TestFailed{Path: path, Name: "a", Reason: m.Interrupt.Reason})
		finish(done{Reusable: true})
		_, _ = r.pipe.receive()
	case "forgets": // a result was lost
		tests("a", "b", "c")
		pass("a")
		start("b")
		finish(done{})
	case "chunk":
		finish(done{ChunkError: "no such profile"})
	case "crash":
		tests("a", "b", "c")
		pass("a")
		r.emit(event.VMSpawned{File: path, VMName: "n1", Source: event.BootCold})
		start("b")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "exit": // leaves without a word
		os.Exit(0)
	case "hang": // ignores every request to stop
		tests("a", "b", "c")
		pass("a")
		start("b")
		select {}
	case "stops": // ends in good order when asked to
		tests("a", "b")
		start("a")
		m, _ := r.pipe.receive()
		r.emit(event.TestFailed{Path: path, Name: "a", Reason: m.Interrupt.Reason})
		start("b")
		r.emit(event.TestSkipped{Path: path, Name: "b", Reason: "not run"})
		finish(done{})
	case "claim":
		tests()
		for id := range uint64(2) {
			_ = r.pipe.send(&message{Claim: &claim{ID: id, Memory: 7, CPUs: 1}})
			_, _ = r.pipe.receive()
		}
		finish(done{})
	case "dies":
		tests("a")
		start("a")
		for range 10_000 {
			go func() { select {} }()
		}
		panic("no luck")
	case "charge":
		tests("a")
		shares := []admission.Share{{Memory: 1, CPUs: 1}}
		_ = r.pipe.send(&message{Acquire: &acquire{ID: 5, What: "vm `v`", Shares: shares}})
		m, _ := r.pipe.receive()
		start("a")
		r.emit(event.TestFailed{Path: path, Name: "a", Reason: fmt.Sprint(m.Answer.ID, " ", m.Answer.Err)})
		_ = r.pipe.send(&message{Release: &release{ID: 5}})
		finish(done{})
	}
}

// recordedResources grants or refuses everything and writes down what was asked.
type recordedResources struct {
	mu    sync.Mutex
	calls []string
	err   error
}

func (r *recordedResources) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
}

func (r *recordedResources) Acquire(id uint64, what string, shares []admission.Share, answer func(error)) {
	r.note("charge %d %s %v", id, what, shares)
	answer(r.err)
}

func (r *recordedResources) Claim(id uint64, memory int64, cpus int, answer func(error)) {
	r.note("claim %d", id)
	answer(r.err)
}

func (r *recordedResources) Release(id uint64, share int) { r.note("release %d %d", id, share) }

func (r *recordedResources) Booted() { r.note("booted") }

func (r *recordedResources) Forget(id uint64) { r.note("drop %d", id) }

type fakeRun struct {
	*fileRun
	t         *testing.T
	resources *recordedResources
	events    []event.Event
	encoded   int // events with a payload
}

// emitted checks that payloads are those of their events.
func (r *fakeRun) emitted(list ...event.Encoded) {
	for _, e := range list {
		r.events = append(r.events, e.Event)
		if e.Payload == nil {
			continue
		}
		r.encoded++
		want, err := event.EncodePayload(e.Event)
		if err != nil || !bytes.Equal(e.Payload, want) {
			r.t.Errorf("payload %q of %+v, want %q, %v", e.Payload, e.Event, want, err)
		}
	}
}

func newFakeRun(t *testing.T, behaviour string) *fakeRun {
	t.Helper()
	t.Setenv(fakeRunnerVar, behaviour)
	starter := proc.NewStarter()
	t.Cleanup(starter.Close)
	r := &fakeRun{t: t, resources: &recordedResources{}}
	r.fileRun = &fileRun{
		job: &job{Path: "x.test.lua"}, resources: r.resources, emit: r.emitted, stderr: os.Stderr,
		command: &workers.Command{Program: os.Args[0], Verb: "-test.run=^$", Starter: starter,
			Stdout: os.Stdout, Stderr: os.Stderr},
	}
	return r
}

func describeResult(r report.FileResult) string {
	s := string(r.Status)
	if r.ChunkError != "" {
		s += " chunk=" + r.ChunkError
	}
	for _, t := range r.Tests {
		s += fmt.Sprintf("; %s %s %s", t.Name, t.Status, t.Message)
	}
	return s
}

func TestFileRunOutcomes(t *testing.T) {
	for _, tc := range []struct{ behaviour, want string }{
		{"pass", "passed; a passed ; b passed "},
		{"chunk", "failed chunk=no such profile"},
		{"crash", "crashed; a passed ; b failed runner ended: signal: killed; c failed failed-due-to-poisoned-state"},
		{"forgets", "crashed; a passed ; b failed no result was reported; c failed failed-due-to-poisoned-state"},
		{"exit", "crashed chunk=runner ended without a report"},
	} {
		t.Run(tc.behaviour, func(t *testing.T) {
			r := newFakeRun(t, tc.behaviour)
			got := describeResult(r.run(nil, nil, nil))
			got = strings.ReplaceAll(got, " (core dumped)", "")
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			checkPairs(t, r.events)
			if tc.behaviour == "pass" && r.encoded != 4 {
				t.Errorf("%d of the runner's 4 events came encoded", r.encoded)
			}
		})
	}
}

// A failure tells which flags have chance decide the same again; its consequences do
// not, nor do passed and skipped tests.
func TestFileRunTellsHowToRepeat(t *testing.T) {
	again := func(test string) string {
		return "\nrepeat with: provium tests/x.test.lua" + test + " --seed 7 --shuffle 9"
	}
	for _, tc := range []struct{ behaviour, want string }{
		{"pass", "passed; a passed ; b passed "},
		{"chunk", "failed chunk=no such profile" + again("")},
		{"crash", "crashed; a passed ; b failed runner ended: signal: killed" + again("::b") +
			"; c failed failed-due-to-poisoned-state"},
		{"exit", "crashed chunk=runner ended without a report" + again("")},
	} {
		r := newFakeRun(t, tc.behaviour)
		o := &Options{Seed: 7, ShuffleSeed: 9, Select: Selection{Shuffle: true, WorkDir: "/p"},
			Config: &config.Config{Dir: "/p", Path: "/p/provium.toml"}}
		r.job.Repeat = o.repeatOf(Candidate{Abs: "/p/tests/x.test.lua"})
		got := strings.ReplaceAll(describeResult(r.run(nil, nil, nil)), " (core dumped)", "")
		if got != tc.want {
			t.Errorf("%s: got  %s\nwant %s", tc.behaviour, got, tc.want)
		}
		for _, e := range r.events {
			if failed, ok := e.(event.TestFailed); ok && failed.Name == "b" &&
				!strings.HasSuffix(failed.Reason, again("::b")) {
				t.Errorf("the event has %q", failed.Reason)
			}
		}
	}
	for _, tc := range []struct {
		o    Options
		want string
	}{
		{Options{}, ""},
		{Options{ShuffleSeed: 9}, ""},
		{Options{Seed: 1<<64 - 1}, "--seed 18446744073709551615"},
		{Options{Select: Selection{Shuffle: true}}, "--shuffle 0"},
	} {
		if got := tc.o.repeat(); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
	at := func(dir, path string) *config.Config { return &config.Config{Dir: dir, Path: path} }
	for _, tc := range []struct {
		o    Options
		want string
	}{
		{Options{Config: at("/p", "/p/provium.toml"), Select: Selection{WorkDir: "/p/tests"}}, "provium x.test.lua"},
		{Options{Config: at("/p", "/p/other.toml"), Select: Selection{WorkDir: "/p"}},
			"provium tests/x.test.lua --config other.toml"},
		{Options{Config: at("/p", "/p/provium.toml"), Select: Selection{WorkDir: "/q"}, Local: true,
			Filter: choose.Filter{IncludeSlow: true}},
			"provium /p/tests/x.test.lua --config /p/provium.toml --vmm local --include-slow"},
	} {
		if got := tc.o.repeatOf(Candidate{Abs: "/p/tests/x.test.lua"}).Line(""); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

// checkPairs verifies what the event stream promises, however a file ends.
func checkPairs(t *testing.T, events []event.Event) {
	t.Helper()
	vms, tests, completed := 0, 0, 0
	for _, e := range events {
		switch e.(type) {
		case event.VMSpawned:
			vms++
		case event.VMShutdown:
			vms--
		case event.TestStarted:
			tests++
		case event.TestPassed, event.TestFailed, event.TestSkipped:
			tests--
		case event.FileCompleted:
			completed++
		}
	}
	if vms != 0 || tests != 0 || completed != 1 {
		t.Errorf("unpaired: %d VMs, %d tests, %d completions in %v", vms, tests, completed, events)
	}
}

func TestFileRunStopsInGoodOrder(t *testing.T) {
	r := newFakeRun(t, "stops")
	stop := make(chan struct{})
	close(stop)
	got := describeResult(r.run(stop, nil, &stopNow{Reason: "Ctrl-C", Status: string(report.FileInterrupted)}))
	if got != "interrupted; a failed Ctrl-C; b skipped not run" {
		t.Errorf("got %s", got)
	}
	checkPairs(t, r.events)
}

func TestFileRunOverItsLimit(t *testing.T) {
	r := newFakeRun(t, "stops")
	r.limit = time.Millisecond
	got := describeResult(r.run(nil, nil, nil))
	if got != "timed_out; a failed the file's limit of 1ms (--timeout) has passed; b skipped not run" {
		t.Errorf("got %s", got)
	}
}

func TestFileRunKillsWhatDoesNotStop(t *testing.T) {
	r := newFakeRun(t, "hang")
	kill := make(chan struct{})
	stop := make(chan struct{})
	emit := r.emit
	r.emit = func(list ...event.Encoded) {
		emit(list...)
		for _, e := range list {
			if s, ok := e.Event.(event.TestStarted); ok && s.Name == "b" {
				close(stop)
				close(kill)
			}
		}
	}
	got := describeResult(r.run(stop, kill, &stopNow{Reason: "too long", Status: string(report.FileTimedOut)}))
	// Whichever is seen first: killed, or asked to stop and then killed.
	byKill := "crashed; a passed ; b failed runner ended: signal: killed; c failed failed-due-to-poisoned-state"
	byStop := "timed_out; a passed ; b failed too long; c skipped not run: too long"
	if got != byKill && got != byStop {
		t.Errorf("got %s", got)
	}
	checkPairs(t, r.events)
}

func TestFileRunAnnouncesItsClaim(t *testing.T) {
	r := newFakeRun(t, "claim")
	r.run(nil, nil, nil)
	want := event.Amount{MemoryBytes: 7, CPUs: 1}
	n := len(r.events)
	if n < 3 || r.events[0] != event.Event(event.ClaimAcquired{Path: "x.test.lua", Amount: want}) ||
		r.events[n-2] != event.Event(event.ClaimReleased{Path: "x.test.lua", Amount: want}) {
		t.Errorf("events: %+v", r.events)
	}
}

func TestFileRunAsksForFunds(t *testing.T) {
	for _, err := range []error{nil, fmt.Errorf("exceeds pool total")} {
		r := newFakeRun(t, "charge")
		r.resources.err = err
		got := describeResult(r.run(nil, nil, nil))
		want := "failed; a failed 5"
		if err != nil {
			want += " " + err.Error()
		} else {
			want += " "
		}
		if strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if calls := strings.Join(r.resources.calls, ", "); calls != "charge 5 vm `v` [{1 1 false}], release 5 0" {
			t.Errorf("calls: %s", calls)
		}
	}
}

// TestLimitOfAFile has the default limit not count what a loaded host takes, which the limit of a user counts.
func TestLimitOfAFile(t *testing.T) {
	for name, c := range map[string]struct {
		limit time.Duration
		fair  bool
		after time.Duration // 0: never
	}{
		"default": {5 * time.Minute, true, 10 * time.Minute},
		"asked":   {5 * time.Minute, false, 5 * time.Minute},
		"none":    {0, false, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fileRun{limit: c.limit, fair: c.fair}
			began := time.Now()
			limit, expired, stop := f.beginLimit()
			tick := time.NewTicker(observeEvery)
			defer tick.Stop()
			for expired != nil {
				select {
				case <-tick.C:
					f.hindered.Store(int64(time.Since(began) / 2))
					continue
				case <-expired:
				}
				break
			}
			d := time.Since(began)
			if c.after > 0 && (d < c.after-observeEvery || d > c.after+time.Second) || c.after == 0 && expired != nil {
				t.Errorf("%s: after %v", name, d)
			}
			if got := limit.Charged() != ""; got != c.fair {
				t.Errorf("%s: charged%s", name, limit.Charged())
			}
			stop()
		})
	}
}

// TestFairLimitIsSaid says what of a file's limit was charged.
func TestFairLimitIsSaid(t *testing.T) {
	for _, fair := range []bool{true, false} {
		r := newFakeRun(t, "stops")
		r.limit, r.fair = 40*time.Millisecond, fair
		over := make(chan struct{})
		var busy sync.WaitGroup
		busy.Go(func() {
			for n := int64(0); ; n++ {
				select {
				case <-over:
					return
				case <-time.After(time.Millisecond):
					r.hindered.Add(int64(time.Hour))
				}
			}
		})
		got := describeResult(r.run(nil, nil, nil))
		close(over)
		busy.Wait()
		if !strings.Contains(got, "the file's limit of 40ms (--timeout) has passed") ||
			strings.Contains(got, "do not count, since a loaded host left no CPU)") != fair {
			t.Errorf("fair: %v: %s", fair, got)
		}
	}
}

// TestRunnerThatEnds lets a runner that says nothing more take longer on a loaded host.
func TestRunnerThatEnds(t *testing.T) {
	for _, busy := range []time.Duration{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			f := &fileRun{}
			began := time.Now()
			e := f.newEndings()
			e.begin()
			time.Sleep(4 * time.Second)
			e.heard()
			load := time.NewTicker(time.Second)
			defer load.Stop()
			for over := false; !over; {
				select {
				case <-load.C:
					f.hindered.Add(int64(busy * time.Second))
				case <-e.over:
					over = true
				}
			}
			want := 4*time.Second + stopQuiet
			if busy > 0 {
				want = 4*time.Second + deadline.Cap*stopQuiet
			}
			if d := time.Since(began); d < want || d > want+time.Second {
				t.Errorf("busy: %v: after %v, want %v", busy, d, want)
			}
			e.stop()
		})
	}
}
