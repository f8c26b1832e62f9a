package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	began, ok := now()
	if !ok {
		t.Fatal("no clock")
	}
	// at returns the clocks of a guest whose wall clock was set forward by d since the present.
	at := func(d time.Duration) func() (moment, bool) {
		return func() (moment, bool) {
			m, ok := now()
			m.realtime += int64(d)
			return m, ok
		}
	}
	later := began
	later.realtime += int64(time.Hour)
	later.boottime += int64(time.Hour)
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
	dirs := []string{dir + "/none", dir + "/journal"}
	of := &machineIDs{start: later}
	of.renew(files, dirs, now) // it was there before the agent
	if read(id) != old {
		t.Error("an id of the image was replaced")
	}
	of = &machineIDs{start: began}
	of.renew(files, dirs, at(-time.Hour))
	if read(id) != old {
		t.Error("an id of an image that is newer than the guest's clock was replaced")
	}
	of.renew(files, dirs, now)
	fresh := read(id)
	if fresh == old || len(fresh) != len(old) || !isMachineID(strings.TrimSpace(fresh)) || read(dbus) != fresh {
		t.Errorf("%q, %q", fresh, read(dbus))
	}
	if read(filepath.Join(dir, "journal", strings.TrimSpace(fresh), "system.journal")) != "entries" {
		t.Error("the journal is lost")
	}
	// Copies of a guest whose clock was set after that.
	for _, d := range []time.Duration{-time.Hour, time.Hour} {
		before := read(id)
		of.renew(files, dirs, at(d))
		if after := read(id); after == before || read(dbus) != after {
			t.Errorf("%v later: %q after %q", d, after, before)
		}
	}
	fresh = read(id)
	asked := func() (moment, bool) {
		t.Error("the time was asked for without an id")
		return moment{}, false
	}
	of.renew([]string{filepath.Join(dir, "none"), link, dir}, nil, asked)
	(&machineIDs{start: began}).renew(files, nil, func() (moment, bool) { return moment{}, false })
	(&machineIDs{}).renew(files, nil, now)
	if read(id) != fresh {
		t.Error("an id was replaced by an agent that does not know when it started")
	}
	if read(empty) != "uninitialized\n" {
		t.Error("a file without an id got one")
	}
}

func TestIsSince(t *testing.T) {
	const h = int64(time.Hour)
	start := moment{100 * h, 1 * h}
	for _, c := range []struct {
		what  string
		ctime int64
		now   moment
		is    bool
	}{
		{"before the agent", 99 * h, moment{102 * h, 3 * h}, false},
		{"after it", 101 * h, moment{102 * h, 3 * h}, true},
		{"after it, then the clock was set forward", 101 * h, moment{202 * h, 3 * h}, true},
		{"before it, then the clock was set forward", 99 * h, moment{202 * h, 3 * h}, false},
		{"after it, when the clock had been set back", 51 * h, moment{52 * h, 3 * h}, true},
		{"before it, and the clock was set back", 49 * h, moment{52 * h, 3 * h}, false},
		{"later than the guest's clock", 103 * h, moment{102 * h, 3 * h}, false},
	} {
		if is := start.isSince(c.ctime, c.now); is != c.is {
			t.Errorf("%s: %v", c.what, is)
		}
	}
}
