package agenttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"provium/internal/agent"
	"provium/internal/guest"
)

// built is the executor's program, built once for all tests of a package.
var built = sync.OnceValues(buildExecutor)

// ConnectExecutor is Connect with an agent that has executors, and so can start
// commands and make system calls. Their program is built from its source.
func ConnectExecutor(t testing.TB, c agent.Config) *guest.Client {
	t.Helper()
	f, err := built()
	if err != nil {
		t.Fatal(err)
	}
	c.Executor = int(f.Fd())
	return Connect(t, c, guest.Config{})
}

func buildExecutor() (*os.File, error) {
	root, err := filepath.Abs(".")
	if err != nil {
		return nil, err
	}
	for ; ; root = filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil || root == "/" {
			break
		}
	}
	sources, err := filepath.Glob(filepath.Join(root, "internal/agent/executor/program/*.c"))
	if err != nil {
		return nil, err
	}
	dir := os.Getenv("EXECUTOR_COVERAGE") // of scripts/test-go, which wants one program
	args := []string{"-static", "-O1", "-pthread", "-Drun_executor=main"}
	if dir != "" {
		args = append(args, "--coverage", "-DCOVERAGE", "-fprofile-update=atomic", "-dumpdir", dir+"/")
	} else if dir, err = os.MkdirTemp("", "executor"); err != nil {
		return nil, err
	} else {
		defer os.RemoveAll(dir)
	}
	program := filepath.Join(dir, "executor")
	if _, err := os.Stat(program); err == nil {
		return os.Open(program)
	}
	// Tests of other packages may be at it, too.
	part := fmt.Sprintf("%s.%d", program, os.Getpid())
	out, err := exec.Command("gcc", slices.Concat(args, []string{"-o", part}, sources)...).CombinedOutput()
	if err != nil {
		return nil, &buildError{err, string(out)}
	}
	if err := os.Rename(part, program); err != nil {
		return nil, err
	}
	return os.Open(program)
}

// buildError is what the compiler said.
type buildError struct {
	err error
	out string
}

func (e *buildError) Error() string { return "build the executor: " + e.err.Error() + ": " + e.out }
