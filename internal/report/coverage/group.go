package coverage

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Keys that are no keys of meta, or are read in a way of their own.
const (
	keySpec = "spec"
	keyTags = "tags"
	keyFile = "file"
)

// values returns the values that a value of a test's meta stands for: one, or those of an
// array. A text of spec may have several, with blanks between them.
func values(key string, v any) []string {
	var out []string
	list, isArray := v.([]any)
	if !isArray {
		list = []any{v}
	}
	for _, e := range list {
		switch e := e.(type) {
		case string:
			if key == keySpec && !isArray {
				out = append(out, strings.Fields(e)...)
			} else {
				out = append(out, e)
			}
		case []byte:
			out = append(out, strconv.Quote(string(e))) // is no text
		case bool, int64:
			out = append(out, fmt.Sprint(e))
		case float64:
			out = append(out, strconv.FormatFloat(e, 'g', -1, 64))
		}
		if len(out) >= maxValues {
			out = out[:maxValues]
			break
		}
	}
	for i := range out {
		out[i] = clip(out[i])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Keys returns by what tests can be grouped, sorted.
func (b *Builder) Keys() []string {
	keys := maps.Clone(b.keys)
	if keys == nil {
		keys = map[string]bool{}
	}
	keys[keyFile] = true
	return slices.Sorted(maps.Keys(keys))
}

// canonicalKey returns the key that a user means: the tags of a test are in meta.tags.
func canonicalKey(key string) string {
	if key == "tag" {
		return keyTags
	}
	return key
}

// HasKey reports whether tests can be grouped by key.
func (b *Builder) HasKey(key string) bool {
	return key == keyFile || b.keys[canonicalKey(key)]
}

// Group returns the tests by the values that a key of meta has, by tag (`tag`) or by file
// (`file`), both sorted.
func (b *Builder) Group(key string) Grouping {
	g := Grouping{Key: clip(key), Values: []Value{}, Without: []Test{}}
	byValue := map[string]*Value{}
	took := map[string]uint64{}
	for _, t := range b.sortedTests() {
		have := t.values[canonicalKey(key)]
		if key == keyFile {
			have = []string{t.path}
		}
		if len(have) == 0 {
			g.Without = append(g.Without, t.shown())
			continue
		}
		for _, name := range have {
			v := byValue[name]
			if v == nil {
				v = &Value{Value: name}
				byValue[name] = v
			}
			v.Tests = append(v.Tests, t.shown())
			v.Counts.add(t.status)
			v.Covered = v.Covered || t.status == Passed || t.status == Flaky
			took[name] += min(t.took, math.MaxInt64/1024)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byValue)) {
		v := byValue[name]
		v.Seconds = seconds(took[name])
		g.Values = append(g.Values, *v)
	}
	return g
}

func (t *test) shown() Test {
	return Test{Path: t.path, Name: t.name, Status: t.status, Seconds: seconds(t.took), Runs: t.runs}
}

func (b *Builder) sortedTests() []*test {
	list := slices.Clone(b.tests)
	slices.SortStableFunc(list, func(a, b *test) int { return strings.Compare(a.path, b.path) })
	return list
}

// slowest is how many files and tests the lists of the slowest have.
const slowest = 10

// Report returns what was read so far.
func (b *Builder) Report() *Report {
	b.endStream()
	r := &Report{Totals: b.totals, Spec: b.Group(keySpec), SlowestFiles: []Timed{}, SlowestTests: []Timed{},
		Fixtures: []Fixture{}, Waits: []Wait{}, Notes: slices.Clone(b.notes)}
	if r.Notes == nil {
		r.Notes = []string{}
	}
	for _, f := range b.files {
		switch {
		case f.status != "":
			r.Totals.Files.add(f.status)
		case f.started:
			r.Totals.Files.add(Unfinished)
		default:
			r.Totals.NotStarted++
		}
		r.SlowestFiles = append(r.SlowestFiles, Timed{Path: f.path, Seconds: seconds(f.took)})
	}
	for _, t := range b.tests {
		r.Totals.Tests.add(t.status)
		r.SlowestTests = append(r.SlowestTests, Timed{t.path, t.name, seconds(t.took)})
	}
	r.SlowestFiles, r.SlowestTests = longest(r.SlowestFiles), longest(r.SlowestTests)
	for _, f := range b.fixtures {
		r.Fixtures = append(r.Fixtures, *f)
	}
	slices.SortFunc(r.Fixtures, func(a, b Fixture) int { return strings.Compare(a.Name, b.Name) })
	for _, w := range b.waits {
		r.Waits = append(r.Waits, *w)
	}
	slices.SortFunc(r.Waits, func(a, b Wait) int { return cmp.Compare(b.Seconds, a.Seconds) })
	r.Parallel = b.parallel()
	r.Pool = b.pool.use()
	if b.totals.Lost > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d events are missing, which a slow reader did not get.",
			b.totals.Lost))
	}
	return r
}

// longest returns the slowest of a list, the slowest first.
func longest(list []Timed) []Timed {
	list = slices.DeleteFunc(list, func(t Timed) bool { return t.Seconds == 0 })
	slices.SortStableFunc(list, func(a, b Timed) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Name, b.Name))
	})
	return list[:min(len(list), slowest)]
}

func (b *Builder) parallel() Parallel {
	p := Parallel{Seconds: []float64{}}
	var busy, sum float64
	for n, ns := range b.atOnce {
		p.Seconds = append(p.Seconds, seconds(ns))
		if n > 0 && ns > 0 {
			p.Most = n
			busy += float64(ns)
			sum += float64(n) * float64(ns)
		}
	}
	if busy > 0 {
		p.Average = math.Round(sum/busy*100) / 100
	}
	p.Seconds = p.Seconds[:min(len(p.Seconds), p.Most+1)]
	return p
}

func (p *poolUse) use() *PoolUse {
	if p.samples == 0 {
		return nil // the run was shorter than the time between two
	}
	n := float64(p.samples)
	return &PoolUse{Memory: p.total.MemoryBytes, CPUs: p.total.CPUs, MostMemory: p.most.MemoryBytes,
		AverageMemory: uint64(p.memory / n), MostCPUs: p.most.CPUs, AverageCPUs: math.Round(p.cpus/n*100) / 100}
}
