package script

import (
	"fmt"
	"math"
	"time"

	"provium/internal/event"
	"provium/internal/lua"
	"provium/internal/script/value"
	"provium/internal/script/verdict"
)

// Meta is what a test's metadata say. Values holds all of it, for events and filters; the
// other fields are the keys that mean something.
type Meta struct {
	Slow       bool
	Skip       bool   // meta.skip asks to skip the test
	SkipReason string // the text of meta.skip when it is one
	Tags       []string
	Timeout    time.Duration // limit of the test; 0 is no limit
	HasTimeout bool
	// OpTimeout is how long a guest may be silent during an operation: 0 if the test does
	// not say it, and negative for no limit.
	OpTimeout time.Duration
	Allowed   verdict.Allowed
	Values    event.Meta // never nil
}

// maxMetaSize is about how many bytes the metadata of one test may have: they go with every
// event about it.
const maxMetaSize = 1 << 20

// parseMeta checks the table given to test() and turns it into values that events carry.
func parseMeta(t *lua.Table) (Meta, error) {
	m := Meta{Values: event.Meta{}}
	if t == nil {
		return m, nil
	}
	conv := metaConverter{above: map[uintptr]bool{t.Pointer(): true}, left: new(int)}
	*conv.left = maxMetaSize
	for _, p := range value.SortedPairs(t) {
		key, err := metaKey("meta", p.Key)
		if err != nil {
			return m, err
		}
		v, err := conv.value(value.FieldPath("meta", p.Key), p.Value, 1)
		if err != nil {
			return m, err
		}
		if _, twice := m.Values[key]; twice {
			return m, fmt.Errorf("meta has the key `%s` as integer and as string", key)
		}
		if err := conv.take(len(key)); err != nil {
			return m, err
		}
		m.Values[key] = v
		m.Allowed.Keys = append(m.Allowed.Keys, key)
	}
	return m, m.meanings(t)
}

// meanings reads the keys Provium knows.
func (m *Meta) meanings(t *lua.Table) error {
	var err error
	switch v := t.Get("skip").(type) {
	case string:
		m.Skip, m.SkipReason = true, v
	default:
		if m.Skip, err = metaFlag("skip", v, "true, false, an integer or a string"); err != nil {
			return err
		}
	}
	if m.Slow, err = metaFlag("slow", t.Get("slow"), "true, false or an integer"); err != nil {
		return err
	}
	if m.Tags, err = metaStrings("tags", t.Get("tags")); err != nil {
		return err
	}
	if _, err = metaStrings("spec", t.Get("spec")); err != nil {
		return err
	}
	if v := t.Get("timeout"); v != nil {
		if m.Timeout, err = value.ParseDuration(v); err != nil {
			return fmt.Errorf("meta.timeout: %w", err)
		}
		m.HasTimeout = true
	}
	if v := t.Get("op_timeout"); v != nil {
		if m.OpTimeout, err = value.ParseDuration(v); err != nil {
			return fmt.Errorf("meta.op_timeout: %w", err)
		}
		if m.OpTimeout == 0 {
			m.OpTimeout = -1
		}
	}
	for key, to := range map[string]*bool{
		"allow_oops": &m.Allowed.Reports, "allow_warnings": &m.Allowed.Warnings, "expect_panic": &m.Allowed.Panic,
	} {
		switch v := t.Get(key).(type) {
		case nil:
		case bool:
			*to = v
		default:
			return fmt.Errorf("meta.%s must be true or false, got %s", key, lua.TypeName(v))
		}
	}
	return nil
}

func metaFlag(key string, v lua.Value, valid string) (bool, error) {
	switch v := v.(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	case int64:
		return v != 0, nil
	default:
		return false, fmt.Errorf("meta.%s must be %s, got %s", key, valid, lua.TypeName(v))
	}
}

func metaStrings(key string, v lua.Value) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case *lua.Table:
		list, err := value.Strings(v)
		if err != nil {
			return nil, fmt.Errorf("meta.%s %w", key, err)
		}
		return list, nil
	default:
		return nil, fmt.Errorf("meta.%s must be a string or an array of strings, got %s", key, lua.TypeName(v))
	}
}

// metaKey turns a table key into the string key of a map.
func metaKey(path string, k lua.Value) (string, error) {
	switch k := k.(type) {
	case string:
		return k, nil
	case int64:
		return fmt.Sprint(k), nil
	default:
		return "", fmt.Errorf("%s has a key of type %s (valid: strings and integers)", path, lua.TypeName(k))
	}
}

// metaConverter turns Lua values into what [event.Meta] holds.
type metaConverter struct {
	above map[uintptr]bool // tables being converted, to find cycles
	left  *int             // of maxMetaSize
}

// take accounts for a key or a value of n bytes.
func (c metaConverter) take(n int) error {
	const overhead = 16 // so that many small ones count, too
	if *c.left -= n + overhead; *c.left < 0 {
		return fmt.Errorf("meta is too large (at most %d bytes)", maxMetaSize)
	}
	return nil
}

func (c metaConverter) value(path string, v lua.Value, depth int) (any, error) {
	text, _ := v.(string)
	if err := c.take(len(text)); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case nil, bool, int64, string:
		return v, nil
	case float64:
		if math.IsNaN(v) {
			return math.NaN(), nil // one bit pattern for all
		}
		return v, nil
	case *lua.Table:
		if c.above[v.Pointer()] {
			return nil, fmt.Errorf("%s is a cycle", path)
		}
		if depth >= event.MaxMetaDepth {
			return nil, fmt.Errorf("%s is nested too deeply (at most %d levels)", path, event.MaxMetaDepth)
		}
		c.above[v.Pointer()] = true
		defer delete(c.above, v.Pointer())
		return c.table(path, v, depth)
	default:
		return nil, fmt.Errorf("%s is a %s (valid: bool, integer, float, string and tables of these)", path,
			lua.TypeName(v))
	}
}

func (c metaConverter) table(path string, t *lua.Table, depth int) (any, error) {
	pairs := value.SortedPairs(t)
	array := value.IsSequence(pairs)
	list, fields := make([]any, 0, len(pairs)), map[string]any{}
	for _, p := range pairs {
		key, err := metaKey(path, p.Key)
		if err == nil {
			err = c.take(len(key))
		}
		if err != nil {
			return nil, err
		}
		v, err := c.value(value.FieldPath(path, p.Key), p.Value, depth+1)
		if err != nil {
			return nil, err
		}
		if _, twice := fields[key]; twice {
			return nil, fmt.Errorf("%s has the key `%s` as integer and as string", path, key)
		}
		list, fields[key] = append(list, v), v
	}
	if array {
		return list, nil
	}
	return fields, nil
}
