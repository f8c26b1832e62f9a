package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestReaderIsGone has what reads the results end before the run does, as head does. The tests
// run to their ends.
func TestReaderIsGone(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", "test('a', function() end)")
	p.write("tests/b.test.lua", `
test("b", function()
  while not io.open("go") do os.execute("sleep 0.2") end
  io.open("ended", "w"):close()
end)`)
	for _, flags := range [][]string{nil, {"--json"}, {"--events-stdout"}} {
		for _, name := range []string{"go", "ended"} {
			_ = os.Remove(p.dir + "/" + name)
		}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(p.bin, append(flags, "--vmm", "local", "-j", "2")...)
		var stderr watched
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.dir, p.env, w, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if _, err := r.Read(make([]byte, 1)); err != nil { // the first result
			t.Fatal(err)
		}
		r.Close()
		p.write("go", "")
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(stderr.String(), "broken pipe") {
			t.Errorf("%v: exit code %d\n%s", flags, code, stderr.String())
		}
		if _, err := os.Stat(p.dir + "/ended"); err != nil {
			t.Errorf("%v: a test did not run to its end", flags)
		}
	}
}
