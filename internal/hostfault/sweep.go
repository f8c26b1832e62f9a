package hostfault

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/fulltest"
)

// Environment of the processes of a sweep.
const (
	envChild = "PROVIUM_HOST_FAULTS" // in the supervised process: the test's name
	// EnvAll makes Sweep try each error of each call, once and lasting; with a value like
	// "2/5", of each fifth call from the second on. Without it each call fails once per
	// sweep, with its errors in turn; of many calls, every kth, from a random one on.
	EnvAll = "PROVIUM_HOST_FAULTS_ALL"
)

// stuckLimit is how long one round of a sweep may take. Nothing that it does takes a
// tenth of that on a busy machine.
const stuckLimit = 60 * time.Second

// sampleLimit returns about how long a sweep takes that does not try everything.
func sampleLimit() time.Duration { return time.Duration(fulltest.Of(1, 10)) * time.Second }

// settleLimit is how long descriptors may stay open after a round.
const settleLimit = 5 * time.Second

// tooMany is the number of failed rounds at which a sweep ends.
const tooMany = 10

// Fault is what goes wrong in one round of a sweep.
type Fault struct {
	gate    *gate
	n       uint64
	choice  uint64
	lasting bool
}

// During runs do with the fault in force. It must be called once.
func (f *Fault) During(do func()) {
	f.gate.arm(f.n, f.choice, f.lasting)
	defer f.gate.disarm()
	do()
}

// What describes the call that failed and its error; "" if no call did.
func (f *Fault) What() string { return f.gate.what() }

// Lasting reports whether all later calls of During that can fail with the error do.
func (f *Fault) Lasting() bool { return f.gate.lasting.Load() != 0 }

// Errno returns the error of the call that failed; 0 if no call did.
func (f *Fault) Errno() unix.Errno { return unix.Errno(f.gate.errno.Load()) }

// Sweep runs a scenario again and again in a process of its own: in round n the nth system
// call that the scenario makes inside Fault.During fails. It ends after the first round
// with fewer calls. A round must leave nothing behind; Sweep reports descriptors that stay
// open, and a round that does not end.
//
// Sweep must be the first call of a test which is no subtest.
func Sweep(t *testing.T, scenario func(t *testing.T, f *Fault)) {
	if os.Getenv(envChild) == t.Name() {
		g, err := join()
		if err != nil {
			t.Fatal(err)
		}
		sweep(t, g, scenario)
		return
	}
	if testing.CoverMode() != "" {
		// The rounds of the other process do not count, and would be slower.
		t.Log("the sweep is not part of the coverage")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=0", "-test.v")
	cmd.Env = append(os.Environ(), envChild+"="+t.Name())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	s, err := supervise(cmd, &slowness{}, func(pid, tid int) bool {
		_, err := os.Lstat(fmt.Sprintf("/proc/%d/task/%d", pid, tid))
		return err == nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(cmd.Wait(), s.Wait())
	if err != nil && strings.Contains(out.String(), ErrUnsupported.Error()) {
		t.Skip(ErrUnsupported)
	}
	if err != nil {
		t.Fatalf("%v; the last fault was %s\n%s", err, s.gate.what(), out.Bytes())
	}
	for line := range strings.Lines(out.String()) {
		if _, figures, found := strings.Cut(line, summary); found {
			t.Logf("%s%s", summary, strings.TrimSpace(figures))
		}
	}
}

// summary begins the line with the figures of a sweep.
const summary = "host faults: "

func sweep(t *testing.T, g *gate, scenario func(t *testing.T, f *Fault)) {
	all := os.Getenv(EnvAll) != ""
	rounds, failed := 0, 0
	round := func(f *Fault) (hit bool) {
		name := fmt.Sprintf("call %d, error %d, lasting %v", f.n, f.choice, f.lasting)
		var before map[string]string
		stuck := time.AfterFunc(stuckLimit, func() {
			g.disarm()
			debug.SetTraceback("all")
			panic(fmt.Sprintf("%s does not end: %s", name, g.what()))
		})
		defer stuck.Stop()
		ok := t.Run(name, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("the fault was %s", g.what())
				}
			}()
			before = descriptors()
			scenario(t, f)
		})
		// The cleanups of the round have run. Goroutines may be about to close what they have,
		// and files may be closed when nothing refers to them any more.
		left := opened(before)
		for end := time.Now().Add(settleLimit); len(left) > 0 && time.Now().Before(end); left = opened(before) {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
		if len(left) > 0 && rounds > 0 { // a first round opens what lasts
			t.Errorf("%s: descriptors stay open: %q; the fault was %s", name, left, g.what())
			ok = false
		}
		if !ok {
			failed++
		}
		rounds++
		return g.errno.Load() != 0
	}
	// Without a fault first: how many calls there are, and how long a round takes. The very
	// first one may prepare what the others share.
	round(&Fault{gate: g, n: math.MaxUint64})
	began := time.Now()
	round(&Fault{gate: g, n: math.MaxUint64})
	calls, took := g.seen.Load(), time.Since(began)
	n, step := piece()
	if most := uint64(sampleLimit()/took) + 1; !all && calls > most {
		step = (calls + most - 1) / most
		n += rand.Uint64N(step)
	}
	tried := 0
	for hit := true; hit && failed < tooMany; n += step {
		f := Fault{gate: g, n: n}
		if !all && time.Since(began) > 2*sampleLimit() {
			break // rounds with faults that cut a link end by their limit
		}
		if !all {
			f.choice, f.lasting = n/2, n%2 == 0
			if hit = round(&f); hit {
				tried++
			}
			continue
		}
		if hit = round(&f); !hit {
			break
		}
		tried++
		for choices := g.choices.Load(); f.choice < choices && failed < tooMany; f.choice++ {
			if f.choice > 0 {
				round(&f)
			}
			if unix.Errno(g.errno.Load()) != unix.EINTR {
				f.lasting = true
				round(&f)
				f.lasting = false
			}
		}
	}
	t.Logf("%s%d of %d calls, %d rounds, %d failed", summary, tried, calls, rounds, failed)
}

// piece returns the first call to be tried and the distance to the next one, as EnvAll says.
func piece() (first, step uint64) {
	if _, err := fmt.Sscanf(os.Getenv(EnvAll), "%d/%d", &first, &step); err != nil || first == 0 || step == 0 {
		return 1, 1
	}
	return first, step
}

// descriptors returns what this process has open, by descriptor.
func descriptors() map[string]string {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	open := map[string]string{}
	for _, e := range list {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil { // ReadDir's own is closed
			open[e.Name()] = to
		}
	}
	return open
}

// opened returns what is open and was not before.
func opened(before map[string]string) (out []string) {
	for fd, to := range descriptors() {
		if before[fd] != to {
			out = append(out, to)
		}
	}
	return out
}
