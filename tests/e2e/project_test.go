package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for something that has to happen. It only decides
// how long a broken program is waited for.
const patience = 5 * time.Minute

// program is the path of the binary: PROVIUM_BIN, or built here.
var program = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("PROVIUM_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	// Beside what `make build` makes, so that a test run finds the caches of Go
	// and nothing but them changes.
	bin := filepath.Join(root, "bin", "provium-e2e")
	build := exec.Command("go", "build", "-trimpath", "-o", bin, "./cmd/provium")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return bin, nil
})

// project is a directory with a provium.toml, and a directory for temporary
// files that belongs to the runs of this project alone.
type project struct {
	t    *testing.T
	bin  string
	dir  string
	temp string
	env  []string
	as   *syscall.Credential // nil: as we are
	cwd  string              // where runs start, below dir
	term string              // TERM of those on a terminal

	stdin *os.File // of the next run; nil: none
}

// hostProfile boots what the project's own suites boot, so that the boot cache has it.
const hostProfile = "[provium]\nroots = [\"tests\"]\n\n[profiles.host]\nboot_compressed = false\n"

// newProject makes a project. When the test ends nothing of its runs may be
// left.
func newProject(t *testing.T, toml string) *project {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: its names are long, which a socket's path must not be, and
	// only its owner may enter it.
	temp, err := os.MkdirTemp("/tmp", "e2e-")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "e2e-project-")
	if err != nil {
		t.Fatal(err)
	}
	p := &project{t: t, bin: bin, dir: dir, temp: temp, term: "xterm"}
	t.Cleanup(func() {
		p.expectNothingLeft()
		os.RemoveAll(temp)
		os.RemoveAll(dir)
	})
	p.env = append(os.Environ(), "TMPDIR="+temp, "PROVIUM_RERUN_STATE="+filepath.Join(p.dir, "rerun.json"),
		"PROVIUM_BUILD_DIR="+filepath.Join(p.dir, "builds"), "PROVIUM_ARTIFACTS="+filepath.Join(p.dir, "artifacts"),
		"NO_COLOR=1")
	p.write("provium.toml", toml)
	return p
}

// nobody is a user and a group without rights.
const nobody = 65534

// dropPrivileges has the project run without root's rights. Its home directory
// is empty then.
func (p *project) dropPrivileges() {
	p.t.Helper()
	home := filepath.Join(p.dir, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		p.t.Fatal(err)
	}
	p.env = append(p.env, "HOME="+home)
	if os.Getuid() != 0 {
		return
	}
	// The binary may stand where only root can go.
	dir, err := os.MkdirTemp("/tmp", "e2e-bin-")
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "provium")
	// Not by this process: a child of another test could have the copy open for writing, which then cannot be run.
	copied := exec.Command("cp", p.bin, program).Run()
	p.bin = program
	for _, err := range []error{
		copied, os.Chmod(program, 0o755), os.Chmod(dir, 0o755),
		os.Chown(home, nobody, nobody), os.Chown(p.dir, nobody, nobody), os.Chown(p.temp, nobody, nobody),
	} {
		if err != nil {
			p.t.Fatal(err)
		}
	}
	p.as = &syscall.Credential{Uid: nobody, Gid: nobody}
}

// write makes a file of the project.
func (p *project) write(name, text string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// awaitFile waits until a file of the project is there.
func (p *project) awaitFile(name string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(p.dir, name)); err == nil {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("no file %s", name)
		}
	}
}

// run is one run of the program.
type run struct {
	p      *project
	cmd    *exec.Cmd
	ctx    context.Context
	cancel context.CancelFunc
	lines  *bufio.Reader // standard output
	stdout bytes.Buffer  // what was read of it
	stderr watched
	code   int
}

// watched collects output and lets one wait for a part of it.
type watched struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	notify chan struct{} // closed and replaced by each write
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.notify != nil {
		close(w.notify)
		w.notify = nil
	}
	return w.buf.Write(b)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// next is what was written so far, and a channel that is closed by more.
func (w *watched) next() (string, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.notify == nil {
		w.notify = make(chan struct{})
	}
	return w.buf.String(), w.notify
}

// start starts the program.
func (p *project) start(args ...string) *run {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r := &run{p: p, ctx: ctx, cancel: cancel, cmd: exec.CommandContext(ctx, p.bin, args...)}
	r.cmd.Dir, r.cmd.Env, r.cmd.Stderr = filepath.Join(p.dir, p.cwd), p.env, &r.stderr
	if p.stdin != nil {
		r.cmd.Stdin = p.stdin
	}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as, Pdeathsig: syscall.SIGKILL}
	out, w, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	r.cmd.Stdout = w
	err = r.cmd.Start()
	w.Close()
	if err != nil {
		p.t.Fatal(err)
	}
	// Processes that wrongly live on would hold the pipe open for ever.
	context.AfterFunc(ctx, func() { out.Close() })
	p.t.Cleanup(cancel)
	r.lines = bufio.NewReader(io.TeeReader(out, &r.stdout))
	return r
}

// startOn starts the program with a file as standard output and error.
func (p *project) startOn(f *os.File, args ...string) *run {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p.t.Cleanup(cancel)
	r := &run{p: p, ctx: ctx, cancel: cancel, cmd: exec.CommandContext(ctx, p.bin, args...)}
	r.cmd.Dir, r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = filepath.Join(p.dir, p.cwd), p.env, f, f
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as, Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	return r
}

// await reads standard output up to a line that is text.
func (r *run) await(text string) {
	r.p.t.Helper()
	for {
		line, err := r.lines.ReadString('\n')
		if strings.TrimSuffix(line, "\n") == text {
			return
		}
		if err != nil {
			r.p.t.Fatalf("no line %q on standard output: %v\n%s", text, err, r.report())
		}
	}
}

// awaitNote waits until text was printed on standard error.
func (r *run) awaitNote(text string) {
	r.p.t.Helper()
	for {
		have, more := r.stderr.next()
		if strings.Contains(have, text) {
			return
		}
		select {
		case <-more:
		case <-r.ctx.Done():
			r.p.t.Fatalf("no %q on standard error\n%s", text, r.report())
		}
	}
}

// signal sends a signal to the program alone.
func (r *run) signal(sig syscall.Signal) {
	r.p.t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		r.p.t.Fatal(err)
	}
}

// wait waits for the end of the program.
func (r *run) wait() *run {
	r.p.t.Helper()
	_, err := io.Copy(io.Discard, r.lines)
	werr := r.cmd.Wait()
	if r.ctx.Err() != nil {
		r.p.t.Fatalf("the program did not end within %v\n%s", patience, r.report())
	}
	if err != nil {
		r.p.t.Fatal(err)
	}
	var ee *exec.ExitError
	if werr != nil && !errors.As(werr, &ee) {
		r.p.t.Fatal(werr)
	}
	r.code = r.cmd.ProcessState.ExitCode()
	return r
}

// run runs the program to its end.
func (p *project) run(args ...string) *run {
	p.t.Helper()
	return p.start(args...).wait()
}

func (r *run) report() string {
	return fmt.Sprintf("%s\n--- exit code %d\n--- stdout\n%s--- stderr\n%s", strings.Join(r.cmd.Args, " "), r.code,
		&r.stdout, &r.stderr)
}

// expect checks the exit code, and that the texts were printed, on whichever
// output.
func (r *run) expect(code int, texts ...string) {
	r.p.t.Helper()
	if r.code != code {
		r.p.t.Errorf("want exit code %d\n%s", code, r.report())
		return
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout.String(), text) && !strings.Contains(r.stderr.String(), text) {
			r.p.t.Errorf("%q was not printed\n%s", text, r.report())
		}
	}
}

// expectNothingLeft checks that no process and no temporary file is left of
// the project's runs.
func (p *project) expectNothingLeft() {
	p.t.Helper()
	p.expectNoProcess()
	entries, err := os.ReadDir(p.temp)
	if err != nil {
		p.t.Error(err)
	}
	for _, e := range entries {
		p.t.Errorf("a run left %s", filepath.Join(p.temp, e.Name()))
	}
}

// expectNoProcess waits for the end of processes that were killed, which the
// kernel takes a moment for.
func (p *project) expectNoProcess() {
	p.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		left := p.processes()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			p.t.Errorf("processes outlive their run:\n%s", strings.Join(left, "\n"))
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// processes are the command lines of all processes that know the project's
// directory for temporary files: from their arguments or their environment.
func (p *project) processes() []string {
	p.t.Helper()
	var out []string
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, dir := range dirs {
		// One that ends meanwhile has no files any more, and is not left.
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		environ, _ := os.ReadFile(dir + "/environ")
		if bytes.Contains(cmdline, []byte(p.temp)) || bytes.Contains(environ, []byte("TMPDIR="+p.temp+"\x00")) {
			out = append(out, filepath.Base(dir)+" "+string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
		}
	}
	return out
}
