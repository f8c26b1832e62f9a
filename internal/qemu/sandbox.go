package qemu

import (
	"errors"
	"strings"
	"sync"

	"provium/internal/proc"
)

// SandboxOption is the value of QEMU's option -sandbox: a guest that has taken over QEMU
// can start no program, gain no privileges and change no priorities.
const SandboxOption = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// Sandboxes remembers which QEMUs run without a sandbox: those built without it, and
// all of them where the kernel refuses filters. The zero value knows none. It is safe for
// concurrent use.
type Sandboxes struct {
	mu      sync.Mutex
	without map[string]bool // by program
}

// lacks reports whether a program is known to have no sandbox.
func (s *Sandboxes) lacks(program string) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.without[program]
}

// lack remembers that a program has no sandbox.
func (s *Sandboxes) lack(program string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.without == nil {
		s.without = map[string]bool{}
	}
	s.without[program] = true
}

// refusesSandbox reports whether a start has failed because of SandboxOption, by what QEMU
// printed.
func refusesSandbox(err error) bool {
	var start *StartError
	if !errors.As(err, &start) {
		return false
	}
	said := complaint(start.Stderr)
	return strings.Contains(said, "sandbox") || strings.Contains(said, "seccomp")
}

// opens returns the files that QEMU opens by their paths.
func (c *Config) opens(ram string) []proc.File {
	files := []proc.File{{Path: ram, Write: true}}
	if c.Kernel != "" {
		files = append(files, proc.File{Path: c.Kernel})
	}
	if c.Shape.IsUEFI() {
		files = append(files, proc.File{Path: c.Firmware.Code}, proc.File{Path: c.varsPath(), Write: true})
	}
	if c.Initrd != "" {
		files = append(files, proc.File{Path: c.Initrd})
	}
	return files
}
