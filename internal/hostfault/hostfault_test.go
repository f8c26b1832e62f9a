package hostfault

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSweep writes a file: the sweep reaches each call, and the errors arrive.
func TestSweep(t *testing.T) {
	seen := map[unix.Errno]bool{}
	Sweep(t, func(t *testing.T, f *Fault) {
		path := filepath.Join(t.TempDir(), "file")
		var err error
		f.During(func() { err = os.WriteFile(path, []byte("text"), 0o600) })
		text, readErr := os.ReadFile(path)
		whole := readErr == nil && string(text) == "text"
		switch {
		case f.Errno() == 0, f.Errno() == unix.EINTR:
			if err != nil || !whole {
				t.Errorf("%v, file %q", err, text)
			}
		case !errors.Is(err, f.Errno()):
			t.Errorf("%v, the fault was %s", err, f.What())
		case whole:
			t.Error("the file was written in spite of it")
		}
		seen[f.Errno()] = true
	})
	if len(seen) > 0 && len(seen) < 3 { // in the process of the rounds
		t.Errorf("only %v came", seen)
	}
}

// slowFile is a variable of the environment of a process that is supervised: the file that it writes.
const slowFile = "PROVIUM_TEST_SLOW_FILE"

func TestMain(m *testing.M) {
	if path := os.Getenv(slowFile); path != "" {
		os.Stderr.WriteString(Exec([]string{"/bin/sh", "-c", "echo text > " + path}, os.Environ()).Error())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestSlowDiskOfOthers delays what a program that is started reads.
func TestSlowDiskOfOthers(t *testing.T) {
	for _, also := range []string{"cat", "dog"} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), slowFile+"=/dev/null; exec cat /etc/passwd >/dev/null; :")
		slow := One{N: 1 << 62, Slow: time.Millisecond, SlowToo: also}
		r, err := Run(t.Context(), cmd, "/nonexistent", slow, time.Minute)
		if errors.Is(err, ErrUnsupported) {
			t.Skip(err)
		}
		if err != nil || r.Slowed != 0 || (r.SlowedToo > 0) != (also == "cat") {
			t.Errorf("%s: %+v, %v", also, r, err)
		}
	}
}

// TestSlowDisk has a shell write a file on a disk that is slow: the write is delayed, and made.
func TestSlowDisk(t *testing.T) {
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, slow := range []time.Duration{0, time.Millisecond} {
		path := filepath.Join(t.TempDir(), "file")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), slowFile+"="+path)
		r, err := Run(t.Context(), cmd, shell, One{N: 1 << 62, Slow: slow}, time.Minute)
		if errors.Is(err, ErrUnsupported) {
			t.Skip(err)
		}
		text, readErr := os.ReadFile(path)
		if err != nil || readErr != nil || string(text) != "text\n" {
			t.Errorf("%v, file %q, %v", err, text, readErr)
		}
		if (r.Slowed > 0) != (slow > 0) {
			t.Errorf("%d calls were delayed by %v", r.Slowed, slow)
		}
	}
}
