package sched

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// quietLoad is a machine that does nothing else.
func quietLoad(cpus int) Load { return Load{CPUs: float64(cpus), MemoryFree: 1 << 40} }

// auto has files start by what is used.
func auto(c *Config) { c.CountCPUs = false }

// use is what one file uses in a measurement.
type use struct {
	file *File
	cpus float64
	mem  int64 // MiB of its guests
}

// observe lets time pass and tells the pool of the files' use.
func (fx *fixture) observe(pass time.Duration, load Load, uses ...use) {
	fx.Helper()
	for range max(1, int(pass/time.Second)) {
		fx.clock.t = fx.clock.t.Add(min(pass, time.Second))
		m := map[*File]Use{}
		for _, u := range uses {
			m[u.file] = Use{CPUs: u.cpus, Memory: FileOverhead + u.mem*mib}
		}
		fx.Observe(load, m)
	}
}

func busy(cpus int, busy float64) Load {
	l := quietLoad(cpus)
	l.Busy = busy
	return l
}

func TestIdleGuestsHoldNoCPUs(t *testing.T) {
	fx := newFixture(t, 100_000, 2, auto)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	for range 10 {
		fx.want("granted", fx.vm(a, 100, 4), fx.vm(b, 100, 4))
	}
	c := fx.file("c", 0, 0)
	fx.wantFile("queued", c) // nothing is measured yet, and each may want a CPU
	fx.observe(20*time.Second, busy(2, 0.1), use{a, 0.05, 10}, use{b, 0.05, 10})
	fx.wantFile("running", c)
}

func TestFilesThatUseTheCPUsHoldOthersBack(t *testing.T) {
	fx := newFixture(t, 100_000, 2, auto)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	fx.observe(10*time.Second, busy(2, 2), use{a, 1, 10}, use{b, 1, 10})
	c := fx.file("c", 0, 0)
	fx.wantFile("queued", c)
	b.Done()
	fx.wantFile("running", c) // at once: what b has used is left
	d := fx.file("d", 0, 0)
	fx.wantFile("queued", d)
}

// What others use is not left by a file that ends.
func TestAFileThatEndsLeavesOnlyWhatItHasUsed(t *testing.T) {
	fx := newFixture(t, 100_000, 4, auto)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	fx.observe(20*time.Second, busy(4, 4), use{a, 1.9, 10}, use{b, 0.1, 10})
	c := fx.file("c", 0, 0)
	fx.wantFile("queued", c)
	b.Done()
	fx.wantFile("queued", c)
	fx.observe(time.Second, busy(4, 2), use{a, 1.9, 10})
	fx.wantFile("running", c)
}

// A file that can use more than one CPU does not wait until all of them are left.
func TestWideFileStartsWithMostOfItsCPUs(t *testing.T) {
	for name, c := range map[string]struct {
		used float64 // by a file that runs
		want string
	}{"most are left": {1.2, "running"}, "too few are left": {1.5, "queued"}} {
		t.Run(name, func(t *testing.T) {
			fx := newFixture(t, 100_000, 2, auto)
			a := fx.file("a", 0, 0)
			fx.observe(20*time.Second, busy(2, c.used), use{a, c.used, 10})
			f, err := fx.Enqueue("wide", Amount{}, 1.4)
			if err != nil {
				t.Fatal(err)
			}
			fx.wantFile(c.want, f)
		})
	}
}

func TestABusyMachineDelaysAndDoesNotStarve(t *testing.T) {
	fx := newFixture(t, 100_000, 8, auto)
	a := fx.file("a", 0, 0)
	fx.wantFile("running", a)
	fx.observe(10*time.Second, busy(8, 8), use{a, 3.5, 10})
	b, c := fx.file("b", 0, 0), fx.file("c", 0, 0)
	fx.wantFile("queued", b, c)
	fx.observe(DefaultMaxBypassTime-time.Second, busy(8, 8), use{a, 3.5, 10})
	fx.wantFile("queued", b, c)
	fx.observe(2*time.Second, busy(8, 8), use{a, 3.5, 10})
	fx.wantFile("running", b)
	fx.wantFile("queued", c) // one in that time
	fx.observe(DefaultMaxBypassTime, busy(8, 8), use{a, 3.5, 10}, use{b, 3, 10})
	fx.wantFile("running", c)
}

// A run has a fair share of a machine on which others use everything.
func TestFairShare(t *testing.T) {
	fx := newFixture(t, 100_000, 8, auto)
	fx.observe(time.Second, busy(8, 8))
	var running int
	for i := range 10 {
		if f := fx.file(fmt.Sprint(i), 0, 0); state(f) == "running" {
			running++
		}
	}
	if running != 4 {
		t.Errorf("%d files run, want one for each of half the CPUs", running)
	}
}

func TestPressurePausesWithHysteresis(t *testing.T) {
	fx := newFixture(t, 100_000, 64, auto)
	var running []*File
	for i := range 40 {
		running = append(running, fx.file(fmt.Sprint(i), 0, 0))
	}
	fx.wantFile("running", running...)
	pressed := quietLoad(64)
	pressed.Waiting = waitingHigh + 0.01
	var uses []use
	for _, f := range running {
		uses = append(uses, use{f, 1, 10})
	}
	fx.observe(time.Second, pressed, uses...)
	f := fx.file("f", 0, 0)
	fx.wantFile("queued", f)
	pressed.Waiting = waitingLow + 0.01
	fx.observe(time.Second, pressed, uses...)
	fx.wantFile("queued", f)
	pressed.Waiting = waitingLow - 0.01
	fx.observe(time.Second, pressed, uses...)
	fx.wantFile("running", f)
	if got := strings.Join(fx.blocked, ", "); got != "f 50+0 psi_pressure" {
		t.Error(got)
	}
}

func TestMemoryPressureHoldsAllButTheOldestBack(t *testing.T) {
	for name, load := range map[string]Load{
		"stalled": {CPUs: 8, Stalled: stalledHigh + 0.01, MemoryFree: 1 << 40},
		"no room": {CPUs: 8, MemoryFree: 10 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			fx := newFixture(t, 100_000, 8, auto)
			a, b, claims := fx.file("a", 0, 0), fx.file("b", 0, 0), fx.file("claims", 1000, 0)
			fx.observe(time.Second, load, use{a, 0.1, 10}, use{b, 0.1, 10}, use{claims, 0.1, 10})
			c := fx.file("c", 0, 0)
			fx.wantFile("queued", c)
			w := fx.vm(b, 100, 1)
			fx.want("waiting", w)
			fx.want("granted", fx.vm(a, 100, 1), fx.vm(claims, 500, 1)) // a claim is a guarantee
			a.Done()
			fx.want("granted", w) // its file is the oldest now
			fx.wantFile("queued", c)
			fx.observe(time.Second, quietLoad(8))
			fx.wantFile("running", c)
		})
	}
}

func TestGuestsAreChargedWhatTheyUse(t *testing.T) {
	fx := newFixture(t, 2000, 8, auto)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	fx.want("granted", fx.vm(a, 512, 1), fx.vm(a, 512, 1))
	fx.wantUsed(2*50+2*512, 2) // as declared, until they are measured
	w := fx.vm(b, 1000, 1)
	fx.want("waiting", w)
	fx.observe(time.Second, quietLoad(8), use{a, 1, 100})
	fx.want("waiting", w) // just started
	fx.observe(measuredAfter, quietLoad(8), use{a, 1, 200})
	// 100 for the files, 200 in use and 32 each in reserve, 512 for one to grow.
	fx.want("granted", w)
	fx.wantUsed(2*50+200+2*32+1000, 3)
	fx.observe(2*measuredAfter, quietLoad(8), use{a, 1, 200}, use{b, 1, 900})
	fx.wantUsed(2*50+200+2*32+900+32, 3)
	// More than declared, as by programs of the test on the host.
	fx.observe(time.Second, quietLoad(8), use{a, 1, 1200}, use{b, 1, 900})
	fx.wantUsed(2*50+1200+900+32, 3)
	fx.want("waiting", fx.vm(b, 10, 1))
}

func TestRoomToGrowIsKeptForTheLargest(t *testing.T) {
	fx := newFixture(t, 1000, 8, auto)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	fx.want("granted", fx.vm(a, 700, 1))
	fx.observe(2*measuredAfter, quietLoad(8), use{a, 1, 50})
	fx.want("waiting", fx.vm(b, 250, 1)) // 100 + 50 + 32 + 250 are used, and 618 kept
	fx.want("granted", fx.vm(b, 190, 1))
}

func TestClaimsAreNotMeasuredDown(t *testing.T) {
	fx := newFixture(t, 1000, 2, auto)
	a, b := fx.file("a", 600, 1), fx.file("b", 0, 0)
	fx.want("granted", fx.vm(a, 300, 1))
	fx.observe(2*measuredAfter, quietLoad(2), use{a, 0, 10}, use{b, 0, 0})
	fx.wantUsed(50+600+50, 1)
	w := fx.vm(b, 400, 1)
	fx.want("waiting", w)
	fx.want("granted", fx.vm(a, 300, 0))
	c := fx.file("c", 0, 2)
	fx.wantFile("queued", c) // claims of CPUs add up
	a.Done()
	fx.want("granted", w)
	fx.wantFile("running", c)
}

func TestColdBootsAreStaggered(t *testing.T) {
	fx := newFixture(t, 100_000, 8, auto, func(c *Config) { c.ColdBoots = 2 })
	a, b, c := fx.file("a", 0, 0), fx.file("b", 0, 0), fx.file("c", 0, 0)
	cold := func(f *File, n int) *waiter {
		t.Helper()
		parts := make([]Part, n)
		for i := range parts {
			parts[i] = Part{Amount{mib, 1}, true}
		}
		w, err := f.charge("vm", parts)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	lab := cold(a, 3)
	fx.want("granted", lab) // all of one acquisition
	w := cold(b, 1)
	fx.want("waiting", w)
	fx.want("granted", fx.vm(c, 1, 1)) // is restored
	a.Booted()
	a.Booted()
	fx.want("granted", w)
	x := cold(c, 1)
	fx.want("waiting", x)
	b.refund(w.shares[0]) // did not boot
	fx.want("granted", x)
	y := cold(b, 1)
	fx.want("waiting", y)
	fx.observe(coldBootLimit, quietLoad(2)) // they boot without an end, or were never told of
	fx.want("granted", y)
	c.Booted()
	c.Booted()
	c.Booted()
}

// Three files want two guests each. The budget has room for the guests of one, but not for
// the overheads of the others beside them.
func TestOverheadsDoNotDeadlock(t *testing.T) {
	for name, together := range map[string]bool{"at once": true, "one by one": false} {
		t.Run(name, func(t *testing.T) {
			fx := newFixture(t, 900, 8, auto)
			files := []*File{fx.file("a", 0, 0), fx.file("b", 0, 0), fx.file("c", 0, 0)}
			fx.wantFile("running", files...)
			waits := map[*File][]*waiter{}
			for _, f := range files {
				if together {
					w, err := f.charge("lab", []Part{{Amount: Amount{400 * mib, 1}}, {Amount: Amount{400 * mib, 1}}})
					if err != nil {
						t.Fatal(err)
					}
					waits[f] = []*waiter{w}
				} else {
					waits[f] = []*waiter{fx.vm(f, 400, 1)}
				}
			}
			for range 40 {
				var uses []use
				for _, f := range files {
					guests := 0
					for _, w := range waits[f] {
						if w.settled && w.err != nil {
							t.Fatal(w.err)
						} else if w.settled {
							guests += len(w.shares)
						}
					}
					if got := waits[f]; state(f) == "running" && got[len(got)-1].settled {
						switch {
						case together || len(got) == 2:
							f.Done()
						default:
							waits[f] = append(got, fx.vm(f, 400, 1))
						}
					}
					uses = append(uses, use{f, 0.5, int64(120 * guests)})
				}
				fx.observe(time.Second, quietLoad(2), uses...)
			}
			for _, f := range files {
				fx.wantFile("ended", f)
			}
		})
	}
}

// A deadlock is an error only when what is measured has no room either.
func TestDeadlockWaitsForTheMeasurement(t *testing.T) {
	fx := newFixture(t, 1000, 8, auto)
	fx.Observe(quietLoad(8), nil)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	fx.want("granted", fx.vm(a, 400, 1), fx.vm(b, 400, 1))
	v, w := fx.vm(a, 400, 1), fx.vm(b, 400, 1)
	fx.want("waiting", v, w)
	fx.observe(2*measuredAfter, quietLoad(8), use{a, 1, 390}, use{b, 1, 390})
	if !errors.Is(w.err, ErrDeadlock) || v.settled {
		t.Error(v.state(), w.state())
	}
}

func TestUnknownFilesAreTakenToBeLikeThoseThatEnded(t *testing.T) {
	fx := newFixture(t, 100_000, 8, auto)
	for range 20 {
		f := fx.file("a", 0, 0)
		fx.observe(5*time.Second, busy(8, 2), use{f, 2, 10})
		f.Done()
	}
	var files []*File
	for range 5 {
		files = append(files, fx.file("b", 0, 0))
	}
	fx.wantFile("running", files[:4]...) // at nearly 2 each
	fx.wantFile("queued", files[4])
}

func TestOrder(t *testing.T) {
	for name, c := range map[string]struct {
		files []Candidate
		want  string
	}{
		"nothing known": {[]Candidate{{}, {}, {}}, "[0 1 2]"},
		"longest first": {[]Candidate{{Seconds: 1}, {Seconds: 50}, {Seconds: 9}}, "[1 2 0]"},
		"unknown first": {[]Candidate{{Seconds: 99}, {}, {Seconds: 1}}, "[1 0 2]"},
		"groups stand together": {[]Candidate{{18, "x"}, {19, "y"}, {20, "x"}, {21, ""}, {22, "y"}, {40, "z"}},
			"[5 4 1 3 2 0]"},
		"groups of unknown": {[]Candidate{{0, "x"}, {0, ""}, {0, "x"}}, "[0 2 1]"},
		"none":              {nil, "[]"},
	} {
		if got := fmt.Sprint(Order(c.files)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
