package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"provium/internal/machine"
	"provium/internal/ready"
	"provium/internal/userland"
)

var testEnv = Env{Home: "/home/u", CacheHome: "/home/u/.cache"}

func parseText(t *testing.T, text string, env Env) (*Config, error) {
	t.Helper()
	return parse([]byte(text), "/proj/provium.toml", env)
}

func mustParse(t *testing.T, text string, env Env) *Config {
	t.Helper()
	c, err := parseText(t, text, env)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestEmptyConfig(t *testing.T) {
	got := mustParse(t, "", testEnv)
	want := &Config{
		Path: "/proj/provium.toml", Dir: "/proj", CacheDir: "/home/u/.cache/provium/fixtures",
		CacheMaxSize: 20 << 30, KernelWarnings: "fail", Profiles: map[string]Profile{},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestShares(t *testing.T) {
	c := mustParse(t, "[profiles.p]\nrw = ['../build', '{out}/o:/o']\n", testEnv)
	want := []machine.Share{{Host: "/build", Guest: "/build"}, {Host: "/home/u/.cache/provium/builds/p/o", Guest: "/o"}}
	if got := c.Profiles["p"].Shape.Shares; !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestEveryKey(t *testing.T) {
	got := mustParse(t, `
[provium]
roots = ["tests", "/abs/more/"]
cache_dir = "~/fixtures"
cache_max_size = "1.5G"
oops_patterns = ["^MYDRV: "]
oops_ignore = ["lockdep is off"]
kernel_warnings = "note"

[profiles.full]
kernel = "{out}/arch/x86/boot/bzImage"
initrd = "img/../initrd.img"
cmdline = "quiet nokaslr out={out}"
cmdline_file = "{out}/cmdline"
guest_os = "peios"
inject_agent = false
agent_overlay_path = "overlay.cpio.gz"
build = "make O={out} bzImage && ls {out}"
build_out = "out"
machine = "pc"
qemu = "build/qemu"
firmware_console = true
boot_compressed = true
accel = "tcg"
boot_cache = false
agent_boot_timeout = 1.5
ready = "command:test -S /run/db"
ready_timeout = 90
modules = ["dm-mod", "loop", "drv/my.ko debug=1 path=/x", "{out}/y.ko"]
transport = "vsock"
kernel_warnings = "fail"
symbols = ["{out}/vmlinux", "/usr/lib/debug"]
qemu_args = ["-device", "edu"]
disks = [{path = "a.img", id = "data", readonly = true}, {scratch = "256M", mediated = true}, {template = "{out}/t.img"}]

[profiles.host]
`, testEnv)
	cmdline, yes := "quiet nokaslr out=/proj/out", true
	want := &Config{
		Path: "/proj/provium.toml", Dir: "/proj",
		Roots: []string{"/proj/tests", "/abs/more"}, CacheDir: "/home/u/fixtures", CacheMaxSize: 3 << 29,
		OopsPatterns: []string{"^MYDRV: "}, OopsIgnore: []string{"lockdep is off"},
		KernelWarnings: "note",
		Profiles: map[string]Profile{
			"full": {
				Name: "full", Dir: "/proj", Kernel: "/proj/out/arch/x86/boot/bzImage", Initrd: "/proj/initrd.img",
				Cmdline: &cmdline, CmdlineFile: "/proj/out/cmdline", GuestOS: "peios",
				AgentOverlayPath: "/proj/overlay.cpio.gz",
				Build:            "make O=/proj/out bzImage && ls /proj/out", BuildOut: "/proj/out", Machine: "pc",
				Ready: ready.Condition{Kind: ready.Command, Text: "test -S /run/db"}, ReadyTimeout: 90 * time.Second,
				QEMU: "/proj/build/qemu", FirmwareConsole: true, BootCompressed: &yes,
				Shape:            machine.Shape{Args: []string{"-device", "edu"}},
				Accel:            "tcg",
				AgentBootTimeout: 1500 * time.Millisecond, Modules: []string{"dm-mod", "loop",
					"/proj/drv/my.ko debug=1 path=/x", "/proj/out/y.ko"}, Transport: "vsock",
				Symbols:        []string{"/proj/out/vmlinux", "/usr/lib/debug"},
				KernelWarnings: "fail",
				Disks: []Disk{
					{ID: "data", Path: "/proj/a.img", ReadOnly: true},
					{ID: "disk1", Scratch: 256 << 20},
					{ID: "disk2", Template: "/proj/out/t.img"},
				},
			},
			"host": {
				Name: "host", Dir: "/proj", GuestOS: "linux", InjectAgent: true, Accel: "auto", BootCache: true,
				Transport: "virtio-serial", KernelWarnings: "note", BuildOut: "/home/u/.cache/provium/builds/host",
			},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for text, want := range map[string]userland.Source{
		"host": {Kind: userland.Host}, "../tree": {Kind: userland.Directory, Path: "/tree"},
		"oci:{out}/img:v1": {Kind: userland.OCI, Path: "/home/u/.cache/provium/builds/p/img", Ref: "v1"},
	} {
		c := mustParse(t, "[profiles.p]\nuserland = \""+text+"\"\n", testEnv)
		if got := c.Profiles["p"].Userland; got != want {
			t.Errorf("userland %s: %+v", text, got)
		}
		if isInit := c.Profiles["p"].Ready.Kind == "init"; isInit != (text != "host") {
			t.Errorf("userland %s: a boot is done at %+v", text, c.Profiles["p"].Ready)
		}
	}
	if names := got.ProfileNames(); !reflect.DeepEqual(names, []string{"full", "host"}) {
		t.Errorf("names %q", names)
	}
}

func TestBuildOutSources(t *testing.T) {
	const text = "[profiles.p]\nkernel = \"{out}/k\"\ncmdline = \"quiet\"\n"
	env := testEnv
	if got := mustParse(t, text, env).Profiles["p"].Kernel; got != "/home/u/.cache/provium/builds/p/k" {
		t.Errorf("by default: %s", got)
	}
	env.BuildDir = "/build"
	if got := mustParse(t, text, env).Profiles["p"].Kernel; got != "/build/p/k" {
		t.Errorf("with a build directory: %s", got)
	}
	if got := mustParse(t, text+"build_out = \"here\"\n", env).Profiles["p"].Kernel; got != "/proj/here/k" {
		t.Errorf("with build_out: %s", got)
	}
}

func TestForcedKernel(t *testing.T) {
	env := testEnv
	env.Kernel = "/k/bzImage"
	c := mustParse(t, "[profiles.auto]\n[profiles.tree]\nroot = \"deb\"\n", env)
	for name, p := range c.Profiles {
		if p.Kernel != "/k/bzImage" || !p.KernelForced || p.Root != "" || p.Cmdline != nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if c := mustParse(t, "[profiles.tree]\nroot = \"deb\"\n", testEnv); c.Profiles["tree"].Root != "/proj/deb" ||
		c.Profiles["tree"].KernelForced {
		t.Errorf("unforced: %+v", c.Profiles["tree"])
	}
}

func TestInvalid(t *testing.T) {
	const p = "[profiles.p]\n"
	for name, c := range map[string]struct{ text, want string }{
		"guest_os": {p + "guest_os = 'bsd'", "invalid config in `/proj/provium.toml`: profile `p` has " +
			"guest_os = `bsd`, only `linux` and `peios` are supported (line 2)"},
		"blank cmdline": {p + "cmdline = ' '", "profile `p` has empty cmdline (line 2)"},
		"no cmdline": {p + "kernel = 'k'",
			"profile `p` has empty cmdline: with a kernel of its own it needs cmdline or cmdline_file (line 1)"},
		"top level": {"\n\nx = 1", "unknown key `x` in the top level (valid: provium, profiles) (line 3)"},
		"general key": {"[provium]\nroot = ['x']", "unknown key `root` in [provium] (valid: roots, cache_dir, " +
			"cache_max_size, oops_patterns, oops_ignore, kernel_warnings, artifacts, " +
			"dump); did you mean `roots`? (line 2)"},
		"profile key": {"[profiles]\n[profiles.p]\n\n\nkernal = 'k'",
			"unknown key `kernal` in profile `p` (valid: arch, kernel, matrix, root, initrd, userland,"},
		"userland": {p + "userland = 'debain'", "profile `p` userland: `debain` is not known; expected `busybox`, " +
			"`host`, a directory"},
		"rw at the root": {p + "rw = ['a:/']", "profile `p` rw: entry 1: `a:/`: the guest's own root directory"},
		"rw twice":       {p + "rw = ['a:/x', 'b:/x']", "profile `p` rw: two directories are at `/x` in the guest"},
		"rw kind":        {p + "rw = 'a'", "profile `p` rw: expected"},
		"rw and initrd": {p + "initrd = 'i'\nrw = ['a']",
			"profile `p` has rw, and initrd, inject_agent = false or boot_from"},
		"userland kind": {p + "userland = true", "profile `p` userland: expected a string, got a boolean"},
		"userland and initrd": {p + "initrd = 'i'\nuserland = 'host'",
			"profile `p` has userland and initrd, or inject_agent = false"},
		"suggestion": {p + "kernal = 'k'", "did you mean `kernel`? (line 2)"},
		"firmware": {p + "machine = 'pc'\nfirmware = 'uefi'",
			"profile `p` firmware: `uefi` needs machine `q35`, not `pc`"},
		"bus": {p + "disks = [{scratch = '1M', bus = 'ide'}]",
			"bus: unknown value `ide` (valid: virtio-blk, virtio-scsi, nvme)"},
		"qemu_args": {p + "qemu_args = ['-qmp', 'stdio']", "profile `p` qemu_args: `-qmp` is Provium's own"},
		"dotted key": {"profiles.p.accel = 'hvf'",
			"profile `p` accel: unknown value `hvf` (valid: auto, kvm, tcg) (line 1)"},
		"inline table": {"\nprofiles = { p = { accel = 'hvf' } }", "(line 2)"},
		"wrong type": {p + "boot_cache = 'yes'",
			"profile `p` boot_cache: expected true, false or the greatest age (\"10m\"), got `yes` (line 2)"},
		"boot cache number": {p + "boot_cache = 10", "got an integer (line 2)"},
		"boot cache age":    {p + "boot_cache = '-1m'", "got `-1m` (line 2)"},
		"date":              {p + "machine = 2020-01-01", "expected a string, got a date or time"},
		"profile type": {"[profiles]\np = 1",
			"[profiles] p: expected a table [profiles.p], got an integer (line 2)"},
		"profile name": {"[profiles.'../x']", "profile name `../x` is not valid"},
		"empty name":   {"[profiles.'']", "profile name `` is not valid"},
		"transport":    {p + "transport = 'tcp'", "unknown value `tcp` (valid: virtio-serial, vsock)"},
		"roots": {"[provium]\nroots = 'tests'",
			"[provium] roots: expected an array of strings, got a string"},
		"root entry": {"[provium]\nroots = ['a', 1]",
			"[provium] roots: entry 2: expected a string, got an integer"},
		"empty path":    {"[provium]\nroots = ['']", "entry 1: expected a path, got an empty string"},
		"NUL path":      {p + `initrd = "a\u0000b"`, "contains a NUL byte"},
		"misplaced out": {p + "build_out = '{out}/x'", "`{out}` has no meaning"},
		"pattern": {"[provium]\noops_patterns = ['a(']",
			"[provium] oops_patterns: `a(` is no regular expression: "},
		"ready": {p + "ready = 'systemd '", "profile `p` ready: expected `agent`, `none`, `init`, `systemd`, " +
			"`console:TEXT` or `command:CMD`, got `systemd `"},
		"ready empty":     {p + "ready = ''", "profile `p` ready: must not be empty"},
		"kernel warnings": {"[provium]\nkernel_warnings = 'ignore'", "kernel_warnings"},
		"empty pattern":   {"[provium]\noops_ignore = ['']", "entry 1: an empty pattern matches every line"},
		"size text":       {"[provium]\ncache_max_size = '2X'", "[provium] cache_max_size: size: cannot parse `2X`"},
		"size unit":       {"[provium]\ncache_max_size = '20'", "cannot parse `20` (a string needs K, M, G or T"},
		"size zero":       {"[provium]\ncache_max_size = 0", "expected a positive number of bytes, got 0"},
		"size float":      {"[provium]\ncache_max_size = 1.5", "got a float"},
		"qemu":            {p + "qemu = true", "profile `p` qemu: expected a string, got a boolean"},
		"no qemu":         {p + "qemu = ''", "profile `p` qemu: "},
		"timeout":         {p + "agent_boot_timeout = 0", "expected a positive number of seconds, got 0"},
		"timeout NaN":     {p + "agent_boot_timeout = nan", "expected a positive number of seconds, got NaN"},
		"timeout inf": {p + "agent_boot_timeout = inf",
			"expected a positive number of seconds, at most 1000000, got +Inf"},
		"timeout text":    {p + "agent_boot_timeout = '3s'", "expected a positive number of seconds, got a string"},
		"module":          {p + "modules = ['']", "entry 1: expected a name"},
		"kernel and root": {p + "kernel = 'k'\nroot = 'r'\ncmdline = 'x'", "profile `p` has both kernel and root"},
		"disk kinds": {p + "disks = [{path = 'a', scratch = '1M'}]", "profile `p` disks[1]: exactly one of " +
			"path, scratch and template is needed, given are path and scratch (line 2)"},
		"disk none": {p + "disks = [{id = 'a'}]",
			"exactly one of path, scratch and template is needed, none is given"},
		"disk key": {p + "disks = [{pth = 'a'}]", "unknown key `pth` in a disk (valid: path, scratch, template, " +
			"id, readonly, mediated, format, logical_block_size, physical_block_size, discard, write_cache, bus); " +
			"did you mean `path`?"},
		"disk type": {p + "disks = ['a']", "disks[1]: expected a table, got a string"},
		"disk id": {p + "[[profiles.p.disks]]\npath = 'a'\nid='x'\n[[profiles.p.disks]]\npath = 'b'\nid='x'",
			"disks[2]: id `x` is used twice"},
		"from_dir": {"[profiles]\nfrom_dir = '/does/not/exist'", "[profiles] from_dir: open /does/not/exist"},
		"from_dir type": {"[profiles]\nfrom_dir = 1",
			"[profiles] from_dir: expected a string, got an integer (line 2)"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseText(t, c.text, testEnv)
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v", err)
			}
			if !strings.HasPrefix(err.Error(), "invalid config in `/proj/provium.toml`: ") ||
				!strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestNoHome(t *testing.T) {
	_, err := parseText(t, "[provium]\ncache_dir = '~/x'", Env{})
	if err == nil || !strings.Contains(err.Error(), "`~/x`: there is no home directory; write the whole path") {
		t.Errorf("got %v", err)
	}
}

func TestParseErrors(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"syntax":    {"[provium]\nroots = [", "parse `/proj/provium.toml`: line "},
		"duplicate": {"[provium]\nroots = []\nroots = []", "parse `/proj/provium.toml`: "},
		"not UTF-8": {"x = '\xff'", "parse `/proj/provium.toml`: line 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseText(t, c.text, testEnv)
			var pe *ParseError
			if !errors.As(err, &pe) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestProfilesFromDir(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, FileName), "[profiles]\nfrom_dir = 'profiles'\n[profiles.own]\n")
	write(t, filepath.Join(dir, "profiles/mine/profile.provium.toml"),
		"kernel = 'k'\ncmdline = 'quiet'\nbuild = 'make'\nbuild_out = 'o'\n")
	write(t, filepath.Join(dir, "profiles/other/README"), "no profile")
	write(t, filepath.Join(dir, "profiles/file"), "no directory")
	c, err := Load(filepath.Join(dir, FileName), testEnv)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.ProfileNames(); !reflect.DeepEqual(got, []string{"mine", "own"}) {
		t.Fatalf("profiles %q", got)
	}
	mine, at := c.Profiles["mine"], filepath.Join(dir, "profiles/mine")
	if mine.Name != "mine" || mine.Dir != at || mine.Kernel != filepath.Join(at, "k") ||
		mine.BuildOut != filepath.Join(at, "o") {
		t.Errorf("%+v", mine)
	}

	write(t, filepath.Join(dir, "profiles/own/profile.provium.toml"), "")
	if _, err := Load(filepath.Join(dir, FileName), testEnv); err == nil ||
		!strings.Contains(err.Error(), "profile `own` stands in provium.toml and below from_dir (line 3)") {
		t.Errorf("twice: %v", err)
	}
	bad := filepath.Join(dir, "profiles/own/profile.provium.toml")
	write(t, bad, "\naccel = 'x'")
	if _, err := Load(filepath.Join(dir, FileName), testEnv); err == nil ||
		err.Error() != "invalid config in `"+bad+
			"`: profile `own` accel: unknown value `x` (valid: auto, kvm, tcg) (line 2)" {
		t.Errorf("invalid: %v", err)
	}
	write(t, bad, "=")
	if _, err := Load(filepath.Join(dir, FileName), testEnv); err == nil ||
		!strings.HasPrefix(err.Error(), "parse `"+bad+"`: line 1") {
		t.Errorf("no TOML: %v", err)
	}
}

func TestFindAndRead(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "a/b")
	// a directory of that name is no configuration
	if err := os.MkdirAll(filepath.Join(deep, FileName), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Find(deep)
	var re *ReadError
	if !errors.As(err, &re) || !errors.Is(err, fs.ErrNotExist) ||
		!strings.Contains(err.Error(), "no such file, nor in a directory above; `provium init` writes one") {
		t.Errorf("none: %v", err)
	}
	path := filepath.Join(dir, FileName)
	write(t, path, "")
	if got, err := Find(deep); err != nil || got != path {
		t.Errorf("found %q, %v", got, err)
	}

	// Of several directories the first one with a configuration above it wins.
	other, bare := filepath.Join(t.TempDir(), "x"), t.TempDir()
	write(t, filepath.Join(filepath.Dir(other), FileName), "")
	if got, err := Find(deep, other); err != nil || got != path {
		t.Errorf("found %q, %v", got, err)
	}
	if got, err := Find(bare, bare, other); err != nil || got != filepath.Join(filepath.Dir(other), FileName) {
		t.Errorf("found %q, %v", got, err)
	}
	two := t.TempDir()
	if _, err := Find(bare, two); !IsMissing(err) || !strings.Contains(err.Error(),
		"nor in a directory above, nor in `"+two+"` or above; `provium init` writes one") {
		t.Error(err)
	}

	missing := filepath.Join(dir, "x.toml")
	if _, err := Load(missing, testEnv); err == nil || !strings.HasPrefix(err.Error(), "read `"+missing+
		"`: no such file; ") {
		t.Errorf("missing: %v", err)
	}
	if _, err := Load(dir, testEnv); err == nil || err.Error() != "read `"+dir+"`: is a directory" {
		t.Errorf("directory: %v", err)
	}
	write(t, missing, strings.Repeat("#", maxFileSize+1))
	if _, err := Load(missing, testEnv); err == nil || !strings.Contains(err.Error(),
		"more than 4 MiB are no configuration") {
		t.Errorf("too large: %v", err)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1, "4096": 4096, "1K": 1 << 10, "512M": 512 << 20, "2G": 2 << 30, "1T": 1 << 40, "0.5K": 512,
		"2k": 2 << 10, "4g": 4 << 30, "512m": 512 << 20, "1t": 1 << 40,
		"1.5G": 3 << 29, "8191T": 8191 << 40,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "0G", "-1", "+1", "2X", "2 G", " 2G", "G", ".", "1e3", "0x10", "1_0",
		"nan", "inf", "1.5", "0.3K", "2GB", "9999999T", "1.2.3G"} {
		if got, err := ParseSize(text); err == nil || !strings.Contains(err.Error(), "`"+text+"`") {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "300": 300 * time.Second, "5s": 5 * time.Second, "500ms": 500 * time.Millisecond,
		"2m": 2 * time.Minute,
		"1h": time.Hour, "1.5s": 1500 * time.Millisecond, "0.1ms": 100 * time.Microsecond, "0.0000000001ms": 1,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "s", "-1", "-1s", "5 s", "1d", "1.5", "1e3s", "nan", "inf", "infs", "0x1s",
		"99999999h", "5S"} {
		if got, err := ParseDuration(text); err == nil || !strings.Contains(err.Error(), "`"+text+"`") {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// FuzzParse checks that any text gives a configuration whose paths are absolute
// or an error of one of the three kinds.
func FuzzParse(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("[provium]\nroots = ['tests']\ncache_max_size = '1.5G'\noops_patterns = ['x']\n"))
	f.Add([]byte("[profiles.p]\nkernel = '{out}/k'\ncmdline = 'quiet'\ndisks = [{scratch = '1M'}, {path = 'x', id = " +
		"'d'}]\nagent_boot_timeout = 1e-9\n"))
	f.Add([]byte("profiles = { p = { kernal = 1 } }\n"))
	f.Add([]byte("[profiles.'a.b']\n[[profiles.'a.b'.disks]]\npath = 1\n"))
	f.Add([]byte("[profiles]\nfrom_dir = '/none'\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parse(text, "/proj/provium.toml", testEnv)
		if err != nil {
			var re *ReadError
			var pe *ParseError
			var ie *InvalidError
			if !errors.As(err, &re) && !errors.As(err, &pe) && !errors.As(err, &ie) {
				t.Fatalf("unexpected error %v", err)
			}
			return
		}
		paths := append([]string{c.CacheDir}, c.Roots...)
		for _, p := range c.Profiles {
			paths = append(paths, p.Kernel, p.Initrd, p.Root, p.CmdlineFile, p.AgentOverlayPath, p.BuildOut)
			for _, d := range p.Disks {
				paths = append(paths, d.Path, d.Template)
			}
		}
		for _, p := range paths {
			if p != "" && !filepath.IsAbs(p) {
				t.Errorf("path %q is not absolute", p)
			}
		}
		if c.CacheMaxSize <= 0 {
			t.Errorf("cache size %d", c.CacheMaxSize)
		}
	})
}
