package script

import (
	"errors"
	"fmt"
	"strings"

	"provium/internal/lua"
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
type testMethod func(f *file, a args, e *execution) ([]lua.Value, error)

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
			return method(f, methodArgs(c, "t:"+name), o.e)
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
		return typeName(v)
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
func message(a args, i int, absent string) string {
	if a.value(i) == nil {
		return absent
	}
	return tostring(a.c, a.value(i))
}

func (f *file) tAssert(a args, e *execution) ([]lua.Value, error) {
	if v := a.value(1); v == nil || v == false {
		return nil, e.failed(a.c, message(a, 2, "assertion failed"), "")
	}
	return nil, nil
}

// same is Lua's ==.
func (f *file) same(a args) (bool, error) {
	values, err := a.c.Call(f.equal, a.value(1), a.value(2))
	if err != nil {
		return false, err
	}
	return values[0] == true, nil
}

func (f *file) tAssertEq(a args, e *execution) ([]lua.Value, error) {
	same, err := f.same(a)
	if err != nil || same {
		return nil, err
	}
	left, right := a.value(1), a.value(2)
	l, r := tostring(a.c, left), tostring(a.c, right)
	if l == r {
		l, r = l+" ("+typeName(left)+")", r+" ("+typeName(right)+")"
	}
	text := fmt.Sprintf("%s: %s ~= %s", message(a, 3, "assert_eq failed"), clip(l, messageValue), clip(r, messageValue))
	return nil, e.failed(a.c, text, f.diff(a.c, left, right))
}

func (f *file) tAssertNeq(a args, e *execution) ([]lua.Value, error) {
	same, err := f.same(a)
	if err != nil || !same {
		return nil, err
	}
	text := fmt.Sprintf("%s: %s == %s", message(a, 3, "assert_neq failed"),
		clip(tostring(a.c, a.value(1)), messageValue), clip(tostring(a.c, a.value(2)), messageValue))
	return nil, e.failed(a.c, text, "")
}

// diff shows where two long strings or two tables differ.
func (f *file) diff(c *lua.Call, left, right lua.Value) string {
	if l, ok := left.(string); ok {
		if r, ok := right.(string); ok {
			return titled(diffStrings(l, r))
		}
		return ""
	}
	l, ok1 := left.(*lua.Table)
	r, ok2 := right.(*lua.Table)
	if !ok1 || !ok2 {
		return ""
	}
	leaf := func(v lua.Value) string { return tostring(c, v) }
	lText, rText := render(l, leaf), render(r, leaf)
	if lText == rText {
		return "both tables hold the same, but assert_eq compares tables by identity:\n" + clip(lText, messageContain)
	}
	return titled(diffLines(lText, rText))
}

func titled(diff string) string {
	if diff == "" {
		return ""
	}
	return "difference (- first, + second):\n" + diff
}

func (f *file) tAssertContains(a args, e *execution) ([]lua.Value, error) {
	s, ok1 := a.value(1).(string)
	needle, ok2 := a.value(2).(string)
	name := message(a, 3, "assert_contains failed")
	if !ok1 || !ok2 {
		return nil, e.failed(a.c, fmt.Sprintf("%s: needs two strings, got %s and %s", name,
			typeName(a.value(1)), typeName(a.value(2))), "")
	}
	if strings.Contains(s, needle) {
		return nil, nil
	}
	return nil, e.failed(a.c, fmt.Sprintf("%s: %s not found in: %s", name,
		clip(needle, messageValue), clip(s, messageContain)), "")
}

func (f *file) tAssertRaises(a args, e *execution) ([]lua.Value, error) {
	fn, err := a.function(1, "fn")
	if err != nil {
		return nil, err
	}
	thread, skipped := a.c.Thread(), e.skipped
	e.isolating[thread]++
	_, err = a.c.Call(fn)
	e.isolating[thread]--
	switch {
	case thread != nil && thread.Interrupted() != nil, e.skipped != skipped && err != nil:
		return nil, err // the end of the test is not what was meant
	case err == nil:
		return nil, e.failed(a.c, message(a, 2, "assert_raises")+": expected to raise", "")
	}
	var raised *lua.Error
	if !errors.As(err, &raised) {
		return nil, err
	}
	return []lua.Value{raised.Value}, nil
}

func (f *file) tFail(a args, e *execution) ([]lua.Value, error) {
	return nil, e.failed(a.c, message(a, 1, "explicit failure (t:fail)"), "")
}

func (f *file) tSkip(a args, e *execution) ([]lua.Value, error) {
	reason := message(a, 1, "skipped (t:skip)")
	if e.skipped == nil {
		e.skipped = &reason
	}
	return nil, &lua.Raise{Value: "test skipped: " + reason, Level: 1}
}

func (f *file) tLog(a args, e *execution) ([]lua.Value, error) {
	text, err := a.c.ToString(a.value(1))
	if err != nil {
		return nil, err
	}
	e.log = append(e.log, text)
	return nil, nil
}
