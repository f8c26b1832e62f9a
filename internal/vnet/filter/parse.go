package filter

import (
	"fmt"
	"strings"
)

// Filter selects frames.
type Filter struct{ keep test }

// Match reports whether a frame is selected.
func (x *Filter) Match(b []byte) bool {
	f := frame{b: b}
	return x.keep(&f) && !f.short
}

const (
	maxText  = 4096
	maxDepth = 100
)

// Parse reads an expression; an empty one selects everything. Its error is an *Error.
func Parse(text string) (*Filter, error) {
	if len(text) > maxText {
		return nil, &Error{maxText, fmt.Sprintf("the expression is longer than %d bytes", maxText)}
	}
	tokens, err := split(text)
	if err != nil {
		return nil, err
	}
	if len(tokens) == 0 {
		return &Filter{func(*frame) bool { return true }}, nil
	}
	p := &parser{tokens: tokens, end: len(text)}
	keep, err := p.expression()
	if err != nil {
		return nil, err
	}
	if p.more() {
		return nil, p.wrong("`and` or `or`")
	}
	return &Filter{keep}, nil
}

// parser reads tokens from left to right.
type parser struct {
	tokens []token
	next   int
	end    int // length of the text
	depth  int
	tags   int      // bytes of VLAN tags: `vlan` holds for all that follows
	last   *subject // what a bare number or address is about
}

func (p *parser) layer() layer { return layer{p.tags} }

func (p *parser) more() bool { return p.next < len(p.tokens) }

// peek returns the next token, "" at the end.
func (p *parser) peek() string {
	if p.more() {
		return p.tokens[p.next].text
	}
	return ""
}

func (p *parser) take() string {
	t := p.peek()
	p.next++
	return t
}

// accept takes the next token if it is one of these.
func (p *parser) accept(words ...string) bool {
	if p.more() && indexOf(words, p.peek()) >= 0 {
		p.next++
		return true
	}
	return false
}

// fail returns an error at a token.
func (p *parser) fail(at int, format string, args ...any) error {
	column := p.end + 1
	if at < len(p.tokens) {
		column = p.tokens[at].at + 1
	}
	return &Error{column, fmt.Sprintf(format, args...)}
}

// wrong returns an error at the next token.
func (p *parser) wrong(want string) error {
	if !p.more() {
		return p.fail(p.next, "%s is missing at the end", want)
	}
	return p.fail(p.next, "%s expected, got `%s`", want, p.peek())
}

// expression reads tests joined by and and or, which bind alike, from the left.
func (p *parser) expression() (test, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.fail(p.next, "nested more than %d deep", maxDepth)
	}
	defer func() { p.depth-- }()
	t, err := p.operand()
	for err == nil {
		var right test
		switch {
		case p.accept("and", "&&"):
			if right, err = p.operand(); err == nil {
				t = both(t, right)
			}
		case p.accept("or", "||"):
			if right, err = p.operand(); err == nil {
				t = either(t, right)
			}
		default:
			return t, nil
		}
	}
	return nil, err
}

func (p *parser) operand() (test, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.fail(p.next, "nested more than %d deep", maxDepth)
	}
	defer func() { p.depth-- }()
	if p.accept("not", "!") {
		t, err := p.operand()
		if err != nil {
			return nil, err
		}
		return negate(t), nil
	}
	if p.peek() != "(" {
		return p.primitive()
	}
	// Parentheses stand around tests, or around numbers.
	before := *p
	p.next++
	t, err := p.expression()
	if err == nil && !p.accept(")") {
		err = p.wrong("`)`")
	}
	if err == nil && indexOf(calculations, p.peek()) < 0 && indexOf(relations, p.peek()) < 0 {
		return t, nil
	}
	after := *p
	*p = before
	t, other := p.relation()
	if other == nil {
		return t, nil
	}
	if err == nil || p.next > after.next {
		err = other // what got further has understood more
	}
	return nil, err
}

// relations compare numbers, calculations make them.
var (
	relations    = []string{"=", "==", "!=", "<", ">", "<=", ">="}
	calculations = []string{"+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"}
)

// primitive reads one test.
func (p *parser) primitive() (test, error) {
	if p.isNumber() {
		return p.relation()
	}
	l := p.layer()
	switch word := p.peek(); word {
	case "":
		return nil, p.wrong("a test")
	case "less", "greater":
		p.next++
		n, err := p.count(1 << 20)
		if err != nil {
			return nil, err
		}
		if word == "less" {
			return func(f *frame) bool { return len(f.b) <= int(n) }, nil
		}
		return func(f *frame) bool { return len(f.b) >= int(n) }, nil
	case "vlan":
		p.next++
		return p.vlan()
	case "broadcast", "multicast":
		p.next++
		return etherGroup(word), nil
	case "and", "or", "&&", "||", ")":
		return nil, p.wrong("a test")
	}
	s, err := p.subject()
	if err != nil {
		return nil, err
	}
	if s.bare {
		return s.protocol(p, l)
	}
	p.last = s
	if p.peek() == "(" {
		return p.operand()
	}
	return p.about(s)
}

// etherGroup returns a test for frames to all stations, or to a group.
func etherGroup(word string) test {
	if word == "broadcast" {
		all := []byte{255, 255, 255, 255, 255, 255}
		return masked(0, all, all)
	}
	return func(f *frame) bool { return f.bytes(0, 1)&1 != 0 }
}

// vlan reads the number behind `vlan`, if there is one.
func (p *parser) vlan() (test, error) {
	at := typeAt + p.tags
	tagged := func(f *frame) bool {
		switch f.bytes(at, 2) {
		case 0x8100, 0x88a8, 0x9100:
			return true
		}
		return false
	}
	p.tags += 4
	if _, err := parseNumber(p.peek()); err != nil {
		return tagged, nil
	}
	id, err := p.count(4095)
	if err != nil {
		return nil, err
	}
	return both(tagged, func(f *frame) bool { return f.bytes(at+2, 2)&0xfff == id }), nil
}

// isNumber reports whether a relation of numbers comes next, and not an address or
// a port without its own subject.
func (p *parser) isNumber() bool {
	word := p.peek()
	if word == "len" || isConstant(word) || word == "-" {
		return true
	}
	after := ""
	if p.next+1 < len(p.tokens) {
		after = p.tokens[p.next+1].text
	}
	if after == "[" {
		return true
	}
	if _, err := parseNumber(word); err != nil {
		return false
	}
	return indexOf(relations, after) >= 0 || indexOf(calculations, after) >= 0
}

// unsupported are words of tcpdump's language that this package does not implement.
var unsupported = strings.Fields(`gateway inbound outbound ifindex ifname on rnr rset reason action mpls
	pppoed pppoes geneve iso clnp esis isis l1 l2 iih lsp snp csnp psnp decnet atalk aarp sca lat mopdl moprc stp ipx
	netbeui llc lane
	metac bcc oam oamf4 oamf4ec oamf4sc wlan type subtype dir protochain link fddi tr ppp slip
	igmp pim vrrp carp ah esp igrp`)
