package luascan

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// Test is a call of test or test.each in the source of a test file.
type Test struct {
	// Name is the literal name, for test.each that of all cases; "" if it is computed.
	Name string
	Each bool
	// First and Last are the lines of the call, from 1.
	First, Last int
	// Meta has the literal metadata; a value that is computed is [Unknown].
	Meta map[string]any
	// MetaKnown is false where the metadata as a whole, or a key of them, is computed.
	MetaKnown bool
	// Sure says that the call stands in no block, so that it is made once.
	Sure bool
}

// Unknown stands for a value that is known only when the file runs.
type Unknown struct{}

// File is what the source of a file shows of its tests.
type File struct {
	Tests []Test
	// Closed says that the file has no other tests: `test` is only called, and by its name.
	// The modules that it requires may have some.
	Closed bool
	// InFunctions says that a test is registered within a function, and so on behalf of other
	// lines.
	InFunctions bool
	// Modules are what it requires, by literal names.
	Modules []string
}

// callScan collects the calls of one file.
type callScan struct {
	lexer
	file   File
	breaks []int    // offsets of the line breaks
	blocks []string // open blocks: function, loop, if, do
	loop   bool     // the next do belongs to a loop
	depth  int      // of parentheses
	open   []openCall
	left   bool // a return at file scope may have ended the chunk
}

// openCall is a call whose closing parenthesis is still to come.
type openCall struct{ index, depth int }

// Tests returns the calls of test and test.each in Lua source.
func Tests(text []byte) File {
	s := &callScan{lexer: newLexer(text), file: File{Closed: true}}
	for i, c := range text {
		if c == '\n' {
			s.breaks = append(s.breaks, i)
		}
	}
	previous := token{kind: tokenEnd}
	for {
		t := s.next()
		if t.kind == tokenEnd {
			break
		}
		isMember := previous.is(tokenSymbol, ".") || previous.is(tokenSymbol, ":")
		switch {
		case t.kind == tokenName && !isMember:
			s.name(t.text, previous)
		case t.is(tokenSymbol, "("):
			s.depth++
		case t.is(tokenSymbol, ")"):
			s.depth--
			if n := len(s.open); n > 0 && s.open[n-1].depth > s.depth {
				s.file.Tests[s.open[n-1].index].Last = s.line(s.from)
				s.open = s.open[:n-1]
			}
		}
		previous = t
	}
	for _, call := range s.open { // the text is no Lua
		s.file.Tests[call.index].Last = len(s.breaks) + 1
	}
	return s.file
}

// line returns the line of an offset.
func (s *callScan) line(offset int) int {
	n, _ := slices.BinarySearch(s.breaks, offset)
	return n + 1
}

// name takes a name or keyword that is no member of something.
func (s *callScan) name(text string, previous token) {
	switch text {
	case "function", "if", "repeat":
		s.blocks = append(s.blocks, text)
	case "while", "for":
		s.loop = true
	case "do":
		if s.loop {
			text = "loop"
		}
		s.blocks, s.loop = append(s.blocks, text), false
	case "end", "until":
		if n := len(s.blocks); n > 0 {
			s.blocks = s.blocks[:n-1]
		}
	case "return":
		s.left = s.left || !slices.Contains(s.blocks, "function")
	}
	if len(s.open) > 0 { // no test is registered within a test
		return
	}
	switch text {
	case "test":
		s.call(previous)
	case "require":
		l := s.lexer
		if name, ok := stringArgument(l); ok {
			s.file.Modules = append(s.file.Modules, name)
			return
		}
		s.file.Closed = false
	case "dofile", "loadfile", "load":
		s.file.Closed = false
	}
}

// call takes what stands behind the name test.
func (s *callScan) call(previous token) {
	l := s.lexer
	first := s.line(s.from)
	t := Test{First: first, Last: first, MetaKnown: true, Sure: !s.left}
	for _, block := range s.blocks {
		t.Sure = t.Sure && block == "do"
		s.file.InFunctions = s.file.InFunctions || block == "function"
	}
	symbol := l.next()
	if symbol.is(tokenSymbol, ".") && l.next().is(tokenName, "each") {
		t.Each = true
		symbol = l.next()
	}
	if !symbol.is(tokenSymbol, "(") || previous.is(tokenName, "function") || previous.is(tokenName, "local") {
		s.file.Closed = false // it gets another name, or is another function
		return
	}
	if t.Each {
		l.skipExpression()
		if !l.next().is(tokenSymbol, ",") {
			s.file.Closed = false
			return
		}
	}
	t.arguments(l)
	s.file.Tests = append(s.file.Tests, t)
	s.open = append(s.open, openCall{len(s.file.Tests) - 1, s.depth + 1})
}

// arguments reads name, [meta,] fn.
func (t *Test) arguments(l lexer) {
	ahead := l
	name := ahead.next()
	comma := ahead.next()
	if name.kind == tokenString && comma.is(tokenSymbol, ",") {
		t.Name = name.text
		l = ahead
	} else {
		l.skipExpression()
		if !l.next().is(tokenSymbol, ",") {
			t.MetaKnown = false
			return
		}
	}
	ahead = l
	switch begin := ahead.next(); {
	case begin.is(tokenName, "function"):
	case begin.is(tokenSymbol, "{"):
		t.Meta, t.MetaKnown = ahead.table()
		t.MetaKnown = t.MetaKnown && ahead.next().is(tokenSymbol, ",")
	default: // a function by its name, or metadata
		l.skipExpression()
		t.MetaKnown = !l.next().is(tokenSymbol, ",")
	}
}

// skipExpression moves to the comma, semicolon or closing bracket that ends an expression.
func (l *lexer) skipExpression() {
	depth := 0
	for {
		ahead := *l
		t := ahead.next()
		if t.kind == tokenEnd || depth == 0 && t.kind == tokenSymbol && strings.Contains(",;)}]", t.text) {
			return
		}
		depth += nesting(t)
		*l = ahead
	}
}

// nesting returns by how much a token changes the depth of brackets and blocks.
func nesting(t token) int {
	switch t.kind {
	case tokenSymbol:
		switch t.text {
		case "(", "{", "[":
			return 1
		case ")", "}", "]":
			return -1
		}
	case tokenName:
		switch t.text {
		case "function", "do", "if", "repeat":
			return 1
		case "end", "until":
			return -1
		}
	}
	return 0
}

// table reads a constructor behind its opening brace, up to the closing one. known is false
// where a key is computed.
func (l *lexer) table() (fields map[string]any, known bool) {
	fields, known = map[string]any{}, true
	for {
		ahead := *l
		switch key := ahead.next(); {
		case key.kind == tokenEnd, key.is(tokenSymbol, ")"), key.is(tokenSymbol, "]"): // the table has no end
			return fields, false
		case key.is(tokenSymbol, "}"):
			*l = ahead
			return fields, known
		case key.is(tokenSymbol, ","), key.is(tokenSymbol, ";"):
			*l = ahead
		case key.kind == tokenName && peek(ahead).is(tokenSymbol, "="):
			ahead.next()
			*l = ahead
			fields[key.text] = l.value()
		case key.is(tokenSymbol, "["):
			name := ahead.next()
			closing, equals := ahead.next(), ahead.next()
			if name.kind == tokenString && closing.is(tokenSymbol, "]") && equals.is(tokenSymbol, "=") {
				*l = ahead
				fields[name.text] = l.value()
				continue
			}
			known = false
			l.skipExpression()
		default: // an entry of the array part, which no filter looks at
			l.skipExpression()
		}
	}
}

func peek(l lexer) token { return l.next() }

// value reads a literal value of metadata; any other expression is Unknown.
func (l *lexer) value() any {
	ahead := *l
	v := ahead.literal()
	_, unknown := v.(Unknown)
	if after := peek(ahead); !unknown && after.kind == tokenSymbol && strings.Contains(",;}", after.text) {
		*l = ahead
		return v
	}
	l.skipExpression()
	return Unknown{}
}

// literal reads a literal.
func (l *lexer) literal() any {
	switch t := l.next(); {
	case t.kind == tokenString:
		return t.text
	case t.is(tokenName, "true"):
		return true
	case t.is(tokenName, "false"):
		return false
	case t.is(tokenName, "nil"):
		return nil
	case t.kind == tokenNumber:
		if n, ok := luaInteger(t.text); ok {
			return n
		}
		if n, err := strconv.ParseFloat(t.text, 64); err == nil {
			return n
		}
	case t.is(tokenSymbol, "{"):
		return l.list()
	}
	return Unknown{}
}

// list reads an array of literals behind its opening brace. Where it has something else, it
// is Unknown.
func (l *lexer) list() any {
	items := []any{}
	for {
		if peek(*l).is(tokenSymbol, "}") {
			l.next()
			return items
		}
		v := l.value()
		if _, unknown := v.(Unknown); unknown {
			return Unknown{}
		}
		items = append(items, v)
		if t := peek(*l); t.is(tokenSymbol, ",") || t.is(tokenSymbol, ";") {
			l.next()
		} else if !t.is(tokenSymbol, "}") {
			return Unknown{}
		}
	}
}

// Registers reports whether Lua source has a call of test or test.each anywhere.
func Registers(text []byte) bool {
	if !bytes.Contains(text, []byte("test")) {
		return false
	}
	f := Tests(text)
	return !f.Closed || len(f.Tests) > 0
}
