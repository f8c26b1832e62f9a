package qemu

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"provium/internal/arch"
)

// Program returns the QEMU that runs a guest. given is the one that was asked for, or "".
// Where that is for another architecture, the guest's own is looked for beside it, and then
// on PATH. A guest of nil is of x86-64.
func Program(given string, guest *arch.Arch) (string, error) {
	guest = cmp.Or(guest, arch.AMD64)
	name := given
	if other := programOf(given); other != nil && other != guest {
		name = filepath.Join(filepath.Dir(given), guest.QEMU)
		if _, err := exec.LookPath(name); err != nil || filepath.Base(given) == given {
			name = guest.QEMU
		}
	}
	if name == "" {
		name = guest.QEMU
	}
	if _, err := exec.LookPath(name); err != nil {
		// What was asked for is named already.
		for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
			err = inner
		}
		return "", fmt.Errorf("qemu `%s`: %w (give the path of a %s, or its name on PATH; Debian has it in %s)", name,
			err, guest.QEMU, guest.Packages["debian"])
	}
	return name, nil
}

// programOf returns the architecture whose QEMU a program is by its name, or nil.
func programOf(name string) *arch.Arch {
	for _, a := range arch.All() {
		if filepath.Base(name) == a.QEMU {
			return a
		}
	}
	return nil
}

// ProgramID returns what differs between versions of a QEMU program, without running it.
// The name "" is that of x86-64.
func ProgramID(name string) (string, error) {
	if name == "" {
		name = arch.AMD64.QEMU
	}
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal([]any{path, info.Size(), info.ModTime().UnixNano()})
	return string(text), err
}
