// Package choose decides which tests of a file run: by tags and other metadata, by name, by
// an expression, by line.
//
// It finds no files and runs nothing. A test may be one that runs, or what the source of a file
// shows of it: then what is not known yet never leaves a test out.
//
// Start with Filter.Skip.
package choose

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"provium/internal/luascan"
)

// Filter decides about single tests by their meta. The zero value leaves
// slow tests out and takes all others.
type Filter struct {
	IncludeSlow bool     `json:"include_slow"`
	Tags        []string `json:"tags"`
	NoTags      []string `json:"no_tags"`
	TagMeta     []string `json:"tag_meta"`    // KEY=VALUE
	NoTagMeta   []string `json:"no_tag_meta"` // KEY=VALUE
	// Names are texts that a name contains, and regular expressions between slashes. One of
	// them must match.
	Names []string `json:"names,omitempty"`
	// Keyword is an expression of texts with and, or, not and parentheses.
	Keyword string `json:"keyword,omitempty"`
}

// Unknown is a value of metadata that is known only when the file runs.
type Unknown = luascan.Unknown

// Test is what a choice is made by.
type Test struct {
	Path string // of its file
	Name string // "" if it is not known yet
	// Group is the name that test.each was given, "" for other tests.
	Group string
	// Open says that the metadata may have more than Meta.
	Open bool
	Meta map[string]any
	// Lines are where it stands in its file; nil if that is not known yet.
	Lines []Lines
}

// Lines are a part of a file, from 1.
type Lines struct{ First, Last int }

// ParseFilter reads the JSON form; nothing at all is the zero filter.
func ParseFilter(text []byte) (Filter, error) {
	var f Filter
	if len(text) == 0 {
		return f, nil
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return Filter{}, fmt.Errorf("test filter decode: %w", err)
	}
	if err := f.Validate(); err != nil {
		return Filter{}, fmt.Errorf("test filter: %w", err)
	}
	return f, nil
}

// JSON is the form that runners get.
func (f Filter) JSON() ([]byte, error) {
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
func (f Filter) Validate() error {
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
	for _, name := range f.Names {
		if err := CheckName(name); err != nil {
			return fmt.Errorf("--test `%s`: %w", name, err)
		}
	}
	if f.Keyword != "" {
		if err := CheckKeyword(f.Keyword); err != nil {
			return fmt.Errorf("-k `%s`: %w", f.Keyword, err)
		}
	}
	return nil
}

// Skip reports whether a test is left out, and why. The order of the checks is that of the
// documentation: exclusion wins.
func (f Filter) Skip(t Test) (skip bool, reason string) {
	if reason := f.skipName(t); reason != "" {
		return true, reason
	}
	if !f.IncludeSlow && truthy(t.Meta["slow"]) {
		return true, "filtered: slow tests skipped (pass --include-slow)"
	}
	for _, tag := range f.NoTags {
		if t.has("tags", tag) == yes {
			return true, "filtered: matched --no-tag " + tag
		}
	}
	if len(f.Tags) > 0 && !slices.ContainsFunc(f.Tags, func(tag string) bool { return t.has("tags", tag) != no }) {
		return true, "filtered: did not match --tag " + strings.Join(f.Tags, ", --tag ")
	}
	for _, entry := range f.NoTagMeta {
		if t.hasEntry(entry) == yes {
			return true, "filtered: matched --no-tag-meta " + entry
		}
	}
	for _, alternatives := range byKey(f.TagMeta) {
		if !slices.ContainsFunc(alternatives, func(entry string) bool { return t.hasEntry(entry) != no }) {
			return true, "filtered: did not match --tag-meta " + strings.Join(alternatives, ", --tag-meta ")
		}
	}
	return false, ""
}

// skipName returns why a test is left out by its name, "" if it is not.
func (f Filter) skipName(t Test) string {
	if len(f.Names) > 0 && t.Name != "" &&
		!slices.ContainsFunc(f.Names, func(name string) bool { return MatchesName(name, t.Name) }) {
		return "filtered: did not match --test " + strings.Join(f.Names, ", --test ")
	}
	if f.Keyword != "" {
		// What does not parse was refused before.
		if e, err := parseKeyword(f.Keyword); err == nil && e.matches(t) == no {
			return "filtered: did not match -k " + f.Keyword
		}
	}
	return ""
}

// answer is what is known of whether something is so.
type answer int

const (
	no answer = iota
	maybe
	yes
)

func answerOf(is bool) answer {
	if is {
		return yes
	}
	return no
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

func (t Test) hasEntry(entry string) answer {
	key, value, _ := strings.Cut(entry, "=")
	return t.has(key, value)
}

// has says whether a field of the metadata is the string, holds it in an array, or is the
// boolean of that name. Numbers and maps never match.
func (t Test) has(key, want string) answer {
	v, found := t.Meta[key]
	if !found && t.Open {
		return maybe
	}
	switch v := v.(type) {
	case Unknown:
		return maybe
	case string:
		return answerOf(v == want)
	case []byte:
		return answerOf(string(v) == want)
	case bool:
		return answerOf(want == fmt.Sprint(v))
	case []any:
		return answerOf(slices.ContainsFunc(v, func(item any) bool {
			switch item := item.(type) {
			case string:
				return item == want
			case []byte:
				return string(item) == want
			}
			return false
		}))
	}
	return no
}

// Tags returns the tags of a test, as far as they are known.
func (t Test) Tags() []string {
	var tags []string
	add := func(v any) {
		switch v := v.(type) {
		case string:
			tags = append(tags, v)
		case []byte:
			tags = append(tags, string(v))
		}
	}
	add(t.Meta["tags"])
	if list, ok := t.Meta["tags"].([]any); ok {
		for _, item := range list {
			add(item)
		}
	}
	return tags
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
