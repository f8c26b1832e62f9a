//go:build bench

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"provium/internal/arch"
	"provium/internal/forkserver"
	"provium/internal/hosttsc"
	"provium/internal/image"
	"provium/internal/image/cpio"
	"provium/internal/lab"
	"provium/internal/proc"
	"provium/internal/qemu"
	"provium/internal/qemu/accelerator"
	"provium/internal/templates"
)

// guestMemory is that of every guest whose figure does not say otherwise.
const guestMemory = 512 << 20

// rawBootLimit is for a reference guest that does not come up.
const rawBootLimit = 2 * time.Minute

// bench is what all measurements share.
type bench struct {
	table table
	// answered are the times of plain QEMUs from their start to the first answer of a guest that they restored.
	answered sample
	starter  *proc.Starter
	copies   *forkserver.Starter
	tsc      *hosttsc.Meter // one, as a process has
	images   *image.Store
	image    *image.Image
	accel    accelerator.Choice
	dir      string // temporary
	refInit  string // initrd of the reference guest
	refTool  string // reference programs, for use inside a guest
	swapper  string // two programs that only answer each other, likewise
}

func newBench(ctx context.Context) (b *bench, err error) {
	b = &bench{starter: proc.NewStarter(), tsc: &hosttsc.Meter{}}
	b.tsc.Start()
	b.copies = forkserver.NewStarter(b.starter)
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	b.images, err = image.NewStore(image.Config{CacheDir: filepath.Join(cache, "provium", "images"), Runner: b.starter,
		Notice: func(text string) { fmt.Fprintln(os.Stderr, "bench:", text) }})
	if err != nil {
		return nil, err
	}
	if b.image, err = b.images.Resolve(ctx, image.Spec{Profile: "host"}); err != nil {
		return nil, err
	}
	if b.accel, err = accelerator.Choose("auto", arch.Host(), accelerator.This()); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "pvbench"); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "bench: %s (%s), kernel %s\n", b.accel.Name, b.accel.Why, b.image.Release)
	return b, b.buildReferences(ctx)
}

func (b *bench) close() {
	b.copies.Close()
	b.starter.Close()
	if b.dir != "" {
		os.RemoveAll(b.dir)
	}
}

// buildReferences compiles what runs inside the guests and makes the initrd of
// the reference guest: ours, with one file more.
func (b *bench) buildReferences(ctx context.Context) error {
	compile := func(out, source string, flags ...string) error {
		args := append(flags, "-static", "-o", out, source)
		if _, stderr, err := b.starter.Run(ctx, "", nil, "gcc", args...); err != nil {
			return fmt.Errorf("compile %s: %w\n%s", source, err, stderr)
		}
		return nil
	}
	b.refTool = filepath.Join(b.dir, "refbench")
	if err := compile(b.refTool, "bench/guest/refbench.c", "-O2"); err != nil {
		return err
	}
	b.swapper = filepath.Join(b.dir, "exchange")
	if err := compile(b.swapper, "bench/guest/exchange.c", "-O2"); err != nil {
		return err
	}
	program := filepath.Join(b.dir, "refinit")
	if err := compile(program, "bench/guest/refinit.c", "-Os", "-nostdlib", "-s", "-Wl,-z,norelro",
		"-Wl,--build-id=none"); err != nil {
		return err
	}
	text, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	initrd, err := os.ReadFile(b.image.Initrd)
	if err != nil {
		return err
	}
	out := bytes.NewBuffer(initrd)
	out.Write(make([]byte, -out.Len()&3))
	w := cpio.NewWriter(out)
	if err := w.Add(cpio.Entry{Name: "refinit", Mode: cpio.TypeRegular | 0o755}, text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	b.refInit = filepath.Join(b.dir, "refinit.cpio")
	return os.WriteFile(b.refInit, out.Bytes(), 0o600)
}

// lab makes a lab with one profile, "host".
func (b *bench) lab() (*lab.Lab, error) {
	h, err := b.host()
	if err != nil {
		return nil, err
	}
	return lab.New(h), nil
}

// host returns what that lab stands on.
func (b *bench) host() (*lab.Host, error) {
	dir, err := os.MkdirTemp(b.dir, "lab")
	if err != nil {
		return nil, err
	}
	return &lab.Host{
		TempDir: dir, Images: b.images, Starter: b.copies, AccelHost: accelerator.This(),
		Profiles: map[string]*lab.Profile{"host": {Name: "host"}}, TSC: b.tsc,
		Templates: &templates.Store[*qemu.Template]{},
	}, nil
}

// rawBoot starts plain QEMU with the reference guest and returns the time until
// its init printed its line.
func (b *bench) rawBoot(ctx context.Context) (time.Duration, error) {
	var words []string
	for _, w := range strings.Fields(b.image.Cmdline) {
		if !strings.HasPrefix(w, "rdinit=") {
			words = append(words, w)
		}
	}
	cpu := "max"
	if b.accel.Name == "kvm" {
		cpu = "host"
	}
	ctx, cancel := context.WithTimeout(ctx, rawBootLimit)
	defer cancel()
	cmd := exec.Command("qemu-system-x86_64",
		"-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35,accel="+b.accel.Name, "-cpu", cpu,
		"-m", fmt.Sprintf("%dB", guestMemory), "-kernel", b.image.Kernel, "-initrd", b.refInit,
		"-append", strings.Join(append(words, "rdinit=/refinit"), " "), "-serial", "stdio")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	child, err := b.starter.Launch(cmd)
	if err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, child.Kill)
	defer stop()
	said, err := readUntil(out, "refinit: up")
	took := time.Since(start)
	child.Kill()
	_ = child.Wait() // it was killed
	if err != nil {
		return 0, fmt.Errorf("reference guest: %w; its console:\n%s", errors.Join(ctx.Err(), err), said)
	}
	return took, nil
}

func readUntil(r io.Reader, mark string) (said string, err error) {
	var all []byte
	p := make([]byte, 4096)
	for !bytes.Contains(all, []byte(mark)) {
		n, err := r.Read(p)
		all = append(all, p[:n]...)
		if err != nil {
			return string(all), err
		}
	}
	return string(all), nil
}
