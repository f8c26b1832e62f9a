package pattern

import (
	"bytes"
	"context"
	"errors"
)

// MaxMatch is the most that the match of a Lua pattern has, in bytes. It bounds what is
// compared again when more bytes have come.
const MaxMatch = 16 << 10

// Pattern is a plain text or a Lua pattern. The zero value is an empty text, which
// matches at once.
type Pattern struct {
	text  string
	items []item // of a Lua pattern
	lua   bool
	caps  int // number of captures
}

// Text returns the pattern that matches a text and nothing else.
func Text(text string) Pattern { return Pattern{text: text} }

// String returns the text, or the Lua pattern.
func (p Pattern) String() string { return p.text }

// IsLua reports whether it is a Lua pattern.
func (p Pattern) IsLua() bool { return p.lua }

// Overlap is how many bytes before the end of what was searched a match may begin in
// that ends behind it.
func (p Pattern) Overlap() int {
	if p.lua {
		return MaxMatch
	}
	return max(0, len(p.text)-1)
}

// Match is where a pattern was found, and what.
type Match struct {
	Start, End int
	Text       []byte // a copy of what is there
	Captures   []Capture
}

// Capture is what a pair of parentheses has captured.
type Capture struct {
	Text     []byte // a copy
	Position int    // for (): from 1 on, counted from the beginning of the match; else 0
}

// ErrSlow is wrapped by the error of a search that did not end in time: the pattern has
// too many ways to match.
var ErrSlow = errors.New("the pattern has too many ways to match")

// freeSteps is how many comparisons a search makes whatever its context says: it
// compares at least what is there already.
const freeSteps = 1 << 24

// Find returns the first match in b that begins at from or behind it, or nil and where
// the next search over b with more bytes has to begin. With more, bytes that are behind
// b are there already, and the pattern is not compared where they would matter. After
// the end of ctx a search that takes long fails with ErrSlow and the context's cause.
func (p Pattern) Find(ctx context.Context, b []byte, from int, more bool) (m *Match, next int, err error) {
	return p.find(ctx, b, from, more, freeSteps)
}

// find is Find with so many comparisons that are made in any case.
func (p Pattern) find(ctx context.Context, b []byte, from int, more bool, free int) (m *Match, next int, err error) {
	if !p.lua {
		if i := bytes.Index(b[from:], []byte(p.text)); i >= 0 {
			return &Match{Start: from + i, End: from + i + len(p.text), Text: []byte(p.text)}, 0, nil
		}
		return nil, max(from, len(b)-p.Overlap()), nil
	}
	last := len(b)
	if more {
		last = len(b) - MaxMatch - 1
	}
	c := comparison{pattern: p, b: b, ctx: ctx, free: free}
	first := p.first()
	for s := from; s <= last; s++ {
		if first != nil && (s == len(b) || !first[b[s]]) {
			c.steps++
			continue
		}
		c.limit = min(len(b), s+MaxMatch)
		end := c.match(0, s)
		if c.err != nil {
			return nil, from, c.err
		}
		if end >= 0 {
			return &Match{Start: s, End: end, Text: bytes.Clone(b[s:end]), Captures: c.captures(s)}, 0, nil
		}
	}
	return nil, max(from, len(b)-MaxMatch), nil
}
