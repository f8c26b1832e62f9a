package script

import (
	"errors"
	"fmt"
	"strings"

	"provium/internal/lua"
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

func (f *file) newTestObject(e *execution, t *testCase) *lua.Userdata {
	return f.state.NewUserdata(f.types.test, &testObject{e, t})
}

// testMethod is a method of t. e is the execution t belongs to, which is running.
type testMethod func(f *file, a value.Args, e *execution) ([]lua.Value, error)

func (f *file) newTestType() *lua.Type {
	t := &lua.Type{
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
	for name, method := range map[string]testMethod{
		"assert":          (*file).tAssert,
		"assert_eq":       (*file).tAssertEq,
		"assert_neq":      (*file).tAssertNeq,
		"assert_contains": (*file).tAssertContains,
		"assert_raises":   (*file).tAssertRaises,
		"fail":            (*file).tFail,
		"skip":            (*file).tSkip,
		"log":             (*file).tLog,
	} {
		t.Methods[name] = func(c *lua.Call) ([]lua.Value, error) {
			o := object(c).(*testObject)
			if o.e.ended {
				return nil, fmt.Errorf("t:%s: this t belongs to test `%s`, which has ended", name, o.test.name)
			}
			return method(f, value.MethodArgs(c, "t:"+name), o.e)
		}
	}
	return t
}

// object is the Go side of the userdata a method was called on.
func object(c *lua.Call) any { return c.Arg(1).(*lua.Userdata).Object() }

// tostring renders a value as Lua's tostring does, with metamethods; where those fail, by
// its type.
func tostring(c *lua.Call, v lua.Value) string {
	text, err := c.ToString(v)
	if err != nil {
		return lua.TypeName(v)
	}
	return text
}

// failed notes a failure that no pcall undoes, and gives the error to raise. Inside
// assert_raises it is the raise wanted and only raised.
func (e *execution) failed(c *lua.Call, message, diff string) error {
	text := message
	if at := c.Caller().String(); at != "" {
		text = at + ": " + message
	}
	if e.failure == nil && e.isolating[c.Thread()] == 0 {
		e.failure = &failure{message: text, diff: diff, traceback: cleanTraceback(c.Traceback()), ops: e.trace.report()}
	}
	return &lua.Raise{Value: text}
}

// message is the optional text of an assertion at argument i.
func message(a value.Args, i int, absent string) string {
	if a.Value(i) == nil {
		return absent
	}
	return tostring(a.Call, a.Value(i))
}

func (f *file) tAssert(a value.Args, e *execution) ([]lua.Value, error) {
	if v := a.Value(1); v == nil || v == false {
		return nil, e.failed(a.Call, message(a, 2, "assertion failed"), "")
	}
	return nil, nil
}

// same is Lua's ==.
func (f *file) same(a value.Args) (bool, error) {
	values, err := a.Call.Call(f.equal, a.Value(1), a.Value(2))
	if err != nil {
		return false, err
	}
	return values[0] == true, nil
}

func (f *file) tAssertEq(a value.Args, e *execution) ([]lua.Value, error) {
	same, err := f.same(a)
	if err != nil || same {
		return nil, err
	}
	left, right := a.Value(1), a.Value(2)
	l, r := tostring(a.Call, left), tostring(a.Call, right)
	if l == r {
		l, r = l+" ("+lua.TypeName(left)+")", r+" ("+lua.TypeName(right)+")"
	}
	text := fmt.Sprintf("%s: %s ~= %s", message(a, 3, "assert_eq failed"), value.Clip(l, messageValue), value.Clip(r, messageValue))
	return nil, e.failed(a.Call, text, f.diff(a.Call, left, right))
}

func (f *file) tAssertNeq(a value.Args, e *execution) ([]lua.Value, error) {
	same, err := f.same(a)
	if err != nil || !same {
		return nil, err
	}
	text := fmt.Sprintf("%s: %s == %s", message(a, 3, "assert_neq failed"),
		value.Clip(tostring(a.Call, a.Value(1)), messageValue), value.Clip(tostring(a.Call, a.Value(2)), messageValue))
	return nil, e.failed(a.Call, text, "")
}

// diff shows where two long strings or two tables differ.
func (f *file) diff(c *lua.Call, left, right lua.Value) string {
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
	leaf := func(v lua.Value) string { return tostring(c, v) }
	lText, rText := value.Render(l, leaf), value.Render(r, leaf)
	if lText == rText {
		return "both tables hold the same, but assert_eq compares tables by identity:\n" + value.Clip(lText, messageContain)
	}
	return titled(textdiff.Lines(lText, rText))
}

func titled(diff string) string {
	if diff == "" {
		return ""
	}
	return "difference (- first, + second):\n" + diff
}

func (f *file) tAssertContains(a value.Args, e *execution) ([]lua.Value, error) {
	s, ok1 := a.Value(1).(string)
	needle, ok2 := a.Value(2).(string)
	name := message(a, 3, "assert_contains failed")
	if !ok1 || !ok2 {
		return nil, e.failed(a.Call, fmt.Sprintf("%s: needs two strings, got %s and %s", name,
			lua.TypeName(a.Value(1)), lua.TypeName(a.Value(2))), "")
	}
	if strings.Contains(s, needle) {
		return nil, nil
	}
	return nil, e.failed(a.Call, fmt.Sprintf("%s: %s not found in: %s", name,
		value.Clip(needle, messageValue), value.Clip(s, messageContain)), "")
}

func (f *file) tAssertRaises(a value.Args, e *execution) ([]lua.Value, error) {
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
		return nil, e.failed(a.Call, message(a, 2, "assert_raises")+": expected to raise", "")
	}
	var raised *lua.Error
	if !errors.As(err, &raised) {
		return nil, err
	}
	return []lua.Value{raised.Value}, nil
}

func (f *file) tFail(a value.Args, e *execution) ([]lua.Value, error) {
	return nil, e.failed(a.Call, message(a, 1, "explicit failure (t:fail)"), "")
}

func (f *file) tSkip(a value.Args, e *execution) ([]lua.Value, error) {
	reason := message(a, 1, "skipped (t:skip)")
	if e.skipped == nil {
		e.skipped = &reason
	}
	return nil, &lua.Raise{Value: "test skipped: " + reason, Level: 1}
}

func (f *file) tLog(a value.Args, e *execution) ([]lua.Value, error) {
	text, err := a.Call.ToString(a.Value(1))
	if err != nil {
		return nil, err
	}
	e.log = append(e.log, text)
	return nil, nil
}
