package filter

// constants are the named numbers.
var constants = map[string]uint32{
	"tcpflags": 13, "icmptype": 0, "icmpcode": 1, "icmp6type": 0, "icmp6code": 1,
	"tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16,
	"tcp-urg": 32, "tcp-ece": 64, "tcp-cwr": 128,
	"icmp-echoreply": 0, "icmp-unreach": 3, "icmp-redirect": 5, "icmp-echo": 8, "icmp-timxceed": 11,
	"icmp6-echo": 128, "icmp6-echoreply": 129, "icmp6-routersolicit": 133, "icmp6-routeradvert": 134,
	"icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136,
}

func isConstant(word string) bool {
	_, ok := constants[word]
	return ok
}

// relation reads two numbers that are compared.
func (p *parser) relation() (test, error) {
	left, err := p.number(0)
	if err != nil {
		return nil, err
	}
	if indexOf(relations, p.peek()) < 0 {
		return nil, p.wrong("a comparison (=, !=, <, >, <=, >=)")
	}
	op := p.take()
	right, err := p.number(0)
	if err != nil {
		return nil, err
	}
	t := left.with(right, nil)
	compare := func(f *frame) bool {
		a, b := left.value(f), right.value(f)
		switch op {
		case "!=":
			return a != b
		case "<":
			return a < b
		case ">":
			return a > b
		case "<=":
			return a <= b
		case ">=":
			return a >= b
		}
		return a == b
	}
	if t.given == nil {
		return compare, nil
	}
	return both(t.given, compare), nil
}

// precedence returns how tightly an operator binds, 0 for none.
func precedence(op string) int {
	switch op {
	case "|", "^":
		return 1
	case "&":
		return 2
	case "<<", ">>":
		return 3
	case "+", "-":
		return 4
	case "*", "/", "%":
		return 5
	}
	return 0
}

// number reads a calculation whose operators bind tighter than outer.
func (p *parser) number(outer int) (term, error) {
	if p.depth++; p.depth > maxDepth {
		return term{}, p.fail(p.next, "nested more than %d deep", maxDepth)
	}
	defer func() { p.depth-- }()
	left, err := p.operandNumber()
	for err == nil {
		op := p.peek()
		binds := precedence(op)
		if binds <= outer {
			return left, nil
		}
		p.next++
		var right term
		at := p.next
		if right, err = p.number(binds); err == nil {
			if (op == "/" || op == "%") && right.fixed && right.value(nil) == 0 {
				return term{}, p.fail(at, "division by zero")
			}
			left = left.with(right, calculate(op, left.value, right.value))
		}
	}
	return term{}, err
}

func calculate(op string, left, right number) number {
	return func(f *frame) uint32 {
		a, b := left(f), right(f)
		switch op {
		case "+":
			return a + b
		case "-":
			return a - b
		case "*":
			return a * b
		case "&":
			return a & b
		case "|":
			return a | b
		case "^":
			return a ^ b
		case "<<":
			return a << b
		case ">>":
			return a >> b
		}
		if b == 0 {
			f.short = true // selects nothing either
			return 0
		}
		if op == "/" {
			return a / b
		}
		return a % b
	}
}

func (p *parser) operandNumber() (term, error) {
	word := p.peek()
	switch {
	case p.accept("("):
		t, err := p.number(0)
		if err == nil && !p.accept(")") {
			err = p.wrong("`)`")
		}
		return t, err
	case p.accept("-"):
		t, err := p.number(5)
		return term{func(f *frame) uint32 { return -t.value(f) }, t.given, t.fixed}, err
	case p.accept("len"):
		return term{value: func(f *frame) uint32 { return uint32(len(f.b)) }}, nil
	case isConstant(word):
		p.next++
		n := constants[word]
		return term{value: func(*frame) uint32 { return n }, fixed: true}, nil
	case p.next+1 < len(p.tokens) && p.tokens[p.next+1].text == "[":
		return p.bytes()
	}
	n, err := parseNumber(word)
	if err != nil {
		return term{}, p.wrong("a number")
	}
	p.next++
	return term{value: func(*frame) uint32 { return n }, fixed: true}, nil
}

// bytes reads proto[offset:size].
func (p *parser) bytes() (term, error) {
	proto, at := p.take(), p.next-1
	p.next++ // the bracket
	offset, err := p.number(0)
	if err != nil {
		return term{}, err
	}
	size := uint32(1)
	if p.accept(":") {
		if size, err = p.count(4); err != nil || size == 0 || size == 3 {
			if err == nil {
				p.next--
			}
			return term{}, p.wrong("a size of 1, 2 or 4")
		}
	}
	if !p.accept("]") {
		return term{}, p.wrong("`]`")
	}
	l := p.layer()
	var base func(f *frame) int
	var given test
	switch proto {
	case "ether":
		base = func(*frame) int { return 0 }
	case "ip", "ip6", "arp", "rarp":
		base, given = func(*frame) int { return l.net() }, l.etherType(etherTypes[proto])
	case "tcp", "udp", "sctp", "icmp":
		base, given = l.ipv4Payload, both(l.ipv4Proto(ipProtos[proto]), l.whole)
	case "icmp6":
		base, given = func(*frame) int { return l.net() + 40 }, both(l.etherType(typeIPv6), l.byteIs(6, protoICMPv6))
	default:
		return term{}, p.fail(at,
			"`%s` has no bytes to look at (ether, ip, ip6, arp, rarp, tcp, udp, sctp, icmp, icmp6)", proto)
	}
	value := func(f *frame) uint32 {
		n := offset.value(f)
		if n > 1<<20 {
			f.short = true
			return 0
		}
		return f.bytes(base(f)+int(n), int(size))
	}
	return term{given: given}.with(offset, value), nil
}
