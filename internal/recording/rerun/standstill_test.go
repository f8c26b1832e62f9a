package rerun

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// replayed is a guest whose progress is a function of the time since it began.
type replayed struct {
	began    time.Time
	icount   func(d time.Duration) int64
	status   func(d time.Duration) string // "": QEMU does not answer
	hindered func(d time.Duration) time.Duration
}

func (r *replayed) Status(ctx context.Context) (string, error) {
	status := "running"
	if r.status != nil {
		status = r.status(time.Since(r.began))
	}
	if status == "" {
		<-ctx.Done()
		return "", ctx.Err()
	}
	return status, nil
}

func (r *replayed) Icount(context.Context) (int64, error) { return r.icount(time.Since(r.began)), nil }

func (r *replayed) Hindered() time.Duration {
	if r.hindered == nil {
		return 0
	}
	return r.hindered(time.Since(r.began))
}

// until returns instructions that the guest carries out until d.
func until(d time.Duration) func(time.Duration) int64 {
	return func(now time.Duration) int64 { return int64(min(now, d).Seconds()) }
}

func half(d time.Duration) time.Duration { return d / 2 }

func stoppedForADay(d time.Duration) string {
	if d < 24*time.Hour {
		return "paused"
	}
	return "running"
}

func TestStandstill(t *testing.T) {
	for name, c := range map[string]struct {
		guest replayed
		after time.Duration // least
		text  string
	}{
		"it stops after an hour": {guest: replayed{icount: until(time.Hour)}, after: time.Hour,
			text: "instruction 3600 of 9999 for 1m0s: "},
		"it never begins": {guest: replayed{icount: until(0)}, text: "instruction 0 of 9999 for 1m0s: "},
		"qemu does not answer": {guest: replayed{status: func(time.Duration) string { return "" }},
			text: "QEMU does not answer for 1m0s: "},
		"a loaded host": {guest: replayed{icount: until(0), hindered: half}, after: time.Minute,
			text: "do not count, since a loaded host left no CPU): "},
		"a debugger has stopped it": {guest: replayed{icount: until(0), status: stoppedForADay}, after: 24 * time.Hour,
			text: "instruction 0 of"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.guest.began = time.Now()
				err := newPace(&c.guest, 9999, new(atomic.Int64)).watch(t.Context())
				var still *StandstillError
				if !errors.As(err, &still) || !strings.Contains(err.Error(), c.text) ||
					!strings.Contains(err.Error(), "record the test again") {
					t.Errorf("%v, want %s", err, c.text)
				}
				took := time.Since(c.guest.began) - c.after
				if took < stillLimit || took > stillLimit+5*lookEach {
					t.Errorf("after %v", took)
				}
			})
		})
	}
}

func TestEventsAreProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events atomic.Int64
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var source sync.WaitGroup
		source.Go(func() {
			for ctx.Err() == nil {
				events.Add(1)
				select {
				case <-ctx.Done():
				case <-time.After(stillLimit / 2):
				}
			}
		})
		g := &replayed{began: time.Now(), icount: until(0)}
		if err := newPace(g, 1, &events).watch(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		source.Wait()
	})
}
