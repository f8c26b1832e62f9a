package localvmm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
)

// A state stream looks like QEMU's as far as package qemu looks into it: a header,
// the part of the memory, then the sections of the devices, of which there is one:
// what the guest is.
const (
	streamHeader = "QEVM\x00\x00\x00\x03"
	memoryPart   = "\x01local-memory"
	guestSection = "\x04\x00\x00\x00\x01\x05guest\x00\x00\x00\x00\x00\x00\x00\x01"

	maxGuestState = 64 << 20 // bytes
)

// stream returns the saved machine, with or without the part of the memory.
func (m *Machine) stream(withMemory bool) ([]byte, error) {
	state, err := m.guest.Save()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(streamHeader)
	if withMemory {
		b.WriteString(memoryPart)
	}
	b.WriteString(guestSection)
	b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(state))))
	b.Write(state)
	return b.Bytes(), nil
}

func (m *Machine) migrationEnded(err error) func() {
	status := "completed"
	if err != nil {
		m.Complain("qemu-system-x86_64: " + err.Error() + "\n")
		status = "failed"
	}
	return func() { m.Event("MIGRATION", map[string]any{"status": status}) }
}

// migrate writes the state to a socket of the host.
func (m *Machine) migrate(uri string) (after func(), err error) {
	path, ok := strings.CutPrefix(uri, "unix:")
	if !ok {
		return nil, fmt.Errorf("unknown migration protocol: %s", uri)
	}
	state, err := m.stream(true)
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	_, err = conn.Write(state)
	return m.migrationEnded(errors.Join(err, conn.Close())), nil
}

// saveDevices writes the state without the part of the memory to a file.
func (m *Machine) saveDevices(path string) error {
	state, err := m.stream(false)
	if err != nil {
		return err
	}
	return os.WriteFile(path, state, 0o600)
}

// migrateIncoming takes the state from an inherited file.
func (m *Machine) migrateIncoming(uri string) (after func(), err error) {
	fd, err := strconv.Atoi(strings.TrimPrefix(uri, "fd:"))
	if err != nil {
		return nil, fmt.Errorf("unknown migration protocol: %s", uri)
	}
	f := m.take(fd)
	if f == nil {
		return nil, fmt.Errorf("file descriptor %d is not open", fd)
	}
	defer f.Close()
	state, err := readStream(f)
	if err == nil {
		err = m.guest.Load(state)
	}
	if err == nil {
		m.setStatus(statusPaused)
	}
	return m.migrationEnded(err), nil
}

func readStream(r io.Reader) ([]byte, error) {
	head := make([]byte, len(streamHeader)+len(memoryPart)+len(guestSection)+4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("load of migration failed: %w", err)
	}
	n := len(head) - 4
	if string(head[:n]) != streamHeader+memoryPart+guestSection {
		return nil, errors.New("load of migration failed: Not a migration stream")
	}
	size := binary.BigEndian.Uint32(head[n:])
	if size > maxGuestState {
		return nil, fmt.Errorf("load of migration failed: a guest of %d bytes", size)
	}
	state := make([]byte, size)
	if _, err := io.ReadFull(r, state); err != nil {
		return nil, fmt.Errorf("load of migration failed: %w", err)
	}
	return state, nil
}
