package value

import (
	"math"
	"strings"
	"testing"
	"time"

	"provium/internal/lua"
)

func TestParseDuration(t *testing.T) {
	good := map[lua.Value]time.Duration{
		int64(0): 0, int64(3): 3 * time.Second, 0.25: 250 * time.Millisecond,
		"5s": 5 * time.Second, "500ms": 500 * time.Millisecond, "2m": 2 * time.Minute,
		"1h": time.Hour, "1.5s": 1500 * time.Millisecond, ".5s": 500 * time.Millisecond,
		"0s": 0, 1e300: math.MaxInt64, int64(math.MaxInt64): math.MaxInt64,
	}
	for in, want := range good {
		if got, err := ParseDuration(in); err != nil || got != want {
			t.Errorf("parseDuration(%v) = %v, %v; want %v", in, got, err, want)
		}
	}
	bad := map[lua.Value]string{
		"10": "cannot parse `10`", "5 s": "cannot parse `5 s`", "1d": "cannot parse `1d`",
		"": "cannot parse", "s": "cannot parse", "ms": "cannot parse", "1e3s": "cannot parse",
		"0x1s": "cannot parse", "+1s": "cannot parse", "1_0s": "cannot parse", "infs": "cannot parse",
		"nans": "cannot parse", "--1s": "cannot parse", "1.2.3s": "cannot parse", ".s": "cannot parse",
		"-1s": "finite, non-negative", int64(-1): "finite, non-negative", -0.5: "finite, non-negative",
		math.NaN(): "finite, non-negative", math.Inf(1): "finite, non-negative",
		nil: "expected number|string, got nil", true: "expected number|string, got boolean",
	}
	for in, want := range bad {
		if got, err := ParseDuration(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parseDuration(%v) = %v, %v; want an error with %q", in, got, err, want)
		}
	}
}

func TestParseSignedDuration(t *testing.T) {
	for in, want := range map[lua.Value]time.Duration{
		"-2m": -2 * time.Minute, int64(-90): -90 * time.Second, 0.5: 500 * time.Millisecond,
	} {
		if got, err := ParseSignedDuration(in); err != nil || got != want {
			t.Errorf("parseSignedDuration(%v) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []lua.Value{1e300, -1e300, math.NaN(), "x", nil} {
		if got, err := ParseSignedDuration(in); err == nil {
			t.Errorf("parseSignedDuration(%v) = %v, want an error", in, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[lua.Value]int64{
		int64(1): 1, 4096.0: 4096, "1K": 1 << 10, "512M": 512 << 20, "2G": 2 << 30, "1T": 1 << 40,
		"1.5G": 3 << 29, "0.5K": 512,
	} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("parseSize(%v) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []lua.Value{int64(0), int64(-1), "0", "0K", "", "K", "2X", "512", "512MB", "-1M",
		"1 M", "1e3M", "0.0001K", "99999999999T", 1.5, math.NaN(), math.Inf(1), 1e300, nil, true} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("parseSize(%v) = %v, want an error", in, got)
		}
	}
}

func TestShowFloat(t *testing.T) {
	for in, want := range map[float64]string{1: "1.0", 0.1: "0.1", 1e100: "1e+100", -2.5: "-2.5",
		math.Inf(1): "inf", 1700000000: "1700000000.0"} {
		if got := FormatFloat(in); got != want {
			t.Errorf("showFloat(%v) = %s, want %s", in, got, want)
		}
	}
}

func TestSeconds(t *testing.T) {
	for in, want := range map[time.Duration]string{5 * time.Second: "5s", 250 * time.Millisecond: "0.25s",
		2 * time.Minute: "120s", 0: "0s"} {
		if got := FormatSeconds(in); got != want {
			t.Errorf("seconds(%v) = %s, want %s", in, got, want)
		}
	}
}

func FuzzParseUnits(f *testing.F) {
	for _, s := range []string{"10", "5 s", "1d", "500ms", "1.5h", "2X", "512M", "-2m", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDuration(s); err == nil && d < 0 {
			t.Errorf("parseDuration(%q) = %v", s, d)
		}
		if n, err := ParseSize(s); err == nil && n <= 0 {
			t.Errorf("parseSize(%q) = %v", s, n)
		}
	})
}
