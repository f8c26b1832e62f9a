package deadline

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestLeft(t *testing.T) {
	now, waited := time.Unix(0, 0), 5*time.Second
	d := Begin(10*time.Second, Clock{Now: func() time.Time { return now }, Hindered: func() time.Duration {
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

// A limit that is hindered half of the time lasts twice as long; what is stopped never ends.
func TestAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		half := Clock{Hindered: func() time.Duration { return time.Since(began) / 2 }}
		over, never := make(chan time.Duration), false
		Begin(10*time.Second, half).After(func() { over <- time.Since(began) })
		stop := Begin(time.Second, Clock{}).After(func() { never = true })
		stop()
		if spent := <-over; spent.Round(time.Millisecond) != 20*time.Second || never {
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
