package pattern

import (
	"bytes"
	"context"
	"fmt"
)

// comparison compares a Lua pattern at one place after the other.
type comparison struct {
	pattern Pattern
	b       []byte
	limit   int // where a match ends at the latest
	caps    [maxCaptures]struct{ start, end int }

	ctx   context.Context
	free  int // steps that are made whatever ctx says
	steps int
	err   error
}

// first returns the set of the byte that every match begins with, nil when there is no
// such set.
func (p Pattern) first() *set {
	if len(p.items) > 0 && p.items[0].kind == single && (p.items[0].rep == 0 || p.items[0].rep == '+') {
		return p.items[0].set
	}
	return nil
}

// spend counts n comparisons. It reports whether the search goes on.
func (c *comparison) spend(n int) bool {
	const interval = 1 << 16
	before := c.steps / interval
	c.steps += n
	if c.steps > c.free && c.steps/interval != before && c.err == nil && c.ctx.Err() != nil {
		c.err = fmt.Errorf("%w: %w", ErrSlow, context.Cause(c.ctx))
	}
	return c.err == nil
}

// match returns where a match of the items from i on ends that begins at s, -1 without
// one.
func (c *comparison) match(i, s int) int {
	for ; i < len(c.pattern.items); i++ {
		it := &c.pattern.items[i]
		if !c.spend(1) {
			return -1
		}
		switch it.kind {
		case open, position:
			c.caps[it.n].start, c.caps[it.n].end = s, s
		case closing:
			c.caps[it.n].end = s
		case same:
			text := c.b[c.caps[it.n].start:c.caps[it.n].end]
			if !c.spend(len(text)) || !bytes.HasPrefix(c.b[s:c.limit], text) {
				return -1
			}
			s += len(text)
		case balanced:
			if s = c.balance(it, s); s < 0 {
				return -1
			}
		case frontier:
			if c.at(s-1, it.set) || !c.at(s, it.set) {
				return -1
			}
		default:
			if it.rep != 0 {
				return c.repeat(it, i+1, s)
			}
			if s == c.limit || !it.set[c.b[s]] {
				return -1
			}
			s++
		}
	}
	return s
}

// at reports whether the byte at a place is in the set. Outside there are zeros.
func (c *comparison) at(s int, in *set) bool {
	if s < 0 || s >= len(c.b) {
		return in[0]
	}
	return in[c.b[s]]
}

// repeat matches an item that may match several times, and the items from next on.
func (c *comparison) repeat(it *item, next, s int) int {
	if it.rep == '-' { // as few as possible
		for {
			if end := c.match(next, s); end >= 0 || s == c.limit || !it.set[c.b[s]] || !c.spend(1) {
				return end
			}
			s++
		}
	}
	least, most := s, c.limit // as many as possible
	switch it.rep {
	case '+':
		least++
	case '?':
		most = min(most, s+1)
	}
	end := s
	for end < most && it.set[c.b[end]] {
		end++
	}
	for c.spend(end - s + 1); end >= least && c.err == nil; end-- {
		if found := c.match(next, end); found >= 0 {
			return found
		}
	}
	return -1
}

// balance returns where a part ends that begins with x and has as many y as x, -1
// without one.
func (c *comparison) balance(it *item, s int) int {
	if s == c.limit || c.b[s] != it.x {
		return -1
	}
	depth := 1
	for e := s + 1; e < c.limit && c.spend(1); e++ {
		switch c.b[e] {
		case it.y:
			if depth--; depth == 0 {
				return e + 1
			}
		case it.x:
			depth++
		}
	}
	return -1
}

// captures returns what the match has captured that begins at s.
func (c *comparison) captures(s int) []Capture {
	var all []Capture
	positions := [maxCaptures]bool{}
	for _, it := range c.pattern.items {
		if it.kind == position {
			positions[it.n] = true
		}
	}
	for n, at := range c.caps[:c.pattern.caps] {
		if positions[n] {
			all = append(all, Capture{Position: at.start - s + 1})
		} else {
			all = append(all, Capture{Text: bytes.Clone(c.b[at.start:at.end])})
		}
	}
	return all
}
