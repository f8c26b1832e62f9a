package sched

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

const mib = 1 << 20

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

// fixture is a pool whose requests are looked at without waiting for them.
type fixture struct {
	*testing.T
	*Pool
	clock   *clock
	blocked []string
}

func newFixture(t *testing.T, memoryMiB int64, cpus int, change ...func(*Config)) *fixture {
	t.Helper()
	fx := &fixture{T: t, clock: &clock{time.Unix(1e9, 0)}}
	cfg := Config{Total: Amount{memoryMiB * mib, cpus}, CountCPUs: true, Now: fx.clock.now,
		Blocked: func(file string, a Amount, why Reason) {
			fx.blocked = append(fx.blocked, fmt.Sprintf("%s %d+%d %s", file, a.Memory/mib, a.CPUs, why))
		}}
	for _, c := range change {
		c(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	fx.Pool = p
	return fx
}

func (fx *fixture) file(name string, claimMiB int64, cpus int) *File {
	fx.Helper()
	f, err := fx.Enqueue(name, Amount{claimMiB * mib, cpus}, 0)
	if err != nil {
		fx.Fatal(err)
	}
	return f
}

func (fx *fixture) vm(f *File, memMiB int64, cpus int) *waiter {
	fx.Helper()
	w, err := f.charge("vm", []Part{{Amount: Amount{memMiB * mib, cpus}}})
	if err != nil {
		fx.Fatal(err)
	}
	return w
}

func (fx *fixture) claim(f *File, memMiB int64, cpus int) *waiter {
	fx.Helper()
	w, err := f.request(Amount{memMiB * mib, cpus})
	if err != nil {
		fx.Fatal(err)
	}
	return w
}

func state(f *File) string {
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	return [...]string{"queued", "running", "ended"}[f.state]
}

func (w *waiter) state() string {
	w.file.pool.mu.Lock()
	defer w.file.pool.mu.Unlock()
	switch {
	case !w.settled:
		return "waiting"
	case w.err == nil:
		return "granted"
	}
	return w.err.Error()
}

func (fx *fixture) wantFile(want string, files ...*File) {
	fx.Helper()
	for _, f := range files {
		if got := state(f); got != want {
			fx.Errorf("file %s is %s, want %s", f.name, got, want)
		}
	}
}

func (fx *fixture) want(want string, ws ...*waiter) {
	fx.Helper()
	for i, w := range ws {
		if got := w.state(); got != want {
			fx.Errorf("request %d is %s, want %s", i, got, want)
		}
	}
}

func (fx *fixture) wantUsed(memMiB int64, cpus int) {
	fx.Helper()
	if used, _ := fx.State(); used != (Amount{memMiB * mib, cpus}) {
		fx.Errorf("used %v, want %v", used, Amount{memMiB * mib, cpus})
	}
}

func TestFilesReserveAndReturn(t *testing.T) {
	fx := newFixture(t, 1000, 4)
	a, b := fx.file("a", 0, 0), fx.file("b", 500, 2)
	fx.wantFile("running", a, b)
	fx.wantUsed(600, 2)
	if got := b.Reservation(); got != (Amount{550 * mib, 2}) {
		t.Error(got)
	}
	c := fx.file("c", 500, 1)
	fx.wantFile("queued", c)
	d := fx.file("d", 0, 0)
	fx.wantFile("running", d)
	b.Done()
	b.Done()
	fx.wantFile("running", c)
	for _, f := range []*File{a, c, d} {
		f.Done()
	}
	fx.wantUsed(0, 0)
	if got := strings.Join(fx.blocked, ", "); got != "c 550+1 pool_full" {
		t.Error(got)
	}
}

func TestJobsLimitAndOrder(t *testing.T) {
	fx := newFixture(t, 1000, 4, func(c *Config) { c.Jobs = 1 })
	a, b, c := fx.file("a", 0, 0), fx.file("b", 800, 0), fx.file("c", 0, 0)
	fx.wantFile("running", a)
	fx.wantFile("queued", b, c)
	a.Done()
	fx.wantFile("running", b)
	fx.wantFile("queued", c)
	b.Done()
	fx.wantFile("running", c)
	if got := strings.Join(fx.blocked, ", "); got != "b 850+0 jobs_limit, c 50+0 jobs_limit" {
		t.Error(got)
	}
}

func TestReasonChanges(t *testing.T) {
	fx := newFixture(t, 1000, 4, func(c *Config) { c.Jobs = 2 })
	a, b := fx.file("a", 600, 0), fx.file("b", 0, 0)
	fx.file("c", 600, 0)
	b.Done()
	a.Done()
	if got := strings.Join(fx.blocked, ", "); got != "c 650+0 jobs_limit, c 650+0 pool_full" {
		t.Error(got)
	}
}

func TestOvertakingIsBoundedByCount(t *testing.T) {
	fx := newFixture(t, 1000, 4)
	a := fx.file("a", 600, 0)
	big := fx.file("big", 800, 0)
	for i := range DefaultMaxBypass {
		f := fx.file(fmt.Sprint("small", i), 0, 0)
		fx.wantFile("running", f)
		f.Done()
	}
	last := fx.file("last", 0, 0)
	fx.wantFile("queued", big, last)
	a.Done()
	fx.wantFile("running", big, last)
}

func TestOvertakingIsBoundedByTime(t *testing.T) {
	fx := newFixture(t, 1000, 4)
	a := fx.file("a", 600, 0)
	big := fx.file("big", 800, 0)
	fx.clock.t = fx.clock.t.Add(DefaultMaxBypassTime - 1)
	fx.wantFile("running", fx.file("in time", 0, 0))
	fx.clock.t = fx.clock.t.Add(1)
	late := fx.file("late", 0, 0)
	fx.wantFile("queued", big, late)
	a.Done()
	fx.wantFile("running", big, late)
}

func TestChargesWithoutClaim(t *testing.T) {
	fx := newFixture(t, 1000, 4)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	v1 := fx.vm(a, 600, 1)
	fx.want("granted", v1)
	v2 := fx.vm(b, 600, 1)
	fx.want("waiting", v2)
	fx.wantUsed(700, 1)
	a.refund(v1.shares[0])
	fx.want("granted", v2)
	b.Done()
	a.Done()
	fx.wantUsed(0, 0)
}

func TestRunningFilesGoFirst(t *testing.T) {
	fx := newFixture(t, 1000, 4)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	v := fx.vm(a, 850, 1)
	c := fx.file("c", 700, 0)
	w := fx.vm(b, 500, 1)
	fx.want("waiting", w)
	a.refund(v.shares[0])
	fx.want("granted", w)
	fx.wantFile("queued", c)
}

func TestChargesWithinClaim(t *testing.T) {
	fx := newFixture(t, 2000, 2)
	a := fx.file("a", 0, 0)
	fx.want("granted", fx.claim(a, 1000, 2))
	fx.wantUsed(1050, 2)
	fx.want("granted", fx.vm(a, 600, 1))
	fx.wantUsed(1050, 2)
	for _, need := range []Amount{{401 * mib, 1}, {1, 2}} {
		_, err := a.charge("vm `n2`", []Part{{Amount: need}})
		if !errors.Is(err, ErrBeyondClaim) || !strings.Contains(err.Error(),
			"the file's claim is 1000MiB and 2 CPUs") ||
			!strings.Contains(err.Error(), "raise provium:claim") || !strings.Contains(err.Error(), "vm `n2`") {
			t.Error(err)
		}
	}
	fx.want("granted", fx.vm(a, 400, 1))
	if _, err := a.request(Amount{Memory: mib}); !errors.Is(err, ErrClaimTaken) ||
		!strings.Contains(err.Error(), "claim already taken") || !strings.Contains(err.Error(), "one-shot") {
		t.Error(err)
	}
}

func TestPartialClaims(t *testing.T) {
	fx := newFixture(t, 2000, 4)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	fx.want("granted", fx.claim(a, 1000, 0), fx.vm(a, 500, 2))
	fx.wantUsed(1100, 2)
	fx.want("granted", fx.claim(b, 0, 2))
	b.Done()
	a.Done()
	fx.wantUsed(0, 0)
}

func TestDeclaredClaimIsTakenOnce(t *testing.T) {
	fx := newFixture(t, 2000, 2)
	a := fx.file("a", 1000, 1)
	fx.wantUsed(1050, 1)
	if _, err := a.charge("vm", []Part{{Amount: Amount{1001 * mib, 1}}}); !errors.Is(err, ErrBeyondClaim) {
		t.Error(err)
	}
	fx.want("granted", fx.claim(a, 1000, 1))
	fx.wantUsed(1050, 1)
	if _, err := a.request(Amount{1000 * mib, 1}); !errors.Is(err, ErrClaimTaken) {
		t.Error(err)
	}
}

func TestClaimAfterCharge(t *testing.T) {
	fx := newFixture(t, 2000, 2)
	a := fx.file("a", 0, 0)
	fx.vm(a, 600, 1)
	if _, err := a.request(Amount{Memory: 500 * mib}); !errors.Is(err, ErrBeyondClaim) ||
		!strings.Contains(err.Error(), "raise provium:claim") {
		t.Error(err)
	}
	fx.want("granted", fx.claim(a, 1000, 0))
	fx.wantUsed(1050, 1)
}

func TestNeverFits(t *testing.T) {
	fx := newFixture(t, 1000, 2)
	a := fx.file("a", 0, 0)
	_, errClaim := a.request(Amount{951 * mib, 1})
	_, errVM := a.charge("vm `n1`", []Part{{Amount: Amount{951 * mib, 1}}})
	_, errFile := fx.Enqueue("b", Amount{951 * mib, 1}, 0)
	for _, err := range []error{errClaim, errVM, errFile} {
		if !errors.Is(err, ErrExceedsTotal) || !strings.Contains(err.Error(), "exceeds pool total") ||
			!strings.Contains(err.Error(), "951MiB") || !strings.Contains(err.Error(), "1000MiB and 2 CPUs") {
			t.Error(err)
		}
	}
	fx.want("granted", fx.claim(a, 950, 1))
}

func TestBadRequests(t *testing.T) {
	for _, cfg := range []Config{{}, {Total: Amount{FileOverhead, 0}}, {Total: Amount{FileOverhead - 1, 1}},
		{Total: Amount{FileOverhead, 1}, Jobs: -1}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
	fx := newFixture(t, 1000, 2)
	a := fx.file("a", 0, 0)
	for _, size := range []Amount{{}, {-1, 1}, {1, -1}} {
		if _, err := a.request(size); err == nil {
			t.Errorf("claim of %v was taken", size)
		}
	}
	if _, err := a.charge("vm", []Part{{Amount: Amount{-1, 0}}}); err == nil {
		t.Error("negative charge was taken")
	}
	big := fx.file("big", 920, 0)
	if _, err := big.charge("vm", []Part{{Amount: Amount{1, 1}}}); err == nil ||
		!strings.Contains(err.Error(), "not started") {
		t.Error(err)
	}
	a.Done()
	if _, err := a.charge("vm", []Part{{Amount: Amount{1, 1}}}); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
	if _, err := a.request(Amount{1, 1}); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
}

func TestCPUsOnlyDelay(t *testing.T) {
	fx := newFixture(t, 10000, 2)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	fx.want("granted", fx.vm(a, 100, 1), fx.vm(a, 100, 1), fx.vm(a, 100, 1)) // alone: above the budget
	v := fx.vm(b, 100, 1)
	fx.want("waiting", v)
	a.Done()
	fx.want("granted", v)

	c := fx.file("c", 100, 64)
	fx.wantFile("queued", c) // while another holds CPUs
	b.Done()
	fx.wantFile("running", c)
}

func TestCPUsNeverDeadlock(t *testing.T) {
	fx := newFixture(t, 10000, 2)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	fx.want("granted", fx.vm(a, 100, 1), fx.vm(b, 100, 1))
	v := fx.vm(a, 100, 1)
	fx.want("waiting", v)
	w := fx.vm(b, 100, 1)
	fx.want("granted", v) // both waited, so the first goes on
	fx.want("waiting", w)
	a.Done()
	fx.want("granted", w)
}

func TestDeadlockFailsTheBootThatClosesTheCircle(t *testing.T) {
	fx := newFixture(t, 1000, 8)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	fx.want("granted", fx.vm(a, 400, 1), fx.vm(b, 400, 1))
	v := fx.vm(a, 400, 1)
	fx.want("waiting", v)
	w := fx.vm(b, 400, 1)
	if !errors.Is(w.err, ErrDeadlock) || !strings.Contains(w.state(), "the pool is deadlocked") ||
		!strings.Contains(w.state(), "provium:claim") {
		t.Error(w.state())
	}
	fx.want("waiting", v)
	b.Done()
	fx.want("granted", v)
}

func TestDeadlockOfAFileWithItself(t *testing.T) {
	fx := newFixture(t, 1000, 8)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	fx.want("granted", fx.vm(a, 600, 1))
	v := fx.vm(a, 400, 1)
	fx.want("waiting", v) // b could give something back
	b.Done()
	if !errors.Is(v.err, ErrDeadlock) {
		t.Error(v.state())
	}
}

func TestClaimsCannotBlockEachOther(t *testing.T) {
	fx := newFixture(t, 1000, 8)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	ca := fx.claim(a, 950, 1) // fits but for b's overhead
	fx.want("waiting", ca)
	cb := fx.claim(b, 950, 1)
	fx.want("granted", ca)
	fx.want("waiting", cb)
	a.Done()
	fx.want("granted", cb)
}

func TestClaimHoldsForChargesThatWait(t *testing.T) {
	fx := newFixture(t, 1000, 8)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	fx.want("granted", fx.vm(b, 700, 1))
	v := fx.vm(a, 400, 1)
	fx.want("waiting", v)
	c := fx.claim(a, 300, 1)
	fx.want("waiting", c)
	if !errors.Is(v.err, ErrBeyondClaim) {
		t.Error(v.state())
	}
	fx.want("granted", fx.vm(a, 100, 1))
	if _, err := a.charge("vm", []Part{{Amount: Amount{250 * mib, 0}}}); !errors.Is(err, ErrBeyondClaim) {
		t.Error(err)
	}
	b.Done()
	fx.want("granted", c)
	fx.wantUsed(350, 1)
}

func TestGivingUp(t *testing.T) {
	fx := newFixture(t, 1000, 8)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	fx.want("granted", fx.vm(a, 800, 1))
	why := errors.New("test timed out")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	if _, err := b.Acquire(ctx, "vm", Part{Amount: Amount{500 * mib, 1}}); err != why {
		t.Error(err)
	}
	if err := b.Claim(ctx, Amount{500 * mib, 1}); err != why {
		t.Error(err)
	}
	q := fx.file("q", 800, 0)
	if err := q.Start(ctx); err != why {
		t.Error(err)
	}
	q.Done()
	release, err := b.Acquire(context.Background(), "vm", Part{Amount: Amount{50 * mib, 1}})
	if err != nil {
		t.Fatal(err)
	}
	fx.wantUsed(950, 2)
	release[0]()
	release[0]()
	fx.wantUsed(900, 1)
	a.Done()
	if err := b.Claim(context.Background(), Amount{500 * mib, 1}); err != nil {
		t.Errorf("a claim given up can be made again: %v", err)
	}
	b.Done()
	release[0]()
	fx.wantUsed(0, 0)
}

func TestDoneFailsWhatWaits(t *testing.T) {
	fx := newFixture(t, 1000, 8)
	a, b := fx.file("a", 0, 0), fx.file("b", 0, 0)
	fx.vm(a, 800, 1)
	v := fx.vm(b, 500, 1)
	b.Done()
	if !errors.Is(v.err, ErrEnded) {
		t.Error(v.state())
	}
}

// Whatever happens, memory stays within the budget (but for overheads in the
// way of a claim, see Pool), and in the end all is free and decided.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		total := Amount{int64(200+rng.IntN(2000)) * mib, 1 + rng.IntN(4)}
		fx := newFixture(t, total.Memory/mib, total.CPUs, func(c *Config) { c.Jobs = rng.IntN(4) })
		var files []*File
		var charges []*waiter
		var all []*waiter
		amount := func() Amount {
			return Amount{rng.Int64N(total.Memory/2 + 1), rng.IntN(3)}
		}
		check := func() {
			used, _ := fx.State()
			overheads := int64(max(0, len(fx.running)-1)) * FileOverhead
			if used.Memory > total.Memory+overheads || used.Memory < 0 || used.CPUs < 0 {
				t.Fatalf("seed %d: used %v of %v", seed, used, total)
			}
			if fx.cfg.Jobs > 0 && len(fx.running) > fx.cfg.Jobs {
				t.Fatalf("seed %d: %d files with limit %d", seed, len(fx.running), fx.cfg.Jobs)
			}
			for _, f := range fx.running {
				if f.limit.Memory > 0 && f.charged.Memory > f.limit.Memory || f.charged.Memory < 0 ||
					f.charged.CPUs < 0 {
					t.Fatalf("seed %d: %s has %v of %v", seed, f.name, f.charged, f.limit)
				}
			}
		}
		for i := range 200 {
			fx.clock.t = fx.clock.t.Add(time.Duration(rng.IntN(10)) * time.Second)
			switch n := rng.IntN(10); {
			case n < 3:
				var claim Amount
				if rng.IntN(2) == 0 {
					claim = amount()
				}
				if f, err := fx.Enqueue(fmt.Sprint(i), claim, 0); err == nil {
					files = append(files, f)
					all = append(all, f.start)
				}
			case len(files) == 0:
			case n < 6:
				if w, err := files[rng.IntN(len(files))].charge("vm", []Part{{Amount: amount()}}); err == nil {
					charges = append(charges, w)
					all = append(all, w)
				}
			case n < 7:
				if w, err := files[rng.IntN(len(files))].request(amount()); err == nil {
					all = append(all, w)
				}
			case n < 9 && len(charges) > 0:
				k := rng.IntN(len(charges))
				if w := charges[k]; w.state() == "granted" {
					w.file.refund(w.shares[0])
					charges = append(charges[:k], charges[k+1:]...)
				}
			default:
				k := rng.IntN(len(files))
				files[k].Done()
				files = append(files[:k], files[k+1:]...)
			}
			check()
		}
		// Files that run and wait for nothing end; then every other one gets on.
		for len(files) > 0 {
			progress := false
			for k, f := range files {
				busy := false
				for _, w := range all {
					busy = busy || w.file == f && !w.settled
				}
				if state(f) == "running" && !busy {
					f.Done()
					files = append(files[:k], files[k+1:]...)
					progress = true
					check()
					break
				}
			}
			if !progress {
				t.Fatalf("seed %d: %d files are stuck", seed, len(files))
			}
		}
		for _, w := range all {
			if !w.settled {
				t.Fatalf("seed %d: a request was never decided", seed)
			}
		}
		fx.wantUsed(0, 0)
	}
}

func TestManyFilesAtOnce(t *testing.T) {
	p, err := New(Config{Total: Amount{2000 * mib, 2}, Jobs: 6})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		claim := Amount{int64(i%3) * 300 * mib, i % 3}
		f, err := p.Enqueue(fmt.Sprint(i), claim, 0)
		if err != nil {
			t.Fatal(err)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer f.Done()
			ctx := context.Background()
			if err := f.Start(ctx); err != nil {
				t.Error(err)
				return
			}
			for range 5 {
				release, err := f.Acquire(ctx, "vm", Part{Amount: Amount{300 * mib, 1}})
				if err != nil {
					t.Error(err)
					return
				}
				release[0]()
			}
		}()
	}
	wg.Wait()
	if used, available := p.State(); used != (Amount{}) || available != (Amount{2000 * mib, 2}) {
		t.Errorf("used %v, available %v", used, available)
	}
}

// TestPartsAreAcquiredAtOnce runs files whose peaks together exceed the pool: none holds a
// part of what it needs while it waits for the rest, so they run one after the other.
func TestPartsAreAcquiredAtOnce(t *testing.T) {
	p, err := New(Config{Total: Amount{900 * mib, 8}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 3 {
		f, err := p.Enqueue(fmt.Sprint(i), Amount{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer f.Done()
			if err := f.Start(t.Context()); err != nil {
				t.Error(err)
				return
			}
			for range 50 {
				release, err := f.Acquire(t.Context(), "lab", Part{Amount: Amount{300 * mib, 1}},
					Part{Amount: Amount{200 * mib, 1}})
				if err != nil {
					t.Error(err)
					return
				}
				release[0]()
				release[0]() // does nothing again
				release[1]()
			}
		})
	}
	wg.Wait()
	if used, _ := p.State(); used != (Amount{}) {
		t.Errorf("used %v", used)
	}
	f, err := p.Enqueue("x", Amount{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Done()
	_, err = f.Acquire(t.Context(), "x", Part{Amount: Amount{600 * mib, 1}}, Part{Amount: Amount{600 * mib, 1}})
	if !errors.Is(err, ErrExceedsTotal) {
		t.Error(err)
	}
	if _, err := f.Acquire(t.Context(), "x", Part{Amount: Amount{mib, 1}}, Part{Amount: Amount{-mib, 1}}); err == nil {
		t.Error("a negative part was taken")
	}
}

func TestAmountString(t *testing.T) {
	for a, want := range map[Amount]string{
		{0, 0}:               "0B and 0 CPUs",
		{1536 * mib, 1}:      "1.5GiB and 1 CPU",
		{612 * mib, 2}:       "612MiB and 2 CPUs",
		{1<<40 + 1<<38, 300}: "1.25TiB and 300 CPUs",
		{1000, 1}:            "1000B and 1 CPU",
	} {
		if got := a.String(); got != want {
			t.Errorf("%d: %s, want %s", a.Memory, got, want)
		}
	}
	if got := (Amount{CPUs: 2}).given() + ", " + (Amount{Memory: mib}).given(); got != "2 CPUs, 1MiB" {
		t.Error(got)
	}
}
