package script

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"provium/internal/lua"
)

// nanoseconds per unit of a duration string.
var durationUnits = []struct {
	suffix string
	ns     float64
}{{"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}}

// errDurationRange is the answer to a duration that is NaN, infinite or, where only
// lengths make sense, negative.
var errDurationRange = errors.New("duration: must be a finite, non-negative number")

// parseDuration reads a length of time as test authors write it: a number of seconds or a
// decimal number with a unit. It is never negative. Lengths beyond what time.Duration holds
// (292 years) are as good as endless and are cut to the largest one.
func parseDuration(v lua.Value) (time.Duration, error) {
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

// parseSignedDuration is parseDuration for clocks, which also go backwards.
func parseSignedDuration(v lua.Value) (time.Duration, error) {
	ns, err := parseNanos(v)
	if err != nil {
		return 0, err
	}
	if ns >= math.MaxInt64 || ns <= math.MinInt64 {
		return 0, fmt.Errorf("duration: %v is out of range (at most 292 years)", show(v))
	}
	return time.Duration(ns), nil
}

// parseNanos gives the nanoseconds of a number of seconds or of a duration string.
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
		return 0, fmt.Errorf("duration: cannot parse `%s` (a decimal number with ms, s, m or h, such as \"500ms\")", clip(v, 80))
	default:
		return 0, fmt.Errorf("duration: expected number|string, got %s", typeName(v))
	}
}

// parseDecimal reads digits with at most one point and an optional minus: no exponent, no
// hexadecimal, no blanks, which strconv alone would let through.
func parseDecimal(s string) (float64, bool) {
	digits := strings.TrimPrefix(s, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	if whole+fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// parseSize reads an amount of memory or storage in bytes.
func parseSize(v lua.Value) (int64, error) {
	switch v := v.(type) {
	case int64:
		if v <= 0 {
			return 0, fmt.Errorf("size must be positive, got %d", v)
		}
		return v, nil
	case float64:
		if v != math.Trunc(v) || math.Abs(v) >= 1<<63 { // also NaN and infinity
			return 0, fmt.Errorf("size must be a whole number of bytes, got %v", show(v))
		}
		return parseSize(int64(v))
	case string:
		bad := fmt.Errorf("cannot parse size `%s` (a number with K, M, G or T, such as \"512M\", or an integer number of bytes)", clip(v, 80))
		if v == "" {
			return 0, bad
		}
		shift := map[byte]uint{'K': 10, 'M': 20, 'G': 30, 'T': 40}[v[len(v)-1]]
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
		return 0, fmt.Errorf("size must be an integer or a string such as \"512M\", got %s", typeName(v))
	}
}

// seconds renders a duration the way its author would write it in seconds: "5s", "0.25s".
func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}
