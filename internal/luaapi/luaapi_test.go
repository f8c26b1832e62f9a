package luaapi

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The pages in docs/reference are those that `make reference` writes.
func TestReferenceIsCurrent(t *testing.T) {
	const dir = "../../docs/reference"
	var names []string
	for _, page := range Reference() {
		names = append(names, page.Name)
		text, err := os.ReadFile(filepath.Join(dir, page.Name))
		if err != nil {
			t.Errorf("%v (make reference writes it)", err)
		} else if string(text) != page.Text {
			t.Errorf("docs/reference/%s is not current (make reference writes it)", page.Name)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !slices.Contains(names, filepath.Base(file)) {
			t.Errorf("%s is no page of the reference", file)
		}
	}
}

// Every page that a class names is there, with its section.
func TestPagesExist(t *testing.T) {
	for _, c := range Classes() {
		page, section, _ := strings.Cut(c.Page, "#")
		text, err := os.ReadFile(filepath.Join("../../docs", page))
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		if section != "" && !slices.Contains(sections(string(text)), section) {
			t.Errorf("%s: %s has no section %s", c.Name, page, section)
		}
	}
}

// sections returns the anchors of the headings of a page.
func sections(text string) (anchors []string) {
	for line := range strings.SplitSeq(text, "\n") {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			anchors = append(anchors, strings.ReplaceAll(strings.ToLower(title), " ", "-"))
		}
	}
	return anchors
}

func TestFind(t *testing.T) {
	for name, want := range map[string]string{
		"vm":                   "vm",
		"vm:run":               "vm:run",
		"vm.run":               "vm:run",
		"VM:Run(":              "vm:run",
		"provium:vm":           "lab:vm",
		"provium":              "lab",
		"provium.timeout":      "lab.timeout",
		"json.encode":          "json.encode",
		"test":                 "test test",
		"test.each":            "test.each",
		"wait_until":           "wait_until",
		"power_cut":            "disk:power_cut",
		"stdout":               "run_result.stdout",
		"read_file":            "vm:read_file worker:read_file batch:read_file",
		"vm:":                  "",
		"nothing":              "",
		"a:b:c":                "",
		"":                     "",
		"packet":               "packet",
		"packet.src_port":      "packet.src_port",
		"_PROVIUM_SOURCE_PATH": "_PROVIUM_SOURCE_PATH",
	} {
		var got []string
		for _, e := range Find(name) {
			got = append(got, e.Name())
			if help := e.Help(); !strings.Contains(help, "Manual: docs/") {
				t.Errorf("help of %s: %s", name, help)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("Find(%q) = %v, want %s", name, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	for wrong, want := range map[string]string{
		"vm:rum": "vm:run", "vm:readfile": "vm:read_file", "json.encod": "json.encode", "asert_eq": "",
		"xyzzy": "", strings.Repeat("a", 100): "", "": "",
	} {
		if got := Nearest(wrong, Names()); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", wrong, got, want)
		}
	}
	if got := Nearest("x", nil); got != "" {
		t.Errorf("%q", got)
	}
}

func TestHelp(t *testing.T) {
	help := Find("vm:run")[0].Help()
	for _, want := range []string{
		"vm:run(command, arguments?) -> run_result\n", "  arguments?  string[]|options\n",
		"  timeout       duration: at this limit", "(default: false)", "Example:\n  vm:run(",
		"duration: A number of seconds (0.5)",
	} {
		if !strings.Contains(help, want) {
			t.Errorf("no %q in\n%s", want, help)
		}
	}
	if text := Overview(); !strings.Contains(text, "  dns_server    DNS servers\n") ||
		!strings.Contains(text, "  file_info ") {
		t.Error(text)
	}
	if help := Find("disk")[0].Help(); !strings.Contains(help, "  disk:power_cut(opts?)\n      Loses what") {
		t.Error(help)
	}
}

func TestOptionKeys(t *testing.T) {
	for _, c := range []struct {
		function string
		argument int
		want     string
	}{
		{"vm:push_file", 3, "perm auto_dep timeout"}, {"vm:push_file", 2, ""}, {"batch:stat", 2, "follow"},
		{"bridge:drop_rate", 1, "from to p burst"}, {"bridge:drop_rate", 2, "burst"}, {"nothing", 1, ""},
		{"wait_until", 2, "timeout interval desc"},
	} {
		if got := strings.Join(OptionKeys(c.function, c.argument), " "); got != c.want {
			t.Errorf("%s, argument %d: %s, want %s", c.function, c.argument, got, c.want)
		}
	}
}

func TestFunctionType(t *testing.T) {
	args, ok := FunctionType("nil|fun(vm: vm, disk?: disk|string)")
	if !ok || len(args) != 2 || args[0] != (Arg{Name: "vm", Type: "vm"}) ||
		args[1] != (Arg{Name: "disk", Type: "disk|string", Optional: true}) {
		t.Errorf("%v, %v", args, ok)
	}
	if _, ok := FunctionType("function"); ok {
		t.Error("no function type")
	}
}
