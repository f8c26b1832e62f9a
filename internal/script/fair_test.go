package script

import (
	"context"
	"strings"
	"testing"

	"provium/internal/fakemachine"
	"provium/internal/guest"
)

// TestClosingIsFair has a guest that answers, but does not close a process at the end of a test. With a CPU it is given
// up at the limit. Without one it is not, until four times the limit have passed on the clock; what was charged is in
// the warning. What comes before that is in time.
func TestClosingIsFair(t *testing.T) {
	const took = "closing took longer than 1m0s"
	for name, c := range map[string]struct {
		starved bool // the host leaves the guest no CPU
		limits  int  // that pass
		late    bool // then the process is closed
		want    string
	}{
		"with a CPU":         {false, 1, false, took + "\n"},
		"without a CPU":      {true, 4, false, took + " (4m0s on the clock, of which 4m0s do not count, since a"},
		"late without a CPU": {true, 3, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			clock := &fakemachine.Clock{}
			host, machines := fakeHost(t)
			host.Watch = guest.Watch{Time: clock, Hindered: clock.Hindered(c.starved)}
			closed := make(chan struct{})
			machines.Prepare(func(m *fakemachine.Machine) { m.OnOp("proc_close", fakemachine.Held(closed)) })
			ended := make(chan outcome, 1)
			pending, over := context.WithCancel(t.Context())
			go func() {
				defer over()
				ended <- runFile(t, t.Context(), write(t, map[string]string{testPath: `
local vm = provium:vm("a", "host"):boot()
test("it", function() vm:run_async("sleep 60") end)`}), func(c *Config) { c.Host = host })
			}()
			for i := range c.limits {
				if err := clock.Await(pending, i+1, closeLimit); err != nil {
					t.Fatalf("it was given up after %d times its limit", i)
				}
				clock.Advance(closeLimit)
			}
			if c.late {
				if err := clock.Await(pending, c.limits+1, closeLimit); err != nil {
					t.Fatal("it was given up before four times its limit")
				}
				close(closed)
			}
			o := <-ended
			o.passed(t, "it")
			if got := strings.Contains(o.stderr, "close of process("); got != (c.want != "") ||
				!strings.Contains(o.stderr, c.want) {
				t.Errorf("%q, want %q", o.stderr, c.want)
			}
		})
	}
}
