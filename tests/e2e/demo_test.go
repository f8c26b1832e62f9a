package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemoNamesTheStepThatFails runs scripts/demo with a program in place of
// provium that fails with status 7 at one of the steps.
func TestDemoNamesTheStepThatFails(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("../../scripts/demo")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, d := range []string{"scripts", "examples", "bin"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const fake = `#!/bin/sh
echo "called $*"
[ "$*" = "$FAILS_AT" ] && echo "why" >&2 && exit 7
exit 0
`
	for name, text := range map[string]string{"scripts/demo": string(script), "bin/provium": fake} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".text", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// A process that another test starts has the files that are written here, for a moment, and
		// what is being written cannot be executed.
		if out, err := exec.Command("install", "-m", "755", path+".text", path).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, tc := range []struct{ failsAt, want string }{
		{"doctor", "demo: provium doctor failed with status 7: ../bin/provium doctor\n"},
		{"-v --cold a b", "demo: the run without the boot cache failed with status 7: ../bin/provium -v --cold a b\n"},
		{"-q a b", "why\ndemo: the run that fills the boot cache failed with status 7: fill_cache a b\n"},
		{"a b", "demo: the run from the boot cache failed with status 7: ../bin/provium a b\n"},
		{"nowhere", "called a b\n"},
	} {
		cmd := exec.Command(filepath.Join(dir, "scripts/demo"), "a", "b")
		cmd.Env = append(os.Environ(), "FAILS_AT="+tc.failsAt)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if failed := errors.As(err, &exit) && exit.ExitCode() == 7; failed != (tc.failsAt != "nowhere") ||
			!strings.HasSuffix(string(out), tc.want) {
			t.Errorf("failing at %s: %v\n%s", tc.failsAt, err, out)
		}
	}
}
