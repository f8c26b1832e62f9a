// Package merge checks that event streams are the shards of one run: that all are there, each
// once, and that all were split alike. It also collects how long files took.
//
// It does not add up results, which package report does, and prints nothing. Start reading at
// Shards.Watch.
package merge

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"provium/internal/event"
	"provium/internal/shard"
)

// maxBefore is how many events may precede the start of a run, as those of builds do, for its
// clock to be moved.
const maxBefore = 10_000

// maxShards is how many shards may be named as missing.
const maxShards = 100_000

// Shards are the streams of a run. The zero value is ready.
type Shards struct {
	streams []*stream
	base    int64 // when the first stream of a shard begins, by its clock
	took    map[string][]time.Duration
}

// stream is what the shards look at.
type stream struct {
	name     string
	behind   bool             // another one in the same file
	run      event.RunStarted // the first
	part     shard.Shard      // the zero value if it is no shard
	open     bool             // a run has started and has not ended
	runs     int
	last     uint32 // iteration
	exitCode uint32
	started  int64 // the first event, in nanoseconds since 1970
}

// Lost is a shard whose results are missing, at least in part.
type Lost struct {
	Shard string // "shard 2/4", or the name of a stream without one
	Why   string
}

// Watch returns a reader of the same events, which are checked as they are read. Times of a
// shard are moved so that all shards begin at the same time, whatever the clocks of their
// machines say.
func (s *Shards) Watch(name string, r event.Reader) event.Reader {
	st := &stream{name: name}
	s.streams = append(s.streams, st)
	return &watched{r: r, to: s, stream: st}
}

// watched is a reader whose events are looked at.
type watched struct {
	r      event.Reader
	to     *Shards
	stream *stream

	ahead  []event.Envelope // read to find the start of the run, and not yet returned
	err    error            // behind them
	begun  bool
	offset int64
}

// Decode implements [event.Reader].
func (w *watched) Decode() (event.Envelope, error) {
	if !w.begun {
		w.begun = true
		w.begin()
	}
	var env event.Envelope
	switch {
	case len(w.ahead) > 0:
		env, w.ahead = w.ahead[0], w.ahead[1:]
	case w.err != nil:
		return env, w.err
	default:
		var err error
		if env, err = w.r.Decode(); err != nil {
			return env, err
		}
	}
	if run, ok := env.Event.(event.RunStarted); ok {
		w.another(run, env.TS)
	}
	w.look(env.Event)
	env.TS += w.offset
	if w.stream.started == 0 {
		w.stream.started = env.TS
	}
	switch e := env.Event.(type) {
	case event.OperationStarted:
		e.StartNS += w.offset
		env.Event = e
	case event.OperationEnded:
		e.StartNS += w.offset
		env.Event = e
	}
	return env, nil
}

// begin reads up to the start of the run, which says whether this is a shard.
func (w *watched) begin() {
	for len(w.ahead) < maxBefore {
		env, err := w.r.Decode()
		if err != nil {
			w.err = err
			return
		}
		w.ahead = append(w.ahead, env)
		if run, ok := env.Event.(event.RunStarted); ok {
			if run.Shard != "" {
				if w.to.base == 0 {
					w.to.base = w.ahead[0].TS
				}
				w.offset = w.to.base - w.ahead[0].TS
			}
			return
		}
	}
}

// another begins a new stream where a run does not go on with the one before, as in files that were joined.
func (w *watched) another(run event.RunStarted, at int64) {
	st := w.stream
	if st.runs == 0 || run.Shard == st.run.Shard && run.Iteration > st.last {
		return
	}
	w.stream = &stream{name: st.name, behind: true}
	w.to.streams = append(w.to.streams, w.stream)
	if w.offset = 0; run.Shard != "" {
		if w.to.base == 0 {
			w.to.base = at
		}
		w.offset = w.to.base - at
	}
}

// look notes what the checks need of an event.
func (w *watched) look(e event.Event) {
	st := w.stream
	switch e := e.(type) {
	case event.RunStarted:
		if st.runs == 0 {
			st.run = e
			st.part, _ = shard.Parse(e.Shard) // a text that is no shard belongs to none
		}
		st.runs++
		st.last = e.Iteration
		st.open = true
	case event.RunCompleted:
		st.open = false
		st.exitCode = max(st.exitCode, e.ExitCode)
	case event.FileCompleted:
		switch e.Status {
		case event.FilePassed, event.FileFailed, event.FileTimedOut:
			if w.to.took == nil {
				w.to.took = map[string][]time.Duration{}
			}
			w.to.took[e.Path] = append(w.to.took[e.Path], time.Duration(min(e.DurationNS, 1<<62)))
		}
	}
}

// Started returns when the first stream began, by its clock.
func (s *Shards) Started() time.Time {
	for _, st := range s.streams {
		if st.started != 0 {
			return time.Unix(0, st.started)
		}
	}
	return time.Time{}
}

// Alike returns how the runs were started, and reports whether all have the same seed and accelerator.
func (s *Shards) Alike() (run event.RunStarted, alike bool) {
	for _, st := range s.streams {
		switch {
		case st.runs == 0:
		case !alike:
			run, alike = st.run, true
		case st.run.Seed != run.Seed || st.run.Accelerator != run.Accelerator:
			return run, false
		}
	}
	return run, alike
}

// ExitCode returns the highest exit code of the runs.
func (s *Shards) ExitCode() int {
	code := uint32(0)
	for _, st := range s.streams {
		code = max(code, st.exitCode)
	}
	return int(min(code, 255))
}

// Conflicts returns why the streams are not the shards of one run.
func (s *Shards) Conflicts() (why []string) {
	var first *stream
	seen := map[shard.Shard]string{}
	for _, st := range s.streams {
		if st.part.Count == 0 {
			continue
		}
		if first == nil {
			first = st
		}
		for _, x := range []struct{ what, one, other, remedy string }{
			{"version", first.run.Version, st.run.Version, ""},
			{"number of shards", fmt.Sprint(first.part.Count), fmt.Sprint(st.part.Count), ""},
			{"selection", first.run.Selection, st.run.Selection,
				": run all shards of the same files with the same arguments"},
			{"durations file", first.run.Durations, st.run.Durations, ": give all shards the same"},
		} {
			if x.one != x.other {
				why = append(why, fmt.Sprintf("%s: another %s (%s) than %s (%s)%s", st.name, x.what, short(x.other),
					first.name, short(x.one), x.remedy))
			}
		}
		if other, twice := seen[st.part]; twice {
			text := fmt.Sprintf("%s: shard %v came twice, in %s, too: give one of them", st.name, st.part, other)
			switch {
			case other == st.name && st.behind:
				text = fmt.Sprintf("%s: shard %v came twice in it: give one of them", st.name, st.part)
			case other == st.name:
				text = st.name + ": it is given twice"
			}
			why = append(why, text)
			continue
		}
		seen[st.part] = st.name
	}
	for _, st := range s.streams {
		if first != nil && st.runs > 0 && st.part.Count == 0 && st.run.Selection == first.run.Selection {
			why = append(why, fmt.Sprintf("%s: a run of all files, of which %s is shard %v: give the shards or "+
				"this run", st.name, first.name, first.part))
		}
	}
	return why
}

// short returns what of a text people compare: the start of a digest.
func short(text string) string {
	if text == "" {
		return "no"
	}
	if strings.HasPrefix(text, "sha256:") {
		return text[:min(len(text), len("sha256:")+12)]
	}
	return text
}

// Lost returns the shards that are missing, and those of which only a part is there.
func (s *Shards) Lost() (lost []Lost) {
	count := 0
	var there []int
	for _, st := range s.streams {
		label := st.name
		if st.part.Count > 0 {
			label = "shard " + st.part.String()
			count = max(count, st.part.Count)
			there = append(there, st.part.Index)
		}
		switch {
		case st.runs == 0:
			lost = append(lost, Lost{label, st.name + " has no run: nothing was saved before its end"})
		case st.open:
			lost = append(lost, Lost{label, fmt.Sprintf("it died, or has not ended yet: %s ends before the run does",
				st.name)})
		}
	}
	slices.Sort(there)
	there = slices.Compact(there)
	for i := 1; i <= count && len(lost) < maxShards; i++ {
		if _, ok := slices.BinarySearch(there, i); !ok {
			part := shard.Shard{Index: i, Count: count}
			lost = append(lost, Lost{"shard " + part.String(), fmt.Sprintf("it is missing: %d of %d shards are there",
				len(there), count)})
		}
	}
	return lost
}

// Durations returns how long files took, on average if they ran several times. Files that
// crashed or were interrupted are not among them.
func (s *Shards) Durations() *shard.Durations {
	mean := map[string]time.Duration{}
	for path, took := range s.took {
		sum := time.Duration(0)
		for _, d := range took {
			sum += d / time.Duration(len(took))
		}
		mean[path] = sum
	}
	return shard.NewDurations(mean)
}
