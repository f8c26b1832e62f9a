package deadline

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// stillTime is a clock that shows what is set.
type stillTime struct{ now *time.Time }

func (s stillTime) Now() time.Time { return *s.now }

func (s stillTime) AfterFunc(time.Duration, func()) (stop func() bool) {
	panic("nothing is waited for")
}

func TestLeft(t *testing.T) {
	now, waited := time.Unix(0, 0), 5*time.Second
	d := Begin(10*time.Second, Clock{Time: stillTime{&now}, Hindered: func() time.Duration {
		return waited
	}})
	for _, c := range []struct {
		wall, waited, left time.Duration
		text               string
	}{
		{0, 0, 10, "10s"},
		{4, 0, 6, "10s"},
		{14, 5, 1, "10s (14s on the clock, of which 5s do not count, since a loaded host left no CPU)"},
		{14, 1, 1, "10s (14s on the clock, of which 5s do not count, since a loaded host left no CPU)"},
		{16, 6, 0, "10s (16s on the clock, of which 6s do not count, since a loaded host left no CPU)"},
		{39, 200, 1, "10s (39s on the clock, of which 39s do not count, since a loaded host left no CPU)"},
		{40, 200, 0, "10s (40s on the clock, of which 40s do not count, since a loaded host left no CPU)"},
	} {
		now, waited = time.Unix(0, 0).Add(c.wall*time.Second), (5+c.waited)*time.Second
		if got := d.Left(); got != c.left*time.Second {
			t.Errorf("%v: %v left, want %v", c.wall, got, c.left)
		}
		if got := d.String(); got != c.text {
			t.Errorf("%v: %s", c.wall, got)
		}
	}
}

func TestSlowest(t *testing.T) {
	a, b := time.Second, time.Hour
	all := Slowest([]func() time.Duration{func() time.Duration { return a }, func() time.Duration { return b }})
	a, b = 9*time.Second, b+7*time.Second
	if got := all(); got != 8*time.Second {
		t.Error(got)
	}
	if got := Slowest(nil)(); got != 0 {
		t.Error(got)
	}
}

// What is held lasts longer by that, whatever the others wait for meanwhile.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		waited := func() time.Duration { return time.Since(began) / 2 }
		d := Begin(10*time.Second, Clock{Hindered: waited})
		over := make(chan time.Duration)
		d.After(func() { over <- time.Since(began) })
		time.Sleep(4 * time.Second)
		d.Hold(true)
		d.Hold(true)
		time.Sleep(time.Hour)
		if left := d.Left(); left != 8*time.Second {
			t.Errorf("%v left", left)
		}
		d.Hold(false)
		d.Hold(false)
		if spent := <-over; spent < time.Hour+20*time.Second || spent > time.Hour+20*time.Second+maxStep {
			t.Errorf("after %v", spent)
		}
		if got := d.Charged(); got != d.String()[len("10s"):] || !strings.Contains(got, " (20") {
			t.Error(got)
		}
		plain := Begin(time.Second, Clock{})
		plain.Hold(true)
		time.Sleep(time.Minute)
		plain.Hold(false)
		if plain.Left() != time.Second || plain.String() != "1s" ||
			plain.Exceeded("it").Error() != "it took longer than 1s" {
			t.Error(plain.Left(), plain)
		}
	})
}

// A limit that is hindered half of the time lasts twice as long; what is stopped never ends.
func TestAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		half := Clock{Hindered: func() time.Duration { return time.Since(began) / 2 }}
		over, never := make(chan time.Duration), false
		Begin(10*time.Second, half).After(func() { over <- time.Since(began) })
		stop := Begin(time.Second, Clock{}).After(func() { never = true })
		stop()
		if spent := <-over; spent < 20*time.Second || spent > 20*time.Second+maxStep || never {
			t.Errorf("after %v, %v", spent, never)
		}
		began = time.Now()
		ctx, cancel := Begin(10*time.Second, Clock{Hindered: func() time.Duration { return 2 * time.Since(began) }}).
			Context(t.Context(), errors.New("late"))
		defer cancel()
		<-ctx.Done()
		if spent := time.Since(began); context.Cause(ctx).Error() != "late" || spent != 40*time.Second {
			t.Errorf("%v after %v", context.Cause(ctx), spent)
		}
	})
}
