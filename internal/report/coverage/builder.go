package coverage

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"provium/internal/event"
	"provium/internal/report"
)

// Bounds of what is kept of a stream.
const (
	maxText   = 4 << 10 // bytes of a name or value
	maxValues = 1000    // values of a key in one test
	maxAtOnce = 1 << 12 // files at a time that are told apart
)

// Builder makes a report of streams. The zero value is ready. It belongs to one goroutine.
type Builder struct {
	totals   Totals
	tests    []*test
	byName   map[[2]string]*test
	files    []*file
	byPath   map[string]*file
	fixtures []*Fixture
	byFix    map[string]*Fixture
	waits    []*Wait
	keys     map[string]bool // of meta
	notes    []string
	pool     poolUse
	atOnce   []uint64 // nanoseconds at which n files ran
	events   int

	stream streamState
}

// streamState is what belongs to one stream.
type streamState struct {
	first, last int64
	elapsed     uint64 // of the iterations that ended
	began       int64  // of the present iteration
	running     map[string]bool
	blocked     map[string]blocked
	builds      map[string]bool
}

type blocked struct {
	since  int64
	reason string
}

type test struct {
	path, name string
	status     Status
	took       uint64
	runs       int
	retried    bool
	values     map[string][]string // of meta, by key
}

type file struct {
	path    string
	started bool
	status  Status // "" without a result
	took    uint64
}

type poolUse struct {
	total, most event.Amount
	memory      float64 // sums
	cpus        float64
	samples     int
}

// Read adds a stream. After an error, what precedes the damage is in the report.
func (b *Builder) Read(r event.Reader) error {
	b.stream = streamState{}
	defer b.endStream()
	for {
		env, err := r.Decode()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			b.notes = append(b.notes, "The stream is damaged or ends early: "+clip(err.Error()))
			return err
		}
		if e, ok := env.Event.(event.RunStarted); ok && e.ProtocolVersion != event.ProtocolVersion {
			return &report.VersionError{Version: e.ProtocolVersion}
		}
		b.Add(env)
	}
}

// Events returns how many events were read.
func (b *Builder) Events() int { return b.events }

// Add takes an event of the present stream.
func (b *Builder) Add(env event.Envelope) {
	s := &b.stream
	if s.running == nil {
		*s = streamState{first: env.TS, last: env.TS, began: env.TS, running: map[string]bool{},
			blocked: map[string]blocked{}, builds: map[string]bool{}}
	}
	b.events++
	b.passTime(max(env.TS, s.last))
	switch e := env.Event.(type) {
	case event.RunStarted:
		b.endIteration()
		s.began = env.TS
		b.totals.Iterations++
		b.pool.total.MemoryBytes = max(b.pool.total.MemoryBytes, e.Pool.MemoryBytes)
		b.pool.total.CPUs = max(b.pool.total.CPUs, e.Pool.CPUs)
	case event.RunCompleted:
		s.elapsed += min(e.DurationNS, math.MaxInt64/1024)
		b.endIteration()
	case event.EventsLost:
		b.totals.Lost += e.Count
	case event.PoolState:
		b.pool.add(e)
	default:
		if !b.fileEvent(env.Event) && !b.testEvent(env.Event) {
			b.guestEvent(env.Event)
		}
	}
}

// passTime counts the time since the last event to the number of files that run.
func (b *Builder) passTime(now int64) {
	s := &b.stream
	n := min(len(s.running), maxAtOnce)
	for len(b.atOnce) <= n {
		b.atOnce = append(b.atOnce, 0)
	}
	b.atOnce[n] += uint64(now - s.last)
	s.last = now
}

func (b *Builder) endIteration() {
	s := &b.stream
	for path := range s.blocked {
		b.unblock(path)
	}
	clear(s.running)
	clear(s.builds)
}

func (b *Builder) endStream() {
	s := &b.stream
	if s.running == nil {
		return
	}
	b.endIteration()
	elapsed := s.elapsed
	if elapsed == 0 {
		elapsed = uint64(s.last - s.first)
	}
	b.totals.Seconds = max(b.totals.Seconds, seconds(elapsed))
	b.stream = streamState{}
}

func (b *Builder) fileEvent(e event.Event) bool {
	s := &b.stream
	switch e := e.(type) {
	case event.FileDiscovered:
		b.file(e.Path)
	case event.FileBlocked:
		b.unblock(e.Path)
		s.blocked[e.Path] = blocked{s.last, string(e.Reason)}
	case event.FileDispatched:
		b.unblock(e.Path)
		b.file(e.Path).started = true
		s.running[e.Path] = true
	case event.FileCompleted:
		delete(s.running, e.Path)
		f := b.file(e.Path)
		f.started, f.took = true, max(f.took, e.DurationNS)
		switch {
		case e.Status != event.FilePassed:
			f.status = Failed
		case f.status == "":
			f.status = Passed
		}
	case event.ClaimAcquired, event.ClaimReleased:
	default:
		return false
	}
	return true
}

// unblock ends the wait of a file, if it waits.
func (b *Builder) unblock(path string) {
	wait, ok := b.stream.blocked[path]
	if !ok {
		return
	}
	delete(b.stream.blocked, path)
	var w *Wait
	for _, x := range b.waits {
		if x.Reason == wait.reason {
			w = x
		}
	}
	if w == nil {
		w = &Wait{Reason: wait.reason}
		b.waits = append(b.waits, w)
	}
	took := seconds(uint64(b.stream.last - wait.since))
	w.Count++
	w.Seconds += took
	if took >= w.Longest {
		w.Longest, w.Path = took, clip(path)
	}
}

func (b *Builder) file(path string) *file {
	f := b.byPath[path]
	if f == nil {
		if b.byPath == nil {
			b.byPath = map[string]*file{}
		}
		f = &file{path: clip(path)}
		b.byPath[path] = f
		b.files = append(b.files, f)
	}
	return f
}

func (b *Builder) testEvent(e event.Event) bool {
	switch e := e.(type) {
	case event.TestStarted:
		b.test(e.Path, e.Name, e.Meta).retried = false
	case event.TestRetried:
		b.test(e.Path, e.Name, nil).retried = true
	case event.TestPassed:
		t := b.test(e.Path, e.Name, e.Meta)
		status := Passed
		if t.retried {
			status = Flaky
		}
		t.ended(status, e.DurationNS)
	case event.TestFailed:
		b.test(e.Path, e.Name, e.Meta).ended(Failed, e.DurationNS)
	case event.TestSkipped:
		b.test(e.Path, e.Name, e.Meta).ended(Skipped, 0)
	default:
		return false
	}
	return true
}

// ended takes the result of a run. The worst one of all runs counts, but a run that was left
// out says nothing.
func (t *test) ended(s Status, took uint64) {
	rank := map[Status]int{Unfinished: 0, Skipped: 1, Passed: 2, Flaky: 3, Failed: 4}
	if rank[s] > rank[t.status] {
		t.status = s
	}
	t.took = max(t.took, took)
	t.runs++
}

func (b *Builder) test(path, name string, meta event.Meta) *test {
	key := [2]string{path, name}
	t := b.byName[key]
	if t == nil {
		if b.byName == nil {
			b.byName, b.keys = map[[2]string]*test{}, map[string]bool{}
		}
		t = &test{path: clip(path), name: clip(name), status: Unfinished}
		b.file(path).started = true
		b.byName[key] = t
		b.tests = append(b.tests, t)
	}
	if t.values == nil && len(meta) > 0 {
		t.values = map[string][]string{}
		for k, v := range meta {
			k = clip(k)
			if have := values(k, v); len(have) > 0 {
				b.keys[k], t.values[k] = true, have
			}
		}
	}
	return t
}

func (b *Builder) guestEvent(e event.Event) {
	g := &b.totals.Guests
	switch e := e.(type) {
	case event.VMSpawned:
		g.All++
		switch e.Source {
		case event.BootCold:
			g.Boots++
		case event.BootCache:
			g.Cached++
		default:
			g.Restored++
		}
	case event.VMBootFailed:
		g.Failed++
	case event.FixtureBuildStarted:
		b.stream.builds[e.Path] = true
		b.fixture(e.Path)
	case event.FixtureBuildWaiting:
		b.fixture(e.Path).Waits++
	case event.FixtureBuildDone:
		f := b.fixture(e.Path)
		delete(b.stream.builds, e.Path)
		f.Builds++
		f.Seconds += seconds(e.DurationNS)
		if f.Bytes = e.SnapshotBytes; e.SnapshotBytes == 0 {
			f.Failed++
		}
	case event.FixtureCacheHit:
		b.fixture(e.Path).Hits++
	}
}

func (b *Builder) fixture(name string) *Fixture {
	f := b.byFix[name]
	if f == nil {
		if b.byFix == nil {
			b.byFix = map[string]*Fixture{}
		}
		f = &Fixture{Name: clip(name)}
		b.byFix[name] = f
		b.fixtures = append(b.fixtures, f)
	}
	return f
}

func (p *poolUse) add(e event.PoolState) {
	p.samples++
	p.memory += float64(e.Used.MemoryBytes)
	p.cpus += float64(e.Used.CPUs)
	p.most.MemoryBytes = max(p.most.MemoryBytes, e.Used.MemoryBytes)
	p.most.CPUs = max(p.most.CPUs, e.Used.CPUs)
}

// clip cuts the middle of a long text.
func clip(text string) string {
	if len(text) > maxText {
		text = text[:maxText/2] + fmt.Sprintf("[… %d bytes …]", len(text)-maxText) + text[len(text)-maxText/2:]
		return strings.ToValidUTF8(text, "")
	}
	return text
}

// seconds rounds to milliseconds: the rest is noise.
func seconds(ns uint64) float64 {
	return math.Round(float64(ns)/float64(time.Millisecond)) / 1000
}
