// Package provium holds the module's architecture test; the program is
// cmd/provium.
package provium

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"provium/internal/event"
	"provium/internal/wire"
)

// testMachines is the package that only tests may import.
const testMachines = "internal/fakemachine"

// testKernels is the package whose kernels only tests put into memories.
const testKernels = "internal/guestmem/fakekernel"

// testSymbols is the package with which only tests put symbols of a kernel into memories.
const testSymbols = "internal/kallsyms/fakesymbols"

// testFaults is the package with which tests, and the program that verifies a build, make
// host calls fail.
const testFaults = "internal/hostfault"

// testSizes is the package that says how much of heavy tests is run.
const testSizes = "internal/fulltest"

// testWords is the package with which tests look at messages.
const testWords = "internal/plainwords"

// testBrowser is the package with which tests drive a browser.
const testBrowser = "internal/browsertest"

// allowed says which package of ours may import which, and why. What is not
// listed is not allowed; an entry covers the subpackages of its key and of its
// values.
var allowed = map[string]struct {
	may []string
	why string
}{
	"internal/msgpack":        {nil, "a format"},
	"internal/agent/sys":      {nil, "system calls"},
	"internal/agent/boot":     {[]string{"internal/agent/sys"}, "brings a guest up, before there is a link"},
	"internal/agent/portable": {[]string{"internal/wire"}, "numbers of system calls"},
	"internal/agent/session":  {[]string{"internal/wire"}, "frames and operations, whatever those do"},
	"internal/agent/process": {[]string{
		"internal/agent/session", "internal/agent/sys", "internal/wire",
	}, "commands"},
	"internal/agent/executor": {[]string{
		"internal/agent/portable", "internal/agent/process", "internal/agent/session", "internal/agent/sys",
		"internal/wire",
	}, "system calls of tests, by programs that it starts"},
	"internal/agent/file": {[]string{
		"internal/agent/portable", "internal/agent/session", "internal/agent/sys", "internal/wire",
	}, "the guest's files"},
	"internal/agent/netconf": {[]string{
		"internal/agent/sys", "internal/wire",
	}, "the guest's network, without a link of its own"},
	"internal/agent/agenttest": {[]string{
		"internal/agent", "internal/guest",
	}, "joins an agent and a client, for tests"},

	"cmd/provium":       {[]string{"internal"}, "wires everything together"},
	"cmd/provium-agent": {[]string{"internal/agent"}, "the guest binary's main"},
	"cmd/provium-coverage": {[]string{
		"internal/event", "internal/report/coverage", "internal/terminal",
	}, "reports of event streams, without a run"},
	"bench": {[]string{"internal"}, "measures every layer"},
	"verify": {[]string{
		"internal/snapshot", "internal/kernelreport", testFaults,
	}, "tries to break the built program"},
	"internal/config": {[]string{"internal/arch", "internal/ready", "internal/userland", "internal/machine"},
		"a file format; userlands and what a boot waits for have notations of their own, machines words"},
	"internal/machine": {nil, "words for what a machine is made of"},
	"internal/tail":    {nil, "the end of an output"},
	"internal/beside": {[]string{"internal/machine", "internal/proc", "internal/tail"},
		"programs that serve devices of a guest, whatever QEMU is"},
	"internal/ready": {nil, "a notation"},
	"internal/guestos": {[]string{"internal/deadline", "internal/guest", "internal/ready"},
		"asks any guest by operations of its agent"},
	"internal/lua": {nil, "a general binding, without a domain word"},
	"internal/script": {[]string{"internal/recording",
		"internal/lua", "internal/lab", "internal/fixture", "internal/event", "internal/console",
		"internal/kernelreport",
		"internal/guest", "internal/stream",
		"internal/topology", "internal/admission", "internal/dialog", "internal/luaapi", "internal/network",
		"internal/luacomplete", "internal/terminal", "internal/artifacts", "internal/deadline",
		"internal/ready", "internal/guestos", "internal/seat",
	}, "runs test files over the Lua API; only it and its subpackages import lua"},
	"internal/run": {[]string{
		"internal/jsonerror",
		"internal/arch", "internal/msgpack", "internal/script", "internal/sched", "internal/fixture", "internal/lab",
		"internal/disk", "internal/config", "internal/event", "internal/proc", "internal/report",
		"internal/report/export", "internal/report/page",
		"internal/image", "internal/console", "internal/qemu", "internal/localvmm", "internal/admission",
		"internal/kernelreport", "internal/terminal", "internal/forkserver",
		"internal/history", "internal/hostload", "internal/hosttsc", "internal/snapshot", "internal/cachedir",
		"internal/choose", "internal/luascan",
		"internal/dialog", "internal/attach", "internal/preparation", "internal/artifacts", "internal/userland",
		"internal/shard", "internal/tempdir", "internal/deadline", "internal/kernelsource", "internal/determinism",
		"internal/templates",
	}, "dispatcher and runner: builds the Host of a lab from the configuration"},
	"internal/preparation": {[]string{
		"internal/config", "internal/event", "internal/image", "internal/luascan", "internal/proc", "internal/userland",
		"internal/script/fixtures",
	}, "builds and downloads before a run"},
	"internal/artifacts": {[]string{
		"internal/event", "internal/terminal",
	}, "files of failed tests, whatever is in them"},
	"internal/executable": {nil, "ELF files, and why a guest starts no program"},
	"internal/byhand": {[]string{
		"internal/lab", "internal/guest", "internal/stream", "internal/topology", "internal/executable",
	}, "one guest for a person or another program, without tests"},
	"internal/seat":     {nil, "pictures and keys"},
	"internal/debugger": {[]string{"internal/lab", "internal/qemu"}, "what gdb has to be told of a guest"},
	"internal/attach": {[]string{
		"internal/byhand", "internal/lab", "internal/msgpack", "internal/topology",
	}, "guests of one process, for another one"},
	"internal/choose":      {[]string{"internal/luascan"}, "which tests run"},
	"internal/luascan":     {[]string{"internal/config", "internal/event"}, "reads sources"},
	"internal/luaapi":      {nil, "describes the Lua API"},
	"internal/luacomplete": {[]string{"internal/luaapi", "internal/luascan"}, "looks at what is typed"},
	"internal/luacheck":    {[]string{"internal/luaapi", "internal/luascan"}, "looks at sources"},
	"internal/dialog":      {nil, "what a person types, between processes"},
	"internal/repl":        {[]string{"internal/dialog", "internal/terminal"}, "a terminal to type on"},
	"internal/display":     {[]string{"internal/event", "internal/terminal"}, "shows a run from its events"},
	"internal/watch":       {[]string{"internal/luascan"}, "changes of files, and which tests they concern"},
	"internal/hosttsc":     {nil, "knows no guests"},
	"internal/sched":       {nil, "knows no VM"},
	"internal/history":     {nil, "durations of files"},
	"internal/merge":       {[]string{"internal/event", "internal/shard"}, "which shards are there"},
	"internal/shard":       {[]string{"internal/jsonerror"}, "paths and durations"},
	"internal/hostload":    {nil, "measures the host"},
	"internal/admission":   {nil, "the pool as labs see it"},
	"internal/lab": {[]string{
		"internal/arch", "internal/qemu", "internal/instance", "internal/guest", "internal/network", "internal/disk",
		"internal/snapshot", "internal/image", "internal/event", "internal/parallel", "internal/stream",
		"internal/topology", "internal/admission", "internal/pattern", "internal/hosttsc", "internal/inspect",
		"internal/kernelreport", "internal/machine", "internal/ready", "internal/determinism", "internal/templates",
	}, "topology and life cycle over its backends"},
	"internal/qemu/commandrules": {nil, "which commands of the monitor change what"},
	"internal/recording":         {[]string{"internal/qmp"}, "what running a guest again takes"},
	"internal/recording/rerun": {[]string{
		"internal/recording", "internal/qemu", "internal/machine", "internal/inspect", "internal/deadline",
	}, "runs recorded guests again"},
	"internal/qemu/accelerator": {[]string{"internal/arch"}, "KVM or emulation"},
	"internal/qemu/mtimer":      {nil, "a protocol, over a connection"},
	"internal/qemu/registers":   {nil, "reads a text"},
	"internal/qemu/consolepipe": {nil, "what a console prints, to where it is kept"},
	"internal/pagemap":          {nil, "what a process has changed of a mapped file"},
	"internal/templates":        {[]string{"internal/snapshot"}, "guests that stand still to be copied"},
	"internal/lab/shaped": {[]string{
		"internal/arch", "internal/determinism", "internal/disk", "internal/image", "internal/instance",
		"internal/machine", "internal/network", "internal/qemu", "internal/ready", "internal/snapshot",
		"internal/topology", "internal/userland", "internal/beside",
	}, "what machines of some shape boot, for package lab"},
	"internal/arch":     {nil, "a table"},
	"internal/deadline": {nil, "time limits, whoever is waited for"},
	"internal/disk": {[]string{
		"internal/jsonerror", "internal/blockdev", "internal/nbd", "internal/qemu", "internal/snapshot",
		"internal/userland",
	}, "the disks of a VM over their contents"},
	"internal/instance": {[]string{
		"internal/qemu", "internal/qmp", "internal/guest", "internal/console", "internal/pattern", "internal/stream",
		"internal/snapshot", "internal/inspect", "internal/kernelreport", "internal/printk", "internal/deadline",
		"internal/ready", "internal/guestos",
	}, "one boot of a VM: QEMU, its consoles and the link to the agent"},
	"internal/diskcheck": {[]string{"internal/disk", "internal/guest", "internal/lab", "internal/topology"},
		"guests that check contents of disks"},
	"internal/tempdir": {nil, "directories"},
	"internal/topology": {[]string{"internal/jsonerror", "internal/disk", "internal/network", "internal/machine",
		"internal/ready"},
		"what is written down of labs"},
	"internal/fixture": {[]string{"internal/jsonerror", "internal/snapshot", "internal/cachedir"},
		"a cache of snapshots"},
	"internal/snapshot": {[]string{"internal/jsonerror", "internal/cachedir", "internal/machine"},
		"a file format, and a cache of such files"},
	"internal/sharedcache": {[]string{"internal/jsonerror"}, "entries of any cache, in a registry or a directory"},
	"internal/sharedcache/exchange": {[]string{
		"internal/sharedcache", "internal/snapshot", "internal/fixture", "internal/image/cache", "internal/history",
	}, "moves entries between a user's caches and a shared one"},
	"internal/cachedir": {nil, "who can have written what is in a cache"},
	"internal/qemu": {[]string{"internal/recording",
		"internal/arch", "internal/qmp", "internal/machine", "internal/proc", "internal/guestmem", "internal/hostload",
		"internal/pagemap", "internal/qemu/consolepipe", "internal/qemu/mtimer", "internal/qemu/registers",
		"internal/syncpoint", "internal/beside", "internal/tail", "internal/nbd"},
		"one QEMU process"},
	"internal/syncpoint":   {nil, "when a guest goes on, over sockets"},
	"internal/determinism": {[]string{"internal/syncpoint"}, "what guests did in two runs"},
	"internal/guestmem":    {nil, "finds a kernel in any memory"},
	"internal/printk":      {[]string{"internal/guestmem"}, "the log of a kernel; its tests have one in a memory"},
	"internal/vmcore":      {[]string{"internal/guestmem"}, "a file format of memory"},
	"internal/kallsyms":    {nil, "names of a kernel's addresses"},
	"internal/kerneltypes": {[]string{"internal/kallsyms"}, "where fields of a kernel's structures lie"},
	"internal/kerneltasks": {[]string{"internal/kallsyms", "internal/kerneltypes"}, "tasks on the CPUs of a kernel"},
	"internal/kmodules": {[]string{"internal/kallsyms", "internal/kerneltypes"},
		"names of addresses in a kernel's modules"},
	"internal/inspect": {[]string{"internal/recording",
		"internal/qemu", "internal/guestmem", "internal/printk", "internal/kallsyms",
		"internal/kmodules", "internal/kerneltasks", "internal/vmcore"},
		"looks into guests from outside: their log and their state"},
	"internal/qmp":       {nil, "a protocol"},
	"internal/guest":     {[]string{"internal/wire", "internal/deadline"}, "host side of the agent link"},
	"internal/wire":      {[]string{"internal/msgpack"}, "a protocol"},
	"internal/agent":     {[]string{"internal/wire"}, "guest side of the agent link"},
	"internal/vnet":      {nil, "a network of its own"},
	"internal/netserver": {[]string{"internal/vnet"}, "servers over frames; its tests have a switch"},
	"internal/network": {[]string{
		"internal/jsonerror", "internal/vnet", "internal/netserver", "internal/parallel", "internal/stream",
		"internal/qemu", "internal/syncpoint",
		"internal/guest", "internal/pattern",
	}, "bridges of a test file, and the netdevs of guests"},
	"internal/nbd":      {nil, "a protocol"},
	"internal/blockdev": {[]string{"internal/jsonerror", "internal/nbd"}, "a disk's contents, used through nbd"},
	"internal/erofs":    {nil, "a file system's format"},
	"internal/userland": {[]string{
		"internal/jsonerror", "internal/inputerror", "internal/arch", "internal/erofs", "internal/image/cache",
		"internal/image/decompress", "internal/cachedir",
	}, "root file systems of what the host has"},
	"internal/image": {[]string{
		"internal/jsonerror", "internal/inputerror", "internal/arch", "internal/image", "internal/proc",
		"internal/cachedir", "internal/userland", "internal/machine",
	}, "files to boot"},
	"internal/console":      {[]string{"internal/pattern", "internal/kernelreport"}, "text"},
	"internal/kernelreport": {nil, "the failure reports in a kernel's lines"},
	"internal/proc":         {nil, "the only starter of host processes"},
	"internal/forkserver":   {[]string{"internal/proc"}, "starts QEMU as a copy of one that proc has started"},
	"internal/localvmm": {[]string{
		"internal/proc", "internal/wire",
	}, "a QEMU without CPUs, at the seam of qemu.Starter"},
	testFaults:            {[]string{testSizes}, "host calls that fail, in tests"},
	testSizes:             {nil, "how much of heavy tests is run"},
	testBrowser:           {nil, "a browser, in tests"},
	"internal/jsonerror":  {nil, "words for errors"},
	"internal/inputerror": {nil, "words for errors"},
	testWords:             {nil, "words of messages, in tests"},
	testMachines: {[]string{
		"internal/localvmm", "internal/wire", "internal/image",
	}, "machines of unit tests"},
	"internal/event":  {[]string{"internal/jsonerror", "internal/msgpack", "internal/terminal"}, "a file format"},
	"internal/report": {[]string{"internal/event", "internal/terminal"}, "renders events and results"},
	"internal/report/page": {[]string{"internal/event", "internal/report", "internal/terminal"},
		"one HTML page of a run's events"},
	"internal/report/coverage": {[]string{"internal/event", "internal/report", "internal/terminal"},
		"which specifications have tests, and what a run has used"},
	"internal/report/export": {[]string{"internal/report", "internal/terminal"}, "formats of other programs"},
	"internal/terminal":      {nil, "texts of others, shown"},
	"tests":                  {nil, "runs the built program, as its users do"},

	"internal/stylecheck": {nil, "checks the sources, for make lint"},

	"internal/script/api": {[]string{
		"internal/lua", "internal/lab", "internal/fixture", "internal/guest", "internal/network",
		"internal/stream", "internal/script/binding", "internal/script/diskapi",
		"internal/script/fixtures", "internal/script/netapi", "internal/script/machineapi",
		"internal/script/osapi", "internal/script/value",
		"internal/topology", "internal/console", "internal/pattern", "internal/luaapi", "internal/printk",
		"internal/executable", "internal/ready",
	}, "methods of labs, VMs and guests; joins those of disks, networks, machines and operating systems"},
	"internal/script/osapi": {[]string{
		"internal/lua", "internal/lab", "internal/guestos", "internal/deadline", "internal/script/binding",
		"internal/script/value",
	}, "methods that wait for what a guest's operating system has reached"},
	"internal/script/apitest": {[]string{
		"internal/lua", "internal/lab", "internal/fixture", "internal/guest/handle", "internal/stream",
		"internal/script",
	}, "a session for tests of the methods"},
	"internal/script/binding": {[]string{
		"internal/lua", "internal/lab", "internal/disk", "internal/network", "internal/guest/handle",
		"internal/stream", "internal/script/value",
	}, "what the methods share; below those who have them"},
	"internal/script/diskapi": {[]string{
		"internal/lua", "internal/lab", "internal/disk", "internal/blockdev", "internal/script/binding",
		"internal/script/value", "internal/qemu",
		"internal/diskcheck",
	}, "methods of disks"},
	"internal/script/netapi": {[]string{
		"internal/lua", "internal/lab", "internal/network", "internal/netserver", "internal/vnet",
		"internal/stream", "internal/script/binding", "internal/script/value", "internal/topology",
	}, "methods of bridges and NICs"},
	"internal/script/machineapi": {[]string{
		"internal/lua", "internal/lab", "internal/qemu", "internal/topology", "internal/machine", "internal/debugger",
		"internal/seat",
		"internal/script/binding", "internal/script/luajson", "internal/script/value",
	}, "methods of the machine below a guest"},
	"internal/script/attachment": {[]string{
		"internal/lua", "internal/event", "internal/script/value",
	}, "what t:attach is given"},
	"internal/script/failure": {[]string{
		"internal/script/journal", "internal/script/value",
	}, "the text of a failed test"},
	"internal/script/fixtures": {[]string{
		"internal/lua", "internal/lab", "internal/fixture", "internal/event", "internal/admission",
	}, "finds, builds and restores fixtures; what runs their files is behind an interface"},
	"internal/script/journal": {[]string{
		"internal/lua", "internal/event", "internal/guest", "internal/disk", "internal/network",
		"internal/script/value",
	}, "what calls of the Lua API did, as events"},
	"internal/script/luajson":   {[]string{"internal/lua", "internal/script/value"}, "Lua values as JSON"},
	"internal/script/rewind":    {[]string{"internal/lab", "internal/topology"}, "earlier states of guests"},
	"internal/script/variables": {[]string{"internal/lua"}, "variables of code that stands still"},
	"internal/script/salvage": {[]string{"internal/recording",
		"internal/artifacts", "internal/lab", "internal/guest", "internal/disk", "internal/network", "internal/stream",
		"internal/parallel", "internal/topology", "internal/printk",
	}, "what guests of a test that has failed leave behind, as files"},
	"internal/script/scene": {[]string{
		"internal/lab", "internal/guest", "internal/disk", "internal/blockdev", "internal/network", "internal/vnet",
		"internal/parallel", "internal/script/failure", "internal/script/value",
		"internal/inspect", "internal/printk",
	}, "networks, disks and guests of a test that has failed"},
	"internal/script/textdiff": {[]string{
		"internal/script/value",
	}, "differences of texts; package value quotes them"},
	"internal/kernelsource": {nil, "reads debug information"},
	"internal/script/verdict": {[]string{"internal/kernelreport", "internal/luaapi", "internal/pattern"},
		"what reports of kernels mean for a test"},
	"internal/script/value": {[]string{"internal/lua", "internal/luaapi", "internal/pattern"},
		"Lua values to Go and back, without a domain word"},

	"internal/parallel": {nil, "goroutines, whatever they do"},
	"internal/guest/handle": {[]string{
		"internal/guest", "internal/parallel", "internal/stream", "internal/wire",
	}, "objects of a guest that a test holds"},
	"internal/pattern": {nil, "what is searched for in bytes"},
	"internal/stream":  {[]string{"internal/pattern"}, "bytes as they appear, from any source"},
}

// looksAtRequests are the packages whose tests look at what a fake agent gets.
var looksAtRequests = map[string]bool{"internal/guest/handle": true, "internal/lab": true, "internal/diskcheck": true,
	"internal/byhand": true, "internal/attach": true}

func covers(prefix, pkg string) bool { return pkg == prefix || strings.HasPrefix(pkg, prefix+"/") }

// rule finds the entry for a package: the longest key that covers it.
func rule(pkg string) (key string) {
	for k := range allowed {
		if covers(k, pkg) && len(k) > len(key) {
			key = k
		}
	}
	return key
}

func eachGoFile(t *testing.T, visit func(file, pkg string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && file != "." || d.Name() == "testdata"):
			return filepath.SkipDir
		case strings.HasSuffix(file, ".go"):
			visit(file, filepath.ToSlash(filepath.Dir(file)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func imports(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, i := range f.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func TestImports(t *testing.T) {
	eachGoFile(t, func(file, pkg string) {
		if pkg == "." {
			return
		}
		key := rule(pkg)
		if key == "" {
			t.Errorf("%s: package %s is not in the table of arch_test.go", file, pkg)
			return
		}
		for _, imp := range imports(t, file) {
			target, ours := strings.CutPrefix(imp, "provium/")
			if !ours || covers(key, target) {
				continue
			}
			if strings.HasSuffix(file, "_test.go") && (target == testMachines || target == "internal/localvmm" ||
				target == testKernels || target == testSymbols) {
				continue // tests run fake machines, with a kernel in their memory
			}
			if strings.HasSuffix(file, "_test.go") && (target == testFaults || target == testSizes ||
				target == testBrowser || target == testWords) {
				continue // tests have host calls fail, run in part or in full, and look at pages and messages
			}
			if strings.HasSuffix(file, "_test.go") && target == "internal/wire" && looksAtRequests[key] {
				continue // tests look at what a fake agent gets
			}
			if strings.HasSuffix(file, "_test.go") && covers("internal/script", key) &&
				target == "internal/script/apitest" {
				continue // tests of methods run them in its session
			}
			if strings.HasSuffix(file, "_test.go") && (target == "internal/proc" || covers("internal/agent", key) &&
				(covers("internal/agent", target) || target == "internal/guest")) {
				continue // tests start real processes, and link both ends of the protocol
			}
			if !slices.ContainsFunc(allowed[key].may, func(m string) bool { return covers(m, target) }) {
				t.Errorf("%s: %s may not import %s (%s)", file, key, target, allowed[key].why)
			}
		}
	})
}

// TestConfinedImports keeps abilities in the one package that has them.
func TestConfinedImports(t *testing.T) {
	confined := map[string][]string{
		"C":        {"internal/lua", "internal/proc"},
		"flag":     {"cmd", "internal/agent"},
		"net/http": {"internal/sharedcache"},
	}
	eachGoFile(t, func(file, pkg string) {
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		for _, imp := range imports(t, file) {
			homes, special := confined[imp]
			if special && !slices.ContainsFunc(homes, func(h string) bool { return covers(h, pkg) }) {
				t.Errorf("%s: only %v may import %s", file, homes, imp)
			}
		}
	})
}

// TestOnlyTestsImportTestMachines keeps the fake machines out of the program.
func TestOnlyTestsImportTestMachines(t *testing.T) {
	eachGoFile(t, func(file, pkg string) {
		if !strings.HasSuffix(file, "_test.go") && !covers(testMachines, pkg) &&
			slices.Contains(imports(t, file), "provium/"+testMachines) {
			t.Errorf("%s: only tests may import %s", file, testMachines)
		}
	})
}

// TestPackageSizes finds packages with a second job, by their size without tests.
func TestPackageSizes(t *testing.T) {
	const maxFiles, maxLines = 25, 4500
	files, lines := map[string]int{}, map[string]int{}
	eachGoFile(t, func(file, pkg string) {
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		files[pkg]++
		lines[pkg] += bytes.Count(text, []byte{'\n'})
	})
	for pkg := range files {
		if files[pkg] > maxFiles || lines[pkg] > maxLines {
			t.Errorf("%s has %d files and %d lines, at most %d and %d are allowed", pkg, files[pkg], lines[pkg],
				maxFiles, maxLines)
		}
	}
}

func TestNoJunkDrawers(t *testing.T) {
	eachGoFile(t, func(file, pkg string) {
		switch base := path.Base(pkg); base {
		case "util", "utils", "common", "helper", "helpers", "manager", "misc":
			t.Errorf("%s: a package called %s has no job", file, base)
		}
	})
}

// TestOneProtocolVersion compares the version of the event stream with that of the link,
// which are one number.
func TestOneProtocolVersion(t *testing.T) {
	if event.ProtocolVersion != wire.ProtocolVersion {
		t.Errorf("events have version %d, the link has %d", event.ProtocolVersion, wire.ProtocolVersion)
	}
}
