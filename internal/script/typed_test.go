package script

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"provium/internal/dialog"
)

// typist is a person who types into a conversation.
type typist struct {
	t *testing.T
	x *dialog.Exchange
}

func (p typist) run(source string) dialog.Shown {
	p.t.Helper()
	s, err := p.x.Run(source)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// converse begins a conversation on a fake machine.
func converse(t *testing.T) (p typist, print *strings.Builder) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	p, print = typist{t, dialog.New()}, &strings.Builder{}
	ready, ended := make(chan string, 1), make(chan error, 1)
	project, host := t.TempDir(), testHost(t)
	go func() {
		err := Converse(ctx, Interactive{
			Env:  Env{Project: project, Host: host, Stdout: print},
			Name: "box", Profile: "host", Dialog: p.x, Ready: func(text string) { ready <- text }})
		p.x.End(err)
		ended <- err
	}()
	t.Cleanup(func() {
		p.x.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		cancel()
	})
	select {
	case text := <-ready:
		if !strings.Contains(text, "vm(box state=booted") {
			t.Errorf("%q", text)
		}
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	return p, print
}

func TestTyped(t *testing.T) {
	p, print := converse(t)
	for _, c := range []struct {
		source, want string
		incomplete   bool
	}{
		{"1 + 1", "2", false},
		{"nil, false", "nil\nfalse", false},
		{"x = 5", "", false},
		{"local y = x + 1", "", false},
		{"y", "6", false},
		{"local function f() return y end", "", false},
		{"f()", "6", false},
		{"= x", "5", false},
		{`"one line\n"`, `"one line\n"`, false},
		{`"two\nlines\n"`, "[[\ntwo\nlines\n]]", false},
		{"{b = {1, 2}, a = vm}", "a = vm(box state=booted", false},
		{`vm:run("echo a; echo b")`, "RunResult{ status=exited, stdout=<4 bytes>, stderr=<0 bytes> }\n" +
			"stdout: [[\na\nb\n]]", false},
		{"for i = 1, 2 do", "", true},
		{"for i = 1, 2 do\nprint(i)\nend", "", false},
		{"error('wrong')", "typed:1: wrong", false},
		{"error({code = 3})", "code = 3", false},
		{"x = = 1", "unexpected symbol near", false},
		{"vm:red_file('x')", "read_file", false},
		{"vm.x.y", "", false},
		{"provium:vm('box') == vm", "true", false},
		{"os.exit(1)", "os.exit", false},
		{"x", "5", false},
	} {
		s := p.run(c.source)
		if s.Incomplete != c.incomplete || !strings.Contains(s.Text, c.want) || c.want == "" && c.source[0] != 'v' &&
			s.Text != "" {
			t.Errorf("%s: %+v", c.source, s)
		}
	}
	if print.String() != "1\n2\n" {
		t.Errorf("printed %q", print)
	}
}

func TestTypedBreak(t *testing.T) {
	p, _ := converse(t)
	for _, source := range []string{"while true do end", "begun = true vm:run('sleep 1000')",
		"while true do pcall(error) end"} {
		go func() {
			time.Sleep(time.Millisecond) // too early is no harm: Run drops one that came before
			p.x.Break()
		}()
		stop := make(chan struct{})
		go func() { // until it is heard
			for {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
					p.x.Break()
				}
			}
		}()
		s := p.run(source)
		close(stop)
		if s.Text != "interrupted" {
			t.Errorf("%s: %q", source, s.Text)
		}
	}
	if s := p.run("vm:state()"); s.Text != `"booted"` {
		t.Errorf("%q", s.Text)
	}
}

func TestTypedCompletion(t *testing.T) {
	p, _ := converse(t)
	p.run("things = {first = {second = vm}, ['no name'] = 1}")
	for line, want := range map[string][]string{
		"vm:read_f":             {"vm:read_file"},
		"print(vm:read_f":       {"print(vm:read_file"},
		"x = things.fi":         {"x = things.first"},
		"things.first.second:s": {"things.first.second:setxattr", "things.first.second:shutdown"},
		"provium.bo":            {"provium.boot", "provium.box"},
		"provium.box:stat":      {"provium.box:stat", "provium.box:state"},
		"string.gma":            {"string.gmatch"},
		"whi":                   {"while"},
		"wait_":                 {"wait_until"},
		"nothing.at.all":        nil,
		"vm:run('x').std":       {"vm:run('x').stdout", "vm:run('x').stderr"},
		"vm:clock():g":          {"vm:clock():get"},
		"vm:boot{me":            {"vm:boot{memory"},
		"nothing('x').":         nil,
	} {
		names, err := p.x.Complete(line)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range want {
			if !slices.Contains(names, name) {
				t.Errorf("%s: %v, want %v", line, names, want)
			}
		}
		if want == nil && len(names) > 0 {
			t.Errorf("%s: %v", line, names)
		}
	}
}

// asked is a person who types what is given and leaves.
type asked struct {
	sources []string
	why     []string
	shown   []string
	opened  int
}

func (a *asked) Open(_ context.Context, test, why string) (Dialog, func(), error) {
	a.opened++
	a.why = append(a.why, test+": "+why)
	x := dialog.New()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer x.Close()
		for _, source := range a.sources {
			s, err := x.Run(source)
			if err != nil {
				return
			}
			a.shown = append(a.shown, s.Text)
		}
	}()
	return x, func() { x.End(nil); <-done }, nil
}

const pausedSource = `
local vm = provium:vm("box", "host"):boot()
local outer = {1}
test("stops", {timeout = "50ms"}, function(t)
  local inner = "seen"
  t:pause("look")
end)
test("fails", function(t)
  local _ = outer
  vm:write_file("/tmp/x", "kept")
  t:fail("as wished")
end)
`

func runPaused(t *testing.T, source string, change func(*Config)) outcome {
	t.Helper()
	return runFile(t, context.Background(), write(t, map[string]string{testPath: source}), change)
}

func TestPause(t *testing.T) {
	a := &asked{sources: []string{"inner", "outer[1]", "vm:name()", "vm:run('sleep 0.2').exit_code", "new = 7"}}
	o := runPaused(t, pausedSource, func(c *Config) { c.Pauses = a })
	if o.Passed != 1 || o.Failed != 1 || a.opened != 1 {
		t.Fatalf("%+v %+v", o, a)
	}
	if want := []string{`"seen"`, "1", `"box"`, "0", ""}; !slices.Equal(a.shown, want) {
		t.Errorf("%q", a.shown)
	}
	if !strings.Contains(a.why[0], "stops: ") || !strings.Contains(a.why[0], ":6: look") {
		t.Error(a.why)
	}
}

func TestPauseOnFailure(t *testing.T) {
	a := &asked{sources: []string{"outer and outer[1]", "vm:state()"}}
	o := runPaused(t, pausedSource, func(c *Config) { c.Pauses, c.PauseOnFailure = a, true })
	if o.Passed != 1 || o.Failed != 1 || a.opened != 2 {
		t.Fatalf("%+v %+v", o, a)
	}
	if !strings.Contains(a.why[1], "as wished") || !slices.Equal(a.shown[2:], []string{"1", `"booted"`}) {
		t.Errorf("%+v", a)
	}
}

// TestPauseBeforeCleaning has the person see the guests as they were at the failure.
func TestPauseBeforeCleaning(t *testing.T) {
	a := &asked{sources: []string{`vm:read_file("/tmp/x")`}}
	o := runOn(t, `
local vm = provium:vm("box", "host"):boot()
after_each(function() vm:write_file("/tmp/x", "cleaned") end)
test("fails", function(t)
  t:defer(function() vm:write_file("/tmp/x", "deferred") end)
  vm:write_file("/tmp/x", "kept")
  t:fail("as wished")
end)
test("oops", function(t)
  vm:write_file("/tmp/x", "oopsed")
  vm:run("oops")
end)
test("cleaning fails", function(t)
  vm:write_file("/tmp/x", "fine")
  t:defer(function() error("broken") end)
end)
test("passes", function(t) t:assert_eq(vm:read_file("/tmp/x"), "cleaned") end)
`, addFaults, func(c *Config) { c.Pauses, c.PauseOnFailure = a, true })
	if want := []string{`"kept"`, `"oopsed"`, `"cleaned"`}; !slices.Equal(a.shown, want) || o.Passed != 1 {
		t.Errorf("%q, %+v", a.shown, o.Result)
	}
	for i, want := range []string{"fails: tests/x.test.lua:7: as wished\n",
		"oops: guest failure on vm `box`: BUG: unable", "cleaning fails: tests/x.test.lua:15: broken"} {
		if !strings.HasPrefix(a.why[i], want) {
			t.Errorf("%s", a.why[i])
		}
	}
	e := o.failed(t, "oops", "guest failure on vm `box`: BUG: unable")
	if strings.Count(e.Reason, "BUG: unable") != 2 { // the title, and its report
		t.Error(e.Reason)
	}
}

func TestPauseWithoutPerson(t *testing.T) {
	o := runPaused(t, `test("stops", function(t) t:pause() end)`, func(c *Config) { c.PauseOnFailure = true })
	o.failed(t, "stops", "a pause needs a terminal")
}

// TestRewind takes typed operations back.
func TestRewind(t *testing.T) {
	p, _ := converse(t)
	expect := func(source, want string) {
		t.Helper()
		if s := p.run(source); !strings.Contains(s.Text, want) {
			t.Errorf("%s: %q, want %q", source, s.Text, want)
		}
	}
	expect("rewind", "there is no state to go back to")
	expect("vm:write_file('/x', '1')", "")
	expect("vm:write_file('/x', '2')", "")
	expect("tail = vm:tail_file('/x')", "")
	expect("vm:mkdir('/d')", "")        // an open stream keeps it from having a state
	expect("vm:read_file('/x')", `"2"`) // it changes nothing
	expect("tail:close()", "")
	expect(" rewind ", "rewound to the state before vm:tail_file(\"/x\") at typed:1\n"+
		"2 later operation(s) have none of their own: ")
	expect("rewind", `rewound to the state before vm:write_file("/x", "2") at typed:1`)
	expect("vm:read_file('/x')", `"1"`)
	expect("vm:write_file('/y', '3')", "")
	expect("rewind", `rewound to the state before vm:write_file("/y", "3")`)
	expect("rewind", `before vm:write_file("/x", "1")`)
	expect("vm:read_file('/x')", "No such file")
	expect("rewind", "there is no state to go back to")
	expect("rewind(2)", `before vm:write_file("/x", "2")`)
	expect("vm:read_file('/x')", `"1"`)
	expect("rewind(9)", "9 is not a state that is kept; these are:\n"+
		`    1 before vm:write_file("/x", "1") at typed:1`+"\n    2 ")
	expect("rewind(4)", `before vm:write_file("/y", "3")`)
	expect(`rewind("typed:1")`, `before vm:write_file("/y", "3")`)
	expect(`rewind("typed:2")`, "`typed:2` is not a state")
	expect("rewind(x)", "expected the number of a state")
	expect("vm:state()", "booted")
	expect("rewind = 5", "")
	expect("rewind", "5")
	if names, err := p.x.Complete("rew"); err != nil || !slices.Contains(names, "rewind") {
		t.Error(names, err)
	}
}

// TestRewindAtPause goes back to states from before the pause, which the report of the failure lists.
func TestRewindAtPause(t *testing.T) {
	const source = `
local vm = provium:vm("box", "host"):boot()
test("stops", function(t)
  vm:write_file("/tmp/x", "1")
  vm:write_file("/tmp/x", "2")
  t:pause("look")
  t:assert_eq(vm:read_file("/tmp/x"), "1")
  t:fail("as wished")
end)
test("is next", function(t) t:assert_eq(vm:read_file("/tmp/x"), "1") end)
`
	a := &asked{sources: []string{`rewind("x.test.lua:5")`, `rewind("x.test.lua:9")`}}
	o := runPaused(t, source, func(c *Config) { c.Pauses, c.Rewind = a, true })
	if want := `rewound to the state before vm:write_file("/tmp/x", "2") at tests/x.test.lua:5`; o.Passed != 1 ||
		len(a.shown) != 2 || a.shown[0] != want || !strings.Contains(a.shown[1], "is not a state that is kept") {
		t.Errorf("%q, %+v", a.shown, o.Result)
	}
	e := o.failed(t, "stops", "as wished")
	for _, want := range []string{"states that are kept, for rewind(N):\n",
		"    1 before vm:write_file(\"/tmp/x\", \"1\") at tests/x.test.lua:4\n",
		"    2 before vm:write_file(\"/tmp/x\", \"2\") at tests/x.test.lua:5"} {
		if !strings.Contains(e.Reason, want) {
			t.Errorf("%q not in %s", want, e.Reason)
		}
	}
}

// TestRewindIsBounded removes the oldest states first.
func TestRewindIsBounded(t *testing.T) {
	const source = `
local vm = provium:vm("box", "host"):boot()
test("stops", function(t)
  for i = 1, 5 do vm:write_file("/tmp/x", tostring(i)) end
  t:pause("look")
end)
`
	a := &asked{sources: []string{"rewind(4)", "rewind", "rewind"}}
	runPaused(t, source, func(c *Config) { c.Pauses, c.Rewind, c.RewindLimit = a, true, 1 })
	if len(a.shown) != 3 || !strings.HasPrefix(a.shown[0], "4 is not a state that is kept; these are:\n    5 before") ||
		!strings.Contains(a.shown[1], `"5"`) || !strings.Contains(a.shown[2], "no state to go back to") {
		t.Errorf("%q", a.shown)
	}
}
