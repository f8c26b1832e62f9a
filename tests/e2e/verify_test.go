package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"provium/internal/fulltest"
)

// TestVerify kills two runs, and in full one more while the caches are filled, and has guests do
// a few random acts, in full many, as `make verify` does hundreds of times.
func TestVerify(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("boots guests")
	}
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "run", "-trimpath", "-tags", "verify", "./verify",
		fmt.Sprint("kills=", fulltest.Of(2, 3)),
		fmt.Sprint("soak=", fulltest.Of(1, 3)), fmt.Sprint("acts=", fulltest.Of(2, 10)))
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "PROVIUM_BIN="+bin)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}
