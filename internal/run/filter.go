package run

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// TestFilter decides about single tests by their meta. The zero value leaves
// slow tests out and takes all others.
type TestFilter struct {
	IncludeSlow bool     `json:"include_slow"`
	Tags        []string `json:"tags"`
	NoTags      []string `json:"no_tags"`
	TagMeta     []string `json:"tag_meta"`    // KEY=VALUE
	NoTagMeta   []string `json:"no_tag_meta"` // KEY=VALUE
}

// ParseTestFilter reads the JSON form; nothing at all is the zero filter.
func ParseTestFilter(text []byte) (TestFilter, error) {
	var f TestFilter
	if len(text) == 0 {
		return f, nil
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return TestFilter{}, fmt.Errorf("test filter decode: %w", err)
	}
	if err := f.Validate(); err != nil {
		return TestFilter{}, fmt.Errorf("test filter: %w", err)
	}
	return f, nil
}

// JSON is the form that runners get.
func (f TestFilter) JSON() ([]byte, error) {
	for _, list := range []*[]string{&f.Tags, &f.NoTags, &f.TagMeta, &f.NoTagMeta} {
		if *list == nil {
			*list = []string{} // [] rather than null
		}
	}
	text, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("test filter encode: %w", err)
	}
	return text, nil
}

// Validate checks that each KEY=VALUE has a key and its equals sign.
func (f TestFilter) Validate() error {
	for _, list := range []struct {
		flag    string
		entries []string
	}{{"--tag-meta", f.TagMeta}, {"--no-tag-meta", f.NoTagMeta}} {
		for _, e := range list.entries {
			if key, _, ok := strings.Cut(e, "="); !ok || key == "" {
				return fmt.Errorf("%s `%s`: expected KEY=VALUE", list.flag, e)
			}
		}
	}
	return nil
}

// Skip reports whether a test with this meta is left out, and why. The order of
// the checks is that of the documentation: exclusion wins.
func (f TestFilter) Skip(meta map[string]any) (skip bool, reason string) {
	if !f.IncludeSlow && truthy(meta["slow"]) {
		return true, "filtered: slow tests skipped (pass --include-slow)"
	}
	for _, tag := range f.NoTags {
		if matches(meta["tags"], tag) {
			return true, "filtered: matched --no-tag " + tag
		}
	}
	if len(f.Tags) > 0 && !slices.ContainsFunc(f.Tags, func(tag string) bool { return matches(meta["tags"], tag) }) {
		return true, "filtered: did not match --tag " + strings.Join(f.Tags, ", --tag ")
	}
	for _, entry := range f.NoTagMeta {
		if matchesEntry(meta, entry) {
			return true, "filtered: matched --no-tag-meta " + entry
		}
	}
	for _, alternatives := range byKey(f.TagMeta) {
		if !slices.ContainsFunc(alternatives, func(entry string) bool { return matchesEntry(meta, entry) }) {
			return true, "filtered: did not match --tag-meta " + strings.Join(alternatives, ", --tag-meta ")
		}
	}
	return false, ""
}

// byKey groups KEY=VALUE entries by their key, in order of appearance: of each
// key one value has to match.
func byKey(entries []string) [][]string {
	var groups [][]string
	at := map[string]int{}
	for _, e := range entries {
		key, _, _ := strings.Cut(e, "=")
		i, known := at[key]
		if !known {
			i = len(groups)
			at[key] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], e)
	}
	return groups
}

func matchesEntry(meta map[string]any, entry string) bool {
	key, value, _ := strings.Cut(entry, "=")
	return matches(meta[key], value)
}

// matches reports whether a meta value is the string, holds it in an array, or is
// the boolean of that name. Numbers and maps never match.
func matches(v any, want string) bool {
	switch v := v.(type) {
	case string:
		return v == want
	case []byte:
		return string(v) == want
	case bool:
		return want == fmt.Sprint(v)
	case []any:
		return slices.ContainsFunc(v, func(item any) bool {
			switch item := item.(type) {
			case string:
				return item == want
			case []byte:
				return string(item) == want
			}
			return false
		})
	}
	return false
}

func truthy(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case int64:
		return v != 0
	}
	return false
}
