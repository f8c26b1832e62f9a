package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"provium/internal/fulltest"
)

// TestVerify kills two runs, and in full one more while the caches are filled, and has guests do
// random acts for 45 seconds, in full for two minutes, as `make verify` and `make soak` do for much longer.
func TestVerify(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("boots guests")
	}
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	verify := filepath.Join(t.TempDir(), "verify")
	build := exec.Command("go", "build", "-trimpath", "-tags", "verify", "-o", verify, "./verify")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, args := range map[string][]string{
		"kills": {fmt.Sprint("kills=", fulltest.Of(2, 3))},
		"soak":  {"soak", fmt.Sprint("seconds=", fulltest.Of(45, 120))},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(verify, args...)
			cmd.Dir, cmd.Env = "../..", append(os.Environ(), "PROVIUM_BIN="+bin)
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Error(err)
			}
		})
	}
}
