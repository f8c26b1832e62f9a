package executable

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"fmt"
	"path"
	"strings"
)

// Guest is what Diagnose looks into.
type Guest interface {
	// Exists reports whether a path leads to a file. An error ends the diagnosis.
	Exists(ctx context.Context, path string) (bool, error)
	// Head returns up to n bytes from the beginning of a file.
	Head(ctx context.Context, path string, n int) ([]byte, error)
	// Target returns the target of a symlink, "" or an error for another file.
	Target(ctx context.Context, path string) (string, error)
}

// Attempt is a command that was not started.
type Attempt struct {
	Name string // of the program, as it was to be started
	Path string // the variable PATH, "" for the usual directories
	Cwd  string // the directory in which relative names start, "" if that is not known
}

// usualPath is where programs are looked for without a variable PATH.
const usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// headSize is how much of a file is looked at, in bytes.
const headSize = 4096

// NotFound is the exit code of a shell that has not found a program, and of a loader that
// lacks a library.
const NotFound = 127

// FromShell returns the program that a shell's last words say was not found, "" if they say
// something else.
func FromShell(stderr []byte) string {
	line := string(bytes.TrimSpace(stderr[max(0, len(stderr)-headSize):]))
	line = line[strings.LastIndexByte(line, '\n')+1:]
	for _, end := range []string{": command not found", ": not found", ": No such file or directory"} {
		if rest, ok := strings.CutSuffix(line, end); ok {
			if i := strings.LastIndex(rest, ": "); i >= 0 {
				rest = rest[i+len(": "):]
			}
			return rest
		}
	}
	return ""
}

// loaderError is in what the loader of glibc says about a missing library.
const loaderError = "error while loading shared libraries:"

// LacksLibrary reports whether a program has ended since its loader did not find a library.
// Its words name that.
func LacksLibrary(stderr []byte) bool { return bytes.Contains(stderr, []byte(loaderError)) }

// Diagnose says why a guest has not found what it shall execute, "" if that is not known.
func Diagnose(ctx context.Context, g Guest, a Attempt) string {
	d := diagnosis{ctx: ctx, guest: g}
	text := d.attempt(a)
	if d.err != nil {
		return ""
	}
	return text
}

// diagnosis is one look into a guest.
type diagnosis struct {
	ctx   context.Context
	guest Guest
	err   error // what has ended it
}

func (d *diagnosis) exists(path string) bool {
	if d.err != nil {
		return false
	}
	var ok bool
	ok, d.err = d.guest.Exists(d.ctx, path)
	return ok
}

func (d *diagnosis) attempt(a Attempt) string {
	switch {
	case a.Name == "":
		return ""
	case path.IsAbs(a.Name):
		return d.file(a.Name, 0)
	case strings.Contains(a.Name, "/"):
		if a.Cwd == "" {
			return ""
		}
		return d.file(path.Join(a.Cwd, a.Name), 0)
	}
	for dir := range strings.SplitSeq(cmp.Or(a.Path, usualPath), ":") {
		if at := path.Join("/", dir, a.Name); d.exists(at) {
			return d.file(at, 0)
		}
	}
	text := fmt.Sprintf("the guest has no program `%s`", a.Name)
	if d.isBusybox() {
		text += ": its userland is busybox; `userland = \"host\"` has the programs of this machine"
	}
	return text
}

// isBusybox reports whether the guest has nothing but busybox.
func (d *diagnosis) isBusybox() bool {
	if d.err != nil || d.exists("/etc/os-release") {
		return false
	}
	target, err := d.guest.Target(d.ctx, "/bin/sh")
	return err == nil && path.Base(target) == "busybox"
}

// file says why a file is not executed. depth counts interpreters of scripts.
func (d *diagnosis) file(at string, depth int) string {
	if !d.exists(at) {
		return fmt.Sprintf("the guest has no file `%s`", at)
	}
	head, err := d.guest.Head(d.ctx, at, headSize)
	if err != nil {
		return ""
	}
	if line, isScript := strings.CutPrefix(string(head), "#!"); isScript {
		line, _, _ = strings.Cut(line, "\n")
		line = strings.TrimSpace(line)
		interpreter, _, _ := strings.Cut(line, " ")
		if depth > 0 || interpreter == "" {
			return ""
		}
		if !d.exists(interpreter) {
			return fmt.Sprintf("`%s` is a script, and the guest lacks its interpreter `%.200s`", at, line)
		}
		return d.file(interpreter, depth+1)
	}
	f, err := beginning(head)
	if err != nil {
		return ""
	}
	if own := d.machine(); own != 0 && f.Machine != own {
		return fmt.Sprintf("`%s` is a program for %s, and the guest is %s", at, machineName(f.Machine),
			machineName(own))
	}
	loader := Interpreter(f)
	if loader == "" || d.exists(loader) {
		return ""
	}
	return fmt.Sprintf("`%s` is linked dynamically, and the guest lacks its loader `%.200s`", at, loader)
}

// beginning opens an ELF file of which only the first bytes are there: without its sections,
// which are at the end.
func beginning(head []byte) (*elf.File, error) {
	head = bytes.Clone(head)
	if len(head) >= 64 && elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS64 {
		clear(head[40:48]) // e_shoff
		clear(head[58:64]) // e_shentsize, e_shnum, e_shstrndx
	} else if len(head) >= 52 {
		clear(head[32:36])
		clear(head[46:52])
	}
	return elf.NewFile(bytes.NewReader(head))
}

// machine returns what the guest's own programs are for, 0 if that is not known.
func (d *diagnosis) machine() elf.Machine {
	head, err := d.guest.Head(d.ctx, "/proc/self/exe", headSize)
	if err != nil {
		return 0
	}
	f, err := beginning(head)
	if err != nil {
		return 0
	}
	return f.Machine
}

// machineName returns the name of a machine as uname shows it.
func machineName(m elf.Machine) string {
	switch m {
	case elf.EM_X86_64:
		return "x86_64"
	case elf.EM_AARCH64:
		return "aarch64"
	case elf.EM_RISCV:
		return "riscv64"
	}
	return strings.ToLower(strings.TrimPrefix(m.String(), "EM_"))
}
