package sched

import (
	"bufio"
	"cmp"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// recorded is a file of a suite as it was once measured: its use of CPUs in each second.
type recorded struct {
	name    string
	memory  int64
	seconds []float64
}

func (r *recorded) cpu() (sum float64) {
	for _, s := range r.seconds {
		sum += s
	}
	return sum
}

// readSuite reads lines of a name, the memory of the guests in MiB and the hundredths of a
// CPU used in each second.
func readSuite(t *testing.T, path string) (suite []*recorded) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		r := &recorded{name: fields[0]}
		memory, err := strconv.ParseInt(fields[1], 10, 64)
		r.memory = memory * mib
		for _, field := range fields[2:] {
			n, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			r.seconds = append(r.seconds, float64(n)/100)
		}
		if err != nil {
			t.Fatal(err)
		}
		suite = append(suite, r)
	}
	if len(suite) == 0 {
		t.Fatalf("%s has no files", path)
	}
	return suite
}

// machine is what a suite is simulated on.
type machine struct {
	cpus    int
	foreign float64 // CPUs that others want all the time
	known   bool    // the durations are known from an earlier run
	noPSI   bool
	scale   float64 // of known durations and CPU times, as recorded elsewhere; 0 is 1
	jobs    int
	fixed   bool // CPUs are not looked at
	starved bool // what is known is from a run in which the files got little
}

// simulated is a file that runs.
type simulated struct {
	*recorded
	file    *File
	second  int
	sleep   float64 // left of this second
	work    float64 // CPU seconds left of it
	ran     float64
	running bool
	used    float64 // CPU seconds since the last measurement
}

func (s *simulated) load() {
	c := s.seconds[s.second]
	s.work, s.sleep = c, max(0, 1-c/math.Ceil(max(c, 0.01)))
}

// wants returns how many CPUs the file could use now.
func (s *simulated) wants() float64 {
	if s.sleep > 0 || s.work <= 0 {
		return 0
	}
	return math.Ceil(s.seconds[s.second])
}

// outcome is what a simulation has shown.
type outcome struct {
	makespan  float64
	busy      float64       // share of the CPUs in use while files waited
	gap       time.Duration // the longest in which no waiting file was started
	slowdown  float64       // of the file that was slowed down most
	crowd     float64       // CPUs wanted while more than there are, on average
	most      int           // files at a time
	unstarted int
}

const simulatedStep = 20 * time.Millisecond

// simulate runs a suite under the pool's rules in virtual time. CPUs are shared evenly.
func simulate(t *testing.T, suite []*recorded, m machine) (out outcome) {
	t.Helper()
	now := time.Unix(1e9, 0)
	p, err := New(Config{Total: Amount{1 << 40, m.cpus}, Jobs: m.jobs, CountCPUs: m.fixed,
		Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	candidates := make([]Candidate, len(suite))
	scale := cmp.Or(m.scale, 1)
	for i, r := range suite {
		if m.known {
			candidates[i].Seconds = float64(len(r.seconds)) * scale
		}
	}
	files := make([]*simulated, len(suite))
	for _, i := range Order(candidates) {
		r := suite[i]
		expected := 0.0
		if m.known {
			expected = r.cpu() / float64(len(r.seconds))
			if m.starved {
				expected /= 10
			}
		}
		f, err := p.Enqueue(r.name, Amount{}, expected)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = &simulated{recorded: r, file: f}
	}
	start, started, left := now, now, len(files)
	var busy, waiting, steps, waitingSteps, busyWhileWaiting, wanted, crowdSteps float64
	observed := now
	for left > 0 {
		wants, count := m.foreign, 0
		for _, s := range files {
			if !s.running && s.file.state == running {
				s.running, started = true, now
				s.load()
			}
			if s.running {
				count++
				wants += s.wants()
			}
		}
		out.most = max(out.most, count)
		share := min(1, float64(m.cpus)/max(wants, 1e-9))
		step := simulatedStep.Seconds()
		busy += min(wants, float64(m.cpus))
		steps++
		crowded := 0.0
		if wants > float64(m.cpus) {
			crowded = 1
			wanted += wants
			crowdSteps++
		}
		waiting += (crowded - waiting) * step / 10
		if len(p.queue) > 0 {
			out.gap = max(out.gap, now.Sub(started))
			waitingSteps++
			busyWhileWaiting += min(wants, float64(m.cpus))
		}
		now = now.Add(simulatedStep)
		for _, s := range files {
			if s.running {
				s.advance(step, share)
			}
			if s.running && s.second == len(s.seconds) {
				s.running = false
				left--
				out.slowdown = max(out.slowdown, s.ran/float64(len(s.seconds)))
				s.file.Done()
			}
		}
		if now.Sub(observed) >= 500*time.Millisecond {
			uses := map[*File]Use{}
			for _, s := range files {
				if s.running {
					uses[s.file] = Use{CPUs: s.used / now.Sub(observed).Seconds(), Memory: FileOverhead + s.memory}
				}
				s.used = 0
			}
			load := Load{CPUs: float64(m.cpus), Busy: busy / steps, Waiting: waiting, Stalled: 0, MemoryFree: 1 << 40}
			if m.noPSI {
				load.Waiting, load.Stalled = -1, -1
			}
			p.Observe(load, uses)
			observed, busy, steps = now, 0, 0
		}
		if now.Sub(start) > 24*time.Hour {
			out.unstarted = left
			return out
		}
	}
	out.makespan = now.Sub(start).Seconds()
	out.busy = busyWhileWaiting / max(waitingSteps, 1) / float64(m.cpus)
	out.crowd = wanted / max(crowdSteps, 1)
	return out
}

// advance lets a file run for a step in which it gets a share of what it wants.
func (s *simulated) advance(step, share float64) {
	s.ran += step
	if s.sleep > 0 {
		s.sleep -= step
	} else {
		did := min(s.work, s.wants()*share*step)
		s.work -= did
		s.used += did
	}
	if s.sleep <= 0 && s.work <= 1e-9 {
		if s.second++; s.second < len(s.seconds) {
			s.load()
		}
	}
}

// bestPacking is a bound that no order of the files can beat.
func bestPacking(suite []*recorded, cpus float64) float64 {
	var sum, longest float64
	for _, r := range suite {
		sum += r.cpu()
		longest = max(longest, float64(len(r.seconds)))
	}
	return max(sum/cpus, longest)
}

// TestSimulatedGuess compares with a number of files at a time that was found by trial for
// these files on two CPUs, in the order of their names.
func TestSimulatedGuess(t *testing.T) {
	suite := readSuite(t, "testdata/suite.txt")
	best := bestPacking(suite, 2)
	guess := simulate(t, suite, machine{cpus: 2, jobs: 5, fixed: true}).makespan
	first := simulate(t, suite, machine{cpus: 2}).makespan
	known := simulate(t, suite, machine{cpus: 2, known: true}).makespan
	t.Logf("five files at a time %.2f of the best packing, by use %.2f at first and %.2f then", guess/best,
		first/best, known/best)
	if first > guess || known > first {
		t.Errorf("%.0f s at first and %.0f s then, five files at a time take %.0f s", first, known, guess)
	}
}

// times repeats a suite. No two copies of a file do the same at the same time.
func times(n int, suite []*recorded) (out []*recorded) {
	for copies := range n {
		for _, r := range suite {
			k := copies * 7 % len(r.seconds)
			again := *r
			again.seconds = slices.Concat(r.seconds[k:], r.seconds[:k])
			out = append(out, &again)
		}
	}
	return out
}

// TestSimulatedSuites runs recorded suites in virtual time: they take at most 1.15 times
// what the best packing would, no file starves, and the CPUs are not crowded.
func TestSimulatedSuites(t *testing.T) {
	suite := readSuite(t, "testdata/suite.txt")
	reversed := slices.Clone(suite)
	slices.Reverse(reversed)
	for name, c := range map[string]struct {
		suite []*recorded
		machine
		atMost float64 // of the best packing
	}{
		"two CPUs":                 {suite, machine{cpus: 2, known: true}, 1.15},
		"two CPUs, other order":    {reversed, machine{cpus: 2, known: true}, 1.15},
		"two CPUs, first run":      {suite, machine{cpus: 2}, 1.25},
		"one CPU":                  {suite, machine{cpus: 1, known: true}, 1.15},
		"64 CPUs":                  {times(40, suite), machine{cpus: 64, known: true}, 1.15},
		"64 CPUs, first run":       {times(40, suite), machine{cpus: 64}, 1.4},
		"recorded on a faster one": {suite, machine{cpus: 2, known: true, scale: 0.2}, 1.15},
		"recorded on a busy one":   {suite, machine{cpus: 2, known: true, starved: true, scale: 3}, 1.15},
		"without PSI":              {suite, machine{cpus: 2, known: true, noPSI: true}, 1.15},
		"one file at a time":       {suite, machine{cpus: 2, known: true, jobs: 1}, 10},
		"others want all CPUs":     {suite, machine{cpus: 2, known: true, foreign: 2}, 10},
	} {
		t.Run(name, func(t *testing.T) {
			got := simulate(t, c.suite, c.machine)
			best := bestPacking(c.suite, float64(c.cpus))
			t.Logf("%.0f s, %.2f of the best packing, %.0f %% busy while files wait, at most %d files, "+
				"%.1f times slower, %.1f CPUs wanted when too many, %v without a start", got.makespan,
				got.makespan/best, got.busy*100, got.most, got.slowdown, got.crowd, got.gap)
			if got.unstarted > 0 || got.makespan > best*c.atMost {
				t.Errorf("took %.0f s, want at most %.2f times %.0f s", got.makespan, c.atMost, best)
			}
			if got.slowdown > 3 || c.jobs == 0 && got.gap > DefaultMaxBypassTime+time.Second {
				t.Errorf("a file was %.1f times slower, none was started in %v", got.slowdown, got.gap)
			}
		})
	}
}
