package luascan

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// tokenKind says what a token is.
type tokenKind int

const (
	tokenEnd    tokenKind = iota // of the text, also where it is no Lua
	tokenName                    // names and keywords
	tokenString                  // text is its value
	tokenNumber                  // text as written
	tokenSymbol                  // operators and punctuation
)

type token struct {
	kind tokenKind
	text string
}

func (t token) is(kind tokenKind, text string) bool { return t.kind == kind && t.text == text }

// lexer splits Lua 5.4 source into tokens. It is a value: a copy looks ahead
// without moving the original.
type lexer struct {
	src  []byte
	at   int
	from int // where the token begins that next has returned
}

func newLexer(src []byte) lexer {
	l := lexer{src: src}
	if bytes.HasPrefix(src, []byte("#")) { // as of a script
		l.skipLine()
	}
	return l
}

func (l *lexer) byteAt(i int) byte {
	if i < len(l.src) {
		return l.src[i]
	}
	return 0
}

func (l *lexer) skipLine() {
	n := bytes.IndexByte(l.src[l.at:], '\n')
	if n < 0 {
		l.at = len(l.src)
		return
	}
	l.at += n
}

// next returns the next token. After tokenEnd it returns that for ever.
func (l *lexer) next() token {
	for l.at < len(l.src) {
		c := l.src[l.at]
		l.from = l.at
		switch {
		case isSpace(c):
			l.at++
		case c == '-' && l.byteAt(l.at+1) == '-':
			l.at += 2
			if level, ok := l.longBracket(); ok {
				if _, ok := l.longText(level); !ok {
					return l.end()
				}
				continue
			}
			l.skipLine()
		case isLetter(c):
			from := l.at
			for l.at < len(l.src) && (isLetter(l.src[l.at]) || isDigit(l.src[l.at])) {
				l.at++
			}
			return token{tokenName, string(l.src[from:l.at])}
		case isDigit(c), c == '.' && isDigit(l.byteAt(l.at+1)):
			return l.number()
		case c == '"' || c == '\'':
			return l.quoted(c)
		case c == '[':
			if level, ok := l.longBracket(); ok {
				text, ok := l.longText(level)
				if !ok {
					return l.end()
				}
				return token{tokenString, text}
			}
			return l.symbol()
		default:
			return l.symbol()
		}
	}
	return token{kind: tokenEnd}
}

func (l *lexer) end() token {
	l.at = len(l.src)
	return token{kind: tokenEnd}
}

// symbol takes the longest operator.
func (l *lexer) symbol() token {
	for _, op := range []string{"...", "..", "::", "==", "~=", "<=", ">=", "//", "<<", ">>"} {
		if bytes.HasPrefix(l.src[l.at:], []byte(op)) {
			l.at += len(op)
			return token{tokenSymbol, op}
		}
	}
	l.at++
	return token{tokenSymbol, string(l.src[l.at-1 : l.at])}
}

// number takes what Lua would: also malformed numbers, which are left to the
// reader of the token.
func (l *lexer) number() token {
	from := l.at
	exponents := "eE"
	if l.src[l.at] == '0' && (l.byteAt(l.at+1) == 'x' || l.byteAt(l.at+1) == 'X') {
		exponents = "pP"
		l.at += 2
	}
	for l.at < len(l.src) {
		c := l.src[l.at]
		if c == exponents[0] || c == exponents[1] {
			l.at++
			if s := l.byteAt(l.at); s == '+' || s == '-' {
				l.at++
			}
			continue
		}
		if !isDigit(c) && !isLetter(c) && c != '.' {
			break
		}
		l.at++
	}
	return token{tokenNumber, string(l.src[from:l.at])}
}

// longBracket reports whether a [[ or [==[ stands here; it does not move.
func (l *lexer) longBracket() (level int, ok bool) {
	if l.byteAt(l.at) != '[' {
		return 0, false
	}
	for l.byteAt(l.at+1+level) == '=' {
		level++
	}
	return level, l.byteAt(l.at+1+level) == '['
}

// longText takes a long string or comment with its brackets.
func (l *lexer) longText(level int) (text string, ok bool) {
	closing := append(append([]byte{']'}, bytes.Repeat([]byte{'='}, level)...), ']')
	from := l.at + len(closing)
	n := bytes.Index(l.src[from:], closing)
	if n < 0 {
		return "", false
	}
	l.at = from + n + len(closing)
	body := l.src[from : from+n]
	for _, newline := range []string{"\r\n", "\n\r", "\n", "\r"} { // the first one does not count
		if rest, ok := bytes.CutPrefix(body, []byte(newline)); ok {
			body = rest
			break
		}
	}
	return string(body), true
}

// quoted takes a string with its quotes and resolves its escapes.
func (l *lexer) quoted(quote byte) token {
	var out []byte
	l.at++
	for l.at < len(l.src) {
		c := l.src[l.at]
		l.at++
		switch c {
		case quote:
			return token{tokenString, string(out)}
		case '\n', '\r':
			return l.end()
		case '\\':
			var ok bool
			if out, ok = l.escape(out); !ok {
				return l.end()
			}
		default:
			out = append(out, c)
		}
	}
	return l.end()
}

// simpleEscape returns the byte of an escape of one letter.
func simpleEscape(c byte) (byte, bool) {
	switch c {
	case 'a':
		return '\a', true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'v':
		return '\v', true
	case '\\', '"', '\'', '\n', '\r':
		return c, true
	}
	return 0, false
}

// escape takes what follows a backslash.
func (l *lexer) escape(out []byte) ([]byte, bool) {
	c := l.byteAt(l.at)
	if b, ok := simpleEscape(c); ok {
		l.at++
		if next := l.byteAt(l.at); (c == '\r' && next == '\n') || (c == '\n' && next == '\r') {
			l.at++
		}
		if c == '\r' {
			b = '\n'
		}
		return append(out, b), true
	}
	switch {
	case c == 'z':
		l.at++
		for isSpace(l.byteAt(l.at)) {
			l.at++
		}
		return out, true
	case c == 'x':
		return l.numericEscape(out, l.at+1, l.at+3, 16)
	case c == 'u' && l.byteAt(l.at+1) == '{':
		from := l.at + 2
		to := from
		for l.byteAt(to) != '}' {
			if to == len(l.src) || to-from > 16 {
				return out, false
			}
			to++
		}
		n, err := strconv.ParseUint(string(l.src[from:to]), 16, 31)
		l.at = to + 1
		// Lua writes more than Unicode has; such text names no file.
		return utf8.AppendRune(out, rune(n)), err == nil
	case isDigit(c):
		to := l.at + 1
		for to < l.at+3 && isDigit(l.byteAt(to)) {
			to++
		}
		return l.numericEscape(out, l.at, to, 10)
	}
	return out, false
}

// numericEscape takes the digits of one byte.
func (l *lexer) numericEscape(out []byte, from, to, base int) ([]byte, bool) {
	if to > len(l.src) {
		return out, false
	}
	n, err := strconv.ParseUint(string(l.src[from:to]), base, 8)
	l.at = to
	return append(out, byte(n)), err == nil
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }
