package proc

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestServe starts programs as users start them: each is root of a namespace of its own, and ends with the starter.
func TestServe(t *testing.T) {
	s := NewStarter()
	run := func(script string) (string, error) {
		cmd := exec.Command("/bin/sh", "-c", script)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		p, err := s.serve(cmd, false)
		if err != nil {
			return "", err
		}
		err = p.Wait()
		return out.String(), err
	}
	out, err := run("id -u; id -G; cat /proc/self/uid_map; cat /proc/net/dev; exit 7")
	if err != nil && strings.Contains(err.Error(), "users may not have namespaces here") {
		t.Skipf("the machine allows users no namespaces: %v", err)
	}
	if err == nil || err.Error() != "exit status 7" {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Split(out, "\n")
	if len(lines) < 3 || lines[0] != "0" || lines[1] != "0" || len(strings.Fields(lines[2])) != 3 ||
		strings.Contains(out, "eth0") {
		t.Errorf("it is %q", lines)
	}
	if _, err := s.serve(exec.Command("/no/such/program"), false); err == nil {
		t.Error("no program")
	}
	p, err := s.Serve(exec.Command("/bin/sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := pidfdOpen(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	s.Close()
	if err := p.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("it has ended with %v", err)
	}
}
