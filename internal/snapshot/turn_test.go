package snapshot

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"
)

// forEntry makes the entry of a key, or what looks like one.
func forEntry(t *testing.T, c *Cache, key string) {
	t.Helper()
	if err := os.WriteFile(c.Path(key), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// waiting is a context that says when somebody waits for its end.
type waiting struct {
	context.Context
	begun chan struct{}
	once  sync.Once
}

func (w *waiting) Done() <-chan struct{} {
	w.once.Do(func() { close(w.begun) })
	return w.Context.Done()
}

// begin calls u.Wait and returns when it waits, and where its result will be.
func begin(t *testing.T, u *Turn) <-chan bool {
	w := &waiting{Context: t.Context(), begun: make(chan struct{})}
	result := make(chan bool, 1)
	go func() { result <- u.Wait(w) }()
	<-w.begun
	return result
}

func TestTurn(t *testing.T) {
	ctx := t.Context()
	c := &Cache{Dir: t.TempDir() + "/boots"}
	turn := func(key string) *Turn {
		u := c.Turn(key, time.Minute)
		t.Cleanup(u.Close)
		return u
	}
	first := turn("a")
	for range 2 {
		if first.Wait(ctx) {
			t.Error("the first one waited")
		}
	}
	if turn("b").Wait(ctx) {
		t.Error("it waited for another key")
	}
	// The maker keeps nothing: those who waited do not wait again, nor does anybody for them.
	second := turn("a")
	result := begin(t, second)
	first.Close()
	if !<-result || second.Wait(ctx) {
		t.Error("who waited is to look, and then to go on")
	}
	third := turn("a")
	if third.Wait(ctx) {
		t.Error("the third one waited")
	}
	// The maker makes the entry.
	result = begin(t, turn("a"))
	forEntry(t, c, "a")
	third.Close()
	if !<-result {
		t.Error("the entry that was waited for is not worth a look")
	}
	if !turn("a").Wait(ctx) {
		t.Error("an entry that came meanwhile is not worth a look")
	}
}

// TestTurnThatIsNotWaitedFor gives up after its limit, with its context, and where there is
// no directory.
func TestTurnThatIsNotWaitedFor(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	first := c.Turn("a", time.Minute)
	defer first.Close()
	if first.Wait(t.Context()) {
		t.Error("the first one waited")
	}
	if c.Turn("a", 0).Wait(t.Context()) {
		t.Error("it waited beyond its limit")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c.Turn("a", time.Minute).Wait(ctx) {
		t.Error("it waited without a context")
	}
	if (&Cache{Dir: "/dev/null/x"}).Turn("a", time.Minute).Wait(t.Context()) {
		t.Error("it waited without a directory")
	}
}

// TestChoose has two descriptions of what may be the same.
func TestChoose(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	low, high := c.Choose(1), c.Choose(2)
	if low == high || c.Choose(1, 2) != low || c.Choose(2, 1) != high {
		t.Errorf("%s and %s", low, high)
	}
	forEntry(t, c, high)
	if c.Choose(1, 2) != high || c.Choose(1) != low {
		t.Error("the entry that is there was not chosen")
	}
	forEntry(t, c, low)
	if c.Choose(1, 2) != low {
		t.Error("the first of two entries was not chosen")
	}
}
