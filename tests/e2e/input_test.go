package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigurationErrors(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		toml string
		want []string
	}{
		"no TOML":         {"[provium\n", []string{"parse `", "provium.toml`", "line 1"}},
		"unknown section": {"[provum]\n", []string{"invalid config in `", "provum", "provium", "profiles"}},
		"unknown key": {"[provium]\nrots = []\n", []string{"invalid config in `", "rots", "roots",
			"cache_dir"}},
		"unknown profile key": {"[profiles.x]\nkernal = \"y\"\n",
			[]string{"kernal", "profile `x`", "kernel", "initrd"}},
		"wrong type": {"[provium]\nroots = \"tests\"\n", []string{"roots", "string"}},
		"size":       {"[provium]\ncache_max_size = \"2X\"\n", []string{"cache_max_size", "2X"}},
		"zero size":  {"[provium]\ncache_max_size = \"0\"\n", []string{"cache_max_size"}},
		"duration":   {"[profiles.x]\nagent_boot_timeout = \"soon\"\n", []string{"agent_boot_timeout"}},
		"pattern":    {"[provium]\noops_patterns = [\"(\"]\n", []string{"oops_patterns", "("}},
		"guest_os": {"[profiles.x]\nguest_os = \"bsd\"\n",
			[]string{"profile `x` has guest_os = `bsd`, only `linux` and `peios` are supported"}},
		"accelerator":        {"[profiles.x]\naccel = \"xen\"\n", []string{"accel", "xen", "kvm", "tcg"}},
		"empty command line": {"[profiles.x]\ncmdline = \" \"\n", []string{"profile `x` has empty cmdline"}},
		"root that is none":  {"[provium]\nroots = [\"missing\"]\n", []string{"missing"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := newProject(t, tt.toml)
			p.run().expect(2, tt.want...)
		})
	}
	t.Run("missing", func(t *testing.T) {
		p := newProject(t, "")
		p.run("--config", "other.toml").expect(2, "read `", "other.toml", "provium init")
	})
}

func TestUsageErrors(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", "test('a', function() end)\n")
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"--timout", "5"}, []string{"timout", "timeout"}},
		{[]string{"--timeout", "5x"}, []string{"--timeout", "5x"}},
		{[]string{"--timeout", "-1"}, []string{"--timeout", "-1"}},
		{[]string{"--mem", "2X"}, []string{"--mem", "2X"}},
		{[]string{"--mem", "0"}, []string{"--mem"}},
		{[]string{"--jobs", "0"}, []string{"--jobs", "0"}},
		{[]string{"--cpus", "x"}, []string{"--cpus", "x"}},
		{[]string{"--repeat", "0"}, []string{"--repeat"}},
		{[]string{"--shard", "4/3"}, []string{"--shard", "4/3"}},
		{[]string{"--tag-meta", "x"}, []string{"expected KEY=VALUE"}},
		{[]string{"--cpu-overcommit", "nan"}, []string{"--cpu-overcommit", "nan"}},
		{[]string{"-v", "-q"}, []string{"verbose", "quiet"}},
		{[]string{"--fail-fast", "--keep-going"}, []string{"fail-fast", "keep-going"}},
		{[]string{"no/such.test.lua"}, []string{"no/such.test.lua"}},
		{[]string{"--since", "no-such-file"}, []string{"no-such-file"}},
		{[]string{"--save-events", "no/such/dir/file"}, []string{"no/such/dir/file"}},
		{[]string{"--save-events", "tests"}, []string{"tests", "directory"}},
		{[]string{"--kernel"}, []string{"--kernel"}},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			q := *p
			q.t = t
			q.run(tt.args...).expect(2, tt.want...)
		})
	}
}

func TestMissingQEMU(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", "test('a', function() provium:vm('v', 'host'):boot() end)\n")
	empty := t.TempDir()
	p.env = append(p.env, "PATH="+empty)
	p.run().expect(2, "qemu-system-x86_64", "install", "--no-preflight")
	// Without the check the boot says it.
	p.run("--no-preflight").expect(1, "qemu-system-x86_64", "not found", "tests/a.test.lua:1:")
}

func TestTemporaryDirectory(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", "test('a', function() end)\n")
	p.env = append(p.env, "TMPDIR="+filepath.Join(p.dir, "missing"))
	p.run().expect(2, filepath.Join(p.dir, "missing"))
	long := filepath.Join(p.dir, strings.Repeat("d", 120))
	if err := os.Mkdir(long, 0o755); err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "TMPDIR="+long)
	p.run().expect(2, "bytes", "sockets")
}

func TestFailingBuild(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile+`
[profiles.made]
build = "echo compiling {out}; echo it went wrong >&2; exit 7"
`)
	p.write("tests/a.test.lua", "print('ran') test('a', function() end)\n")
	r := p.run()
	r.expect(2, "provium: building profile `made`", "profile `made`: build command failed (exit code 7)",
		"compiling "+filepath.Join(p.dir, "builds", "made"), "it went wrong")
	if strings.Contains(r.stdout.String(), "ran") {
		t.Errorf("a test ran\n%s", r.report())
	}
}

// jsonFile is a line of --json.
type jsonFile struct {
	Path       string
	Timeout    string
	Passed     bool
	ChunkError *string `json:"chunk_error"`
	Tests      []struct {
		Name, Status string
		Message      *string
	}
}

func (r *run) files() map[string]jsonFile {
	r.p.t.Helper()
	out := map[string]jsonFile{}
	d := json.NewDecoder(&r.stdout)
	for d.More() {
		var f jsonFile
		if err := d.Decode(&f); err != nil {
			r.p.t.Fatalf("standard output is no JSON: %v\n%s", err, r.report())
		}
		out[f.Path] = f
	}
	return out
}

func TestFilesThatCannotRun(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/fine.test.lua", "print('printed') test('fine', function() end)\n")
	p.write("tests/syntax.test.lua", "test('x', function()\n  local y = = 3\nend)\n")
	p.write("tests/raises.test.lua", "local t = nil\nt.x = 1\n")
	p.write("tests/exits.test.lua", "test('x', function() end)\nos.exit(0)\n")
	p.write("tests/requires.test.lua", "require('no.such.module')\n")
	p.write("tests/empty.test.lua", "")
	p.write("tests/binary.test.lua", "\x1bLua\x54\x00 this is no chunk")
	r := p.run("--json")
	r.expect(1, "7 file(s)")
	files := r.files()
	for path, want := range map[string]string{
		"tests/syntax.test.lua":   "tests/syntax.test.lua:2: ",
		"tests/raises.test.lua":   "tests/raises.test.lua:2: ",
		"tests/exits.test.lua":    "os.exit",
		"tests/requires.test.lua": "no.such.module",
		"tests/binary.test.lua":   "binary chunk",
	} {
		f := files[path]
		if f.Passed || f.ChunkError == nil || !strings.Contains(*f.ChunkError, want) {
			t.Errorf("%s: want a chunk error with %q, got %+v", path, want, f)
		}
	}
	for _, path := range []string{"tests/fine.test.lua", "tests/empty.test.lua"} {
		if f := files[path]; !f.Passed || f.ChunkError != nil {
			t.Errorf("%s: %+v", path, f)
		}
	}
}

func TestEmptyProjects(t *testing.T) {
	t.Parallel()
	p := newProject(t, "")
	p.run().expect(0, "no *.test.lua files found")
	p.write("a.test.lua", "test('x', function(t) t:assert_raises(function() provium:vm('v', 'host') end) end)\n")
	p.run("--rerun-failed").expect(0, "nothing to re-run")
	p.run().expect(0, "PASS a.test.lua")
	p.write("b.test.lua", "provium:vm('v', 'host')\n")
	p.run().expect(1, "unknown profile `host`", "[profiles.host]")
}
