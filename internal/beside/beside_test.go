package beside

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"provium/internal/machine"
	"provium/internal/proc"
)

// script writes a program that stands for one that serves a device.
func script(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrograms(t *testing.T) {
	starter := proc.NewStarter()
	defer starter.Close()
	dir, shared := t.TempDir(), t.TempDir()
	socket := filepath.Join(dir, machine.Tag(0))
	one := machine.Share{Host: shared, Guest: "/x"}

	// It serves until it is ended.
	p := &Programs{}
	path := script(t, "exec sleep 1000")
	if err := p.share(starter, path, socket, one); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("unix", socket); err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}

	// It ends by itself, and says why.
	p = &Programs{}
	if err := p.share(starter, script(t, "echo first >&2; echo no right >&2; exit 3"), socket, one); err != nil {
		t.Fatal(err)
	}
	killed := make(chan struct{}, 2)
	p.Watch(func() { killed <- struct{}{} })
	<-killed
	want := "virtiofsd of `" + shared + "` ended: exit status 3: no right"
	if err := p.Close(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	// Who asks later is told at once.
	p.Watch(func() { killed <- struct{}{} })
	<-killed
	if err := p.Close(); err != nil {
		t.Error(err)
	}

	// What cannot be served.
	for host, want := range map[string]string{dir + "/none": "no such file", path: "is not a directory"} {
		p := &Programs{}
		err := p.share(starter, path, socket, machine.Share{Host: host})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", host, err)
		}
		if err := Check(&machine.Shape{Shares: []machine.Share{{Host: host}}}); err == nil ||
			!strings.Contains(err.Error(), "rw: `"+host+"`") {
			t.Errorf("%s: %v", host, err)
		}
	}
	if err := p.share(starter, path, strings.Repeat("x", 200), one); err == nil {
		t.Error("a socket without a place")
	}
	if err := p.share(starter, dir+"/none", socket, one); err == nil {
		t.Error("no program")
	}
}

func TestTPM(t *testing.T) {
	starter := proc.NewStarter()
	defer starter.Close()
	on := true
	shape, dir := &machine.Shape{TPM: &on}, t.TempDir()
	t.Setenv("PATH", t.TempDir())
	for what, err := range map[string]error{"check": Check(shape), "start": func() error {
		p, err := Start(starter, dir, shape)
		return errors.Join(err, p.Close())
	}()} {
		if !errors.Is(err, ErrNoSwtpm) {
			t.Errorf("%s without the program: %v", what, err)
		}
	}
	path := script(t, "exec sleep 1000")
	t.Setenv("PATH", filepath.Dir(path))
	if err := os.Rename(path, filepath.Join(filepath.Dir(path), TPMProgram)); err != nil {
		t.Fatal(err)
	}
	if err := Check(shape); err != nil {
		t.Error(err)
	}
	// What another boot has left is gone.
	old := filepath.Join(dir, tpmState, "old")
	if err := errors.Join(os.MkdirAll(filepath.Dir(old), 0o700), os.WriteFile(old, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p, err := Start(starter, dir, shape)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the TPM has a past: %v", err)
		}
		if _, err := net.Dial("unix", filepath.Join(dir, tpmSocket)); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	want := []string{"-chardev", "socket,id=tpm,path=/d/tpm", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
		"-device", "tpm-crb,tpmdev=tpm0"}
	if got := Args("/d", "pcie.0", shape); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if parts := Parts(shape); len(parts) != 1 || Parts(&machine.Shape{}) != nil {
		t.Errorf("%q", parts)
	}
}

func TestWithoutPrograms(t *testing.T) {
	p, err := Start(nil, "", &machine.Shape{})
	if err != nil || p.Close() != nil || Args("", "pcie.0", &machine.Shape{}) != nil || Check(&machine.Shape{}) != nil {
		t.Errorf("%v", err)
	}
	if err := (*Programs)(nil).Close(); err != nil {
		t.Error(err)
	}
}

func TestShareArgs(t *testing.T) {
	shape := &machine.Shape{Shares: []machine.Share{{Host: "/a", Guest: "/b"}, {Host: "/c", Guest: "/d"}}}
	got := Args("/tmp/a,b", "pcie.0", shape)
	want := []string{
		"-chardev", "socket,id=share0,path=/tmp/a,,b/share0",
		"-device", "vhost-user-fs-pci,id=share0,chardev=share0,tag=share0,bus=pcie.0,addr=19.0,multifunction=on",
		"-chardev", "socket,id=share1,path=/tmp/a,,b/share1",
		"-device", "vhost-user-fs-pci,id=share1,chardev=share1,tag=share1,bus=pcie.0,addr=19.1,multifunction=on",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := Args("/d", "", shape); !strings.HasSuffix(got[3], "tag=share0") {
		t.Errorf("%q", got)
	}
}

func TestVirtiofsd(t *testing.T) {
	root := fstest.MapFS{"usr/libexec/virtiofsd": {Mode: 0o644}, "usr/lib/qemu/virtiofsd": {Mode: 0o755}}
	if path, err := FindVirtiofsd(root); err != nil || path != ofQEMU {
		t.Errorf("%s, %v", path, err)
	}
	root["usr/libexec/virtiofsd"].Mode = 0o755
	if path, err := FindVirtiofsd(root); err != nil || path != "/usr/libexec/virtiofsd" {
		t.Errorf("%s, %v", path, err)
	}
	if _, err := FindVirtiofsd(fstest.MapFS{}); !errors.Is(err, ErrNoVirtiofsd) {
		t.Error(err)
	}
	for path, want := range map[string]string{ofQEMU: "source=/proc/self/fd/4/.,sandbox=chroot",
		"/usr/libexec/virtiofsd": "--shared-dir=/proc/self/fd/4/. --sandbox=chroot"} {
		if got := strings.Join(virtiofsdArgs(path), " "); !strings.Contains(got, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
}
