package blockdev

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// qemuIO has QEMU open an image and keep it open until the test, or the function that
// it returns, ends it. It returns what QEMU said instead of opening it.
func qemuIO(t *testing.T, args ...string) (end func(), refused string) {
	t.Helper()
	program, err := exec.LookPath("qemu-io")
	if err != nil {
		t.Fatal("qemu-io is not installed: run `make setup`")
	}
	cmd := exec.Command(program, args...)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = cmd.Stdout
	must(t, cmd.Start())
	end = func() {
		in.Close()
		_ = cmd.Wait() // its words tell more
	}
	// Only what has an image knows its length.
	_, err = io.WriteString(in, "length\n")
	for r := bufio.NewReader(out); ; {
		line, readErr := r.ReadString('\n')
		switch {
		case strings.Contains(line, "lock"):
			refused += line
		case strings.Contains(line, "KiB"):
			return end, ""
		case readErr != nil:
			end()
			if refused == "" {
				t.Fatalf("qemu-io %q: %v, %v", args, err, readErr)
			}
			return func() {}, refused
		}
	}
}

// TestForeignUse: images that QEMU has, and QEMU on images that we have.
func TestForeignUse(t *testing.T) {
	for _, c := range []struct {
		name          string
		write         bool // whether QEMU writes
		cfg           func(path string) Config
		refused, lets bool
	}{
		{"writer, in place", true, func(p string) Config { return Config{Image: p} }, true, false},
		{"writer, read-only", true, func(p string) Config { return Config{Image: p, ReadOnly: true} }, true, false},
		{"writer, template", true, func(p string) Config { return Config{Template: p} }, true, false},
		// This reader lets others write.
		{"reader, in place", false, func(p string) Config { return Config{Image: p} }, false, true},
		{"reader, read-only", false, func(p string) Config { return Config{Image: p, ReadOnly: true} }, false, true},
		{"reader, template", false, func(p string) Config { return Config{Template: p} }, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := image(t, 'i', 64*SectorSize)
			args := []string{"-f", "raw", path}
			if !c.write {
				args = append([]string{"-r"}, args...)
			}
			end, said := qemuIO(t, args...)
			if said != "" {
				t.Fatal(said)
			}
			cfg := c.cfg(path)
			cfg.TempDir = t.TempDir()
			d, err := Open(cfg)
			if c.refused {
				if !errors.Is(err, ErrInUse) || err.Error() != "image `"+path+"` is in use by another program" {
					t.Errorf("got %v", err)
				}
			} else if err != nil {
				t.Error(err)
			} else {
				must(t, d.Close())
			}
			end()

			d = open(t, c.cfg(path)) // nobody has it any more
			end, said = qemuIO(t, args...)
			end()
			if (said == "") != c.lets {
				t.Errorf("QEMU said %q", said)
			}
			must(t, d.Close())
			end, said = qemuIO(t, args...)
			end()
			if said != "" {
				t.Error(said)
			}
		})
	}
}

func TestUnreadableImage(t *testing.T) {
	path := image(t, 'i', SectorSize)
	must(t, os.Chmod(path, 0))
	if os.Geteuid() == 0 {
		// Root reads what nobody may: this thread is another user for files.
		const nobody = 65534
		runtime.LockOSThread()
		must(t, syscall.Setfsuid(nobody))
		defer func() {
			must(t, syscall.Setfsuid(0))
			runtime.UnlockOSThread()
		}()
	}
	for _, cfg := range []Config{{Image: path}, {Image: path, ReadOnly: true}, {Template: path}} {
		d, err := Open(cfg)
		if err == nil {
			d.Close()
			t.Fatalf("%+v was opened", cfg)
		}
		if !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), path) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
