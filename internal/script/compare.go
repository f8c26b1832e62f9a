package script

import (
	"errors"
	"fmt"
	"strings"

	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/textdiff"
	"provium/internal/script/value"
)

// order returns an assertion that its first argument stands in an order to its second. words
// say which, for messages.
func order(name, words string) assertion {
	return func(s *assertions, a value.Args, e *execution) ([]lua.Value, error) {
		operator, left, right := s.less, a.Value(1), a.Value(2)
		switch name {
		case "assert_gt":
			left, right = right, left
		case "assert_ge":
			operator, left, right = s.lessEqual, right, left
		case "assert_le":
			operator = s.lessEqual
		}
		ok, err := s.holds(a.Call, operator, left, right)
		if ok {
			return nil, nil
		}
		title := message(a, 3, name+" failed")
		if err != nil {
			var raised *lua.Error
			if thread := a.Call.Thread(); thread != nil && thread.Interrupted() != nil || !errors.As(err, &raised) {
				return nil, err
			}
			return nil, e.failed(a.Call, title+": "+s.incomparable(a, raised), "")
		}
		return nil, e.failed(a.Call, fmt.Sprintf("%s: %s is not %s %s", title, s.shown(a.Call, a.Value(1)), words,
			s.shown(a.Call, a.Value(2))), "")
	}
}

// incomparable says why an operator has raised.
func (s *assertions) incomparable(a value.Args, raised *lua.Error) string {
	if at, text, ok := strings.Cut(raised.Message, ": "); !ok || !strings.HasPrefix(at, operatorChunk+":") ||
		!strings.HasPrefix(text, "attempt to compare") {
		return raised.Message // of a metamethod
	}
	return fmt.Sprintf("cannot compare %s and %s (%s and %s)", lua.TypeName(a.Value(1)), lua.TypeName(a.Value(2)),
		s.shown(a.Call, a.Value(1)), s.shown(a.Call, a.Value(2)))
}

// shown is a value in a message.
func (s *assertions) shown(c *lua.Call, v lua.Value) string {
	return value.Clip(binding.String(c, v), messageValue)
}

func (s *assertions) tAssertSame(a value.Args, e *execution) ([]lua.Value, error) {
	left, right := a.Value(1), a.Value(2)
	difference, err := value.Compare(left, right, func(l, r lua.Value) (bool, error) {
		return s.holds(a.Call, s.equal, l, r)
	})
	if err != nil || difference == nil {
		return nil, err
	}
	l, r := s.part(a.Call, difference.Left), s.part(a.Call, difference.Right)
	if l == r {
		l, r = l+" ("+lua.TypeName(difference.Left)+")", r+" ("+lua.TypeName(difference.Right)+")"
	}
	text := fmt.Sprintf("%s: %s ~= %s", message(a, 3, "assert_same failed"), l, r)
	if path := difference.Path(); path != "" {
		text += " at " + path
	}
	return nil, e.failed(a.Call, text, s.differences(a.Call, left, right))
}

// part is a value of a nested table in a message.
func (s *assertions) part(c *lua.Call, v lua.Value) string {
	switch v := v.(type) {
	case string:
		return value.Clip(value.Quote(v), messageValue)
	case *lua.Table:
		return "a table"
	default:
		return s.shown(c, v)
	}
}

// differences shows where two values differ that assert_same has compared.
func (s *assertions) differences(c *lua.Call, left, right lua.Value) string {
	_, ok1 := left.(*lua.Table)
	_, ok2 := right.(*lua.Table)
	if !ok1 || !ok2 {
		return s.diff(c, left, right)
	}
	leaf := func(v lua.Value) string { return binding.String(c, v) }
	return titled(textdiff.Lines(value.Render(left, leaf), value.Render(right, leaf)))
}

// matching returns what string.match returns for a text and the Lua pattern at argument 2. An
// error is one of the pattern.
func (s *assertions) matching(a value.Args, text string) ([]lua.Value, error) {
	pattern, err := a.Str(2, "pattern")
	if err != nil {
		return nil, err
	}
	found, err := a.Call.Call(s.match, text, pattern)
	var raised *lua.Error
	if thread := a.Call.Thread(); errors.As(err, &raised) && (thread == nil || thread.Interrupted() == nil) {
		return nil, a.Errorf("argument 2 (pattern): %s", raised.Message)
	}
	return found, err
}

func (s *assertions) tAssertMatches(a value.Args, e *execution) ([]lua.Value, error) {
	name := message(a, 3, "assert_matches failed")
	text, ok := a.Value(1).(string)
	if !ok {
		return nil, e.failed(a.Call, fmt.Sprintf("%s: needs a string, got %s", name, lua.TypeName(a.Value(1))), "")
	}
	found, err := s.matching(a, text)
	if err != nil {
		return nil, err
	}
	if found[0] != nil {
		return found, nil
	}
	return nil, e.failed(a.Call, fmt.Sprintf("%s: pattern %s does not match: %s", name, s.shown(a.Call, a.Value(2)),
		value.Clip(text, messageContain)), "")
}

func (s *assertions) tAssertErrorMatches(a value.Args, e *execution) ([]lua.Value, error) {
	// A malformed pattern is found before the function runs.
	if _, err := s.matching(a, ""); err != nil {
		return nil, err
	}
	raised, err := s.raised(a, e, message(a, 3, "assert_error_matches"))
	if err != nil {
		return nil, err
	}
	found, err := s.matching(a, raised.Message)
	if err != nil {
		return nil, err
	}
	if found[0] != nil {
		return []lua.Value{raised.Value}, nil
	}
	return nil, e.failed(a.Call, fmt.Sprintf("%s: pattern %s does not match the error: %s",
		message(a, 3, "assert_error_matches failed"), s.shown(a.Call, a.Value(2)),
		value.Clip(raised.Message, messageContain)), "")
}
