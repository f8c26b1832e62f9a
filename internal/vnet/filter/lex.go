package filter

import (
	"fmt"
	"strings"
)

// token is a word, a number, an address or an operator of an expression.
type token struct {
	text string
	at   int // bytes before it
}

// Error is an expression that says nothing, and where.
type Error struct {
	Column int // of the error, from 1
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("column %d: %s", e.Column, e.Reason) }

// operators that are two bytes long.
var twoBytes = []string{"&&", "||", "!=", "==", "<=", ">=", "<<", ">>"}

// split returns the tokens of an expression. Inside of brackets a colon stands between
// offset and size, elsewhere it belongs to an address.
func split(text string) (tokens []token, err error) {
	depth := 0
	for at := 0; at < len(text); {
		c := text[at]
		start := at
		switch {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			at++
			continue
		case isWord(c) || c == '\\' || c == ':' && depth == 0:
			letters := c|0x20 >= 'a' && c|0x20 <= 'z' // tcp-syn is a word, 4-2 in brackets is not
			for at++; at < len(text); at++ {
				c := text[at]
				if !isWord(c) && (c != '-' || depth > 0 && !letters) && (depth > 0 || c != ':' && c != '.') {
					break
				}
			}
		case at+1 < len(text) && indexOf(twoBytes, text[at:at+2]) >= 0:
			at += 2
		case strings.IndexByte("()[]:!=<>&|^+-*/%", c) >= 0:
			if c == '[' {
				depth++
			} else if c == ']' {
				depth--
			}
			at++
		default:
			return nil, &Error{at + 1, fmt.Sprintf("%q means nothing here", c)}
		}
		tokens = append(tokens, token{text[start:at], start})
	}
	return tokens, nil
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

func indexOf(list []string, s string) int {
	for i, x := range list {
		if x == s {
			return i
		}
	}
	return -1
}
