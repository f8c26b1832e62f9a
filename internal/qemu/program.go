package qemu

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
)

// ProgramID returns what differs between versions of a QEMU program, without running it.
// The name "" is DefaultBinary.
func ProgramID(name string) (string, error) {
	if name == "" {
		name = DefaultBinary
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
