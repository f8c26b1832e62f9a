package script

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"provium/internal/lua"
	"provium/internal/recording"
	"provium/internal/script/binding"
	"provium/internal/script/failure"
	"provium/internal/script/textdiff"
	"provium/internal/script/value"
)

const (
	messageValue   = 1024 // bytes of a value within a message
	messageContain = 4096 // bytes of the text that assert_contains searched
)

// testObject is `t`: what a test body is called with.
type testObject struct {
	e    *execution
	test *testCase
}

// operatorSource returns the operators ==, < and <=, which run metamethods where Lua's rules
// say so, and two functions of the standard library that a test cannot replace.
const operatorSource = `return function(a, b) return a == b end, function(a, b) return a < b end,
  function(a, b) return a <= b end, string.match, debug.getinfo`

// operatorChunk is what operatorSource is called in positions and tracebacks.
const operatorChunk = "=operators"

// assertions are the methods of `t` in one Lua state.
type assertions struct {
	state  *lua.State
	object *lua.Type // of t

	equal, less, lessEqual *lua.Function // operators
	match, info            *lua.Function // string.match, debug.getinfo
}

func newAssertions(ctx context.Context, state *lua.State) (*assertions, error) {
	chunk, err := state.LoadString(operatorSource, operatorChunk)
	if err != nil {
		return nil, err
	}
	made, err := state.Call(ctx, chunk)
	if err != nil {
		return nil, err
	}
	s := &assertions{state: state}
	for i, to := range []**lua.Function{&s.equal, &s.less, &s.lessEqual, &s.match, &s.info} {
		*to = made[i].(*lua.Function)
	}
	s.object = s.newType()
	return s, nil
}

// newObject returns the `t` of a test.
func (s *assertions) newObject(e *execution, t *testCase) *lua.Userdata {
	return s.state.NewUserdata(s.object, &testObject{e, t})
}

// assertion is a method of t. e is the execution t belongs to, which is running.
type assertion func(s *assertions, a value.Args, e *execution) ([]lua.Value, error)

func (s *assertions) newType() *lua.Type {
	t := &lua.Type{
		Inline:  true, // assert_raises calls its function
		Name:    "t",
		Methods: map[string]lua.GoFunc{},
		Fields:  []string{"name", "meta"},
		Index: func(_ *lua.Call, obj any, key lua.Value) (lua.Value, bool, error) {
			switch o := obj.(*testObject); key {
			case "name":
				return o.test.name, true, nil
			case "meta":
				return o.test.raw, true, nil
			}
			return nil, false, nil
		},
		ToString: func(_ *lua.Call, obj any) string { return "t(" + obj.(*testObject).test.name + ")" },
	}
	for name, method := range map[string]assertion{
		"assert":               (*assertions).tAssert,
		"assert_eq":            (*assertions).tAssertEq,
		"assert_neq":           (*assertions).tAssertNeq,
		"assert_same":          (*assertions).tAssertSame,
		"assert_gt":            order("assert_gt", "greater than"),
		"assert_ge":            order("assert_ge", "at least"),
		"assert_lt":            order("assert_lt", "less than"),
		"assert_le":            order("assert_le", "at most"),
		"assert_contains":      (*assertions).tAssertContains,
		"assert_matches":       (*assertions).tAssertMatches,
		"assert_raises":        (*assertions).tAssertRaises,
		"assert_error_matches": (*assertions).tAssertErrorMatches,
		"fail":                 (*assertions).tFail,
		"skip":                 (*assertions).tSkip,
		"log":                  (*assertions).tLog,
		"defer":                (*assertions).tDefer,
		"step":                 (*assertions).tStep,
		"attach":               (*assertions).tAttach,
		"pause":                (*assertions).tPause,
		"mark":                 (*assertions).tMark,
		"expect_kernel":        (*assertions).tExpectKernel,
	} {
		t.Methods[name] = func(c *lua.Call) ([]lua.Value, error) {
			o := binding.Object(c).(*testObject)
			if o.e.ended {
				return nil, fmt.Errorf("t:%s: this t belongs to test `%s`, which has ended", name, o.test.name)
			}
			return method(s, value.MethodArgs(c, "t:"+name), o.e)
		}
	}
	return t
}

// failed records a failure that no pcall undoes, and returns the error to raise. Inside
// assert_raises it is the raise wanted and only raised.
func (e *execution) failed(c *lua.Call, message, diff string) error {
	text := message
	if at := c.Caller().String(); at != "" {
		text = at + ": " + message
	}
	if e.failure == nil && e.isolating[c.Thread()] == 0 {
		e.failure = &failure.Failure{Message: text, Step: e.stepPath(c.Thread()), Source: e.s.excerpt(c.Caller()),
			Diff: diff, Stack: e.s.stack(c.Traceback(), c.Caller()), Operations: e.trace.Report(text)}
	}
	return &lua.Raise{Value: text}
}

// message is the optional text of an assertion at argument i.
func message(a value.Args, i int, absent string) string {
	if a.Value(i) == nil {
		return absent
	}
	return binding.String(a.Call, a.Value(i))
}

func (s *assertions) tAssert(a value.Args, e *execution) ([]lua.Value, error) {
	if v := a.Value(1); v == nil || v == false {
		return nil, e.failed(a.Call, message(a, 2, "assertion failed"), "")
	}
	return nil, nil
}

// same is Lua's ==.
func (s *assertions) same(a value.Args) (bool, error) {
	return s.holds(a.Call, s.equal, a.Value(1), a.Value(2))
}

// holds reports whether an operator returns true.
func (s *assertions) holds(c *lua.Call, operator *lua.Function, left, right lua.Value) (bool, error) {
	values, err := c.Call(operator, left, right)
	if err != nil {
		return false, err
	}
	return values[0] == true, nil
}

func (s *assertions) tAssertEq(a value.Args, e *execution) ([]lua.Value, error) {
	same, err := s.same(a)
	if err != nil || same {
		return nil, err
	}
	left, right := a.Value(1), a.Value(2)
	l, r := binding.String(a.Call, left), binding.String(a.Call, right)
	if l == r {
		l, r = l+" ("+lua.TypeName(left)+")", r+" ("+lua.TypeName(right)+")"
	}
	text := fmt.Sprintf("%s: %s ~= %s", message(a, 3, "assert_eq failed"), value.Clip(l, messageValue),
		value.Clip(r, messageValue))
	return nil, e.failed(a.Call, text, s.diff(a.Call, left, right))
}

func (s *assertions) tAssertNeq(a value.Args, e *execution) ([]lua.Value, error) {
	same, err := s.same(a)
	if err != nil || !same {
		return nil, err
	}
	text := fmt.Sprintf("%s: %s == %s", message(a, 3, "assert_neq failed"),
		value.Clip(binding.String(a.Call, a.Value(1)), messageValue), value.Clip(binding.String(a.Call, a.Value(2)),
			messageValue))
	return nil, e.failed(a.Call, text, "")
}

// diff shows where two long strings differ, or two tables.
func (s *assertions) diff(c *lua.Call, left, right lua.Value) string {
	if l, ok := left.(string); ok {
		if r, ok := right.(string); ok {
			return titled(textdiff.Strings(l, r))
		}
		return ""
	}
	l, ok1 := left.(*lua.Table)
	r, ok2 := right.(*lua.Table)
	if !ok1 || !ok2 {
		return ""
	}
	leaf := func(v lua.Value) string { return binding.String(c, v) }
	lText, rText := value.Render(l, leaf), value.Render(r, leaf)
	if lText == rText {
		return "both tables hold the same, but assert_eq compares tables by identity:\n" + value.Clip(lText,
			messageContain)
	}
	return titled(textdiff.Lines(lText, rText))
}

func titled(diff string) string {
	if diff == "" {
		return ""
	}
	return "difference (- first, + second):\n" + diff
}

func (s *assertions) tAssertContains(a value.Args, e *execution) ([]lua.Value, error) {
	text, ok1 := a.Value(1).(string)
	needle, ok2 := a.Value(2).(string)
	name := message(a, 3, "assert_contains failed")
	if !ok1 || !ok2 {
		return nil, e.failed(a.Call, fmt.Sprintf("%s: needs two strings, got %s and %s", name,
			lua.TypeName(a.Value(1)), lua.TypeName(a.Value(2))), "")
	}
	if strings.Contains(text, needle) {
		return nil, nil
	}
	return nil, e.failed(a.Call, fmt.Sprintf("%s: %s not found in: %s", name,
		value.Clip(needle, messageValue), value.Clip(text, messageContain)), "")
}

func (s *assertions) tAssertRaises(a value.Args, e *execution) ([]lua.Value, error) {
	raised, err := s.raised(a, e, message(a, 2, "assert_raises"))
	if err != nil {
		return nil, err
	}
	return []lua.Value{raised.Value}, nil
}

// raised calls the function at argument 1 and returns the error that it raised. Without
// one, the assertion called name fails.
func (s *assertions) raised(a value.Args, e *execution, name string) (*lua.Error, error) {
	fn, err := a.Function(1, "fn")
	if err != nil {
		return nil, err
	}
	thread, skipped := a.Call.Thread(), e.skipped
	e.isolating[thread]++
	_, err = a.Call.Call(fn)
	e.isolating[thread]--
	switch {
	case thread != nil && thread.Interrupted() != nil, e.skipped != skipped && err != nil:
		return nil, err // the end of the test is not what was meant
	case err == nil:
		return nil, e.failed(a.Call, name+": expected to raise", "")
	}
	var raised *lua.Error
	if !errors.As(err, &raised) {
		return nil, err
	}
	return raised, nil
}

func (s *assertions) tFail(a value.Args, e *execution) ([]lua.Value, error) {
	return nil, e.failed(a.Call, message(a, 1, "explicit failure (t:fail)"), "")
}

func (s *assertions) tSkip(a value.Args, e *execution) ([]lua.Value, error) {
	if e.cleaning {
		return nil, a.Errorf("the body has run, so the test cannot be skipped any more")
	}
	reason := message(a, 1, "skipped (t:skip)")
	if e.skipped == nil {
		e.skipped = &reason
	}
	return nil, &lua.Raise{Value: "test skipped: " + reason, Level: 1}
}

// tMark is t:mark(name): a moment of recorded guests to which `provium debug` can go.
func (s *assertions) tMark(a value.Args, e *execution) ([]lua.Value, error) {
	name, err := a.Str(1, "name")
	if err == nil {
		err = a.AtMost(1, "t:mark(name)")
	}
	if err == nil {
		e.s.markRecorded(a.Call, recording.Point{Text: name, Where: a.Call.CallerFile().String(), Mark: true})
	}
	return nil, err
}

func (s *assertions) tLog(a value.Args, e *execution) ([]lua.Value, error) {
	text, err := a.Call.ToString(a.Value(1))
	if err != nil {
		return nil, err
	}
	e.addLog(text)
	return nil, nil
}
