package qemu

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseAddress(t *testing.T) {
	if n, err := parseAddress("Host virtual address for 0x0 (ram) is 0x7f1234560000\r\n"); err != nil ||
		n != 0x7f1234560000 {
		t.Error(n, err)
	}
	for _, bad := range []string{"", "No memory is mapped at address 0x0", "x is 0x", "x is 0x123",
		"x is 0xffffffffffffffffff"} {
		if _, err := parseAddress(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// section is the beginning of a device section as QEMU writes it.
func section(id uint32, name, rest string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{4}, id)
	b = append(append(b, byte(len(name))), name...)
	b = binary.BigEndian.AppendUint64(b, 2)
	return append(b, rest...)
}

func TestJoinState(t *testing.T) {
	magic := []byte("QEVM\x00\x00\x00\x03")
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	ram := []byte("memory of the firmware, timer")
	origin := join(magic, ram, section(0, "timer", "old"), section(1, "cpu", "old"))
	devices := join(magic, section(0, "timer", "new"), section(1, "cpu", "new"))
	got, err := joinState(origin, nil, devices)
	if want := join(magic, ram, devices[8:]); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for name, bad := range map[string][2][]byte{
		"empty":        {origin, nil},
		"other magic":  {origin, append([]byte("x"), devices[1:]...)},
		"cut":          {origin, devices[:20]},
		"not found":    {join(magic, ram), devices},
		"found twice":  {join(origin, section(0, "timer", "")), devices},
		"empty origin": {nil, devices},
	} {
		if _, err := joinState(bad[0], nil, bad[1]); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestMigrationWatch(t *testing.T) {
	var passed []string
	w := newMigrationWatch(func(e Event) { passed = append(passed, e.Name) })
	say := func(status string) {
		w.onEvent(Event{Name: "MIGRATION", Data: []byte(`{"status":"` + status + `"}`)})
	}
	w.onEvent(Event{Name: "STOP"})
	say("setup")
	ended := make(chan struct{})
	waited := make(chan error)
	go func() { waited <- w.wait(context.Background(), ended) }()
	say("active")
	say("completed")
	if err := <-waited; err != nil {
		t.Error(err)
	}
	w.forget()
	say("failed")
	if err := w.wait(context.Background(), ended); err == nil {
		t.Error("a failure is no error")
	}
	w.forget()
	close(ended)
	if err := w.wait(context.Background(), ended); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Error(err)
	}
	if strings.Join(passed, " ") != "STOP MIGRATION MIGRATION MIGRATION MIGRATION" {
		t.Error(passed)
	}
}

func TestRestoreArgs(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "s")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := Config{Memory: 1 << 20, Kernel: "/k"}
	boots := c.Hardware()
	c.Restore = &Restore{File: f}
	if restores := c.Hardware(); fmt.Sprint(boots) != fmt.Sprint(restores) || len(boots.Devices) < 5 {
		t.Errorf("%+v\n%+v", boots, restores)
	}
	d := c.withDefaults()
	args := strings.Join(d.args(fds{ram: 3}, "s"), " ")
	if !strings.Contains(args, `/proc/self/fd/3","share":false} `) || !strings.Contains(args, "-S -incoming defer") {
		t.Error(args)
	}
	c.Restore.StateLen = maxState + 1
	if _, err := c.Restore.openState(); err == nil {
		t.Error("too much state was accepted")
	}
}

// TestFullDiskIsNamed fills a disk: QEMU's own words do not say so.
func TestFullDiskIsNamed(t *testing.T) {
	dir, failed := t.TempDir(), errors.New("An IO error has occurred")
	if err := nameFullDisk(failed, "/proc/none"); err != failed {
		t.Errorf("unknown: %v", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	err := nameFullDisk(failed, dir)
	if !errors.Is(err, unix.ENOSPC) || !errors.Is(err, failed) || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
}
