package e2e

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// shownWithin bounds the wait for a text on a terminal.
const shownWithin = 100 * time.Second

// session is a run on a terminal, as a person has it.
type session struct {
	p     *project
	cmd   *exec.Cmd
	ptmx  *os.File
	shown watched
	at    int // of what was shown: awaited so far
	done  chan struct{}
}

// onTerminal starts the program on a terminal of a size.
func (p *project) onTerminal(rows, cols uint16, args ...string) *session {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, p.bin, args...)
	cmd.Dir, cmd.Env = filepath.Join(p.dir, p.cwd), append(p.env, "TERM="+p.term)
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: rows, Cols: cols})
	if err != nil {
		p.t.Skipf("no pseudo terminals here: %v", err)
	}
	s := &session{p: p, cmd: cmd, ptmx: f, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			_, _ = s.shown.Write(buf[:n])
			if err != nil {
				return // EIO at the end
			}
		}
	}()
	p.t.Cleanup(func() { f.Close() })
	return s
}

// keys types.
func (s *session) keys(text string) {
	s.p.t.Helper()
	if _, err := s.ptmx.WriteString(text); err != nil {
		s.p.t.Fatalf("%v\n%s", err, s.shown.String())
	}
}

// await waits until a text is shown behind the one awaited before.
func (s *session) await(text string) {
	s.p.t.Helper()
	limit := time.After(shownWithin)
	for {
		have, more := s.shown.next()
		if i := strings.Index(have[s.at:], text); i >= 0 {
			s.at += i + len(text)
			return
		}
		select {
		case <-more:
		case <-s.done:
			if have := s.shown.String(); strings.Contains(have[s.at:], text) {
				continue
			}
			s.p.t.Fatalf("the program has ended without %q\n%s", text, s.shown.String())
		case <-limit:
			s.p.t.Fatalf("no %q on the terminal\n%s", text, s.shown.String())
		}
	}
}

// answer types a line and waits for what it brings.
func (s *session) answer(line, text string) {
	s.p.t.Helper()
	s.keys(line + "\r")
	s.await("\n") // behind the echo
	s.await(text)
}

// end waits for the end of the program and checks its exit code.
func (s *session) end(code int) {
	s.p.t.Helper()
	<-s.done
	err := s.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.p.t.Fatal(err)
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.p.t.Errorf("exit code %d, want %d\n%s", got, code, s.shown.String())
	}
}

func (s *session) resize(rows, cols uint16) {
	s.p.t.Helper()
	if err := pty.Setsize(s.ptmx, &pty.Winsize{Rows: rows, Cols: cols}); err != nil {
		s.p.t.Fatal(err)
	}
}

const (
	ctrlC       = "\x03"
	ctrlD       = "\x04"
	ctrlBracket = "\x1d"
	arrowUp     = "\x1b[A"
)

// TestShell works in a shell as a person does.
func TestShell(t *testing.T) {
	p := emptyFolder(t)
	s := p.onTerminal(24, 80, "shell")
	const prompt = ":~# "
	line := func(line string, texts ...string) {
		t.Helper()
		s.await(prompt)
		s.keys(line + "\r")
		s.await("\n") // behind the echo
		for _, text := range texts {
			s.await(text)
		}
	}
	line("stty size", "24 80")
	s.resize(40, 100)
	line(`while [ "$(stty size)" != "40 100" ]; do sleep 0.1; done; echo re""sized`, "resized")
	line(`echo "$TERM"; tty; printf '\033[31mred\033[0m\n'`, "xterm", "/dev/pts/", "\x1b[31mred\x1b[0m")
	// What says that it runs is what the key ends, not the shell before it has started that.
	line(`sh -c 'echo be""gun; exec sleep 1000'`, "begun")
	s.keys(ctrlC)
	line("echo code $?", "code 130")
	s.await(prompt)
	s.keys("exit 6\r")
	s.end(6)

	s = p.onTerminal(24, 80, "shell", ".", "--", "sh", "-c", "test -t 0 && kill -15 $$")
	s.end(128 + 15)
	p.run("shell", "--", "sh", "-c", "test ! -t 0 && echo plain; exit 4").expect(4, "plain")
}

// TestConsole boots a guest with the terminal on its console.
func TestConsole(t *testing.T) {
	p := emptyFolder(t)
	s := p.onTerminal(24, 80, "console", "host", "--cmdline", "ignore_loglevel", "--", "-device", "edu")
	s.await("Linux version")
	s.await("# ")
	s.answer("tty", "/dev/ttyS0")
	s.answer("grep -c 123411e8 /proc/bus/pci/devices", "1") // the edu device
	s.answer(`sh -c 'echo be""gun; exec sleep 1000'`, "begun")
	s.keys(ctrlC)
	s.await("# ")
	s.keys(ctrlBracket)
	s.end(0)

	s = p.onTerminal(24, 80, "console", "host", "--", "-device", "no-such-device")
	s.await("no-such-device")
	s.end(2)
	s = p.onTerminal(24, 80, "console", "hst")
	s.await("unknown profile `hst`; did you mean `host`?")
	s.end(2)
	p.run("console", "host", "--print-command", "--agent=false").expect(2, "the built-in userland needs the agent")
	printed := p.run("console", "host", "--print-command", "--mem", "256M", "--cmdline", "ignore_loglevel a='b c'")
	printed.expect(0, "-m 268435456B", "-serial mon:stdio", `a='\''b c'\'`)
	qemu := exec.CommandContext(t.Context(), "sh", "-c", "exec "+printed.stdout.String())
	out, err := qemu.StdoutPipe()
	if err == nil {
		err = qemu.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); ; {
		if !lines.Scan() {
			t.Error("the command that was printed boots no guest")
			break
		}
		if strings.Contains(lines.Text(), "a='b c'") {
			break
		}
	}
	if err := qemu.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = qemu.Wait() // killed
}

// TestRepl types Lua.
func TestRepl(t *testing.T) {
	p := emptyFolder(t)
	s := p.onTerminal(24, 80, "repl", "--name", "box")
	s.await("vm(box state=booted")
	s.await("provium> ")
	s.answer("1 + 1", "2")
	s.answer(`vm:run("uname; echo; printf '\\033[2J'")`, "status=exited")
	s.await("stdout: [[")
	s.await("Linux")
	s.await(`\x1b[2J`)
	s.answer("local r = {b = 2, a = vm}", "provium> ")
	s.answer("r", "a = vm(box state=booted")
	s.await("b = 2")
	s.answer("for i = 1, 2 do", "...> ")
	s.answer("print('turn', i)", "...> ")
	s.answer("end", "turn\t1")
	s.await("turn\t2")
	s.answer("error('wrong')", "wrong")
	s.answer("vm:red_file('/x')", "read_file")
	s.keys("vm:read_f\t('/etc/none')")
	s.answer("", "No such file or directory (ENOENT")
	s.keys(arrowUp)
	s.await("vm:read_file('/etc/none')")
	s.answer("", "No such file or directory (ENOENT")
	s.keys("print('begun') vm:run('sleep 1000')\r")
	s.await("\r\nbegun")
	s.keys(ctrlC)
	s.await("interrupted")
	s.await("provium> ")
	s.answer("provium:vm('box') == vm", "true")
	s.keys(ctrlD)
	s.end(0)
}

// TestPause looks at tests that have stopped, and at one that has failed.
func TestPause(t *testing.T) {
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", `
local vm = provium:vm("box", "host"):boot()
test("stops", {timeout = "1s"}, function(t)
  local seen = 5
  t:pause("have a look")
  t:log("goes on")
end)
test("fails", function(t)
  vm:write_file("/tmp/trace", "kept")
  vm:write_file("/tmp/trace", "later")
  t:fail("as wished")
end)
`)
	s := p.onTerminal(24, 100, "--pause-on-failure", "-v")
	s.await("have a look")
	s.await("provium> ")
	s.answer("seen + 1", "6")
	s.answer(`vm:run("sleep 2; echo slept").stdout`, "slept") // longer than the limit of the test
	s.answer("t.name", `"stops"`)
	// Another process enters the guest meanwhile.
	list := p.run("attach", "--list")
	list.expect(0, "  box  ", "tests/a.test.lua  paused", "1 guest(s)")
	p.run("attach", "--", "sh", "-c", "echo here >/tmp/visited; exit 3").expect(3)
	p.run("attach", "bx", "--", "true").expect(125, "did you mean `box`", "tests/a.test.lua")
	p.run("attach", strings.Fields(list.stdout.String())[0], "--", "uname").expect(0, "Linux")
	visit := p.onTerminal(24, 80, "attach", "box")
	visit.await(":~# ")
	visit.keys("stty size; tty\r")
	visit.await("24 80")
	visit.await("/dev/pts/")
	visit.await(":~# ")
	s.answer(`vm:read_file("/tmp/visited")`, "here") // beside the visitor
	s.answer("vm:snapshot():size() > 0", "true")
	visit.await("for a snapshot")
	visit.end(125)
	s.answer("exit", "as wished")
	s.await("provium> ")
	s.answer("rewind", `before vm:write_file("/tmp/trace", "later") at tests/a.test.lua:`)
	s.answer(`vm:read_file("/tmp/trace")`, "kept")
	s.answer("provium.box:state()", "booted")
	s.keys(ctrlD)
	s.await("1 passed, 1 failed")
	s.end(1)

	p.run("attach", "--list").expect(0, "0 guest(s)")

	// Without a terminal there is nobody to ask.
	p.run().expect(1, "a pause needs a terminal")
}
