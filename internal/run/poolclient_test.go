package run

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"provium/internal/admission"
	"provium/internal/sched"
)

// TestPoolClient has two files draw on a pool with room for one machine.
func TestPoolClient(t *testing.T) {
	pool, err := sched.New(sched.Config{Total: sched.Amount{Memory: 1 << 30, CPUs: 8}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := func(name string) *poolClient {
		file, err := pool.Enqueue(name, sched.Amount{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(file.Done)
		if err := file.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return newPoolClient(ctx, file)
	}
	a, b := client("a"), client("b")
	answers := make(chan error, 1)
	answer := func(err error) { answers <- err }
	const most = 600 << 20

	b.Acquire(1, "vm `v`", []admission.Share{{Memory: most, CPUs: 1}}, answer)
	if err := <-answers; err != nil {
		t.Fatal(err)
	}
	// The other file waits for that memory.
	a.Acquire(1, "vm `w`", []admission.Share{{Memory: most, CPUs: 1}}, answer)
	b.Release(1, 0)
	if err := <-answers; err != nil {
		t.Fatal(err)
	}
	// A request that is released while it waits is answered, and holds nothing.
	b.Acquire(2, "vm `x`", []admission.Share{{Memory: most, CPUs: 1}}, answer)
	b.Forget(2)
	if err := <-answers; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	a.Release(1, 1) // is not one of its shares
	a.Forget(1)
	a.Release(1, 0) // known no more
	a.Forget(1)
	b.Acquire(3, "vm `y`", []admission.Share{{Memory: 2 << 30, CPUs: 1}}, answer)
	if err := <-answers; err == nil || !strings.Contains(err.Error(), "vm `y`") {
		t.Error(err)
	}
	b.Claim(4, 100<<20, 1, answer)
	if err := <-answers; err != nil {
		t.Error(err)
	}
	// The end of its file ends what a request waits for.
	a.Acquire(2, "vm `v`", []admission.Share{{Memory: most, CPUs: 1}}, answer)
	if err := <-answers; err != nil {
		t.Fatal(err)
	}
	c := client("c")
	c.Acquire(1, "vm `w`", []admission.Share{{Memory: most, CPUs: 1}}, answer)
	cancel()
	if err := <-answers; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, p := range []*poolClient{a, b, c} {
		p.wait()
	}
}

func TestInterruptsStopAndThenKill(t *testing.T) {
	signals, over := make(chan os.Signal), make(chan struct{})
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var calls []string
	i := &interrupts{
		signals: signals, stderr: null,
		stop: func(reason string) { calls = append(calls, "stop "+reason) },
		kill: func(reason string) { calls = append(calls, "kill "+reason) },
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		i.watch(over)
	}()
	for range 3 { // the third one changes nothing
		signals <- syscall.SIGINT
	}
	close(over)
	<-ended
	if got := strings.Join(calls, ", "); got != "stop interrupted (interrupt), kill interrupted (interrupt)" {
		t.Error(got)
	}
	if !i.once.Load() || !i.twice.Load() {
		t.Error("the interrupts are not recorded")
	}
}
