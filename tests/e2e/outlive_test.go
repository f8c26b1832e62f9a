package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// leave is a shell command that leaves a process in a session and process group of its
// own behind, which keeps the standard output open. Its number stands in a file.
func leave(file string) string {
	return "setsid sh -c 'echo $$ >" + file + ".new; mv " + file + ".new " + file + "; exec sleep 86399' & " +
		"while [ ! -e " + file + " ]; do sleep 0.05; done"
}

// left opens a pidfd for each process whose number stands in a file of the project.
func (p *project) left(files ...string) map[string]int {
	p.t.Helper()
	fds := map[string]int{}
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(p.dir, name))
		if err != nil {
			p.t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			p.t.Fatal(err)
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err == unix.ESRCH {
			continue // gone
		}
		if err != nil {
			p.t.Fatal(err)
		}
		p.t.Cleanup(func() { _ = unix.Close(fd) })
		fds[name] = fd
	}
	return fds
}

// expectEnd waits for the end of processes that have nobody else to wait for them.
func (p *project) expectEnd(fds map[string]int) {
	p.t.Helper()
	for name, fd := range fds {
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 30_000)
			if err == unix.EINTR {
				continue
			}
			if n != 1 {
				p.t.Errorf("the process of %s outlives its run", name)
			}
			break
		}
	}
}

// outliveProject has a profile whose build, and a file whose Lua code, leave processes.
// The last command that the code opens goes on with then.
func outliveProject(t *testing.T, then string) *project {
	p := newProject(t, hostProfile+`
[profiles.built]
build = "`+leave("built")+`"
`)
	p.write("tests/a.test.lua", `
test("leaves processes", function(t)
  os.execute([[`+leave("executed")+`]])
  f = io.popen([[`+leave("opened")+`; echo up; `+then+`]])
  t:assert_eq(f:read(), "up")
  if os.getenv("STAY") then io.write("stays\n") io.flush() os.execute("exec sleep 86399") end
end)
`)
	return p
}

func TestNothingOutlivesARun(t *testing.T) {
	t.Parallel()
	p := outliveProject(t, "exit")
	p.run().expect(0, "1 passed")
	for name := range p.left("built", "executed", "opened") {
		t.Errorf("the process of %s outlives its run", name)
	}
}

func TestNothingOutlivesAKilledRun(t *testing.T) {
	t.Parallel()
	p := outliveProject(t, "exec sleep 86399")
	p.env = append(p.env, "STAY=1")
	r := p.start()
	r.await("stays")
	fds := p.left("executed", "opened")
	if len(fds) != 2 {
		t.Errorf("%d processes run", len(fds))
	}
	r.signal(syscall.SIGKILL)
	_ = r.cmd.Wait() // the pipe's end may take longer
	p.expectEnd(fds)
	p.clearTemp()
}

func TestNothingOutlivesAKilledBuild(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile+`
[profiles.built]
build = "`+leave("built")+`; echo up >up; exec sleep 86399"
`)
	p.write("tests/a.test.lua", "print('ran')\n")
	r := p.start()
	p.awaitFile("up")
	fds := p.left("built")
	r.signal(syscall.SIGKILL)
	_ = r.cmd.Wait()
	p.expectEnd(fds)
	p.clearTemp()
}

// TestNothingOutlivesAFixtureBuild has a command that runs Lua code in its own process.
func TestNothingOutlivesAFixtureBuild(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.env = append(p.env, "HOME="+p.dir)
	p.write("tests/f.fixture.lua", `
os.execute([[`+leave("executed")+`]])
error("no fixture: " .. tostring(os.getenv("STAY")))
`)
	p.run("fixture", "build", "f").expect(2, "no fixture")
	for name := range p.left("executed") {
		t.Errorf("the process of %s outlives its run", name)
	}
	p.write("tests/f.fixture.lua", `
os.execute([[rm executed; `+leave("executed")+`; exec sleep 86399]])
`)
	if err := os.Remove(filepath.Join(p.dir, "executed")); err != nil {
		t.Fatal(err)
	}
	r := p.start("fixture", "build", "f")
	p.awaitFile("executed")
	fds := p.left("executed")
	r.signal(syscall.SIGKILL)
	_ = r.cmd.Wait()
	p.expectEnd(fds)
	p.clearTemp()
}

// clearTemp removes what a killed run leaves for the next one to sweep.
func (p *project) clearTemp() {
	p.t.Helper()
	p.expectNoProcess()
	entries, err := filepath.Glob(filepath.Join(p.temp, "*"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range entries {
		os.RemoveAll(e)
	}
}
