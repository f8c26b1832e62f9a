package config

import (
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agext/levenshtein"
)

// outMark stands for the build's output directory in paths and commands.
const outMark = "{out}"

// key is one valid key of a section and where its value goes.
type key struct {
	name string
	set  func(any) error
}

// section is a table with a closed set of keys.
type section struct {
	where string // for errors
	valid []key
}

func (s section) read(table map[string]any) error {
	for _, name := range sortedKeys(table) {
		i := slices.IndexFunc(s.valid, func(k key) bool { return k.name == name })
		if i < 0 {
			return s.unknown(name)
		}
		if err := s.valid[i].set(table[name]); err != nil {
			return fmt.Errorf("%s %s: %w", s.where, name, err)
		}
	}
	return nil
}

func (s section) unknown(name string) error {
	best, distance := "", 3
	var names []string
	for _, k := range s.valid {
		names = append(names, k.name)
		if d := levenshtein.Distance(name, k.name, nil); d < distance {
			best, distance = k.name, d
		}
	}
	hint := ""
	if best != "" {
		hint = fmt.Sprintf("; did you mean `%s`?", best)
	}
	return fmt.Errorf("unknown key `%s` in %s (valid: %s)%s", name, s.where, strings.Join(names, ", "), hint)
}

// kindOf names a TOML value's type for errors.
func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case []any:
		return "an array"
	case map[string]any:
		return "a table"
	}
	return "a date or time"
}

func typed[T any](to *T, want string) func(any) error {
	return func(v any) error {
		x, ok := v.(T)
		if !ok {
			return fmt.Errorf("expected %s, got %s", want, kindOf(v))
		}
		*to = x
		return nil
	}
}

func stringInto(to *string) func(any) error { return typed(to, "a string") }
func boolInto(to *bool) func(any) error     { return typed(to, "true or false") }
func listInto(to *[]any) func(any) error    { return typed(to, "an array") }

func tableInto(to *map[string]any) func(any) error { return typed(to, "a table") }

func numberInto(to *float64) func(any) error {
	return func(v any) error {
		switch v := v.(type) {
		case int64:
			*to = float64(v)
		case float64:
			*to = v
		default:
			return fmt.Errorf("expected a number, got %s", kindOf(v))
		}
		return nil
	}
}

func choiceInto(to *string, valid ...string) func(any) error {
	return func(v any) error {
		var s string
		if err := stringInto(&s)(v); err != nil {
			return err
		}
		if !slices.Contains(valid, s) {
			return fmt.Errorf("unknown value `%s` (valid: %s)", s, strings.Join(valid, ", "))
		}
		*to = s
		return nil
	}
}

func stringsInto(to *[]string) func(any) error {
	return func(v any) error {
		list, ok := v.([]any)
		if !ok {
			return fmt.Errorf("expected an array of strings, got %s", kindOf(v))
		}
		out := make([]string, len(list))
		for i, item := range list {
			if err := stringInto(&out[i])(item); err != nil {
				return fmt.Errorf("entry %d: %w", i+1, err)
			}
		}
		*to = out
		return nil
	}
}

func patternsInto(to *[]string) func(any) error {
	return func(v any) error {
		if err := stringsInto(to)(v); err != nil {
			return err
		}
		for _, p := range *to {
			if _, err := regexp.Compile(p); err != nil {
				return fmt.Errorf("`%s` is no regular expression: %w", p, err)
			}
		}
		return nil
	}
}

func pathInto(to *string, dir string) func(any) error { return outPathInto(to, dir, outMark) }

// outPathInto takes a path that may begin with, or hold, {out}.
func outPathInto(to *string, dir, out string) func(any) error {
	return func(v any) error {
		var s string
		if err := stringInto(&s)(v); err != nil {
			return err
		}
		if s == "" {
			return fmt.Errorf("expected a path, got an empty string")
		}
		s = strings.ReplaceAll(s, outMark, out)
		if !filepath.IsAbs(s) {
			s = filepath.Join(dir, s)
		}
		*to = filepath.Clean(s)
		return nil
	}
}

func pathsInto(to *[]string, dir string) func(any) error {
	return func(v any) error {
		var list []string
		if err := stringsInto(&list)(v); err != nil {
			return err
		}
		for i := range list {
			if err := pathInto(&list[i], dir)(list[i]); err != nil {
				return fmt.Errorf("entry %d: %w", i+1, err)
			}
		}
		*to = list
		return nil
	}
}

func sizeInto(to *int64) func(any) error {
	return func(v any) error {
		switch v := v.(type) {
		case int64:
			if v <= 0 {
				return fmt.Errorf("size %d is not positive", v)
			}
			*to = v
			return nil
		case string:
			n, err := ParseSize(v)
			*to = n
			return err
		}
		return fmt.Errorf("expected a size (bytes, or a string such as \"512M\"), got %s", kindOf(v))
	}
}

// ParseSize reads a size: a positive number of bytes, or a number with K, M, G
// or T, which are powers of 1024.
func ParseSize(s string) (int64, error) {
	digits, unit := s, float64(1)
	if n := len(s); n > 0 {
		if i := strings.IndexByte("KMGT", s[n-1]); i >= 0 {
			digits, unit = s[:n-1], math.Pow(1024, float64(i+1))
		}
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || strings.ContainsAny(digits, "eExXpPnN_+-iI") {
		return 0, fmt.Errorf("size: cannot parse `%s` (a number of bytes, or a number with K, M, G or T)", s)
	}
	bytes := n * unit
	if bytes < 1 || bytes >= math.MaxInt64 || bytes != math.Trunc(bytes) {
		return 0, fmt.Errorf("size: `%s` is not a positive whole number of bytes", s)
	}
	return int64(bytes), nil
}

// ParseDuration reads a duration of the command line: a number with ms, s, m or
// h, or a bare integer, which is seconds. Zero is allowed.
func ParseDuration(s string) (time.Duration, error) {
	digits, unit := s, time.Second
	for _, u := range []struct {
		suffix string
		unit   time.Duration
	}{{"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}} {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			digits, unit = rest, u.unit
			break
		}
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || strings.ContainsAny(digits, "eExXpPnN_+-iI") || digits == s && strings.Contains(s, ".") {
		return 0, fmt.Errorf("duration: cannot parse `%s` (a whole number of seconds, or a number with ms, s, m or h)", s)
	}
	d := n * float64(unit)
	if d > math.MaxInt64/2 {
		return 0, fmt.Errorf("duration: `%s` is too long", s)
	}
	return time.Duration(d), nil
}
