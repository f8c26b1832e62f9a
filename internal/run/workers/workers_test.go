package workers

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"provium/internal/proc"
)

// behaviourVar has the test binary be a worker. It prints a line for each line that it is told, and says so.
const behaviourVar = "WORKERS_TEST_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(behaviourVar) == "" {
		os.Exit(m.Run())
	}
	pipe := os.NewFile(3, "pipe")
	p := make([]byte, 1)
	for {
		if _, err := io.ReadFull(pipe, p); err != nil {
			os.Exit(0)
		}
		switch p[0] {
		case 'p':
			fmt.Fprint(os.Stdout, strings.Repeat("out ", 10_000))
			fmt.Fprint(os.Stderr, strings.Repeat("err ", 10_000))
		case 'c':
			panic("no luck")
		}
		_, _ = pipe.Write(p)
	}
}

// shown is what workers have printed.
type shown struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *shown) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *shown) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.text.Reset()
	return s.text.String()
}

func start(t *testing.T) (w *Worker, out, errs *shown) {
	t.Helper()
	starter := proc.NewStarter()
	t.Cleanup(starter.Close)
	out, errs = &shown{}, &shown{}
	c := &Command{Program: os.Args[0], Verb: "-test.run=^$", Env: []string{behaviourVar + "=1"}, Starter: starter,
		Stdout: out, Stderr: errs}
	w, err := c.Start()
	if err != nil {
		t.Fatal(err)
	}
	return w, out, errs
}

func (w *Worker) do(t *testing.T, what string) {
	t.Helper()
	p := []byte(what)
	if _, err := w.Conn().Write(p); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(w.Conn(), p); err != nil {
		t.Fatal(err)
	}
}

// TestOutputIsOfItsFile has all that a worker prints before the end of a file be passed on by then.
func TestOutputIsOfItsFile(t *testing.T) {
	w, out, errs := start(t)
	for i := range 20 {
		w.Begin(fmt.Sprint(i))
		w.do(t, "p")
		w.Finish(time.Millisecond)
		if o, e := out.take(), errs.take(); len(o) != 40_000 || len(e) != 40_000 {
			t.Fatalf("file %d: %d and %d bytes", i, len(o), len(e))
		}
	}
	w.Begin("the last")
	if _, err := w.Conn().Write([]byte("c")); err != nil {
		t.Fatal(err)
	}
	err := w.Wait()
	words, cpu := w.End(true)
	if err == nil || !strings.HasPrefix(words, "panic: no luck\n") || !strings.Contains(errs.take(), "no luck") {
		t.Errorf("%v, %q", err, words)
	}
	if cpu > time.Hour || cpu < -time.Hour {
		t.Error(cpu)
	}
}

func TestStartOfNoWorker(t *testing.T) {
	starter := proc.NewStarter()
	defer starter.Close()
	c := &Command{Program: "/no/such/program", Starter: starter, Stdout: &shown{}, Stderr: &shown{}}
	if _, err := c.Start(); err == nil || !strings.HasPrefix(err.Error(), "runner start: ") {
		t.Error(err)
	}
}

// TestKept keeps workers, the one that came last first, and ends all that are left.
func TestKept(t *testing.T) {
	var none *Kept
	if none.Take(nil) != nil {
		t.Error("nothing keeps a worker")
	}
	k := &Kept{}
	var all []*Worker
	for range 3 {
		w, _, _ := start(t)
		w.Begin("x")
		w.Finish(0)
		k.Put(w)
		all = append(all, w)
	}
	if len(k.PIDs()) != 3 || k.PIDs()[2] != all[2].PID() {
		t.Error(k.PIDs())
	}
	if w := k.Take(nil); w != all[2] {
		t.Error("it is not the one that came last")
	}
	second := func(w *Worker) int { return map[*Worker]int{all[0]: -1, all[1]: 1, all[2]: 0}[w] }
	k.Put(all[2])
	if w := k.Take(second); w != all[1] {
		t.Error("it is not the one that suits best")
	}
	if w := k.Take(second); w != all[2] {
		t.Error("it is not the one that suits at all")
	}
	if w := k.Take(second); w != nil {
		t.Error("one that is to stay is taken")
	}
	k.Put(all[1])
	k.Close()
	for _, w := range all[:2] {
		if err := w.Wait(); err == nil {
			t.Error("it was not killed")
		}
	}
	k.Put(all[2])
	k.Close()
	if err := all[2].Wait(); err == nil || k.Take(nil) != nil {
		t.Error("one that came late is kept")
	}
}

// TestKeptEndAfterAWhile waits until a worker that nobody takes is ended.
func TestKeptEndAfterAWhile(t *testing.T) {
	k := &Kept{}
	w, _, _ := start(t)
	w.Begin("x")
	w.Finish(0)
	k.Put(w)
	_ = w.Wait() // it was killed
	if k.Take(nil) != nil || len(k.PIDs()) != 0 {
		t.Error("one that has ended is kept")
	}
	k.Close()
}
