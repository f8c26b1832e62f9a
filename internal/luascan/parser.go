package luascan

import (
	"errors"
	"fmt"
	"slices"
)

// maxDepth is how deep expressions and blocks may be nested. Lua itself allows 200 levels.
const maxDepth = 250

// ErrSyntax is returned for a text that is not Lua.
var ErrSyntax = errors.New("syntax error")

// Parse returns the statements of a Lua chunk. It takes some texts that Lua refuses, such as
// an assignment to a call: compile a text to know whether it is Lua.
func Parse(text []byte) (b *Block, err error) {
	p := &parser{lexer: newLexer(text)}
	for i, c := range text {
		if c == '\n' {
			p.breaks = append(p.breaks, i)
		}
	}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case parseStop:
			b, err = nil, fmt.Errorf("line %d: %w", r.line, ErrSyntax)
		default:
			panic(r)
		}
	}()
	p.advance()
	b = p.block()
	if p.tok.kind != tokenEnd {
		p.fail()
	}
	return b, nil
}

// parseStop ends a parser that cannot go on.
type parseStop struct{ line int }

// parser is a recursive descent parser. It panics with a parseStop at an error.
type parser struct {
	lexer
	tok    token
	breaks []int // offsets of the line breaks
	depth  int
}

func (p *parser) fail() { panic(parseStop{p.line()}) }

// line returns the line at which the token stands.
func (p *parser) line() int {
	n, _ := slices.BinarySearch(p.breaks, p.from)
	return n + 1
}

func (p *parser) advance() { p.tok = p.next() }

func (p *parser) isWord(text string) bool { return p.tok.is(tokenName, text) }

func (p *parser) isSymbol(text string) bool { return p.tok.is(tokenSymbol, text) }

// takeSymbol moves past a symbol if it stands here.
func (p *parser) takeSymbol(text string) bool {
	if !p.isSymbol(text) {
		return false
	}
	p.advance()
	return true
}

func (p *parser) takeWord(text string) bool {
	if !p.isWord(text) {
		return false
	}
	p.advance()
	return true
}

func (p *parser) wantSymbol(text string) {
	if !p.takeSymbol(text) {
		p.fail()
	}
}

func (p *parser) wantWord(text string) {
	if !p.takeWord(text) {
		p.fail()
	}
}

// reserved are the words that are no names.
var reserved = []string{"and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
	"local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while"}

func (p *parser) name() *Name {
	if p.tok.kind != tokenName || slices.Contains(reserved, p.tok.text) {
		p.fail()
	}
	n := &Name{p.tok.text, p.line()}
	p.advance()
	return n
}

// nested counts the depth of a construct. The result must be called at its end.
func (p *parser) nested() func() {
	p.depth++
	if p.depth > maxDepth {
		p.fail()
	}
	return func() { p.depth-- }
}

// endsBlock reports whether a block ends here.
func (p *parser) endsBlock() bool {
	return p.tok.kind == tokenEnd || p.isWord("end") || p.isWord("else") || p.isWord("elseif") || p.isWord("until")
}

func (p *parser) block() *Block {
	defer p.nested()()
	b := &Block{}
	for !p.endsBlock() {
		if p.takeWord("return") {
			r := &Return{}
			if !p.endsBlock() && !p.isSymbol(";") {
				r.Values = p.expressions()
			}
			p.takeSymbol(";")
			b.Stmts = append(b.Stmts, r)
			if !p.endsBlock() {
				p.fail()
			}
			return b
		}
		if s := p.statement(); s != nil {
			b.Stmts = append(b.Stmts, s)
		}
	}
	return b
}

// statement returns nil for what is left out of the tree.
func (p *parser) statement() Stmt {
	if p.tok.kind == tokenSymbol {
		switch p.tok.text {
		case ";":
			p.advance()
			return nil
		case "::":
			p.advance()
			p.name()
			p.wantSymbol("::")
			return nil
		}
		return p.expressionStatement()
	}
	switch p.tok.text {
	case "break":
		p.advance()
		return nil
	case "goto":
		ahead := p.lexer
		if next := ahead.next(); next.kind == tokenName {
			p.advance()
			p.name()
			return nil
		}
		p.fail()
	case "do":
		p.advance()
		return &Group{Plain: true, Blocks: []*Block{p.blockUntil("end")}}
	case "while":
		p.advance()
		condition := p.expression()
		p.wantWord("do")
		return &Group{Conditions: []Expr{condition}, Blocks: []*Block{p.blockUntil("end")}}
	case "repeat":
		p.advance()
		body := p.blockUntil("until")
		return &Group{Repeat: true, Conditions: []Expr{p.expression()}, Blocks: []*Block{body}}
	case "if":
		return p.ifStatement()
	case "for":
		return p.forStatement()
	case "function":
		return p.functionStatement()
	case "local":
		return p.localStatement()
	}
	return p.expressionStatement()
}

func (p *parser) blockUntil(word string) *Block {
	b := p.block()
	p.wantWord(word)
	return b
}

func (p *parser) ifStatement() Stmt {
	g := &Group{}
	for p.takeWord("if") || p.takeWord("elseif") {
		g.Conditions = append(g.Conditions, p.expression())
		p.wantWord("then")
		g.Blocks = append(g.Blocks, p.block())
	}
	if p.takeWord("else") {
		g.Blocks = append(g.Blocks, p.block())
	}
	p.wantWord("end")
	return g
}

func (p *parser) forStatement() Stmt {
	p.advance()
	first := p.name()
	if p.takeSymbol("=") {
		f := &NumericFor{Var: first, Exps: p.expressions()}
		p.wantWord("do")
		f.Body = p.blockUntil("end")
		return f
	}
	f := &GenericFor{Vars: []*Name{first}}
	for p.takeSymbol(",") {
		f.Vars = append(f.Vars, p.name())
	}
	p.wantWord("in")
	f.Exps = p.expressions()
	p.wantWord("do")
	f.Body = p.blockUntil("end")
	return f
}

func (p *parser) functionStatement() Stmt {
	p.advance()
	var target Expr = p.name()
	method := false
	for !method && (p.isSymbol(".") || p.isSymbol(":")) {
		method = p.isSymbol(":")
		p.advance()
		field := p.name()
		target = &Index{Object: target, Key: &String{field.Name, field.Line}, Line: field.Line}
	}
	f := p.functionBody(method)
	return &Assign{Targets: []Expr{target}, Values: []Expr{f}}
}

func (p *parser) localStatement() Stmt {
	p.advance()
	if p.takeWord("function") {
		name := p.name()
		return &LocalFunction{name, p.functionBody(false)}
	}
	l := &Local{}
	for {
		l.Names = append(l.Names, p.name())
		if p.takeSymbol("<") {
			p.name()
			p.wantSymbol(">")
		}
		if !p.takeSymbol(",") {
			break
		}
	}
	if p.takeSymbol("=") {
		l.Values = p.expressions()
	}
	return l
}

func (p *parser) expressionStatement() Stmt {
	first := p.suffixed()
	if call, ok := first.(*Call); ok && !p.isSymbol("=") && !p.isSymbol(",") {
		return &CallStmt{call}
	}
	a := &Assign{Targets: []Expr{first}}
	for p.takeSymbol(",") {
		a.Targets = append(a.Targets, p.suffixed())
	}
	p.wantSymbol("=")
	a.Values = p.expressions()
	return a
}

func (p *parser) expressions() []Expr {
	all := []Expr{p.expression()}
	for p.takeSymbol(",") {
		all = append(all, p.expression())
	}
	return all
}

// functionBody reads the parameters and the body. A method has a parameter self.
func (p *parser) functionBody(method bool) *Function {
	defer p.nested()()
	f := &Function{Line: p.line()}
	if method {
		f.Params = append(f.Params, &Name{"self", p.line()})
	}
	p.wantSymbol("(")
	for !p.isSymbol(")") {
		if p.takeSymbol("...") {
			break
		}
		f.Params = append(f.Params, p.name())
		if !p.takeSymbol(",") {
			break
		}
	}
	p.wantSymbol(")")
	f.Body = p.blockUntil("end")
	return f
}
