package page

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"provium/internal/event"
	"provium/internal/report"
	"provium/internal/terminal"
)

// Bounds of what a page holds of one test, file and guest, so that it opens quickly. What
// does not fit is left out in the middle or at the beginning, and the page says so.
const (
	maxOps     = 400      // operations of a test, half of them its last
	maxText    = 64 << 10 // bytes of a text
	maxMarks   = 2000     // marks of a file
	maxPool    = 4000     // points of the pool's use
	maxAttach  = 1 << 20  // bytes of an attachment that stand in the page
	maxAttachs = 16 << 20 // bytes of all attachments
)

// Builder makes a page of streams. The zero value is ready. It belongs to one goroutine.
type Builder struct {
	// Dir is the directory to which the page is written, absolute: links to folders of evidence are
	// relative to it. Without it the page does not link to them.
	Dir string

	m        model
	first    int64 // of all streams, in nanoseconds since 1970
	last     int64
	attached int

	run   *runOf
	files map[string]*collected // of the present run
	open  map[string]*buildOf
}

// collected is a file as its events come.
type collected struct {
	*fileOf
	tests  map[string]*testOf // by name
	now    *testOf            // the running test
	guests map[string]*guestOf
	depth  int
}

// Read adds a stream. After an error, what the stream had before its damage is in the page.
func (b *Builder) Read(r event.Reader) error {
	b.begin()
	defer b.finish()
	for {
		env, err := r.Decode()
		if errors.Is(err, io.EOF) && !errors.Is(err, event.ErrTruncated) {
			return nil
		}
		if err != nil {
			b.m.Notes = append(b.m.Notes, "The stream is damaged or ends early: "+clean(err.Error()))
			return err
		}
		if e, ok := env.Event.(event.RunStarted); ok && e.ProtocolVersion != event.ProtocolVersion {
			return &report.VersionError{Version: e.ProtocolVersion}
		}
		b.add(env.TS, env.Event)
	}
}

// Missing adds what no stream has: a shard that never came, or that died. It stands among the
// files, as one that has crashed, with the reason.
func (b *Builder) Missing(name, why string) {
	b.m.Files = append(b.m.Files, &fileOf{Path: clean(name), Status: string(event.FileCrashed), Error: clean(why),
		Start: -1, End: -1, Tests: []*testOf{}})
}

// Files returns how many files the page has so far.
func (b *Builder) Files() int { return len(b.m.Files) }

// begin begins a run that has told nothing of itself yet.
func (b *Builder) begin() {
	b.run = nil
	b.files, b.open = map[string]*collected{}, map[string]*buildOf{}
}

// finish ends the present run: what it has left open is unfinished.
func (b *Builder) finish() {
	defer b.begin()
	for _, f := range b.files {
		if f.Start >= 0 && f.End < 0 {
			f.Status, f.End = "unfinished", b.at(b.last)
		}
		if f.now != nil {
			f.now.Ms = b.at(b.last) - f.now.Start
		}
		for _, t := range f.Tests {
			if t.Detail != nil {
				t.Detail.Ops, t.Detail.late = append(t.Detail.Ops, t.Detail.late...), nil
			}
		}
		if f.Scope != nil {
			f.Scope.Ops, f.Scope.late = append(f.Scope.Ops, f.Scope.late...), nil
		}
	}
}

// at converts a time. Streams of shards may begin before the first that was read; page.js
// moves all by the earliest.
func (b *Builder) at(ts int64) float64 { return ms(ts - b.first) }

func ms(ns int64) float64 { return math.Round(float64(ns)/1e4) / 100 }

func span(ns uint64) float64 { return ms(int64(min(ns, math.MaxInt64))) }

// clean makes a text that can be shown. A long one loses its middle.
func clean(text string) string {
	text = terminal.Escape(text)
	if len(text) > maxText {
		cut := len(text) - maxText
		text = text[:maxText/2] + fmt.Sprintf("\n[… %d bytes …]\n", cut) + text[len(text)-maxText/2:]
	}
	return text
}

// keepEnd appends to a text of which the end matters.
func keepEnd(to *string, text string) {
	*to += terminal.Escape(text)
	if over := len(*to) - maxText; over > maxText/4 {
		*to = "[…]\n" + (*to)[over:]
	}
}

func (b *Builder) file(path string) *collected {
	f := b.files[path]
	if f == nil {
		f = &collected{fileOf: &fileOf{Run: max(0, len(b.m.Runs)-1), Path: clean(path), Status: "not started",
			Start: -1, End: -1, Tests: []*testOf{}}, tests: map[string]*testOf{}, guests: map[string]*guestOf{}}
		b.files[path] = f
		b.m.Files = append(b.m.Files, f.fileOf)
	}
	return f
}

// detail returns where to put what happens in a test, by name, or at file scope.
func (f *collected) detail(name string) *detailOf {
	to := &f.Scope
	if t := f.tests[name]; t != nil {
		to = &t.Detail
	}
	if *to == nil {
		*to = &detailOf{}
	}
	return *to
}

func (f *collected) mark(at float64, kind, vm, text string) {
	if len(f.Marks) < maxMarks {
		f.Marks = append(f.Marks, &markOf{at, kind, clean(vm), clean(text)})
	}
}

func (b *Builder) add(ts int64, e event.Event) {
	if b.first == 0 {
		b.first = ts
	}
	b.last = max(b.last, ts)
	at := b.at(ts)
	b.m.End = max(b.m.End, at)
	switch e := e.(type) {
	case event.RunStarted:
		if b.run != nil {
			b.finish()
		}
		b.run = &runOf{Version: clean(e.Version), Project: clean(e.Project), Shard: clean(e.Shard),
			Iteration: e.Iteration,
			Seed:      fmt.Sprint(e.Seed), Repeat: clean(e.Repeat), Accelerator: clean(e.Accelerator),
			Start: at, Exit: -1}
		b.m.Runs = append(b.m.Runs, b.run)
		b.m.PoolSize[0] = max(b.m.PoolSize[0], float64(e.Pool.MemoryBytes))
		b.m.PoolSize[1] = max(b.m.PoolSize[1], float64(e.Pool.CPUs))
	case event.RunCompleted:
		if b.run != nil {
			b.run.Exit, b.run.Ms = int(e.ExitCode), span(e.DurationNS)
			b.run.NotStarted, b.run.Interrupted = e.NotStarted, e.Interrupted
		}
	case event.EventsLost:
		b.m.Lost += e.Count
	case event.PoolState:
		b.pool(at, e.Used)
	default:
		if !b.fileEvent(at, e) && !b.testEvent(at, e) && !b.guestEvent(at, e) {
			b.buildEvent(at, e)
		}
	}
}

// pool adds a point, and leaves out every second one when there are too many.
func (b *Builder) pool(at float64, used event.Amount) {
	if len(b.m.Pool) >= maxPool {
		kept := b.m.Pool[:0]
		for i := 0; i < len(b.m.Pool); i += 2 {
			kept = append(kept, b.m.Pool[i])
		}
		b.m.Pool = kept
	}
	b.m.Pool = append(b.m.Pool, [3]float64{at, float64(used.MemoryBytes), float64(used.CPUs)})
}

func (b *Builder) fileEvent(at float64, e event.Event) bool {
	switch e := e.(type) {
	case event.FileDiscovered:
		b.file(e.Path).Found = at
	case event.FileBlocked:
		f := b.file(e.Path)
		f.Waits = append(f.Waits, &waitOf{at, clean(string(e.Reason))})
	case event.FileDispatched:
		f := b.file(e.Path)
		f.Start, f.Status = at, "unfinished"
	case event.FileCompleted:
		f := b.file(e.Path)
		f.Status, f.End, f.Error = clean(string(e.Status)), at, clean(e.ChunkError)
		if f.Start < 0 {
			f.Start = at - span(e.DurationNS)
		}
		if folder := b.link(e.Artifacts); folder != "" {
			f.detail("").Folder = folder
		}
	case event.ClaimAcquired, event.ClaimReleased:
	default:
		return false
	}
	return true
}

// build begins and ends a build.
func (b *Builder) build(at float64, kind, name string, done bool, failure string) {
	key := kind + "\x00" + name
	x := b.open[key]
	if x == nil {
		x = &buildOf{Kind: kind, Name: clean(name), Start: at, Ms: -1}
		b.open[key] = x
		b.m.Builds = append(b.m.Builds, x)
	}
	if done {
		x.Ms, x.Error = math.Round((at-x.Start)*100)/100, clean(failure)
		delete(b.open, key)
	}
}

func (b *Builder) buildEvent(at float64, e event.Event) {
	switch e := e.(type) {
	case event.FixtureBuildStarted:
		b.build(at, "fixture", e.Path, false, "")
	case event.FixtureBuildDone:
		failure := ""
		if e.SnapshotBytes == 0 {
			failure = "the build failed"
		}
		b.build(at, "fixture", e.Path, true, failure)
	case event.ProfileBuildStarted:
		b.build(at, "profile", e.Profile, false, "")
	case event.ProfileBuildDone:
		b.build(at, "profile", e.Profile, true, e.Error)
	case event.DownloadStarted:
		b.build(at, "download", e.What, false, "")
	case event.DownloadDone:
		b.build(at, "download", e.What, true, e.Error)
	}
}

// date is the run's start for people.
func (b *Builder) date() string {
	return time.Unix(0, b.first).UTC().Format("2006-01-02 15:04:05 UTC")
}

// Put takes events as they come, as an [event.Sink].
func (b *Builder) Put(batch *event.Batch) error {
	if b.files == nil {
		b.begin()
	}
	for _, env := range batch.Events {
		b.add(env.TS, env.Event)
	}
	return nil
}
