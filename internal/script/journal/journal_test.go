package journal

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"provium/internal/event"
	"provium/internal/guest"
	"provium/internal/lua"
)

func TestOutcomes(t *testing.T) {
	state, err := lua.New(lua.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	run := func(r *guest.RunResult) []lua.Value {
		return []lua.Value{state.NewUserdata(&lua.Type{Name: "RunResult"}, r)}
	}
	table := func(pairs ...any) []lua.Value {
		out := state.NewTable()
		for i := 0; i < len(pairs); i += 2 {
			if err := out.Set(pairs[i], pairs[i+1]); err != nil {
				t.Fatal(err)
			}
		}
		return []lua.Value{out}
	}
	failed := &guest.OpError{Op: "stat", Errno: 2, Name: "ENOENT", Text: "No such file"}
	for _, c := range []struct {
		values []lua.Value
		err    error
		want   string // text, failed, errno, output
	}{
		{nil, nil, ` false 0 ""`},
		{nil, errors.New("first\nsecond"), `first true 0 ""`},
		{nil, fmt.Errorf("vm `a`: %w", failed), `vm ` + "`a`" + `: stat: No such file true 2 ""`},
		{run(&guest.RunResult{Status: guest.Exited, Stdout: []byte("out"), Stderr: []byte("err")}), nil,
			`exit 0 false 0 "out"`},
		{run(&guest.RunResult{Status: guest.Exited, ExitCode: 3, Stdout: []byte("out"), Stderr: []byte("err")}), nil,
			`exit 3 false 0 "errout"`},
		{run(&guest.RunResult{Status: guest.Signalled, Signal: 9}), nil, `signal 9 (SIGKILL) false 0 ""`},
		{run(&guest.RunResult{Status: guest.TimedOut, Stdout: []byte("so far")}), nil, `timed out false 0 "so far"`},
		{table("ret", int64(-1), "errno", int64(13)), nil, `ret -1, EACCES false 13 ""`},
		{table("ret", int64(7), "errno", int64(0)), nil, `ret 7 false 0 ""`},
		{table("size", int64(7), int64(1), "x"), nil, `{"x", size = 7} false 0 ""`},
		{[]lua.Value{"text"}, nil, `4 bytes "text" false 0 ""`},
		{[]lua.Value{nil, int64(14)}, nil, `EFAULT false 14 ""`},
		{[]lua.Value{nil}, nil, `nil false 0 ""`},
		{[]lua.Value{int64(3)}, nil, `3 false 0 ""`},
	} {
		o := OutcomeOf(c.values, c.err)
		if got := fmt.Sprintf("%s %v %d %q", o.Text, o.Failed, o.Errno, o.Output); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
		if isExit := o.ExitCode != nil; isExit != (len(o.Text) > 4 && o.Text[:4] == "exit") {
			t.Errorf("%s: exit code %v", o.Text, o.ExitCode)
		}
	}
}

// TestLongOperation has one announced that does not end.
func TestLongOperation(t *testing.T) {
	got := make(chan event.Event, 2)
	j := &Journal{Emit: func(e event.Event) { got <- e }, Path: "f", On: true}
	start := time.Unix(5, 0)
	op := j.Begin(Call{Test: "t", VM: "n1", Text: "vm:run()", Where: "f:3"}, start)
	want := event.OperationStarted{Path: "f", Name: "t", ID: 1, VMName: "n1", Call: "vm:run()", Where: "f:3",
		StartNS: 5e9}
	if e := <-got; e != event.Event(want) {
		t.Errorf("got %+v", e)
	}
	op.Waited(start.Add(time.Second))
	op.End(Outcome{Text: "x", Failed: true, Errno: 5})
	op.announce() // too late
	ended := event.OperationEnded{Path: "f", Name: "t", ID: 1, VMName: "n1", Call: "vm:run()", Where: "f:3",
		StartNS: 5e9, DurationNS: 1e9, Status: event.OperationFailed, Result: "x", Errno: 5}
	if e := <-got; e != event.Event(ended) || len(got) != 0 {
		t.Errorf("got %+v", e)
	}
	brief := &Journal{Emit: j.Emit, On: true, Brief: true}
	op = brief.Begin(Call{}, start)
	op.Waited(start)
	op.End(Outcome{})
	op = brief.Begin(Call{}, start)
	<-got // it takes long
	op.Waited(start)
	op.End(Outcome{})
	if e := <-got; e.Kind() != event.KindOperationEnded || len(got) != 0 {
		t.Errorf("got %+v", e)
	}
	off := &Journal{Emit: j.Emit}
	op = off.Begin(Call{}, start)
	op.Waited(start)
	op.End(Outcome{})
	if len(got) != 0 {
		t.Error("recorded, though nobody wants it")
	}
}
