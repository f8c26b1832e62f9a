package executable

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestLibraries(t *testing.T) {
	n, err := Resolve("/bin/sh", "/srv/sh", "")
	if err != nil {
		t.Fatal(err)
	}
	if n == nil {
		t.Skip("/bin/sh of this machine is linked statically")
	}
	if !strings.HasPrefix(filepath.Base(n.Loader), "ld-") || len(n.Libraries) == 0 {
		t.Errorf("%+v", n)
	}
	for _, l := range n.Libraries {
		if _, err := os.Stat(l.Path); err != nil || l.At != l.Path || l.IsConfigured {
			t.Errorf("%+v: %v", l, err)
		}
	}
	script := filepath.Join(t.TempDir(), "x")
	write(t, script, "#!/bin/sh\n")
	if n, err := Resolve(script, script, ""); n != nil || err != nil {
		t.Error(n, err)
	}
}

// build compiles C source text with options.
func build(t *testing.T, to, source string, options ...string) {
	t.Helper()
	write(t, to+".c", source)
	cmd := exec.Command("gcc", append([]string{"-o", to, to + ".c"}, options...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestPlaces has libraries in each place that a loader looks in, and one that is missing.
func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	lib := func(name, source string, more ...string) {
		file := filepath.Join(dir, name)
		write(t, file, "")
		build(t, file, source, append([]string{"-shared", "-fPIC", "-Wl,-soname," + filepath.Base(name)}, more...)...)
	}
	lib("deep/libdeep.so.1", "int deep(void) { return 1; }")
	lib("lib/libnear.so.1", "int deep(void); int near(void) { return deep(); }", dir+"/deep/libdeep.so.1",
		"-Wl,-rpath,$ORIGIN/../deep")
	lib("given/libgiven.so.1", "int given(void) { return 1; }")
	prog := filepath.Join(dir, "bin/prog")
	write(t, prog, "")
	build(t, prog, "int near(void); int given(void); int main(void) { return near() + given(); }",
		dir+"/lib/libnear.so.1", dir+"/given/libgiven.so.1", "-Wl,-rpath-link,"+dir+"/deep",
		"-Wl,-rpath,${ORIGIN}/../lib",
		"-Wl,--enable-new-dtags")
	if _, err := Resolve(prog, prog, ""); err == nil || !strings.Contains(err.Error(), "needs libgiven.so.1, which") {
		t.Error(err)
	}
	n, err := Resolve(prog, "/usr/local/bin/prog", "relative:"+dir+"/given")
	if err != nil {
		t.Fatal(err)
	}
	home, err := filepath.EvalSymlinks(n.Loader)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Library{
		{dir + "/lib/libnear.so.1", "/usr/local/lib/libnear.so.1", false},
		{dir + "/deep/libdeep.so.1", "/usr/local/deep/libdeep.so.1", false},
		{dir + "/given/libgiven.so.1", filepath.Dir(home) + "/libgiven.so.1", true},
	} {
		if !slices.Contains(n.Libraries, want) {
			t.Errorf("%+v is not in %+v", want, n.Libraries)
		}
	}
	if err := os.Remove(dir + "/deep/libdeep.so.1"); err != nil {
		t.Fatal(err)
	}
	_, err = Resolve(prog, prog, dir+"/given")
	if err == nil || !strings.Contains(err.Error(), "needs libdeep.so.1, ") {
		t.Error(err)
	}
}

func TestConfiguredDirs(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/conf", "# comment\n/a # more\n\ninclude conf.d/*.conf\ninclude "+dir+"/conf\n")
	write(t, dir+"/conf.d/1.conf", "/b\n")
	got := configuredDirs(dir+"/conf", 0)
	if len(got) < 2 || got[0] != "/a" || got[1] != "/b" || len(got) > 20 {
		t.Error(got)
	}
}

func FuzzInterpreter(f *testing.F) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(self[:headSize])
	f.Add([]byte("#!/bin/sh\n"))
	f.Fuzz(func(t *testing.T, head []byte) {
		g := &fakeGuest{files: map[string]string{"/p": string(head)}}
		Diagnose(t.Context(), g, Attempt{Name: "/p"})
	})
}
