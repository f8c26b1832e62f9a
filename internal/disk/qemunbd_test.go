package disk

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"provium/internal/blockdev"
)

// fakeMode is the environment variable that makes this program a fake qemu-nbd, which
// does what its value says.
const fakeMode = "PROVIUM_FAKE_QEMU_NBD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeMode); mode != "" {
		if err := fakeQemuNBD(mode, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// fakeQemuNBD serves the raw file beside an image, called <image>.data, in place of the
// image: to one client on the socket that it has inherited.
func fakeQemuNBD(mode string, args []string) error {
	path := args[len(args)-1]
	path = strings.ReplaceAll(path[strings.Index(path, "file.filename=")+len("file.filename="):], ",,", ",")
	if err := os.WriteFile(path+".args", []byte(strings.Join(args, "\n")), 0o600); err != nil {
		return err
	}
	switch mode {
	case "refuse":
		return errors.New("qemu-nbd: Image is not in qcow2 format")
	case "locked":
		return errors.New(`qemu-nbd: Failed to get "write" lock`)
	}
	pid, err := strconv.Atoi(os.Getenv("LISTEN_PID"))
	if err != nil || pid != os.Getpid() || os.Getenv("LISTEN_FDS") != "1" {
		return fmt.Errorf("LISTEN_PID is %q for process %d", os.Getenv("LISTEN_PID"), os.Getpid())
	}
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	defer l.Close()
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	if mode == "silent" {
		if err := os.WriteFile(path+".silent", nil, 0o600); err != nil {
			return err
		}
		select {} // until it is killed
	}
	d, err := blockdev.Open(blockdev.Config{Image: path + ".data", ReadOnly: slices.Contains(args, "--read-only")})
	if err != nil {
		return err
	}
	if err := d.Serve(context.Background(), conn); err != nil {
		return err
	}
	return errors.Join(d.Flush(), d.Close())
}

// installFake makes qemu-nbd a fake in the mode, and returns the path of an image.
func installFake(t *testing.T, env *Env, mode string) (image string) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	bin := filepath.Join(env.TempDir, "bin")
	must(t, os.Mkdir(bin, 0o700))
	// The race detector waits for a second at the end of a process unless told not to.
	script := fmt.Sprintf("#!/bin/sh\n%s=%s GORACE=atexit_sleep_ms=0 exec %s \"$@\"\n", fakeMode, mode, self)
	must(t, os.WriteFile(filepath.Join(bin, imageProgram), []byte(script), 0o700))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	imageFile(t, env, "a,b.qcow2.data", strings.Repeat("x", mib))
	return imageFile(t, env, "a,b.qcow2", "QFI\xfb\x00\x00\x00\x03")
}

// TestImageProgram reads and writes an image that is not raw.
func TestImageProgram(t *testing.T) {
	env, _ := testEnv(t)
	image := installFake(t, env, "serve")
	s := newShelf(t, env, "v")
	d := add(t, s, Spec{ID: "a", Path: image})
	if d.Size() != mib {
		t.Errorf("%d bytes", d.Size())
	}
	c, _ := plugIn(t, s)
	clientWrite(t, c, "written")
	must(t, c.Flush())
	args, err := os.ReadFile(image + ".args")
	must(t, err)
	want := "driver=qcow2,file.driver=file,file.filename=" + filepath.Join(env.TempDir, "a,,b.qcow2")
	if !strings.Contains(string(args), want) || strings.Contains(string(args), "--read-only") {
		t.Errorf("%q", args)
	}
	// The program has ended when the disk is closed, and its file is up to date.
	must(t, s.Close())
	p, err := os.ReadFile(image + ".data")
	must(t, err)
	if got := strings.TrimRight(string(p[:SectorSize]), "\x00"); got != "written" {
		t.Errorf("%q", got)
	}
	// A template is only read.
	d = add(t, s, Spec{ID: "t", Template: image, Format: "qcow2"})
	must(t, d.WriteSectors(t.Context(), 0, sector("private")))
	if args, err = os.ReadFile(image + ".args"); err != nil || !strings.Contains(string(args), "--read-only") {
		t.Errorf("%q %v", args, err)
	}
	must(t, s.Close())
	if p, err = os.ReadFile(image + ".data"); err != nil || !strings.HasPrefix(string(p), "written") {
		t.Errorf("%q %v", p[:SectorSize], err)
	}
}

// TestImageProgramFails checks that errors name the image and say what the program
// said.
func TestImageProgramFails(t *testing.T) {
	for mode, want := range map[string]string{
		"refuse": "qemu-nbd: Image is not in qcow2 format",
		"locked": "is in use by another program",
	} {
		t.Run(mode, func(t *testing.T) {
			env, _ := testEnv(t)
			image := installFake(t, env, mode)
			_, err := newShelf(t, env, "v").Add(t.Context(), Spec{ID: "a", Path: image})
			wantError(t, err, "disk `a`: qcow2 image `"+image+"`", want)
		})
	}
	t.Run("missing", func(t *testing.T) {
		env, _ := testEnv(t)
		image := imageFile(t, env, "i.vmdk", "KDMV")
		t.Setenv("PATH", env.TempDir)
		_, err := newShelf(t, env, "v").Add(t.Context(), Spec{ID: "a", Path: image})
		wantError(t, err, "vmdk image", "qemu-nbd, which reads it, is not installed")
	})
	t.Run("no directory", func(t *testing.T) {
		env, _ := testEnv(t)
		image := installFake(t, env, "serve")
		env.TempDir = filepath.Join(env.TempDir, "none")
		_, err := newShelf(t, env, "v").Add(t.Context(), Spec{ID: "a", Path: image})
		wantError(t, err, "qcow2 image", "no such file or directory")
	})
	t.Run("not writable", func(t *testing.T) {
		env, _ := testEnv(t)
		_, err := newShelf(t, env, "v").Add(t.Context(), Spec{ID: "a", Path: env.TempDir, Format: "vhd"})
		wantError(t, err, "image `"+env.TempDir+"`: is a directory")
	})
}

// TestSilentImageProgram checks that a program that never answers does not block who
// opens an image, nor others.
func TestSilentImageProgram(t *testing.T) {
	env, _ := testEnv(t)
	image := installFake(t, env, "silent")
	s := newShelf(t, env, "v")
	ctx, cancel := context.WithCancelCause(context.Background())
	patience := errors.New("no more patience")
	done := make(chan error, 1)
	go func() {
		_, err := s.Add(ctx, Spec{ID: "a", Path: image})
		done <- err
	}()
	await(t, image+".silent")
	s.PowerOn() // as a reset of the machine does
	if len(s.All()) != 0 {
		t.Errorf("%d disks", len(s.All()))
	}
	cancel(patience)
	// Add returns when the program has ended, and names it.
	wantError(t, <-done, "qcow2 image `"+image+"`: "+imageProgram+": no more patience")
	// The image is free again.
	d, err := blockdev.Open(blockdev.Config{Image: image})
	must(t, err)
	must(t, d.Close())
}

// TestImageProgramKilled has a program that does not end when its connection does.
func TestImageProgramKilled(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	ended := make(chan struct{})
	c := &imageConn{Conn: ours, kill: func() { close(ended) }, ended: ended, output: &head{},
		endLimit: time.Millisecond}
	wantError(t, c.Close(), "did not end within 1ms, and was killed: what it had not written is lost")
	wantError(t, c.Close(), "was killed")
}

// TestHead keeps the beginning of an output.
func TestHead(t *testing.T) {
	h := &head{}
	for range 3 {
		if n, err := h.Write([]byte(strings.Repeat("x", 2000) + "\n")); n != 2001 || err != nil {
			t.Errorf("%d %v", n, err)
		}
	}
	if len(h.String()) != 4096 {
		t.Errorf("%d bytes", len(h.String()))
	}
}

// await waits for a file.
func await(t *testing.T, path string) {
	t.Helper()
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal("no " + path)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
