package script

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"provium/internal/event"
	"provium/internal/fakemachine"
)

var update = flag.Bool("update", false, "rewrite golden files")

// story returns events as lines of JSON, without what differs between runs.
func story(t *testing.T, events []event.Event) string {
	t.Helper()
	var b strings.Builder
	for _, e := range events {
		if e.Kind() == event.KindOperationStarted {
			continue // depends on how long an operation took
		}
		line, err := json.Marshal(event.Envelope{Event: e})
		if err != nil {
			t.Fatal(err)
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	text := regexp.MustCompile(`"(duration_ns|start_ns|ts|cid)":-?\d+`).ReplaceAllString(b.String(), `"$1":0`)
	return strings.ReplaceAll(text, `{"ts":0,"kind":`, `{"kind":`)
}

func goldenStory(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run with -update)\ngot:\n%s", path, got)
	}
}

const recordedFile = `
local vm = provium:vm("n1", "host", {disks = {{scratch = "1M", id = "d"}}}):boot()
local other = provium:vm("n2", "host")
local net = provium:bridge("net")
print("at file scope", 1)
test("operations", function(t)
  vm:run("echo hello")
  vm:run("fail")
  pcall(vm.run, vm, "/none", {})
  pcall(vm.read_file, vm, "/none")
  vm:syscall(39)
  t:log("a note")
  print("in a test")
  wait_until(function() return true end)
  t:step("a step", function() end)
end)
test("changes", function(t)
  net:attach(vm)
  net:attach(other)
  net:partition(vm, other)
  net:drop_rate({from = vm, to = other, p = 10})
  net:restore_all()
  net:nic(vm):disconnect()
  vm:disk("d"):fail_reads()
  vm:disk("d"):inject({op = "write", errno = "EIO", count = 1})
  vm:disk("d"):power_cut()
  vm:clock():set(1000)
  pcall(function() net:partition("nobody", vm) end)
  net:is_partitioned(vm, other)
end)
`

func recordedPrograms(m *fakemachine.Machine) {
	m.Program("echo hello", func(p *fakemachine.Process) int {
		p.Print("hello\n")
		return 0
	})
	m.Program("fail", func(p *fakemachine.Process) int { return 3 })
}

// TestEverythingIsRecorded compares all events of a file with a golden list.
func TestEverythingIsRecorded(t *testing.T) {
	o := runOn(t, recordedFile, recordedPrograms, func(c *Config) {
		c.Host.File, c.Host.Emit, c.Details = c.Path, c.Emit, true
	})
	o.passed(t, "operations")
	o.passed(t, "changes")
	goldenStory(t, "record.jsonl", story(t, o.events))
}

// TestNothingIsRecordedUnasked has the same file emit nothing but results and what it prints.
func TestNothingIsRecordedUnasked(t *testing.T) {
	o := runOn(t, recordedFile, recordedPrograms, func(c *Config) { c.Host.File = c.Path })
	for _, e := range o.events {
		switch e.Kind() {
		case event.KindOperationStarted, event.KindOperationEnded, event.KindNetworkChanged, event.KindDiskChanged,
			event.KindClockChanged:
			t.Errorf("%+v", e)
		}
	}
	o.passed(t, "changes")
}
