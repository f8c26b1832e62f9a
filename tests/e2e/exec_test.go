package e2e

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// emptyFolder is a project without provium.toml.
func emptyFolder(t *testing.T) *project {
	t.Helper()
	p := newProject(t, "")
	if err := os.Remove(filepath.Join(p.dir, "provium.toml")); err != nil {
		t.Fatal(err)
	}
	return p
}

// feed starts the program with a text as its standard input.
func (p *project) feed(text string, args ...string) *run {
	p.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Close()
	go func() {
		_, _ = io.WriteString(w, text)
		w.Close()
	}()
	p.stdin = r
	defer func() { p.stdin = nil }()
	return p.start(args...)
}

// TestExec runs commands in guests from a folder that is no project.
func TestExec(t *testing.T) {
	p := emptyFolder(t)
	p.env = append(p.env, "FROM_HERE=yes", "LC_ALL=x_Y")
	r := p.feed("typed", "exec", "--", "sh", "-c", `pwd; echo "$FROM_HERE $LC_ALL."; cat; echo odd >&2; exit 7`).wait()
	r.expect(7)
	if r.stdout.String() != p.dir+"\nyes .\ntyped" || r.stderr.String() != "odd\n" {
		t.Errorf("%s", r.report())
	}

	// The file system of the host is not that of the guest, but for what is pushed.
	p.write("in/deep/file", "pushed\n")
	p.write("out/old", "old\n")
	p.write("out/gone", "gone\n")
	p.run("exec", "--push", "in", "--rw", "out", "--", "sh", "-c",
		`set -e; cat in/deep/file; echo new >out/new; echo more >>out/old; rm out/gone; ln -s old out/link
kill -9 $$`).expect(128+9, "pushed")
	for name, want := range map[string]string{"out/new": "new\n", "out/old": "old\nmore\n", "out/link": "old\nmore\n",
		"out/gone": ""} {
		if text, _ := os.ReadFile(filepath.Join(p.dir, name)); string(text) != want {
			t.Errorf("%s: %q, want %q", name, text, want)
		}
	}

	s := p.start("exec", "--", "sh", "-c",
		`trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.1; done`)
	s.await("ready")
	s.signal(syscall.SIGTERM)
	s.wait().expect(3, "asked")
}

// TestExecBadInput has everything that is wrong end with the code of a failure of Provium.
func TestExecBadInput(t *testing.T) {
	p := newProject(t, "[profiles.small]\n[profiles.large]\n")
	p.run("exec").expect(125, "expected a command to run")
	p.run("exec", "--profile", "smal", "--", "true").expect(125, "unknown profile `smal`", "did you mean `small`",
		"large, small")
	p.run("exec", "--push", "nothing", "--", "true").expect(125, "--push", "no such file")
	p.run("exec", "--rw", "provium.toml", "--", "true").expect(125, "--rw", "not a directory")
	p.run("exec", "--rw", "/proc", "--", "true").expect(125, "--rw /proc: ")
	p.run("exec", "--mem", "1M", "--", "true").expect(125, "--mem", "no guest boots with less than 16 MiB")
	p.run("exec", "--", "./").expect(125, p.dir+": is a directory")
	p.run("exec", "--bad", "--", "true").expect(125, "unknown flag `--bad`")
	p.run("exec", "--kernel", "nothing", "--", "true").expect(125, "nothing")
	p.run("shel").expect(2, "did you mean `shell`?")
	p.run("attach", "box").expect(125, "no run of this user has a guest now")
	p.run("attach", "a", "b").expect(125, "expected one guest")
	p.run("attach", "--list", "a").expect(125, "--list takes no guest")
	p.run("boots", "lst").expect(2, "did you mean `list`?")
	p.run("shell").expect(125, "shell needs a terminal")
	p.run("console", "small").expect(2, "console needs a terminal")
	p.run("repl", "small").expect(2, "repl needs a terminal")
	p.run("--pause-on-failure").expect(2, "--pause-on-failure needs a terminal")
	p.run("exec", "--", "no-such-command").expect(127, "no-such-command: the guest has no such command")
}

// TestGoTestExec runs the tests of a Go module in a guest.
func TestGoTestExec(t *testing.T) {
	p := emptyFolder(t)
	p.write("go.mod", "module example.org/m\n\ngo 1.21\n")
	p.write("testdata/greeting", "hello")
	p.write("m_test.go", `package m

import (
	"os"
	"testing"
)

func TestInGuest(t *testing.T) {
	text, err := os.ReadFile("testdata/greeting")
	if err != nil || string(text) != "hello" {
		t.Fatal(text, err)
	}
	if _, err := os.Stat("go.mod"); err == nil {
		t.Fatal("this is the host")
	}
	if os.Getenv("WISH") != "granted" {
		t.Fatal("environment")
	}
}

func TestFails(t *testing.T) {
	if os.Getenv("FAIL") != "" {
		t.Fatal("as wished")
	}
}
`)
	test := func(env ...string) (string, error) {
		cmd := exec.Command("go", "test", "-count=1", "-v", "-exec", p.bin+" exec --", "./...")
		cmd.Dir = p.dir
		cmd.Env = append(append(p.env, "CGO_ENABLED=0", "GOFLAGS=-trimpath", "WISH=granted"), env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := test(); err != nil || !strings.Contains(out, "--- PASS: TestInGuest") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := test("FAIL=1"); err == nil || !strings.Contains(out, "as wished") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestExecCompiled runs compiled programs as the runner of cargo does: linked statically and
// dynamically.
func TestExecCompiled(t *testing.T) {
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("no C compiler")
	}
	p := emptyFolder(t)
	source := p.write("x.c", `#include <math.h>
#include <stdio.h>
#include <stdlib.h>
int main(int n, char **v) { printf("%s %.1f\n", v[1], sqrt(atof(v[2]))); return 5; }
`)
	for name, flag := range map[string]string{"static": "-static", "dynamic": "-rdynamic"} {
		program := filepath.Join(p.dir, "deps", name)
		if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cc", flag, "-o", program, source, "-lm").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		p.run("exec", "--", program, "--nocapture", "16").expect(5, "--nocapture 4.0")
	}
}

// TestCargoRunner runs the tests of a Rust crate in a guest.
func TestCargoRunner(t *testing.T) {
	if _, err := exec.LookPath("cargo"); err != nil {
		t.Skip("no cargo")
	}
	p := emptyFolder(t)
	p.write("Cargo.toml", "[package]\nname = \"m\"\nversion = \"0.1.0\"\nedition = \"2021\"\n")
	p.write("src/lib.rs", `#[test]
fn in_guest() {
    assert!(std::fs::read_to_string("/proc/cmdline").unwrap().contains("provium-agent"), "on the host");
    std::fs::write("made-by-test", "yes").unwrap();
    assert!(std::env::var("FAIL").is_err(), "as wished");
}
`)
	// The toolchain is where the user has it, not in the home of the project.
	rustup := os.Getenv("RUSTUP_HOME")
	if home, err := os.UserHomeDir(); rustup == "" && err == nil {
		rustup = filepath.Join(home, ".rustup")
	}
	test := func(runner string, env ...string) (string, error) {
		cmd := exec.Command("cargo", "test", "--offline", "--lib", "--target", "x86_64-unknown-linux-gnu", "--",
			"--nocapture")
		cmd.Dir = p.dir
		cmd.Env = append(append(p.env, "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="+runner,
			"CARGO_HOME="+filepath.Join(p.temp, "cargo"), "RUSTUP_HOME="+rustup), env...)
		defer os.RemoveAll(filepath.Join(p.temp, "cargo"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	made := filepath.Join(p.dir, "made-by-test")
	out, err := test(p.bin + " exec --")
	if err != nil || !strings.Contains(out, "test result: ok. 1 passed") {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Stat(made); err == nil {
		t.Error("a file came back")
	}
	// With the crate shared, the program is in it, and needs its libraries all the same.
	out, err = test(p.bin+" exec --rw "+p.dir+" --", "FAIL=1")
	if err == nil || !strings.Contains(out, "as wished") || !strings.Contains(out, "1 failed") {
		t.Errorf("%v\n%s", err, out)
	}
	if text, _ := os.ReadFile(made); string(text) != "yes" {
		t.Errorf("what the test has made did not come back: %q\n%s", text, out)
	}
}
