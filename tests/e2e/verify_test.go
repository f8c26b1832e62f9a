package e2e

import (
	"os"
	"os/exec"
	"testing"
)

// TestVerify kills two runs, as `make verify` does hundreds of times.
func TestVerify(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("boots guests")
	}
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "run", "-trimpath", "-tags", "verify", "./verify", "kills=2")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "PROVIUM_BIN="+bin)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}
