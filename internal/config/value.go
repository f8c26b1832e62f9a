package config

import (
	"errors"
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
	key   string // its full name in the file; "" for the file itself
	valid []key
}

func (s section) read(table map[string]any) error {
	for _, name := range sortedKeys(table) {
		i := slices.IndexFunc(s.valid, func(k key) bool { return k.name == name })
		if i < 0 {
			return &keyError{joinKey(s.key, name), s.unknown(name)}
		}
		if err := s.valid[i].set(table[name]); err != nil {
			return &keyError{joinKey(s.key, name), fmt.Errorf("%s %s: %w", s.where, name, err)}
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

// kindOf returns a TOML value's type for errors.
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

// choiceOfBoolInto is for a key whose absence is a third choice.
func choiceOfBoolInto(to **bool) func(any) error {
	return func(v any) error {
		*to = new(bool)
		return boolInto(*to)(v)
	}
}

func tableInto(to *map[string]any) func(any) error { return typed(to, "a table") }

// bootCacheInto takes whether boots are cached, or how old a cached one may be.
func bootCacheInto(on *bool, age *time.Duration) func(any) error {
	return func(v any) error {
		switch v := v.(type) {
		case bool:
			*on = v
			return nil
		case string:
			d, err := time.ParseDuration(v)
			if err != nil || d <= 0 {
				return fmt.Errorf("expected true, false or the greatest age (\"10m\"), got `%s`", v)
			}
			*on, *age = true, d
			return nil
		}
		return fmt.Errorf("expected true, false or the greatest age (\"10m\"), got %s", kindOf(v))
	}
}

// maxSeconds bounds a length of time in the file, which is eleven days.
const maxSeconds = 1e6

// secondsInto takes a positive number of seconds.
func secondsInto(to *time.Duration) func(any) error {
	return func(v any) error {
		var n float64
		switch v := v.(type) {
		case int64:
			n = float64(v)
		case float64:
			n = v
		default:
			return fmt.Errorf("expected a positive number of seconds, got %s", kindOf(v))
		}
		switch {
		case !(n > 0): // also not a number
			return fmt.Errorf("expected a positive number of seconds, got %v", v)
		case n > maxSeconds:
			return fmt.Errorf("expected a positive number of seconds, at most %d, got %v", int(maxSeconds), v)
		}
		*to = max(1, time.Duration(n*float64(time.Second)))
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
		for i, p := range *to {
			if p == "" {
				return fmt.Errorf("entry %d: an empty pattern matches every line", i+1)
			}
			if _, err := regexp.Compile(p); err != nil {
				return fmt.Errorf("`%s` is no regular expression: %w", p, err)
			}
		}
		return nil
	}
}

// namesInto takes an array of strings that are not empty.
func namesInto(to *[]string) func(any) error {
	return func(v any) error {
		if err := stringsInto(to)(v); err != nil {
			return err
		}
		if i := slices.Index(*to, ""); i >= 0 {
			return fmt.Errorf("entry %d: expected a name, got an empty string", i+1)
		}
		return nil
	}
}

// base is what paths in the file are relative to.
type base struct {
	dir  string
	home string // what ~/ stands for, or ""
	out  string // what {out} stands for, or "" where it has no meaning
}

func (b base) resolve(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("expected a path, got an empty string")
	case strings.ContainsRune(s, 0):
		return "", fmt.Errorf("path %q contains a NUL byte", s)
	case strings.Contains(s, outMark):
		if b.out == "" {
			return "", fmt.Errorf("`%s` has no meaning in `%s`; it stands for build_out in build, cmdline "+
				"and a profile's other paths", outMark, s)
		}
		s = strings.ReplaceAll(s, outMark, b.out)
	case s == "~" || strings.HasPrefix(s, "~/"):
		if b.home == "" {
			return "", fmt.Errorf("`%s`: there is no home directory; write the whole path", s)
		}
		s = b.home + s[1:]
	}
	if !filepath.IsAbs(s) {
		s = filepath.Join(b.dir, s)
	}
	return filepath.Clean(s), nil
}

func pathInto(to *string, at base) func(any) error {
	return func(v any) error {
		var s string
		if err := stringInto(&s)(v); err != nil {
			return err
		}
		s, err := at.resolve(s)
		if err == nil {
			*to = s
		}
		return err
	}
}

// programInto takes the path of a program, or its name, which is then looked for on PATH.
func programInto(to *string, at base) func(any) error {
	return func(v any) error {
		if name, ok := v.(string); ok && name != "" && !strings.ContainsRune(name, '/') {
			*to = name
			return nil
		}
		return pathInto(to, at)(v)
	}
}

func pathsInto(to *[]string, at base) func(any) error {
	return func(v any) error {
		var list []string
		if err := stringsInto(&list)(v); err != nil {
			return err
		}
		for i := range list {
			if err := pathInto(&list[i], at)(list[i]); err != nil {
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
				return fmt.Errorf("size: expected a positive number of bytes, got %d", v)
			}
			*to = v
			return nil
		case string:
			if v != "" && sizeUnit(v[len(v)-1]) < 0 {
				return fmt.Errorf("size: cannot parse `%s` (a string needs K, M, G or T, as in \"512M\"; an "+
					"integer is bytes)", v)
			}
			n, err := ParseSize(v)
			if err == nil {
				*to = n
			}
			return err
		}
		return fmt.Errorf("expected a size (bytes, or a string such as \"512M\"), got %s", kindOf(v))
	}
}

// sizeUnits are powers of 1024, ascending.
const sizeUnits = "KMGT"

// sizeUnit returns the index of a unit in either case, -1 for another byte.
func sizeUnit(c byte) int { return strings.Index(sizeUnits, strings.ToUpper(string(c))) }

// ParseSize reads a size of the command line: a positive number of bytes, or a
// number with K, M, G or T, which are powers of 1024.
func ParseSize(s string) (int64, error) {
	digits, unit := s, float64(1)
	if n := len(s); n > 0 {
		if i := sizeUnit(s[n-1]); i >= 0 {
			digits, unit = s[:n-1], math.Pow(1024, float64(i+1))
		}
	}
	n, ok := parseDecimal(digits)
	if !ok {
		return 0, fmt.Errorf("size: cannot parse `%s` (a number of bytes, or a number with K, M, G or T)", s)
	}
	bytes := n * unit
	switch {
	case bytes >= math.MaxInt64:
		return 0, fmt.Errorf("size: `%s` is too large", s)
	case bytes < 1 || bytes != math.Trunc(bytes):
		return 0, fmt.Errorf("size: `%s` is not a positive whole number of bytes", s)
	}
	return int64(bytes), nil
}

// ParseDuration reads a duration of the command line: a number with ms, s, m or
// h, or a bare integer, which is seconds. Zero is allowed.
func ParseDuration(s string) (time.Duration, error) {
	digits, unit, bare := s, time.Second, true
	for _, u := range []struct {
		suffix string
		unit   time.Duration
	}{{"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}} {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			digits, unit, bare = rest, u.unit, false
			break
		}
	}
	n, ok := parseDecimal(digits)
	if !ok || bare && strings.Contains(s, ".") {
		return 0, fmt.Errorf("duration: cannot parse `%s` (a whole number of seconds, or a number with ms, s, m or h)",
			s)
	}
	d := n * float64(unit)
	switch {
	case d >= math.MaxInt64:
		return 0, fmt.Errorf("duration: `%s` is too long (at most 292 years)", s)
	case n > 0:
		return max(1, time.Duration(math.Round(d))), nil // zero would mean another thing
	}
	return 0, nil
}

// parseDecimal reads digits with at most one point: no sign, exponent, blank or
// other notation that strconv knows.
func parseDecimal(s string) (float64, bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	if whole+fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}
