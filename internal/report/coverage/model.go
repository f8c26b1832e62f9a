package coverage

import "slices"

// Status is the result of a test over all runs of it in the streams.
type Status string

// The statuses. A test that failed in one iteration has failed.
const (
	Passed     Status = "passed"
	Flaky      Status = "flaky" // passed after it had failed
	Failed     Status = "failed"
	Skipped    Status = "skipped"
	Unfinished Status = "unfinished" // the stream has no result of it
)

// Report is what the streams say. Durations are seconds.
type Report struct {
	Totals       Totals     `json:"totals"`
	Spec         Grouping   `json:"spec"`
	SlowestFiles []Timed    `json:"slowest_files"`
	SlowestTests []Timed    `json:"slowest_tests"`
	Fixtures     []Fixture  `json:"fixtures"`
	Parallel     Parallel   `json:"files_in_parallel"`
	Waits        []Wait     `json:"waits"`
	Pool         *PoolUse   `json:"pool"` // nil if the streams say nothing of it
	Notes        []string   `json:"notes"`
	By           []Grouping `json:"by,omitempty"` // groupings that were asked for
}

// Totals counts what the streams have. A file or test counts once, however often it ran.
type Totals struct {
	Iterations int     `json:"iterations"` // of all streams
	Seconds    float64 `json:"seconds"`    // of the longest stream
	Files      Counts  `json:"files"`
	NotStarted int     `json:"files_not_started"`
	Tests      Counts  `json:"tests"`
	Guests     Guests  `json:"guests"`
	Lost       uint64  `json:"events_lost"`
}

// Counts are numbers of tests, or of files, by how they ended.
type Counts struct {
	All        int `json:"all"`
	Passed     int `json:"passed"` // with the flaky ones
	Flaky      int `json:"flaky"`
	Failed     int `json:"failed"`
	Skipped    int `json:"skipped"`
	Unfinished int `json:"unfinished"`
}

func (c *Counts) add(s Status) {
	c.All++
	switch s {
	case Passed:
		c.Passed++
	case Flaky:
		c.Passed++
		c.Flaky++
	case Failed:
		c.Failed++
	case Skipped:
		c.Skipped++
	default:
		c.Unfinished++
	}
}

// Guests counts guests by what they came from.
type Guests struct {
	All      int `json:"all"`
	Boots    int `json:"boots"`
	Cached   int `json:"from_boot_cache"`
	Restored int `json:"from_snapshots"`
	Failed   int `json:"failed_boots"`
}

// Test is a test with its result.
type Test struct {
	Path    string  `json:"path"`
	Name    string  `json:"name"`
	Status  Status  `json:"status"`
	Seconds float64 `json:"seconds"` // of its longest run
	Runs    int     `json:"runs"`    // that have a result
}

// Grouping has the tests by the values of a key of their meta, by tag or by file.
type Grouping struct {
	Key     string  `json:"key"`
	Values  []Value `json:"values"`
	Without []Test  `json:"without"` // tests without such a value
}

// Covered counts the values that have a test which passed.
func (g *Grouping) Covered() int {
	n := 0
	for _, v := range g.Values {
		if v.Covered {
			n++
		}
	}
	return n
}

// sorted returns the values that no passing test covers, then the others.
func (g *Grouping) sorted() []Value {
	values := slices.Clone(g.Values)
	slices.SortStableFunc(values, func(a, b Value) int {
		switch {
		case a.Covered == b.Covered:
			return 0
		case a.Covered:
			return 1
		}
		return -1
	})
	return values
}

// Value is a value with the tests that have it.
type Value struct {
	Value   string  `json:"value"`
	Covered bool    `json:"covered"` // a test of it has passed
	Counts  Counts  `json:"counts"`
	Seconds float64 `json:"seconds"` // of all its tests
	Tests   []Test  `json:"tests"`
}

// Timed is a file, or a test of it, with its longest duration.
type Timed struct {
	Path    string  `json:"path"`
	Name    string  `json:"name,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Fixture is what a fixture has cost and saved.
type Fixture struct {
	Name    string  `json:"name"`
	Builds  int     `json:"builds"`
	Failed  int     `json:"failed_builds"`
	Hits    int     `json:"hits"`  // restores from the cache
	Waits   int     `json:"waits"` // of files for another file's build
	Seconds float64 `json:"seconds"`
	Bytes   uint64  `json:"bytes"` // of the last snapshot
}

// Parallel says how many files ran at a time.
type Parallel struct {
	Most    int     `json:"most"`
	Average float64 `json:"average"` // while any ran
	// Seconds has, at index n, how long n files ran at a time.
	Seconds []float64 `json:"seconds"`
}

// Wait is why files waited, and for how long altogether.
type Wait struct {
	Reason  string  `json:"reason"`
	Count   int     `json:"count"`
	Seconds float64 `json:"seconds"`
	Longest float64 `json:"longest"`
	Path    string  `json:"longest_path"`
}

// PoolUse is how much of the pool was in use.
type PoolUse struct {
	Memory        uint64  `json:"memory_bytes"` // of the whole pool
	CPUs          uint32  `json:"cpus"`
	MostMemory    uint64  `json:"most_memory_bytes"`
	AverageMemory uint64  `json:"average_memory_bytes"`
	MostCPUs      uint32  `json:"most_cpus"`
	AverageCPUs   float64 `json:"average_cpus"`
}
