package script

import (
	"strings"
	"testing"

	"provium/internal/event"
	"provium/internal/fakemachine"
	"provium/internal/localvmm"
	"provium/internal/plainwords"
)

// TestMessagesAreForPeople has many things fail, each in another way.
func TestMessagesAreForPeople(t *testing.T) {
	for name, c := range map[string]struct {
		body    string // of a test; `vm` is booted
		prepare func(m *fakemachine.Machine)
	}{
		"an operation at its limit": {`vm:read_file("/x", {timeout = "50ms"})`, blocked("read_file")},
		"a command at its limit":    {`vm:run("hang", {timeout = "50ms"}):assert_ok()`, blocked("run")},
		"a test at its limit":       {`vm:stat("/x")`, blocked("stat")},
		"a batch at its limit":      {`vm:batch(function(b) b:stat("/x") end, {timeout = "50ms"})`, blocked("batch")},
		"a call at its limit":       {`vm:syscall(39)`, blocked("syscall")},
		"QEMU dies":                 {`vm:run("act")`, act(crash)},
		"QEMU dies under a command": {`vm:run_async("act"):wait()`, act(crash)},
		"QEMU dies at a snapshot":   {`vm:snapshot()`, replies("stop", localvmm.Reply{Die: true})},
		"QEMU refuses a snapshot":   {`vm:snapshot()`, replies("stop", localvmm.Reply{Refuse: "no"})},
		"QEMU dies at a pause":      {`vm:pause()`, replies("stop", localvmm.Reply{Die: true})},
		"QEMU refuses a disk": {`vm:attach_disk{size = "1M"}`,
			replies("device_add", localvmm.Reply{Refuse: "no"})},
		"QEMU dies at a disk":        {`vm:attach_disk{size = "1M"}`, replies("device_add", localvmm.Reply{Die: true})},
		"the link is lost":           {`vm:run("act")`, act((*fakemachine.Machine).DropLink)},
		"the link has noise":         {`vm:run("act")`, act((*fakemachine.Machine).WriteNoise)},
		"the kernel panics":          {`vm:run("act")`, act(func(m *fakemachine.Machine) { m.Panic("x") })},
		"a file that is missing":     {`vm:read_file("/nonexistent")`, nil},
		"a program is missing":       {`vm:push_program("/nonexistent/x")`, nil},
		"a disk's file is missing":   {`vm:attach_disk{image = "/nonexistent/x"}`, nil},
		"a snapshot is missing":      {`vm:shutdown() vm:restore("/nonexistent/x.snap")`, nil},
		"a snapshot is empty":        {`vm:shutdown() vm:restore("empty")`, nil},
		"a snapshot is something":    {`vm:shutdown() vm:restore("words")`, nil},
		"a snapshot is a directory":  {`vm:shutdown() vm:restore("/")`, nil},
		"a snapshot has no place":    {`vm:snapshot("/nonexistent/x.snap")`, nil},
		"a recording is empty":       {`vm:attach_disk{size = "1M"}:load_recording("empty")`, nil},
		"a module is missing":        {`require("nonexistent")`, nil},
		"a profile is missing":       {`provium:vm("b", "nonexistent"):boot()`, nil},
		"not a size":                 {`provium:vm("b", "host", {memory = "much"})`, nil},
		"not a duration":             {`vm:run("x", {timeout = "soon"})`, nil},
		"not an address":             {`provium:bridge("net", {addressing = "10.0.0.0/99"})`, nil},
		"a NIC has no name":          {`provium:bridge("net"):attach(vm, {nic = "x y"})`, nil},
		"not a port":                 {`vm:wait_port(99999999)`, nil},
		"not a pattern":              {`vm:console():expect({pattern = "["}, "50ms")`, nil},
		"a console that is silent":   {`vm:console():expect("x", "50ms")`, nil},
		"a console that ends":        {`local c = vm:console() vm:shutdown() c:expect("x", "50ms")`, nil},
		"not a filter":               {`provium:bridge("net"):capture{filter = "nonsense ("}`, nil},
		"a barrier that stays alone": {`parallel({function() provium:barrier("x", 2, "50ms") end})`, nil},
		"a wait that is in vain":     {`wait_until(function() return false end, {timeout = "50ms"})`, nil},
		"a process that is gone":     {`local p = vm:run_async("true") p:wait() vm:shutdown() p:kill()`, nil},
		"a host's program fails":     {`assert(io.open("/nonexistent"))`, nil},
		"a failed command":           {`vm:run("false"):assert_ok()`, nil},
		"JSON that is cut":           {`json.decode('{"a": [1')`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host, machines := fakeHost(t)
			host.Watch = quickWatch
			machines.Prepare(func(m *fakemachine.Machine) {
				if c.prepare != nil {
					c.prepare(m)
				}
			})
			project := write(t, map[string]string{"empty": "", "words": strings.Repeat("nothing ", 1000), testPath: `
local vm = provium:vm("a", "host"):boot()
test("it", {timeout = "1s"}, function(t)
  ` + c.body + `
end)`})
			o := runFile(t, t.Context(), project, func(c *Config) { c.Host = host })
			failed, ok := o.test(t, "it").(event.TestFailed)
			if !ok {
				t.Fatalf("it has not failed: %+v", o.test(t, "it"))
			}
			for _, said := range []string{failed.Reason, o.stderr} {
				for _, found := range plainwords.Jargon(said) {
					t.Error(found)
				}
			}
		})
	}
}

func blocked(op string) func(*fakemachine.Machine) {
	return func(m *fakemachine.Machine) { m.Block(op) }
}

func crash(m *fakemachine.Machine) { m.Crash("qemu: no luck\n") }

func replies(command string, how localvmm.Reply) func(*fakemachine.Machine) {
	return func(m *fakemachine.Machine) { m.OnCommand(command, how) }
}

// act makes the command `act`, which does something to the machine and does not end.
func act(do func(*fakemachine.Machine)) func(*fakemachine.Machine) {
	return func(m *fakemachine.Machine) {
		m.Program("act", func(p *fakemachine.Process) int {
			do(m)
			<-p.Context.Done()
			return 1
		})
	}
}
