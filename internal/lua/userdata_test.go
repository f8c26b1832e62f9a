package lua

import (
	"errors"
	"runtime"
	"strings"
	"testing"
)

type machine struct {
	name   string
	closed bool
}

var machineType = &Type{
	Name: "vm",
	Methods: map[string]GoFunc{
		"run": func(c *Call) ([]Value, error) {
			return []Value{c.Arg(1).(*Userdata).Object().(*machine).name, c.Arg(2)}, nil
		},
		"read_file": func(c *Call) ([]Value, error) { return nil, errors.New("no such file") },
		"boot":      func(c *Call) ([]Value, error) { return []Value{c.Arg(1)}, nil },
	},
	Index: func(c *Call, obj any, key Value) (Value, bool, error) {
		if key == "title" {
			return "VM " + obj.(*machine).name, true, nil
		}
		return nil, false, nil
	},
	ToString: func(c *Call, obj any) string { return "vm(" + obj.(*machine).name + ")" },
	Fields:   []string{"title"},
	Meta: map[string]GoFunc{
		"__close": func(c *Call) ([]Value, error) {
			c.Arg(1).(*Userdata).Object().(*machine).closed = true
			return nil, nil
		},
	},
}

func TestUserdata(t *testing.T) {
	s := newState(t, Config{})
	m := &machine{name: "a"}
	must(s.SetGlobal("vm", s.NewUserdata(machineType, m)))
	must(s.SetGlobal("vm2", s.NewUserdata(machineType, m)))
	must(s.SetGlobal("other", s.NewUserdata(machineType, &machine{name: "b"})))
	for _, tc := range []struct{ code, want string }{
		{"return vm:run(1) == 'a'", "true"},
		{"return vm.run == vm.run, vm.run == other.run", "true true"},
		{"return vm == vm2, vm == other, ({[vm] = 1})[vm2], vm:boot() == vm", "true false 1 true"},
		{"return tostring(vm), type(vm), getmetatable(vm)", "vm(a) userdata vm"},
		{"return vm.title", "VM a"},
		{"return pcall(vm.read_file, vm, 'x')", "false t.lua:1: no such file"},
		{"return pcall(vm.run, 'x')",
			"false t.lua:1: vm:run: self is missing (got string): call it with ':' as in vm:run(...), not '.'"},
		{"return pcall(vm.run)", "(got nothing)"},
		{"return pcall(vm.run, io.stdout)", "(got userdata)"},
		{"vm:rnu()", "t.lua:1: unknown field or method `rnu` on vm (did you mean `run`?)"},
		{"vm:titel()", "(did you mean `title`?)"},
		{"vm:frobnicate()", "t.lua:1: unknown field or method `frobnicate` on vm"},
		{"return vm[1]", "t.lua:1: cannot index vm with a number"},
		{"vm.x = 1", "t.lua:1: cannot assign to field `x` of vm"},
		{"setmetatable(vm, {})", "bad argument #1 to 'setmetatable'"},
		{"debug.getmetatable(vm).__index(io.stdout, 'x')", "vm expected, got userdata"},
		{"debug.setmetatable(io.stdout, debug.getmetatable(vm)) io.stdout.x()", "vm expected, got userdata"},
		{"debug.setupvalue(vm.run, 1, 1 << 40) vm:run()", "function of Go is gone"},
	} {
		vals, err := eval(t, s, tc.code)
		var got []string
		for _, v := range vals {
			text, terr := callToString(s, v)
			if terr != nil {
				t.Fatal(terr)
			}
			got = append(got, text)
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if g := strings.Join(got, " "); !strings.Contains(g, tc.want) {
			t.Errorf("%s: got %q, want %q", tc.code, g, tc.want)
		}
	}
	mustEval(t, s, "local x <close> = other")
	if other := s.Global("other").(*Userdata).Object().(*machine); !other.closed {
		t.Error("not closed")
	}
	if u := s.Global("vm").(*Userdata); u.Object() != m || u.Type() != machineType || !same(t, s, u, s.Global("vm2")) {
		t.Errorf("got %v", u)
	}
}

func callToString(s *State, v Value) (text string, err error) {
	fn := s.NewFunction("f", func(c *Call) ([]Value, error) {
		text, err = c.ToString(v)
		return nil, err
	})
	_, err = s.Call(bg, fn)
	return text, err
}

func TestUserdataIsCollected(t *testing.T) {
	s := newState(t, Config{})
	define(t, s, "new", func(c *Call) ([]Value, error) {
		return []Value{c.State().NewUserdata(machineType, &machine{})}, nil
	})
	mustEval(t, s, "KEEP = new() for i = 1, 10000 do new() end")
	mustEval(t, s, "for i = 1, 1000 do local f = function() end new() end")
	s.Collect()
	s.Collect()
	if len(s.objects) != 1 || len(s.byObject) != 1 {
		t.Errorf("%d objects, %d by object", len(s.objects), len(s.byObject))
	}
	// Go keeps the userdata, Lua forgets it and gets it again.
	u := s.NewUserdata(machineType, &machine{name: "kept"})
	mustEval(t, s, "X = ... return X", u)
	mustEval(t, s, "X = nil")
	s.Collect()
	if u.id != 0 {
		t.Error("not forgotten")
	}
	if got := mustEval(t, s, "X = ... return X:run()", u); got[0] != "kept" {
		t.Errorf("got %v", got)
	}
	// A finalizer that goes before the userdata's own still has it.
	mustEval(t, s, "setmetatable({u = X}, {__gc = function(t) RESULT = t.u:run() end}) X = nil")
	s.Collect()
	if got := s.Global("RESULT"); got != "kept" {
		t.Errorf("got %v", got)
	}
}

func TestFunctionsAreCollected(t *testing.T) {
	s := newState(t, Config{})
	before := len(s.functions)
	for range 50 {
		for range 100 {
			s.NewFunction("f", func(*Call) ([]Value, error) { return nil, nil })
		}
		runtime.GC()
		s.Collect()
	}
	if len(s.functions) > before+2500 {
		t.Errorf("%d functions", len(s.functions))
	}
}

func TestReferencesAreReleased(t *testing.T) {
	s := newState(t, Config{})
	define(t, s, "take", func(c *Call) ([]Value, error) { c.Arg(1); c.Arg(2); return []Value{c.Arg(1)}, nil })
	before := int(s.c.refs)
	mustEval(t, s, "for i = 1, 20000 do take({}, print) end")
	for range 200 {
		runtime.GC()
		s.Collect()
		if int(s.c.refs) <= before {
			break
		}
	}
	if n := int(s.c.refs); n > before+10 {
		t.Errorf("%d references, %d before", n, before)
	}
}

func TestUserdataMisuse(t *testing.T) {
	s := newState(t, Config{})
	for name, fn := range map[string]func(){
		"not comparable": func() { s.NewUserdata(machineType, []int{1}) },
		"nil":            func() { s.NewUserdata(machineType, nil) },
		"two types": func() {
			m := &machine{}
			must(s.SetGlobal("m", s.NewUserdata(machineType, m)))
			s.NewUserdata(&Type{Name: "x"}, m)
		},
		"gc": func() { s.NewUserdata(&Type{Name: "x", Meta: map[string]GoFunc{"__gc": nil}}, s) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			fn()
		}()
	}
}

func TestClosest(t *testing.T) {
	names := []string{"for", "read_file", "run", "write_file"}
	for word, want := range map[string]string{
		"foo": "for", "read_flie": "read_file", "rnu": "run", "readfile": "read_file",
		"x": "", "": "", "frobnicate": "", "run": "run", "write-file": "write_file",
		"write": "write_file", "file": "read_file",
	} {
		if got := Closest(word, names); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}
