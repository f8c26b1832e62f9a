package pattern

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of a Lua pattern, as Lua has them.
const (
	maxCaptures = 32
	maxRepeats  = 200 // each is a level of recursion
)

// set is a set of bytes.
type set [256]bool

// kind is what an item of a Lua pattern does.
type kind uint8

const (
	single   kind = iota // one byte of a set, repeated as the item says
	open                 // begins capture n
	closing              // ends capture n
	position             // captures where it is
	same                 // the bytes of capture n
	balanced             // from a byte x to its y
	frontier             // between a byte that is not in the set and one that is
)

// item is a part of a Lua pattern.
type item struct {
	kind kind
	set  *set
	rep  byte // '*', '+', '-', '?', or 0 for once
	n    int
	x, y byte
}

// Lua returns a Lua pattern, or an error that says what is wrong with it. Anchors are an
// error: bytes that come one after the other have no end, and the beginning is wherever
// the search before has stopped.
func Lua(text string) (Pattern, error) {
	c := compiler{text: text}
	if strings.HasPrefix(text, "^") {
		return Pattern{}, errors.New("`^` at the beginning has no place to stand for in output that goes on: " +
			"begin with the line break \"\\n\"")
	}
	for c.at < len(text) && c.err == nil {
		c.next()
	}
	for _, isOpen := range c.open {
		if isOpen {
			c.fail("unfinished capture")
		}
	}
	if c.err != nil {
		return Pattern{}, c.err
	}
	return Pattern{text: text, items: c.items, lua: true, caps: len(c.open)}, nil
}

// compiler takes a pattern apart.
type compiler struct {
	text    string
	at      int
	items   []item
	open    []bool // of each capture, whether it has no end yet
	repeats int
	err     error // the first one
}

func (c *compiler) fail(format string, values ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, values...)
	}
}

// byte takes the next byte of the pattern.
func (c *compiler) byte() (b byte, ok bool) {
	if c.at == len(c.text) {
		return 0, false
	}
	c.at++
	return c.text[c.at-1], true
}

func (c *compiler) add(i item) {
	if i.rep != 0 {
		if c.repeats++; c.repeats > maxRepeats {
			c.fail("pattern too complex")
		}
	}
	c.items = append(c.items, i)
}

// next compiles the next item.
func (c *compiler) next() {
	b, _ := c.byte()
	switch {
	case b == '(':
		c.capture()
	case b == ')':
		n := len(c.open) - 1
		for n >= 0 && !c.open[n] {
			n--
		}
		if n < 0 {
			c.fail("invalid pattern capture")
			return
		}
		c.open[n] = false
		c.add(item{kind: closing, n: n})
	case b == '$' && c.at == len(c.text):
		c.fail("`$` at the end has no place to stand for in output that goes on: end with the line break \"\\n\"")
	case b == '%':
		c.escape()
	case b == '[':
		c.repeat(c.bracket())
	case b == '.':
		all := &set{}
		for i := range all {
			all[i] = true
		}
		c.repeat(all)
	default:
		literal := &set{}
		literal[b] = true
		c.repeat(literal)
	}
}

func (c *compiler) capture() {
	if len(c.open) == maxCaptures {
		c.fail("too many captures")
		return
	}
	n := len(c.open)
	if strings.HasPrefix(c.text[c.at:], ")") {
		c.at++
		c.open = append(c.open, false)
		c.add(item{kind: position, n: n})
		return
	}
	c.open = append(c.open, true)
	c.add(item{kind: open, n: n})
}

// escape compiles what follows a '%'.
func (c *compiler) escape() {
	b, ok := c.byte()
	switch {
	case !ok:
		c.fail("malformed pattern (ends with '%%')")
	case b == 'b':
		x, _ := c.byte()
		y, ok := c.byte()
		if !ok {
			c.fail("malformed pattern (missing arguments to '%%b')")
		}
		c.add(item{kind: balanced, x: x, y: y})
	case b == 'f':
		if bracket, _ := c.byte(); bracket != '[' {
			c.fail("missing '[' after '%%f' in pattern")
			return
		}
		c.add(item{kind: frontier, set: c.bracket()})
	case b >= '0' && b <= '9':
		n := int(b) - '1'
		if n < 0 || n >= len(c.open) || c.open[n] {
			c.fail("invalid capture index %%%c in pattern", b)
		}
		c.add(item{kind: same, n: n})
	default:
		s := &set{}
		s.addClass(b)
		c.repeat(s)
	}
}

// repeat adds an item for one byte of s, with the repetition that follows.
func (c *compiler) repeat(s *set) {
	i := item{kind: single, set: s}
	if c.at < len(c.text) && strings.IndexByte("*+-?", c.text[c.at]) >= 0 {
		i.rep = c.text[c.at]
		c.at++
	}
	c.add(i)
}

// bracket compiles a set behind its '['.
func (c *compiler) bracket() *set {
	s := &set{}
	from, inverted := c.at, false
	if strings.HasPrefix(c.text[from:], "^") {
		from, inverted = from+1, true
	}
	end := from // of the ']', which is not the first byte
	for {
		if end >= len(c.text) {
			c.fail("malformed pattern (missing ']')")
			return s
		}
		if c.text[end] == '%' {
			end++
		}
		if end++; end < len(c.text) && c.text[end] == ']' {
			break
		}
	}
	c.at = end + 1
	for i := from; i < end; i++ {
		switch b := c.text[i]; {
		case b == '%':
			i++ // in "[+-%%]", Lua has the ']' escaped
			s.addClass(c.text[i])
		case i+2 < end && c.text[i+1] == '-':
			for b := int(b); b <= int(c.text[i+2]); b++ {
				s[b] = true
			}
			i += 2
		default:
			s[b] = true
		}
	}
	if inverted {
		for i := range s {
			s[i] = !s[i]
		}
	}
	return s
}

// addClass adds the class of a letter, or another byte as itself.
func (s *set) addClass(b byte) {
	in := classOf(b | 0x20)
	letter := b|0x20 >= 'a' && b|0x20 <= 'z'
	if in == nil || !letter {
		s[b] = true
		return
	}
	without := b&0x20 == 0 // a capital is the rest
	for i := range s {
		if in(byte(i)) != without {
			s[i] = true
		}
	}
}

// classOf returns the class of a small letter, of ASCII as in the C locale; nil for no
// class.
func classOf(b byte) func(byte) bool {
	lower := func(c byte) bool { return c >= 'a' && c <= 'z' }
	upper := func(c byte) bool { return c >= 'A' && c <= 'Z' }
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	alnum := func(c byte) bool { return lower(c) || upper(c) || digit(c) }
	graph := func(c byte) bool { return c > ' ' && c < 0x7f }
	switch b {
	case 'a':
		return func(c byte) bool { return lower(c) || upper(c) }
	case 'c':
		return func(c byte) bool { return c < ' ' || c == 0x7f }
	case 'd':
		return digit
	case 'g':
		return graph
	case 'l':
		return lower
	case 'p':
		return func(c byte) bool { return graph(c) && !alnum(c) }
	case 's':
		return func(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
	case 'u':
		return upper
	case 'w':
		return alnum
	case 'x':
		return func(c byte) bool { return digit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }
	case 'z': // of old patterns, which could hold no zero
		return func(c byte) bool { return c == 0 }
	}
	return nil
}
