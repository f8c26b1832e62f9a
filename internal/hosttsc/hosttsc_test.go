package hosttsc

import (
	"context"
	"fmt"
	"testing"
	"time"
)

func TestFrequency(t *testing.T) {
	at := time.Now()
	for _, tc := range []struct {
		name string
		to   pair
		want int
	}{
		{"2.1 GHz", pair{at.Add(10 * time.Millisecond), 1000 + 21_000_000}, 2_100_000},
		{"rounded", pair{at.Add(time.Second), 1000 + 2_096_011_499}, 2_096_011},
		{"no time", pair{at, 5000}, 0},
		{"backwards", pair{at.Add(time.Second), 10}, 0},
		{"too slow", pair{at.Add(time.Second), 1000 + 50_000_000}, 0},
		{"too fast", pair{at.Add(time.Second), 1000 + 30_000_000_000}, 0},
	} {
		if got := frequency(pair{at, 1000}, tc.to); got != tc.want {
			t.Errorf("%s: %d kHz, want %d", tc.name, got, tc.want)
		}
	}
}

// TestMeter has two meters measure the same processor.
func TestMeter(t *testing.T) {
	if !supported {
		t.Skip("this processor has no time stamp counter")
	}
	var a, b Meter
	a.Start()
	x, y := a.KHz(t.Context()), b.KHz(t.Context())
	if x < minKHz || y < minKHz || x > y+y/1000 || y > x+x/1000 {
		t.Errorf("%d and %d kHz", x, y)
	}
	if again := a.KHz(t.Context()); again != x {
		t.Errorf("measured again: %d, then %d kHz", x, again)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var c Meter
	if got := c.KHz(ctx); got != 0 {
		t.Errorf("given up: %d kHz", got)
	}
	if got := c.KHz(t.Context()); got < minKHz {
		t.Errorf("after it: %d kHz", got)
	}
}

// TestClasses has measurements of one counter, some of which are on the other side of a
// border of classes, name the same classes.
func TestClasses(t *testing.T) {
	for _, tc := range []struct {
		khz  []int
		want string
	}{
		{[]int{2_100_000, 2_104_000, 2_109_000}, "[131]"},
		{[]int{2_095_000, 2_095_969, 2_096_000, 2_096_011, 2_096_053, 2_098_000}, "[130 131]"},
		{[]int{0}, "[0]"},
	} {
		for _, khz := range tc.khz {
			if got := fmt.Sprint(Classes(khz)); got != tc.want {
				t.Errorf("%d kHz: %s, want %s", khz, got, tc.want)
			}
		}
	}
}
