package choose

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// keyword is an expression of -k.
type keyword interface{ matches(t Test) answer }

// word is a text in the path or the name of a test, or in one of its tags, in any case.
type word string

func (w word) matches(t Test) answer {
	has := func(text string) bool { return strings.Contains(strings.ToLower(text), string(w)) }
	if has(t.Path) || has(t.Name) || has(t.Group) {
		return yes
	}
	for _, tag := range t.Tags() {
		if has(tag) {
			return yes
		}
	}
	if _, unknown := t.Meta["tags"].(Unknown); unknown || t.Open || t.Name == "" {
		return maybe
	}
	return no
}

type negation struct{ of keyword }

func (n negation) matches(t Test) answer { return yes - n.of.matches(t) }

type conjunction struct{ left, right keyword }

func (c conjunction) matches(t Test) answer { return min(c.left.matches(t), c.right.matches(t)) }

type disjunction struct{ left, right keyword }

func (d disjunction) matches(t Test) answer { return max(d.left.matches(t), d.right.matches(t)) }

// CheckKeyword returns what is wrong with an expression.
func CheckKeyword(text string) error {
	_, err := parseKeyword(text)
	return err
}

// keywordParser reads an expression: or binds weakest, then and, then not.
type keywordParser struct {
	tokens []string // operators and words, words in quotes with a quote before them
	depth  int
}

// maxNesting bounds the parentheses and negations of an expression.
const maxNesting = 100

func parseKeyword(text string) (keyword, error) {
	tokens, err := keywordTokens(text)
	if err != nil {
		return nil, err
	}
	p := &keywordParser{tokens: tokens}
	k, err := p.or()
	if err == nil && len(p.tokens) > 0 {
		err = fmt.Errorf("`%s` is not expected here (join words by and, or)", strings.TrimPrefix(p.tokens[0], `"`))
	}
	return k, err
}

// keywordTokens splits an expression at blanks and parentheses.
func keywordTokens(text string) ([]string, error) {
	var out []string
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		switch c := text[0]; c {
		case '(', ')':
			out, text = append(out, text[:1]), text[1:]
		case '"', '\'':
			end := strings.IndexByte(text[1:], c)
			if end < 0 {
				return nil, fmt.Errorf("the quote %c is not closed", c)
			}
			if end == 0 {
				return nil, errors.New("a text is empty")
			}
			out, text = append(out, `"`+text[1:end+1]), text[end+2:]
		default:
			end := strings.IndexFunc(text, func(r rune) bool { return unicode.IsSpace(r) || r == '(' || r == ')' })
			if end < 0 {
				end = len(text)
			}
			out, text = append(out, text[:end]), text[end:]
		}
	}
	return out, nil
}

// take consumes a token if it is the next one.
func (p *keywordParser) take(token string) bool {
	if len(p.tokens) == 0 || p.tokens[0] != token {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

func (p *keywordParser) or() (keyword, error) {
	left, err := p.and()
	for err == nil && p.take("or") {
		var right keyword
		right, err = p.and()
		left = disjunction{left, right}
	}
	return left, err
}

func (p *keywordParser) and() (keyword, error) {
	left, err := p.not()
	for err == nil && p.take("and") {
		var right keyword
		right, err = p.not()
		left = conjunction{left, right}
	}
	return left, err
}

func (p *keywordParser) not() (keyword, error) {
	if p.depth++; p.depth > maxNesting {
		return nil, errors.New("it is nested too deeply")
	}
	defer func() { p.depth-- }()
	if p.take("not") {
		of, err := p.not()
		return negation{of}, err
	}
	if p.take("(") {
		inner, err := p.or()
		if err == nil && !p.take(")") {
			err = errors.New("a parenthesis is not closed")
		}
		return inner, err
	}
	if len(p.tokens) == 0 {
		return nil, errors.New("a text is missing at the end")
	}
	text := p.tokens[0]
	if text == "and" || text == "or" || text == ")" {
		return nil, fmt.Errorf("a text is missing before `%s`", text)
	}
	p.tokens = p.tokens[1:]
	return word(strings.ToLower(strings.TrimPrefix(text, `"`))), nil
}
