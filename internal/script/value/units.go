package value

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"provium/internal/lua"
)

// durationUnits are the units of a duration string, in nanoseconds. "ms" is before "s",
// which is its suffix.
var durationUnits = []struct {
	suffix string
	ns     float64
}{{"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}}

// errDurationRange is returned for a duration that is NaN, infinite or, where only a length
// makes sense, negative.
var errDurationRange = errors.New("duration: must be a finite, non-negative number")

// ParseDuration parses a length of time: a number of seconds, or a string with a decimal
// number and a unit. Negative lengths are an error. Lengths beyond the range of
// time.Duration (292 years) become its maximum.
func ParseDuration(v lua.Value) (time.Duration, error) {
	ns, err := parseNanos(v)
	if err != nil {
		return 0, err
	}
	if ns < 0 {
		return 0, errDurationRange
	}
	if ns >= math.MaxInt64 {
		return math.MaxInt64, nil
	}
	return time.Duration(ns), nil
}

// ParseSignedDuration is like ParseDuration and also accepts negative durations, for clocks.
// A duration out of range is an error.
func ParseSignedDuration(v lua.Value) (time.Duration, error) {
	ns, err := parseNanos(v)
	if err != nil {
		return 0, err
	}
	if ns >= math.MaxInt64 || ns <= math.MinInt64 {
		return 0, fmt.Errorf("duration: %v is out of range (at most 292 years)", Format(v))
	}
	return time.Duration(ns), nil
}

// parseNanos returns the nanoseconds in a number of seconds or in a duration string.
func parseNanos(v lua.Value) (float64, error) {
	switch v := v.(type) {
	case int64:
		return float64(v) * 1e9, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 0, errDurationRange
		}
		return math.Round(v * 1e9), nil
	case string:
		s := v
		for _, u := range durationUnits {
			number, ok := strings.CutSuffix(s, u.suffix)
			if !ok {
				continue
			}
			f, ok := parseDecimal(number)
			if !ok {
				break
			}
			return math.Round(f * u.ns), nil
		}
		return 0, fmt.Errorf("duration: cannot parse `%s` (a decimal number with ms, s, m or h, such as \"500ms\")",
			Clip(v, 80))
	default:
		return 0, fmt.Errorf("duration: expected number|string, got %s", lua.TypeName(v))
	}
}

// parseDecimal parses digits with at most one point and an optional minus. It refuses the
// exponents, hexadecimal digits and words which strconv accepts.
func parseDecimal(s string) (float64, bool) {
	digits := strings.TrimPrefix(s, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	if whole+fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// ParseSize parses an amount of memory or storage: a positive whole number of bytes, or a
// string with a decimal number and K, M, G or T (powers of 1024).
func ParseSize(v lua.Value) (int64, error) {
	switch v := v.(type) {
	case int64:
		if v <= 0 {
			return 0, fmt.Errorf("size must be positive, got %d", v)
		}
		return v, nil
	case float64:
		if v != math.Trunc(v) || math.Abs(v) >= 1<<63 { // also NaN and infinity
			return 0, fmt.Errorf("size must be a whole number of bytes, got %v", Format(v))
		}
		return ParseSize(int64(v))
	case string:
		bad := fmt.Errorf("cannot parse size `%s` (a number with K, M, G or T, such as \"512M\","+
			" or an integer number of bytes)", Clip(v, 80))
		if v == "" {
			return 0, bad
		}
		shift := map[byte]uint{'K': 10, 'M': 20, 'G': 30, 'T': 40, 'k': 10, 'm': 20, 'g': 30, 't': 40}[v[len(v)-1]]
		f, ok := parseDecimal(v[:len(v)-1])
		if shift == 0 || !ok {
			return 0, bad
		}
		bytes := f * float64(int64(1)<<shift)
		switch {
		case bytes <= 0:
			return 0, fmt.Errorf("size must be positive, got `%s`", v)
		case bytes >= 1<<62:
			return 0, fmt.Errorf("size `%s` is too large", v)
		case bytes != math.Trunc(bytes):
			return 0, fmt.Errorf("size `%s` is no whole number of bytes", v)
		}
		return int64(bytes), nil
	default:
		return 0, fmt.Errorf("size must be an integer or a string such as \"512M\", got %s", lua.TypeName(v))
	}
}

// FormatSeconds formats a duration as a test author writes it in seconds: "5s", "0.25s".
func FormatSeconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}
