package executable

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"
)

// fakeGuest has files by path; a text that begins with "-> " is a symlink.
type fakeGuest struct {
	files map[string]string
	err   error
}

func (g *fakeGuest) Exists(_ context.Context, path string) (bool, error) {
	_, ok := g.files[path]
	return ok, g.err
}

func (g *fakeGuest) Head(_ context.Context, path string, n int) ([]byte, error) {
	text, ok := g.files[path]
	if !ok {
		return nil, os.ErrNotExist
	}
	return []byte(text[:min(n, len(text))]), nil
}

func (g *fakeGuest) Target(_ context.Context, path string) (string, error) {
	target, _ := strings.CutPrefix(g.files[path], "-> ")
	return target, nil
}

// image returns a program for a machine, with an interpreter unless that is "".
func image(machine elf.Machine, loader string) string {
	var b []byte
	// The sections are behind what is looked at.
	h := elf.Header64{Shoff: 1 << 20, Shnum: 30, Shstrndx: 29, Type: uint16(elf.ET_DYN), Machine: uint16(machine),
		Version: 1, Ehsize: 64, Phoff: 64, Phentsize: 56, Shentsize: 64}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	if loader != "" {
		h.Phnum = 1
	}
	b, _ = binary.Append(b, binary.LittleEndian, h)
	if loader != "" {
		b, _ = binary.Append(b, binary.LittleEndian, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 120,
			Filesz: uint64(len(loader) + 1), Memsz: uint64(len(loader) + 1)})
		b = append(append(b, loader...), 0)
	}
	return string(b)
}

func TestDiagnose(t *testing.T) {
	const ld = "/lib64/ld-linux-x86-64.so.2"
	g := &fakeGuest{files: map[string]string{
		"/proc/self/exe": image(elf.EM_X86_64, ""), "/bin/sh": "-> busybox", "/bin/busybox": "",
		"/usr/bin/dynamic": image(elf.EM_X86_64, ld), "/opt/static": image(elf.EM_X86_64, ""),
		"/opt/arm": image(elf.EM_AARCH64, "/lib/ld-linux-aarch64.so.1"), "/opt/text": "what",
		"/opt/py": "#! /usr/bin/python3 -u\n", "/opt/script": "#!/usr/bin/dynamic\n", "/opt/loop": "#!/opt/loop\n",
	}}
	for name, want := range map[string]string{
		"python3": "the guest has no program `python3`: its userland is busybox; `userland = \"host\"` has the " +
			"programs of this machine",
		"dynamic":     "`/usr/bin/dynamic` is linked dynamically, and the guest lacks its loader `" + ld + "`",
		"/opt/script": "`/usr/bin/dynamic` is linked dynamically, and the guest lacks its loader `" + ld + "`",
		"/opt/none":   "the guest has no file `/opt/none`",
		"./none":      "the guest has no file `/opt/none`",
		"/opt/arm":    "`/opt/arm` is a program for aarch64, and the guest is x86_64",
		"/opt/py":     "`/opt/py` is a script, and the guest lacks its interpreter `/usr/bin/python3 -u`",
		"/opt/static": "", "/opt/text": "", "/opt/loop": "", "": "",
	} {
		if got := Diagnose(t.Context(), g, Attempt{Name: name, Cwd: "/opt"}); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := Diagnose(t.Context(), g, Attempt{Name: "./none"}); got != "" {
		t.Error(got)
	}
	got := Diagnose(t.Context(), g, Attempt{Name: "dynamic", Path: "/bin:/sbin"})
	if !strings.Contains(got, "busybox") {
		t.Error(got)
	}
	g.files["/etc/os-release"] = ""
	if got := Diagnose(t.Context(), g, Attempt{Name: "python3"}); got != "the guest has no program `python3`" {
		t.Error(got)
	}
	g.err = errors.New("gone")
	if got := Diagnose(t.Context(), g, Attempt{Name: "python3"}); got != "" {
		t.Error(got)
	}
}

func TestFromShell(t *testing.T) {
	for text, want := range map[string]string{
		"sh: python3: not found\n":                           "python3",
		"/bin/sh: 1: ./a.out: not found\n":                   "./a.out",
		"bash: line 1: foo: command not found":               "foo",
		"x\nsh: line 1: /opt/p: No such file or directory\n": "/opt/p",
		"not found":                  "",
		"cat: it is there\nand more": "",
		"":                           "",
		strings.Repeat("x", 1<<16) + ": not found": strings.Repeat("x", headSize-len(": not found")),
	} {
		if got := FromShell([]byte(text)); got != want {
			t.Errorf("%.60q: %.80q, want %.80q", text, got, want)
		}
	}
	if !LacksLibrary([]byte("p: error while loading shared libraries: libz.so.1: cannot open")) || LacksLibrary(nil) {
		t.Error("the words of the loader")
	}
}
