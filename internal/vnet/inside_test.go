package vnet

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

// inbox opens an inbox on a port of a running switch.
func inbox(t *testing.T, s *Switch, name string) *Inbox {
	t.Helper()
	i, err := s.AddPort(name).OpenInbox()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	return i
}

// nothing fails the test if a frame waits.
func nothing(t *testing.T, i *Inbox) {
	t.Helper()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if f, err := i.Receive(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("%x, %v", f, err)
	}
}

// A member of this process gets the first frame after it joined, while others send.
func TestJoinedIsLive(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	sender := s.AddPort("a")
	stop := make(chan struct{})
	var noise sync.WaitGroup
	noise.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.AddPort("noise").Send(frame(broadcast, mac(9), 0, 60))
			}
		}
	})
	for n := range uint32(200) {
		heard := make(chan struct{})
		var once sync.Once
		port := s.AddPort(".x")
		in := port.Join(func(f []byte) {
			if number(f) == n+1 {
				once.Do(func() { close(heard) })
			}
		})
		sender.Send(frame(broadcast, mac(1), n+1, 60))
		select {
		case <-heard:
		case <-time.After(20 * time.Second):
			t.Fatal("the first frame was lost")
		}
		in.Close()
		if port.IsLive() {
			t.Fatal("live after Close")
		}
	}
	close(stop)
	noise.Wait()
	s.RemovePort(".x")
	port := s.AddPort("b")
	s.RemovePort("b")
	port.Join(func([]byte) { t.Error("a removed port got a frame") }).Close()
	if _, err := port.OpenInbox(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestInbox(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	ctx := context.Background()
	a, i := s.AddPort("a"), inbox(t, s, "i")
	nothing(t, i)
	for n := range uint32(3) {
		a.Send(frame(broadcast, mac(1), n, 60))
	}
	for n := range uint32(2) {
		if f, err := i.Receive(ctx); err != nil || number(f) != n || len(f) != 60 {
			t.Fatalf("%x, %v", f, err)
		}
	}
	i.Clear()
	nothing(t, i)

	for range maxQueue / 1000 {
		a.Send(frame(broadcast, mac(1), 0, 1500))
	}
	lost := i.Dropped()
	kept := uint64(0)
	for ended, cancel := context.WithCancel(ctx); ; kept++ {
		cancel()
		if _, err := i.Receive(ended); err != nil {
			break
		}
	}
	if lost == 0 || kept+lost != maxQueue/1000 {
		t.Errorf("%d kept, %d dropped", kept, lost)
	}
}

// Each of several readers gets its frame, and all return when the port ends.
func TestInboxReaders(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	a, i := s.AddPort("a"), inbox(t, s, "i")
	got := make(chan uint32)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				f, err := i.Receive(context.Background())
				if err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					return
				}
				got <- number(f)
			}
		})
	}
	go func() {
		for n := range uint32(100) {
			a.Send(frame(broadcast, mac(1), n, 60))
		}
	}()
	var all []uint32
	for range 100 {
		all = append(all, <-got)
	}
	slices.Sort(all)
	if all[0] != 0 || all[99] != 99 || len(slices.Compact(all)) != 100 {
		t.Error(all)
	}
	s.RemovePort("i")
	readers.Wait()
	i.Close()
}

func TestPromiscuous(t *testing.T) {
	b := newBench(t, 1, "a", "b", "c", "watch")
	count := func(want int) {
		t.Helper()
		if got := len(b.take("watch")); got != want {
			t.Errorf("%d frames, want %d", got, want)
		}
	}
	b.send("b", frame(broadcast, mac(2), 0, 60))
	count(1)
	b.send("a", frame(mac(2), mac(1), 0, 60))
	count(0)
	b.ids["watch"].SetPromiscuous()
	b.ids["watch"].SetPromiscuous()
	b.send("a", frame(mac(2), mac(1), 0, 60))
	count(1)
	b.send("a", frame(mac(1), mac(1), 0, 60)) // goes to no other
	count(1)
	b.send("watch", frame(mac(2), mac(4), 0, 60))
	b.send("a", frame(mac(4), mac(1), 0, 60)) // is its own
	count(1)
	b.send("a", frame(mac(7), mac(1), 0, 60)) // flooded
	count(1)
	b.s.Partition("a", "b")
	b.send("a", frame(mac(2), mac(1), 0, 60))
	count(1)
	b.s.PartitionOneWay("a", "watch")
	b.send("a", frame(mac(2), mac(1), 0, 60))
	count(0)
	b.s.RemovePort("watch")
	b.send("b", frame(mac(1), mac(2), 0, 60))
	if len(b.s.observers) > 0 {
		t.Error("a removed port observes")
	}
}

func TestStateForget(t *testing.T) {
	b := newBench(t, 1, "a", "b", "c")
	b.s.Partition("a", "b")
	b.s.Partition("b", "c")
	b.s.PartitionOneWay("a", "c")
	b.s.SetPair("a", "b", Latency, 3)
	b.s.Isolate("a", true)
	b.s.PartitionAll()
	b.s.Unpartition("a", "c")
	b.s.Set(Latency, 1)
	b.send("b", frame(broadcast, mac(2), 0, 60))
	state := b.s.Save()
	state.Forget("a")
	if len(state.Partitions) != 1 || len(state.OneWay) > 0 || len(state.Pairs) > 0 ||
		len(state.Isolated) > 0 || len(state.Lifted) > 0 || !state.All {
		t.Errorf("%+v", state)
	}
	for _, l := range state.Links {
		if l.From == "a" || l.To == "a" {
			t.Errorf("%+v", l)
		}
	}
}
