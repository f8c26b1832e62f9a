package e2e

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal makes a pseudo terminal: what is written to terminal is read from screen.
func openTerminal(t *testing.T) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return screen, terminal
}

// TestTerminalIsNotDrawnOn has texts reach a terminal in every way there is. What is no
// terminal gets them as they are.
func TestTerminalIsNotDrawnOn(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", `
test("prints \27[1m", function(t)
  print("printed \27[2J")
  io.write("written \27[2J\n")
  io.stderr:write("noted \27[2J\n")
  os.execute([[printf 'executed \033[2J\n']])
  t:log("logged \27[2J")
  error("failed \27[2J")
end)
`)
	r := p.run("-v")
	r.expect(1, `printed \x1b[2J`, "written \x1b[2J", "noted \x1b[2J", "executed \x1b[2J", `logged \x1b[2J`,
		`failed \x1b[2J`, `prints \x1b[1m`)

	screen, terminal := openTerminal(t)
	started := p.startOn(terminal, "-v")
	terminal.Close()
	shown, _ := io.ReadAll(screen) // ends with EIO
	_ = started.cmd.Wait()
	for _, text := range []string{"printed", "written", "noted", "executed", "logged", "failed"} {
		if !strings.Contains(string(shown), text+` \x1b[2J`) {
			t.Errorf("no text %q", text)
		}
	}
	if strings.Contains(string(shown), "\x1b[2J") {
		t.Errorf("a text reached the terminal as it is:\n%q", shown)
	}
}
