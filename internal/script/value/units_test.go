package value

import (
	"math"
	"math/big"
	"regexp"
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
			t.Errorf("ParseDuration(%v) = %v, %v; want %v", in, got, err, want)
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
			t.Errorf("ParseDuration(%v) = %v, %v; want an error with %q", in, got, err, want)
		}
	}
}

func TestParseSignedDuration(t *testing.T) {
	for in, want := range map[lua.Value]time.Duration{
		"-2m": -2 * time.Minute, int64(-90): -90 * time.Second, 0.5: 500 * time.Millisecond,
	} {
		if got, err := ParseSignedDuration(in); err != nil || got != want {
			t.Errorf("ParseSignedDuration(%v) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []lua.Value{1e300, -1e300, math.NaN(), "x", nil} {
		if got, err := ParseSignedDuration(in); err == nil {
			t.Errorf("ParseSignedDuration(%v) = %v, want an error", in, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[lua.Value]int64{
		int64(1): 1, 4096.0: 4096, "1K": 1 << 10, "512M": 512 << 20, "2G": 2 << 30, "1T": 1 << 40,
		"1.5G": 3 << 29, "0.5K": 512,
	} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("ParseSize(%v) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []lua.Value{int64(0), int64(-1), "0", "0K", "", "K", "2X", "512", "512MB", "-1M",
		"1 M", "1e3M", "0.0001K", "99999999999T", 1.5, math.NaN(), math.Inf(1), 1e300, nil, true} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("ParseSize(%v) = %v, want an error", in, got)
		}
	}
}

func TestFormatFloat(t *testing.T) {
	for in, want := range map[float64]string{1: "1.0", 0.1: "0.1", 1e100: "1e+100", -2.5: "-2.5",
		math.Inf(1): "inf", 1700000000: "1700000000.0"} {
		if got := FormatFloat(in); got != want {
			t.Errorf("FormatFloat(%v) = %s, want %s", in, got, want)
		}
	}
}

func TestFormatSeconds(t *testing.T) {
	for in, want := range map[time.Duration]string{5 * time.Second: "5s", 250 * time.Millisecond: "0.25s",
		2 * time.Minute: "120s", 0: "0s"} {
		if got := FormatSeconds(in); got != want {
			t.Errorf("FormatSeconds(%v) = %s, want %s", in, got, want)
		}
	}
}

// exactly returns the product of a decimal number, as ParseDuration and ParseSize accept it, and
// a unit. ok is false for other texts.
func exactly(s string, units map[string]int64) (product *big.Rat, ok bool) {
	m := decimalWithUnit.FindStringSubmatch(s)
	if m == nil || units[m[2]] == 0 {
		return nil, false
	}
	product, ok = new(big.Rat).SetString(m[1])
	return product.Mul(product, big.NewRat(units[m[2]], 1)), ok
}

var decimalWithUnit = regexp.MustCompile(`^(-?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([A-Za-z]+)$`)

// near reports whether got is want up to the precision of a float.
func near(got int64, want *big.Rat) bool {
	f, _ := want.Float64()
	return math.Abs(float64(got)-f) <= 1+math.Abs(f)*1e-14
}

// FuzzParseUnits compares with exact arithmetic.
func FuzzParseUnits(f *testing.F) {
	for _, s := range []string{"10", "5 s", "1d", "500ms", "1.5h", "2X", "512M", "-2m", "", "1.K", ".5K", "9999999h",
		"8388607T", "4194304T", "0.1G", "1e3s", "1m", "1ſ"} {
		f.Add(s)
	}
	durations := map[string]int64{"ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}
	sizes := map[string]int64{"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40,
		"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 400 {
			return
		}
		ns, isDuration := exactly(s, durations)
		switch d, err := ParseDuration(s); {
		case err == nil && !isDuration, err == nil && d < 0:
			t.Errorf("ParseDuration(%q) = %v", s, d)
		case err == nil && d != math.MaxInt64 && !near(int64(d), ns):
			t.Errorf("ParseDuration(%q) = %v, want %v", s, d, ns)
		case err != nil && isDuration && ns.Sign() >= 0:
			t.Errorf("ParseDuration(%q): %v", s, err)
		}
		switch d, err := ParseSignedDuration(s); {
		case err == nil && !isDuration, err == nil && !near(int64(d), ns):
			t.Errorf("ParseSignedDuration(%q) = %v", s, d)
		case err != nil && isDuration && new(big.Rat).Abs(ns).Cmp(big.NewRat(1<<62, 1)) < 0:
			t.Errorf("ParseSignedDuration(%q): %v", s, err)
		}
		bytes, isSize := exactly(s, sizes)
		if n, err := ParseSize(s); err == nil && (!isSize || n <= 0 || !near(n, bytes)) {
			t.Errorf("ParseSize(%q) = %v", s, n)
		} else if err != nil && isSize && bytes.IsInt() && bytes.Sign() > 0 && bytes.Num().BitLen() <= 52 {
			t.Errorf("ParseSize(%q): %v", s, err)
		}
	})
}

// FuzzFormatSeconds checks that a duration survives, to the nanosecond, up to 26 days.
func FuzzFormatSeconds(f *testing.F) {
	for _, n := range []int64{0, 1, 999_999_999, 1 << 50, 123_456_789_012_345} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, n int64) {
		d := time.Duration(n & (1<<51 - 1))
		if got, err := ParseDuration(FormatSeconds(d)); err != nil || got != d {
			t.Errorf("%d became %s, then %d (%v)", d, FormatSeconds(d), got, err)
		}
	})
}
