package recording

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// warpTimer begins what the state of a machine that counts instructions says of the time that passes while its CPU is
// idle: its length and name, and its version. When that began and when it ends follow, 8 bytes each (vmstate
// timer/icount/warp_timer of softmmu/icount.c).
const warpTimer = "\x17timer/icount/warp_timer\x00\x00\x00\x01"

// Begin returns the state with which a recorded guest begins: that in the file from its present position on, of length
// bytes. A timer that was set by the host's clock before the recording is not in it. What QEMU does until that ends is
// in the log, but depends on the host: run again, QEMU may wait for ever for something that it does not do. Without it,
// QEMU sets one as soon as the CPU is idle. The caller must close the file.
func Begin(from io.Reader, length int64) (*os.File, error) {
	state, err := beginning(from, length)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("state", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("recorded state: %w", err)
	}
	f := os.NewFile(uintptr(fd), "state")
	if _, err = f.Write(state); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("recorded state: %w", err)
	}
	return f, nil
}

func beginning(from io.Reader, length int64) ([]byte, error) {
	state := make([]byte, length)
	if _, err := io.ReadFull(from, state); err != nil {
		return nil, fmt.Errorf("recorded state: %w", err)
	}
	const none = "\xff\xff\xff\xff\xff\xff\xff\xff"
	if i := bytes.Index(state, []byte(warpTimer)); i >= 0 {
		copy(state[i+len(warpTimer):], none+none)
	}
	return state, nil
}
