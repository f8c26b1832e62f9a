package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRenewMachineID(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o444); err != nil {
			t.Fatal(err)
		}
		return path
	}
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const old = "0123456789abcdef0123456789abcdef\n"
	of := func(d time.Duration) func() (unix.Timespec, bool) {
		return func() (unix.Timespec, bool) { return unix.NsecToTimespec(time.Now().Add(d).UnixNano()), true }
	}
	id, dbus, empty := write("machine-id", old), write("dbus", old), write("empty", "uninitialized\n")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(id, link); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "journal", strings.TrimSpace(old)), 0o755); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join("journal", strings.TrimSpace(old), "system.journal"), "entries")
	files := []string{filepath.Join(dir, "none"), id, dbus, empty, link}
	renewMachineID(files, []string{dir + "/none", dir + "/journal"}, of(time.Hour)) // it was there before the agent
	if read(id) != old {
		t.Error("an id of the image was replaced")
	}
	renewMachineID(files, []string{dir + "/none", dir + "/journal"}, of(-time.Hour))
	fresh := read(id)
	if fresh == old || len(fresh) != len(old) || !isMachineID(strings.TrimSpace(fresh)) || read(dbus) != fresh {
		t.Errorf("%q, %q", fresh, read(dbus))
	}
	if read(filepath.Join(dir, "journal", strings.TrimSpace(fresh), "system.journal")) != "entries" {
		t.Error("the journal is lost")
	}
	asked := func() (unix.Timespec, bool) {
		t.Error("the start was asked for without an id")
		return unix.Timespec{}, false
	}
	renewMachineID([]string{filepath.Join(dir, "none"), link, dir}, nil, asked)
	unknown := func() (unix.Timespec, bool) { return unix.Timespec{}, false }
	renewMachineID(files, nil, unknown)
	if read(id) != fresh {
		t.Error("an id was replaced by an agent that does not know when it started")
	}
	if read(empty) != "uninitialized\n" {
		t.Error("a file without an id got one")
	}
}

func TestStartTime(t *testing.T) {
	began := time.Now()
	if since, ok := startTime(selfStat()); !ok || since.Nano() > began.UnixNano() ||
		since.Nano() < began.Add(-10*time.Minute).UnixNano() {
		t.Error(since, ok)
	}
	for _, stat := range []string{"", "1 (a b) S", "1 (x)"} {
		if _, ok := startTime(stat); ok {
			t.Errorf("%q", stat)
		}
	}
}
