package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// gdbStub is the place where a debugger can connect to the machine.
type gdbStub struct {
	mu   sync.Mutex
	path string // "" until then
}

// GDB has QEMU serve the remote protocol of gdb, and returns the path of its unix socket. A debugger that
// connects stops the vCPUs. Further calls return the same path.
func (m *Machine) GDB(ctx context.Context) (path string, err error) {
	m.gdb.mu.Lock()
	defer m.gdb.mu.Unlock()
	if m.gdb.path != "" {
		return m.gdb.path, nil
	}
	path = filepath.Join(m.cfg.Dir, "gdb")
	if strings.ContainsAny(path, ", ") {
		return "", fmt.Errorf("qemu gdb: the path `%s` has a comma or a space; set TMPDIR to another directory", path)
	}
	text, err := m.monitor().hmp(ctx, "gdbserver unix:"+path+",server=on,wait=off")
	if err != nil {
		return "", fmt.Errorf("qemu gdb: %w", err)
	}
	if !strings.Contains(text, "Waiting for gdb connection") {
		return "", fmt.Errorf("qemu gdb: %s", strings.TrimSpace(text))
	}
	m.gdb.path = path
	return path, nil
}

// endGDB ends what GDB has begun.
func (m *Machine) endGDB(ctx context.Context) error {
	m.gdb.mu.Lock()
	defer m.gdb.mu.Unlock()
	_, err := m.monitor().hmp(ctx, "gdbserver none")
	m.gdb.path = ""
	return errors.Join(err, os.RemoveAll(filepath.Join(m.cfg.Dir, "gdb")))
}
