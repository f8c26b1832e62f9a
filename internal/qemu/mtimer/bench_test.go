package mtimer

import (
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkSet has the timer of a stopped riscv64 guest with one CPU set, each time by a connection of its own.
func BenchmarkSet(b *testing.B) {
	program, err := exec.LookPath("qemu-system-riscv64")
	if err != nil {
		b.Skip("QEMU for riscv64 is not installed")
	}
	socket := filepath.Join(b.TempDir(), "gdb")
	qemu := exec.Command(program, "-M", "virt", "-S", "-display", "none", "-serial", "none", "-bios", "none", "-m",
		"128M", "-gdb", "unix:"+socket+",server=on,wait=off")
	if err := qemu.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = qemu.Process.Kill(); _ = qemu.Wait() }()
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			break
		} else if time.Now().After(until) {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			err = Set(conn, 1)
			conn.Close()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
