package main

import (
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"provium/cmd/provium/internal/listing"
	"provium/internal/artifacts"
	"provium/internal/choose"
	"provium/internal/plainwords"
	"provium/internal/report"
	"provium/internal/run"
	"provium/internal/run/evidence"
	"provium/internal/shard"
)

var update = flag.Bool("update", false, "write the golden files")

// cli is a program in a directory of its own, with nothing of the process.
type cli struct {
	program
	t       *testing.T
	vars    map[string]string
	started []run.Options // of runs
}

// newCLI makes a directory with the given files, by path and text.
func newCLI(t *testing.T, files map[string]string) *cli {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil { // a umask may let the group write to it
		t.Fatal(err)
	}
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := &cli{t: t, vars: map[string]string{"HOME": filepath.Join(dir, "home"), "PATH": filepath.Join(dir, "path"),
		"TMPDIR": "/tmp"}}
	if err := os.Mkdir(c.vars["PATH"], 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.vars["PATH"], "qemu-system-x86_64"),
		[]byte("#!/bin/sh\necho QEMU emulator version 9.1.0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.program = program{
		env: func(name string) (string, bool) { v, ok := c.vars[name]; return v, ok },
		dir: dir, self: "/opt/provium", uid: 1000,
		signals: func() (<-chan os.Signal, func()) { return nil, func() {} },
		notify:  func(...os.Signal) (<-chan os.Signal, func()) { return nil, func() {} },
		runTests: func(_ context.Context, o run.Options) (int, error) {
			o.Events.Other = nil // what shows the run is no option
			c.started = append(c.started, o)
			return 1, nil
		},
	}
	return c
}

// run runs a command line and returns what it wrote.
func (c *cli) run(args ...string) (code int, stdout, stderr string) {
	c.t.Helper()
	var files [2]*os.File
	for i := range files {
		f, err := os.CreateTemp(c.t.TempDir(), "out")
		if err != nil {
			c.t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	c.stdout, c.stderr, c.code = files[0], files[1], 0
	code = c.main(context.Background(), args)
	text := func(f *os.File) string {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			c.t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err != nil {
			c.t.Fatal(err)
		}
		return string(b)
	}
	stdout, stderr = text(files[0]), text(files[1])
	for _, found := range plainwords.Jargon(stderr) {
		c.t.Errorf("%q says %s", args, found)
	}
	return code, stdout, stderr
}

const autoConfig = "[provium]\nroots = [\"tests\"]\n[profiles.host]\n"

func TestHelp(t *testing.T) {
	c := newCLI(t, nil)
	for _, verb := range []string{"", "list", "init", "doctor", "completion",
		"lsp-setup", "check", "help", "man", "image", "image show", "image build",
		"image list", "image clean", "image overlay",
		"fixture", "fixture list", "fixture build", "fixture rebuild", "fixture clean", "fixture stale", "prepare",
		"report", "coverage", "boots", "boots list", "boots clean", "cache",
		"cache push", "cache pull", "cache ls", "attach",
		"exec", "shell", "console", "repl"} {
		code, stdout, stderr := c.run(append(strings.Fields(verb), "--help")...)
		if code != 0 || stderr != "" {
			t.Errorf("%s --help: %d, %s", verb, code, stderr)
		}
		golden := filepath.Join("testdata", "help-"+strings.ReplaceAll(verb, " ", "-")+".txt")
		if verb == "" {
			golden = filepath.Join("testdata", "help.txt")
		}
		if *update {
			if err := os.WriteFile(golden, []byte(stdout), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if stdout != string(want) {
			t.Errorf("%s --help differs from %s:\n%s", verb, golden, stdout)
		}
	}
	_, want, _ := c.run("image", "show", "--help")
	if code, stdout, _ := c.run("help", "image", "show"); code != 0 || stdout != want {
		t.Errorf("help image show: %d, %s", code, stdout)
	}
	if code, _, stderr := c.run("help", "imgae"); code != 2 || !strings.Contains(stderr, "unknown command `imgae`") {
		t.Errorf("help imgae: %d, %s", code, stderr)
	}
	if code, stdout, _ := c.run("--version"); code != 0 || !strings.HasPrefix(stdout, "provium "+version+" (") {
		t.Errorf("--version: %d, %s", code, stdout)
	}
}

func TestOptions(t *testing.T) {
	five := func(o *run.Options) { o.Seed, o.Notes = 5, []string{"seed 5"} }
	for _, c := range []struct {
		args string
		want func(*run.Options) // changes from the default
	}{
		{"", func(*run.Options) {}},
		{"a.test.lua tests", func(o *run.Options) { o.Select.Paths = []string{"a.test.lua", "tests"} }},
		{"-v", func(o *run.Options) { o.Verbosity = report.Verbose }},
		{"--quiet", func(o *run.Options) { o.Verbosity = report.Quiet }},
		{"--json", func(o *run.Options) { o.JSON = true }},
		{"--artifacts off", func(o *run.Options) { o.Kept = evidence.Options{} }},
		{"--artifacts /kept --kernel /k", func(o *run.Options) {
			o.Kept = evidence.Options{Dir: "/kept", Kernel: "/k"}
		}},
		{"--filter=net/ --rerun-failed --since a.test.lua", func(o *run.Options) {
			o.Select.Filter, o.Select.RerunFailed, o.Select.Since = "net/", true, "a.test.lua"
		}},
		{"--shard 2/5", func(o *run.Options) { o.Select.Shard = shard.Shard{Index: 2, Count: 5} }},
		{"--shard off", func(*run.Options) {}},
		{"--tag a --tag b,c --no-tag d --tag-meta k=v=w --no-tag-meta l= --include-slow", func(o *run.Options) {
			o.Filter = choose.Filter{Tags: []string{"a", "b,c"}, NoTags: []string{"d"}, TagMeta: []string{"k=v=w"},
				NoTagMeta: []string{"l="}, IncludeSlow: true}
		}},
		{"--test x --test /^y?/ -k a", func(o *run.Options) {
			o.Filter.Names, o.Filter.Keyword = []string{"x", "/^y?/"}, "a"
		}},
		{"--retries 2", func(o *run.Options) { o.Retries = 2 }},
		{"--allow-empty", func(o *run.Options) { o.Select.AllowEmpty = true }},
		{"-x -j 3", func(o *run.Options) { o.FailFast, o.Jobs = true, 3 }},
		{"--durations 3", func(o *run.Options) { three := 3; o.Durations = &three }},
		{"--durations 0", func(o *run.Options) { o.Durations = new(int) }},
		{"--repeat 3", func(o *run.Options) { o.Repeat = 3 }},
		{"--until-fail", func(o *run.Options) { o.UntilFail = true }},
		{"--fail-fast", func(o *run.Options) { o.FailFast = true }},
		{"--keep-going", func(*run.Options) {}},
		{"--fail-fast --keep-going=false", func(o *run.Options) { o.FailFast = true }},
		{"--timeout 90", func(o *run.Options) { o.FileTimeout, o.FairTimeout = 90*time.Second, false }},
		{"--timeout 1.5m", func(o *run.Options) { o.FileTimeout, o.FairTimeout = 90*time.Second, false }},
		{"--timeout 0", func(o *run.Options) { o.FileTimeout, o.FairTimeout = 0, false }},
		{"--cold", func(o *run.Options) { o.Cold = true }},
		{"--mem 6G --cpus 3 --jobs 2", func(o *run.Options) { o.Memory, o.CPUs, o.Jobs = 6<<30, 3, 2 }},
		{"--cpu-overcommit 2.5", func(o *run.Options) { o.CPUOvercommit = 2.5 }},
		{"--cpu-overcommit auto", func(o *run.Options) {}},
		{"--cpu-overcommit 0", func(o *run.Options) { o.CPUOvercommit = 0.5 }},
		{"--cpu-overcommit -3", func(o *run.Options) { o.CPUOvercommit = 0.5 }},
		{"--cpu-overcommit 99", func(o *run.Options) { o.CPUOvercommit = 8 }},
		{"--seed 5", five},
		{"--seed 0x5", five},
		{"--seed 5 --shuffle", func(o *run.Options) {
			five(o)
			o.Select.Shuffle, o.ShuffleSeed, o.Notes = true, 5, []string{"seed 5", "shuffled with seed 5"}
		}},
		{"--seed 5 --shuffle 7 x", func(o *run.Options) {
			five(o)
			o.Select.Shuffle, o.ShuffleSeed, o.Notes = true, 7, []string{"seed 5", "shuffled with seed 7"}
			o.Select.Paths = []string{"x"}
		}},
		{"--seed 5 --shuffle x", func(o *run.Options) {
			five(o)
			o.Select.Shuffle, o.ShuffleSeed, o.Notes = true, 5, []string{"seed 5", "shuffled with seed 5"}
			o.Select.Paths = []string{"x"}
		}},
		{"--shuffle 9", func(o *run.Options) {
			o.Select.Shuffle, o.ShuffleSeed, o.Notes = true, 9, []string{"seed 0", "shuffled with seed 9"}
		}},
		{"--seed 5 -- --shuffle 7", func(o *run.Options) { five(o); o.Select.Paths = []string{"--shuffle", "7"} }},
		{"--seed 5 --shuffle=false", five},
	} {
		t.Run(c.args, func(t *testing.T) {
			p := newCLI(t, map[string]string{"provium.toml": autoConfig, "tests/a.test.lua": ""})
			code, _, stderr := p.run(strings.Fields(c.args)...)
			if code != 1 || len(p.started) != 1 {
				t.Fatalf("code %d, %d runs, %s", code, len(p.started), stderr)
			}
			got := p.started[0]
			if got.Config == nil || got.Config.Dir != p.dir {
				t.Errorf("config %+v", got.Config)
			}
			want := run.Options{
				Config: got.Config, FileTimeout: 300 * time.Second, FairTimeout: true, Notes: []string{"seed 0"},
				QEMU: filepath.Join(p.vars["PATH"], "qemu-system-x86_64"), Self: "/opt/provium", RunnerVerb: runnerVerb,
				ImageCache: filepath.Join(p.vars["HOME"], ".cache/provium/images"),
				BootCache:  filepath.Join(p.vars["HOME"], ".cache/provium/boots"),
				Release:    version,
				Version:    p.identity(),
				TempBase:   "/tmp",
				RerunState: filepath.Join(p.vars["HOME"], ".cache/provium/rerun.json"),
				History:    filepath.Join(p.vars["HOME"], ".cache/provium/history.json"),
				Kept: evidence.Options{Dir: filepath.Join(p.vars["HOME"], ".cache/provium/artifacts"), Last: true,
					Optional: true},
				Stdout: got.Stdout, Stderr: got.Stderr,
			}
			want.Select.WorkDir, want.Select.RerunState, want.Select.Paths = p.dir, want.RerunState, []string{}
			c.want(&want)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// TestConfigurationOfTests: without a configuration above the working directory, that of the
// first test is taken.
func TestConfigurationOfTests(t *testing.T) {
	c := newCLI(t, map[string]string{"one/provium.toml": autoConfig, "one/tests/deep/a.test.lua": "test('x', print)",
		"two/provium.toml": autoConfig, "two/tests/b.test.lua": "", "bare/c.test.lua": ""})
	for args, want := range map[string]string{
		"one/tests/deep/a.test.lua":             "one",
		"one/tests/deep/a.test.lua:1":           "one",
		"one/tests/deep/a.test.lua::x":          "one",
		"one/tests":                             "one",
		"two/tests one/tests":                   "two",
		"--config one/provium.toml two/tests -": "one",
	} {
		c.started = nil
		_, _, stderr := c.run(strings.Fields(args)...)
		if len(c.started) != 1 || c.started[0].Config.Dir != filepath.Join(c.dir, want) {
			t.Errorf("%s: %s", args, stderr)
		}
	}
	if code, stdout, stderr := c.run("list", "one/tests"); code != 0 || stdout != "tests/deep/a.test.lua\n" {
		t.Errorf("%d, %q, %s", code, stdout, stderr)
	}
	inside := *c
	inside.dir = filepath.Join(c.dir, "two")
	if inside.run("../one/tests"); c.started[len(c.started)-1].Config.Dir != inside.dir {
		t.Error("the configuration of the working directory comes first")
	}
	code, _, stderr := c.run("bare/c.test.lua")
	want := "read `" + filepath.Join(c.dir, "provium.toml") + "`: no such file, nor in a directory above, nor in `" +
		filepath.Join(c.dir, "bare") + "` or above; `provium init` writes one"
	if code != 2 || !strings.Contains(stderr, want) {
		t.Errorf("%d, %s", code, stderr)
	}
}

func TestUsageErrors(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"--fliter x", "unknown flag `--fliter`; did you mean `--filter`? (valid: --allow-empty, --artifacts, "},
		{"-y", "unknown flag `-y`"},
		{"--test=", "expected a text that is not empty"},
		{"--test /(/", "bad regular expression"},
		{"-k (a", "a parenthesis is not closed"},
		{"-k", "flag `--keyword` needs a value"},
		{"--retries 0", "expected a whole number, 1 or more"},
		{"-j 0", "expected a whole number, 1 or more"},
		{"--durations -1", "expected a whole number, 0 for all"},
		{"-x --keep-going", "--fail-fast and --keep-going exclude each other"},
		{"list --fixtures --tests", "--fixtures and --tests exclude each other"},
		{"--watch --until-fail", "--watch and --until-fail exclude each other"},
		{"--filter", "flag `--filter` needs a value"},
		{"-v -q", "--verbose and --quiet exclude each other"},
		{"--fail-fast --keep-going", "--fail-fast and --keep-going exclude each other"},
		{"--shard 0/3", `"0/3"`},
		{"--shard 4/3", "expected I/N"},
		{"--shard x", "or `off`"},
		{"--jobs 0", "expected a whole number, 1 or more"},
		{"--jobs x", `invalid argument "x" for "-j, --jobs"`},
		{"--repeat 0", "--repeat"},
		{"--repeat 1.5", "--repeat"},
		{"--cpus -1", "--cpus"},
		{"--cpus 0", "--cpus"},
		{"--mem 0", "--mem"},
		{"--mem -1G", "--mem"},
		{"--mem 2X", "--mem"},
		{"--mem 10M", "less than the 50 MiB that each file takes"},
		{"--cpu-overcommit nan", "expected auto, or a number from 0.5 to 8"},
		{"--cpu-overcommit inf", "expected auto, or a number from 0.5 to 8"},
		{"--timeout -1", "--timeout"},
		{"--timeout 1d", "--timeout"},
		{"--timeout nan", "--timeout"},
		{"--seed x", "--seed"},
		{"--shuffle=x", "--shuffle"},
		{"--tag-meta a", "expected KEY=VALUE"},
		{"repl --ready soon", "expected `agent`, `none`, `init`, `systemd`, `console:TEXT` or `command:CMD`, got"},
		{"--no-tag-meta =a", "expected KEY=VALUE"},
		{"--tag=", "--tag"},
		{"--save-events=", "expected a path"},
		{"--events-socket=", "expected a path"},
		{"--events-format xml --events-stdout", "expected msgpack or jsonl"},
		{"--events-format jsonl", "--events-format needs --save-events, --events-stdout or --events-socket"},
		{"--json --events-stdout", "--json and --events-stdout exclude each other"},
		{"report", "expected at least one FILE"},
		{"report gone.events", "gone.events: no such file or directory"},
		{"report -v -q x", "--verbose and --quiet exclude each other"},
		{"report provium.toml", "provium.toml: event decode at offset 0: frame too large"},
		{"docter", "did you mean `doctor`?"},
		{"test", "`test` is neither a file nor a directory nor a command; without a command, `provium` runs tests"},
		{"run tests", "without a command, `provium` runs tests"},
		{"lsit", "did you mean `list`?"},
		{"completion tcsh", "unknown shell `tcsh` (valid: bash, zsh, fish)"},
		{"completion bsah", "did you mean `bash`?"},
		{"--x", "unknown flag `--x` (valid: "},
		{"--jsn", "did you mean `--json`?"},
		{"list --jobs 3", "unknown flag `--jobs`"},
		{"doctor x", "expected no arguments, got `x`"},
		{"init a b", "expected at most one directory"},
		{"completion", "expected one shell: bash, zsh or fish"},
		{"completion fisch", "did you mean `fish`?"},
		{"image", "expected one of build, clean, list, overlay, show"},
		{"image shw", "did you mean `show`?"},
		{"image list x", "expected no arguments"},
		{"image overlay", "expected one path"},
		{"--profile k-7", "`k-7` is not a profile of a matrix; provium.toml has none (key `matrix.kernel` of a"},
		{"image show --profile nope", "unknown profile `nope` (provium.toml has: host)"},
		{"image show --profile hots", "did you mean `host`?"},
		{"--config gone.toml", "gone.toml`: no such file"},
		{"list nowhere", "`nowhere`"},
		{"list --since gone", "`gone`"},
	} {
		t.Run(c.args, func(t *testing.T) {
			p := newCLI(t, map[string]string{"provium.toml": autoConfig, "tests/a.test.lua": ""})
			code, stdout, stderr := p.run(strings.Fields(c.args)...)
			if code != 2 || !strings.Contains(stderr, c.want) || stdout != "" || len(p.started) != 0 {
				t.Errorf("code %d, stdout %q, stderr %q; want %q", code, stdout, stderr, c.want)
			}
			if !strings.HasPrefix(stderr, "provium: ") {
				t.Errorf("stderr %q", stderr)
			}
		})
	}
}

// The commands that build look at the names first.
func TestNothingIsBuiltForWrongNames(t *testing.T) {
	c := newCLI(t, map[string]string{
		"provium.toml":          "[provium]\nroots = [\"tests\"]\n[profiles.p]\nbuild = \"touch built\"\n",
		"tests/db.fixture.lua":  "",
		"tests/use.test.lua":    "",
		"tests/deep/x.test.lua": "",
	})
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"fixture", "build", "nope"}, "unknown fixture `nope` (known: db)"},
		{[]string{"fixture", "rebuild", "nope"}, "unknown fixture `nope` (known: db)"},
		{[]string{"fixture", "build", "tests/nope.fixture.lua"}, "fixture `tests/nope.fixture.lua`: no such file"},
		{[]string{"prepare", "nope"}, "nope"},
		{[]string{"prepare", "tests/use.test.lua", "tests/nope.test.lua"}, "tests/nope.test.lua"},
	} {
		code, _, stderr := c.run(tt.args...)
		if code != 2 || !strings.Contains(stderr, tt.want) || strings.Contains(stderr, "building") {
			t.Errorf("%q: exit code %d\n%s", tt.args, code, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(c.dir, "built")); err == nil {
		t.Error("a profile was built")
	}
}

func TestConfigSearch(t *testing.T) {
	p := newCLI(t, map[string]string{"provium.toml": autoConfig, "deep/er/x": "", "other.toml": "",
		"bad.toml": "[provium]\nrots = []\n", "broken.toml": "["})
	project := p.dir
	p.dir = filepath.Join(project, "deep", "er")
	if code, _, stderr := p.run(); code != 1 || p.started[0].Config.Dir != project {
		t.Errorf("upward: %d, %s", code, stderr)
	}
	if code, _, stderr := p.run("--config", "../../other.toml"); code != 1 ||
		p.started[1].Config.Path != filepath.Join(project, "other.toml") {
		t.Errorf("--config: %d, %s", code, stderr)
	}
	for path, want := range map[string]string{"bad.toml": "invalid config in `", "broken.toml": "parse `",
		"deep": "read `"} {
		if code, _, stderr := p.run("--config", filepath.Join(project, path)); code != 2 ||
			!strings.Contains(stderr, want) {
			t.Errorf("%s: %d, %s", path, code, stderr)
		}
	}
	if code, _, _ := p.run("--kernel", "bzImage"); code != 1 ||
		p.started[2].Config.Profiles["host"].Kernel != filepath.Join(p.dir, "bzImage") {
		t.Errorf("--kernel: %+v", p.started[2].Config.Profiles)
	}
}

func TestPreflight(t *testing.T) {
	p := newCLI(t, map[string]string{"provium.toml": autoConfig})
	p.vars["PATH"] = p.dir
	code, _, stderr := p.run()
	if code != 2 || !strings.Contains(stderr, "qemu-system-x86_64 is not on PATH") ||
		!strings.Contains(stderr, "install it: ") {
		t.Errorf("no QEMU: %d, %s", code, stderr)
	}
	p.vars["TMPDIR"] = filepath.Join(p.dir, "gone")
	code, _, stderr = p.run()
	if code != 2 || !strings.Contains(stderr, "qemu") || !strings.Contains(stderr, "set TMPDIR to") {
		t.Errorf("no temporary directory either: %d, %s", code, stderr)
	}
	if code, _, stderr := p.run("--no-preflight"); code != 1 || len(p.started) != 1 || p.started[0].QEMU != "" {
		t.Errorf("--no-preflight: %d, %s", code, stderr)
	}
}

func TestQEMUFlag(t *testing.T) {
	p := newCLI(t, map[string]string{"provium.toml": "[profiles.a]\nqemu = 'build/qemu'\n[profiles.b]\n",
		"own-qemu": "#!/bin/sh\n"})
	own := filepath.Join(p.dir, "own-qemu")
	if err := os.Chmod(own, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := p.run("--qemu", "./own-qemu"); code != 2 ||
		!strings.Contains(stderr, own+": permission denied") {
		t.Errorf("%d, %s", code, stderr)
	}
	if err := os.Chmod(own, 0o755); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := p.run("--qemu", "./own-qemu"); code != 1 || p.started[0].QEMU != own ||
		p.started[0].Config.Profiles["a"].QEMU != own || p.started[0].Config.Profiles["b"].QEMU != own {
		t.Errorf("%d, %s, %+v", code, stderr, p.started)
	}
	for path, want := range map[string]string{"./none": "none: no such file or directory",
		"qemu-none": "qemu-none: executable file not found in $PATH: no guest can run; give --qemu the path"} {
		if code, _, stderr := p.run("--qemu", path); code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d, %s", path, code, stderr)
		}
	}
	// A profile's own is looked at when it boots.
	if code, _, stderr := p.run(); code != 1 ||
		p.started[1].Config.Profiles["a"].QEMU != filepath.Join(p.dir, "build/qemu") {
		t.Errorf("%d, %s", code, stderr)
	}
}

func TestEnvironment(t *testing.T) {
	p := newCLI(t, map[string]string{"provium.toml": autoConfig})
	p.vars["CI_NODE_INDEX"], p.vars["CI_NODE_TOTAL"] = "2", "3"
	p.vars["PROVIUM_RERUN_STATE"] = "state.json"
	code, _, stderr := p.run()
	if code != 1 || p.started[0].Select.Shard != (shard.Shard{Index: 2, Count: 3}) ||
		!strings.Contains(stderr, "shard 2/3, from CI_NODE_INDEX") {
		t.Errorf("%d, %s, %+v", code, stderr, p.started)
	}
	if got := p.started[0].RerunState; got != filepath.Join(p.dir, "state.json") {
		t.Errorf("rerun state %s", got)
	}
	if _, _, stderr := p.run("--shard", "off"); p.started[1].Select.Shard != (shard.Shard{}) ||
		strings.Contains(stderr, "shard") {
		t.Errorf("--shard off: %s", stderr)
	}
	if p.run("--shard", "1/2"); p.started[2].Select.Shard != (shard.Shard{Index: 1, Count: 2}) {
		t.Errorf("--shard 1/2: %+v", p.started[2].Select)
	}
	delete(p.vars, "CI_NODE_TOTAL")
	if code, _, stderr := p.run(); code != 2 || !strings.Contains(stderr, "CI_NODE_TOTAL") {
		t.Errorf("half a pair: %d, %s", code, stderr)
	}
	p.vars = map[string]string{"PATH": p.vars["PATH"]}
	if p.run(); p.started[3].TempBase != "/tmp" {
		t.Errorf("without TMPDIR: %+v", p.started[3])
	}
}

// TestArtifacts: the flag wins over the configuration, which wins over what CI has.
func TestArtifacts(t *testing.T) {
	p := newCLI(t, map[string]string{"provium.toml": autoConfig,
		"sub/provium.toml": "[provium]\nartifacts = \"kept\"", "no/provium.toml": "[provium]\nartifacts = \"off\""})
	p.vars["CI"] = "true"
	for _, c := range []struct {
		args []string
		dir  string
	}{
		{nil, "provium-artifacts"},
		{[]string{"--config", "sub/provium.toml"}, "sub/kept"},
		{[]string{"--config", "sub/provium.toml", "--artifacts", "mine"}, "mine"},
		{[]string{"--config", "no/provium.toml"}, ""},
		{[]string{"--config", "no/provium.toml", "--artifacts", "mine"}, "mine"},
	} {
		p.started = nil
		if p.run(c.args...); len(p.started) != 1 || p.started[0].Kept.Dir != p.absolute(c.dir) ||
			p.started[0].Kept.Optional != (c.args == nil) {
			t.Errorf("%q: %+v", c.args, p.started)
		}
	}
}

// TestReplay runs what a record says, unless a flag says otherwise.
func TestReplay(t *testing.T) {
	p := newCLI(t, map[string]string{"provium.toml": autoConfig, "tests/a.test.lua": "", "k": ""})
	record := artifacts.Record{Project: p.dir, Config: filepath.Join(p.dir, "provium.toml"), File: "tests/a.test.lua",
		Test: "it works", Seed: 7, Shuffle: true, ShuffleSeed: 9, Kernel: filepath.Join(p.dir, "k"), Local: true,
		Cold: true, IncludeSlow: true, Timeout: 90 * time.Second, Profiles: map[string]string{"a": "d"},
		Host: artifacts.Versions{Provium: "0.0.1", Kernel: "Linux 2.4", QEMU: "7.0"}}
	place := artifacts.Place{Dir: filepath.Join(p.dir, "kept")}
	f, err := place.Create(record)
	if err != nil {
		t.Fatal(err)
	}
	code, _, stderr := p.run("replay", f.Dir, "--seed", "8", "--repeat", "3")
	if code != 1 || len(p.started) != 1 {
		t.Fatal(code, stderr)
	}
	o := p.started[0]
	if o.Seed != 8 || o.Repeat != 3 || !o.Select.Shuffle || o.ShuffleSeed != 9 || !o.Local || !o.Cold ||
		!o.Filter.IncludeSlow || o.FileTimeout != 90*time.Second || o.FairTimeout ||
		o.Config.Profiles["host"].Kernel != record.Kernel ||
		o.Kept.Profiles["a"] != "d" ||
		!slices.Equal(o.Select.Paths, []string{filepath.Join(p.dir, "tests/a.test.lua") + "::it works"}) {
		t.Errorf("%+v", o)
	}
	for _, want := range []string{"replay: provium: " + version + ", then 0.0.1\n", ", then Linux 2.4\n",
		"replay: QEMU: 9.1.0, then 7.0\n"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is missing in %s", want, stderr)
		}
	}
	// Guests that were recorded are recorded again, unless a flag is against it.
	again := record
	again.Test, again.Recorded, again.Cold, again.Local = "recorded", true, false, false
	if f, err = place.Create(again); err != nil {
		t.Fatal(err)
	}
	p.started = nil
	_, _, stderr = p.run("replay", f.Dir)
	if len(p.started) != 1 || !p.started[0].Kept.Recorded || !p.started[0].Config.Profiles["host"].Shape.Record ||
		!strings.Contains(stderr, "`provium debug "+f.Dir+"` runs those again") {
		t.Errorf("%s, %+v", stderr, p.started)
	}
	p.run("replay", f.Dir, "--cold")
	if len(p.started) != 2 || p.started[1].Kept.Recorded {
		t.Errorf("%+v", p.started)
	}
	p.started = p.started[:1]
	// The folder of another machine is of the project at hand.
	record.Config, record.Test, record.Kernel = "/nowhere/provium.toml", "", ""
	record.FairTimeout = true
	if f, err = place.Create(record); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr = p.run("replay", f.Dir); code != 1 || len(p.started) != 2 || p.started[1].Seed != 7 ||
		!p.started[1].FairTimeout ||
		!slices.Equal(p.started[1].Select.Paths, []string{filepath.Join(p.dir, "tests/a.test.lua")}) ||
		!strings.Contains(stderr, "is not on this machine") {
		t.Errorf("%d, %s, %+v", code, stderr, p.started)
	}
	for args, want := range map[string]string{"replay": "expected the folder of one failure",
		"replay tests": "is no folder of a failed test"} {
		if code, _, stderr := p.run(strings.Fields(args)...); code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d, %s", args, code, stderr)
		}
	}
}

func TestInitAndList(t *testing.T) {
	p := newCLI(t, nil)
	code, stdout, stderr := p.run("init", "new/project")
	if code != 0 || !strings.Contains(stdout, "now run: cd new/project && provium") {
		t.Fatalf("%d, %s, %s", code, stdout, stderr)
	}
	toml := filepath.Join(p.dir, "new/project/provium.toml")
	if err := os.WriteFile(toml, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := p.run("init", "new/project"); code != 2 ||
		!strings.Contains(stderr, "`new/project/provium.toml` exists") {
		t.Errorf("again: %d, %s", code, stderr)
	}
	if text, _ := os.ReadFile(toml); len(text) != 0 {
		t.Errorf("overwritten: %s", text)
	}
	if code, _, stderr := p.run("init", "new/project", "--force"); code != 0 {
		t.Errorf("--force: %d, %s", code, stderr)
	}
	p.dir = filepath.Join(p.dir, "new/project")
	if code, stdout, stderr := p.run("list"); code != 0 || stdout != "tests/hello.test.lua\n" {
		t.Errorf("list: %d, %q, %s", code, stdout, stderr)
	}
	if code, stdout, stderr := p.run("list", "--fixtures"); code != 0 || stdout != "" {
		t.Errorf("list --fixtures: %d, %q, %s", code, stdout, stderr)
	}
	if code, stdout, _ := p.run("init", "."); code != 2 || stdout != "" {
		t.Errorf("init in a project: %d, %s", code, stdout)
	}
}

func TestCompletion(t *testing.T) {
	p := newCLI(t, map[string]string{"provium.toml": autoConfig + "[profiles.mine]\n"})
	for shell, want := range map[string]string{"bash": "__start_provium", "zsh": "#compdef provium",
		"fish": "complete -c provium"} {
		if code, stdout, stderr := p.run("completion", shell); code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%s: %d, %s", shell, code, stderr)
		}
	}
	_, stdout, _ := p.run("__complete", "image", "show", "--profile", "")
	if got := strings.Fields(stdout); !slices.Equal(got[:2], []string{"host", "mine"}) {
		t.Errorf("profiles: %q", got)
	}
}

func TestDoctorWithoutQEMU(t *testing.T) {
	p := newCLI(t, map[string]string{"provium.toml": "[provium]\nroots = 3\n"})
	p.vars["PATH"] = filepath.Join(p.dir, "home")
	code, stdout, stderr := p.run("doctor")
	if code != 2 || stderr != "" {
		t.Errorf("%d, %s", code, stderr)
	}
	for _, want := range []string{"failure  qemu: qemu-system-x86_64 is not on PATH", "remedy: install it: ",
		"failure  configuration: invalid config in", "Guests cannot boot: qemu"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing in:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "\x1b") {
		t.Error("colours in a file")
	}
}

func TestImageCache(t *testing.T) {
	p := newCLI(t, nil)
	if code, stdout, stderr := p.run("image", "list"); code != 0 || stdout != "0 entries, 0B\n" {
		t.Errorf("list: %d, %q, %s", code, stdout, stderr)
	}
	if code, stdout, stderr := p.run("image", "clean"); code != 0 || stdout != "removed 0 entries, 0B\n" {
		t.Errorf("clean: %d, %q, %s", code, stdout, stderr)
	}
}

func TestRunnerVerbIsNoCommand(t *testing.T) {
	p := newCLI(t, map[string]string{"provium.toml": autoConfig})
	if code, _, stderr := p.run(runnerVerb, "x"); code != 1 ||
		!slices.Equal(p.started[0].Select.Paths, []string{runnerVerb, "x"}) {
		t.Errorf("%d, %s", code, stderr)
	}
}

func TestSizeText(t *testing.T) {
	for n, want := range map[int64]string{0: "0B", 1023: "1023B", 1024: "1.00KiB", 106503840: "101.57MiB",
		1 << 62: "4194304.00TiB"} {
		if got := listing.Size(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestWriteWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	if err := writeWhole(path, func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err }); err != nil {
		t.Fatal(err)
	}
	fail := func(w io.Writer) error { _, _ = io.WriteString(w, "half"); return io.ErrUnexpectedEOF }
	if err := writeWhole(path, fail); err == nil {
		t.Error("no error")
	}
	if text, _ := os.ReadFile(path); string(text) != "new" {
		t.Errorf("got %q", text)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if err := writeWhole("/dev/null", fail); err == nil {
		t.Error("no error")
	}
	if err := writeWhole(filepath.Join(dir, "gone", "x"), fail); err == nil {
		t.Error("no error")
	}
}
