package script

import (
	"slices"
	"strings"
	"testing"
	"time"

	"provium/internal/fakemachine"
	"provium/internal/localvmm"
)

// TestPanicDuringOperations has the kernel of vm `a` panic while QEMU is at something. The test fails with the panic,
// whether the operation does or not, and the next test has its guest.
func TestPanicDuringOperations(t *testing.T) {
	for name, c := range map[string]struct {
		body, command string // of QEMU, during which the kernel panics; "" is a restore
	}{
		"snapshot":     {`vm:snapshot()`, "stop"},
		"fork":         {`vm:fork()`, "stop"},
		"lab snapshot": {`provium:snapshot()`, "stop"},
		"pause":        {`vm:pause() vm:resume()`, "stop"},
		"power button": {`vm:power_button("1m")`, "system_powerdown"},
		"hot-plug":     {`vm:attach_disk{size = "1M"}`, "device_add"},
		"reset":        {`vm:reset()`, "system_reset"},
		"restore":      {`local s = vm:snapshot() vm:shutdown() vm:restore(s)`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := runOn(t, `
test("panics", {timeout = "1m"}, function(t)
  local vm = provium:vm("a", "host"):boot()
  `+c.body+`
  pcall(vm.run, vm, "true")
end)
test("next", function(t) provium:vm("b", "host"):boot():run("true"):assert_ok() end)
`, func(m *fakemachine.Machine) {
				if c.command != "" && m.Name() == "a" {
					panicAt(t, m, c.command)
				} else if c.command == "" && m.Restored() {
					m.Panic("at the restore")
				}
			}, nil)
			e := o.failed(t, "panics", "Kernel panic - not syncing: at the "+map[bool]string{true: "restore",
				false: "command"}[c.command == ""])
			if strings.Contains(e.Reason, "timed out after 1m") {
				t.Error(e.Reason)
			}
			o.passed(t, "next")
		})
	}
}

// panicAt has the kernel panic as soon as a command of the monitor comes, before that is carried out.
func panicAt(t *testing.T, m *fakemachine.Machine, command string) {
	until := make(chan struct{})
	m.OnCommand(command, localvmm.Reply{Before: until})
	go func() {
		defer close(until)
		for !slices.Contains(m.Commands(), command) {
			select {
			case <-t.Context().Done():
				return
			case <-time.After(time.Millisecond):
			}
		}
		m.Panic("at the command")
	}()
}

// TestTwoPanics has two guests panic at once: the test fails with both.
func TestTwoPanics(t *testing.T) {
	o := runOn(t, `
test("both", function(t)
  local a, b = provium:vm("a", "host"):boot(), provium:vm("b", "host"):boot()
  pcall(parallel, {function() a:run("panic") end, function() b:run("panic") end})
end)
test("next", function(t) provium:vm("c", "host"):boot():run("true"):assert_ok() end)
`, addFaults, nil)
	o.failed(t, "both", "guest failure on vm `a`: Kernel panic", "guest failure on vm `b`: Kernel panic")
	o.passed(t, "next")
}
