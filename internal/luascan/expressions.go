package luascan

import "strings"

// binaryOperators are all of them. Their precedence does not matter to those who look for
// names: the operands of a chain are in one Op.
const binaryOperators = " + - * / // % ^ .. << >> & ~ | < <= > >= == ~= and or "

func (p *parser) isBinary() bool {
	return (p.tok.kind == tokenSymbol || p.tok.kind == tokenName) && p.tok.text != "" &&
		strings.Contains(binaryOperators, " "+p.tok.text+" ")
}

// expression reads a chain of operands and operators.
func (p *parser) expression() Expr {
	defer p.nested()()
	first := p.operand()
	if !p.isBinary() {
		return first
	}
	op := &Op{Op: p.tok.text, Operands: []Expr{first}}
	for p.isBinary() {
		p.advance()
		op.Operands = append(op.Operands, p.operand())
	}
	return op
}

func (p *parser) operand() Expr {
	unary := ""
	for p.isWord("not") || p.isSymbol("-") || p.isSymbol("#") || p.isSymbol("~") {
		unary = p.tok.text
		p.advance()
	}
	value := p.simple()
	if unary != "" {
		return &Op{Op: unary, Operands: []Expr{value}}
	}
	return value
}

func (p *parser) simple() Expr {
	line := p.line()
	switch p.tok.kind {
	case tokenString:
		s := &String{p.tok.text, line}
		p.advance()
		return s
	case tokenNumber:
		return p.literal()
	case tokenSymbol:
		switch p.tok.text {
		case "...":
			return p.literal()
		case "{":
			return p.constructor()
		}
	case tokenName:
		switch p.tok.text {
		case "nil", "true", "false":
			return p.literal()
		case "function":
			p.advance()
			return p.functionBody(false)
		}
	}
	return p.suffixed()
}

func (p *parser) literal() Expr {
	l := &Literal{p.tok.text, p.line()}
	p.advance()
	return l
}

// suffixed reads a name or an expression in parentheses, and what is indexed and called of it.
func (p *parser) suffixed() Expr {
	var value Expr
	if p.takeSymbol("(") {
		value = &Op{Op: "(", Operands: []Expr{p.expression()}}
		p.wantSymbol(")")
	} else {
		value = p.name()
	}
	for {
		line := p.line()
		switch {
		case p.takeSymbol("."):
			field := p.name()
			value = &Index{value, &String{field.Name, field.Line}, field.Line}
		case p.takeSymbol("["):
			key := p.expression()
			p.wantSymbol("]")
			value = &Index{value, key, line}
		case p.takeSymbol(":"):
			method := p.name()
			value = &Call{Fn: value, Method: method.Name, Line: method.Line, Args: p.arguments()}
		case p.isSymbol("("), p.isSymbol("{"), p.tok.kind == tokenString:
			value = &Call{Fn: value, Line: line, Args: p.arguments()}
		default:
			return value
		}
	}
}

func (p *parser) arguments() []Expr {
	switch {
	case p.tok.kind == tokenString, p.isSymbol("{"):
		return []Expr{p.simple()}
	case !p.takeSymbol("("):
		p.fail()
	}
	if p.takeSymbol(")") {
		return nil
	}
	args := p.expressions()
	p.wantSymbol(")")
	return args
}

func (p *parser) constructor() Expr {
	defer p.nested()()
	t := &Table{Line: p.line()}
	p.advance()
	for !p.isSymbol("}") {
		e := Entry{Line: p.line()}
		ahead := p.lexer
		switch {
		case p.takeSymbol("["):
			e.Key = p.expression()
			p.wantSymbol("]")
			p.wantSymbol("=")
		case p.tok.kind == tokenName && ahead.next().is(tokenSymbol, "="):
			name := p.name()
			e.Key = &String{name.Name, name.Line}
			p.advance()
		}
		e.Value = p.expression()
		t.Entries = append(t.Entries, e)
		if !p.takeSymbol(",") && !p.takeSymbol(";") {
			break
		}
	}
	p.wantSymbol("}")
	return t
}
