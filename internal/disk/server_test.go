package disk

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/blockdev"
	"provium/internal/nbd"
	"provium/internal/qemu"
)

// connect connects a client to a disk of a machine.
func connect(t *testing.T, device qemu.Disk) *nbd.Client {
	t.Helper()
	conn, err := net.Dial("unix", device.Socket)
	must(t, err)
	c, err := nbd.NewClient(conn)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() }) // the disk may have ended
	return c
}

// plugIn describes the disks to a machine, and returns a client of the first one.
func plugIn(t *testing.T, s *Shelf) (*nbd.Client, []qemu.Disk) {
	t.Helper()
	devices, err := s.Devices(s.env.TempDir)
	must(t, err)
	return connect(t, devices[0]), devices
}

func clientRead(t *testing.T, c *nbd.Client) string {
	t.Helper()
	p := make([]byte, SectorSize)
	_, err := c.ReadAt(p, 0)
	must(t, err)
	return strings.TrimRight(string(p), "\x00")
}

func clientWrite(t *testing.T, c *nbd.Client, text string) {
	t.Helper()
	_, err := c.WriteAt(sector(text), 0)
	must(t, err)
}

// TestServe uses a disk as a machine does.
func TestServe(t *testing.T) {
	env, warned := testEnv(t)
	s := newShelf(t, env, "v")
	d := add(t, s, Spec{ID: "a", Scratch: mib})
	c, devices := plugIn(t, s)
	if c.Size() != mib {
		t.Errorf("%d bytes", c.Size())
	}
	clientWrite(t, c, "written")
	if read(t, d, false) != "" || read(t, d, true) != "written" || clientRead(t, c) != "written" {
		t.Errorf("%q on the medium, %q pending", read(t, d, false), read(t, d, true))
	}
	must(t, c.Flush())
	if read(t, d, false) != "written" {
		t.Errorf("%q after a flush", read(t, d, false))
	}
	must(t, d.WriteSectors(t.Context(), 0, sector("from the test")))
	if got := connect(t, devices[0]); clientRead(t, got) != "from the test" {
		t.Error("a second client sees something else")
	}
	again, err := s.Devices(env.TempDir)
	must(t, err)
	if again[0].Socket != devices[0].Socket || again[0].Slot != devices[0].Slot {
		t.Errorf("%+v and then %+v", devices[0], again[0])
	}
	// A client that breaks the protocol is reported, and does not disturb others.
	conn, err := net.Dial("unix", devices[0].Socket)
	must(t, err)
	if _, err := conn.Write(bytes.Repeat([]byte{0xff}, 64)); err != nil {
		t.Fatal(err)
	}
	for p := make([]byte, 64); err == nil; { // until the server hangs up
		_, err = conn.Read(p)
	}
	conn.Close()
	if clientRead(t, c) != "from the test" {
		t.Error("the other client is disturbed")
	}
	must(t, s.Close())
	if _, err := c.ReadAt(make([]byte, SectorSize), 0); err == nil {
		t.Error("a client reads from a closed disk")
	}
	if got := warned.list(); len(got) != 1 || !strings.Contains(got[0], "vm `v` disk `a`: nbd protocol violation") {
		t.Errorf("warnings %q", got)
	}
}

// TestDevicesError has no place for a socket.
func TestDevicesError(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	add(t, s, Spec{ID: "a", Scratch: mib})
	_, err := s.Devices(filepath.Join(env.TempDir, "none"))
	wantError(t, err, "disk `a`: disk socket")
}

// TestStoppedMachine checks that flushes of a machine that stops, or stands still,
// make nothing permanent.
func TestStoppedMachine(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	d := add(t, s, Spec{ID: "a", Scratch: mib})
	c, _ := plugIn(t, s)
	clientWrite(t, c, "written")
	s.HoldFlushes()
	must(t, c.Flush())
	s.IgnoreFlushes()
	must(t, c.Flush())
	if got := read(t, d, false); got != "" {
		t.Errorf("%q on the medium", got)
	}
	must(t, s.ObeyFlushes())
	if got := read(t, d, false); got != "" {
		t.Errorf("%q on the medium when the machine goes on", got)
	}
	must(t, c.Flush())
	if got := read(t, d, false); got != "written" {
		t.Errorf("%q on the medium after a flush", got)
	}
}

func TestPowerCut(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	d := add(t, s, Spec{ID: "a", Scratch: mib})
	c, _ := plugIn(t, s)
	for name, powerOn := range map[string]func(){
		"by the test":   func() { must(t, d.PowerOn()) },
		"by a reset":    func() { s.PowerOn() },
		"by a new boot": func() { _, err := s.Devices(env.TempDir); must(t, err) },
	} {
		clientWrite(t, c, "lost")
		result, err := d.PowerCut(noCut)
		must(t, err)
		if result.Unflushed != 1 || result.Kept != 0 || clientRead(t, c) == "lost" {
			t.Errorf("%+v, the guest reads %q", result, clientRead(t, c))
		}
		clientWrite(t, c, "later") // the disk works on
		must(t, c.Flush())
		if got := read(t, d, false); got != "later" {
			t.Errorf("%q on the medium after the power cut", got)
		}
		_, err = d.PowerCut(blockdev.Cut{Off: true})
		must(t, err)
		if _, err := c.WriteAt(sector("x"), 0); err == nil {
			t.Error("a write without power")
		}
		if _, err := c.ReadAt(make([]byte, SectorSize), 0); err == nil {
			t.Error("a read without power")
		}
		powerOn()
		if _, err := c.WriteAt(sector("x"), 0); err != nil {
			t.Errorf("power on %s: %v", name, err)
		}
		must(t, c.Flush())
	}
}

func TestGrow(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	spec := Spec{ID: "a", Scratch: mib}
	spec.LogicalBlock = 4096
	d := add(t, s, spec)
	c, devices := plugIn(t, s)
	clientWrite(t, c, "written")
	for _, tc := range []struct {
		size  int64
		grown bool
		want  string
	}{
		{mib, false, ""}, {2*mib + 512, false, "no multiple of the disk's logical block size 4096"},
		{MaxSize + 4096, false, "is more than"}, {4096, true, "a disk can only grow"}, {2 * mib, true, ""},
	} {
		grown, err := d.Grow(tc.size)
		if tc.want != "" {
			wantError(t, err, tc.want)
		} else if err != nil || grown != tc.grown {
			t.Errorf("%d bytes: %v %v", tc.size, grown, err)
		}
	}
	must(t, d.Resize(t.Context(), 2*mib)) // its owner finds nothing to do
	if d.Size() != 2*mib {
		t.Errorf("%d bytes", d.Size())
	}
	next := connect(t, devices[0])
	if next.Size() != 2*mib || clientRead(t, next) != "written" {
		t.Errorf("%d bytes, %q", next.Size(), clientRead(t, next))
	}
	// The machine flushes when it closes the old connection.
	d.Reconnected()
	must(t, c.Flush())
	if got := read(t, d, false); got != "" {
		t.Errorf("%q on the medium", got)
	}
	must(t, d.Close(false))
	_, err := d.Grow(3 * mib)
	wantError(t, err, "disk is detached")
}

// TestFaults calls everything that a test can do to a disk, attached and detached.
func TestFaults(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	d := add(t, s, Spec{ID: "a", Scratch: mib})
	c, _ := plugIn(t, s)
	ops := map[string]func() error{
		"inject": func() error { return d.Inject("eio_read") },
		"policy": func() error { return d.ChangePolicy(failWrites) },
		"rule":   func() error { _, err := d.AddRule(failFlushes, true); return err },
		"count":  func() error { _, err := d.CountRequests("any", 1); return err },

		"modes":        func() error { _, err := d.ActiveModes(); return err },
		"get policy":   func() error { _, err := d.Policy(); return err },
		"rules":        func() error { _, err := d.Rules(); return err },
		"clear":        d.ClearFaults,
		"power cut":    func() error { _, err := d.PowerCut(noCut); return err },
		"power on":     d.PowerOn,
		"record":       func() error { _, err := d.Record(mib); return err },
		"load":         func() error { _, err := d.LoadRecording("none"); return err },
		"mark":         func() error { return d.Mark("m") },
		"present":      func() error { _, err := d.Present(); return err },
		"export":       func() error { return d.Export(t.Context(), "none", false) },
		"remove rule":  func() error { return d.RemoveRule(1) },
		"remove rules": d.RemoveRules,
	}
	for _, name := range []string{"inject", "policy", "rule", "count"} {
		must(t, ops[name]())
	}
	modes, err := d.ActiveModes()
	must(t, err)
	policy, err := d.Policy()
	must(t, err)
	rules, err := d.Rules()
	must(t, err)
	if len(modes) != 1 || !policy.FailWrites || len(rules) != 1 || rules[0].Seed != failFlushes.Seed {
		t.Errorf("%v %+v %+v", modes, policy, rules)
	}
	if _, err := c.ReadAt(make([]byte, SectorSize), 0); err == nil {
		t.Error("a read passes")
	}
	if _, err := c.WriteAt(sector("x"), 0); err == nil {
		t.Error("a write passes")
	}
	if c.Flush() == nil {
		t.Error("a flush passes")
	}
	must(t, d.ClearFaults())
	clientWrite(t, c, "x")
	must(t, c.Flush())
	if clientRead(t, c) != "x" {
		t.Error("a fault is left")
	}
	must(t, d.Close(false))
	for name, op := range ops {
		if err := op(); err == nil || !strings.Contains(err.Error(), errDetached.Error()) {
			t.Errorf("%s of a detached disk: %v", name, err)
		}
	}
	d.StopCounting()
}

// TestRuleSeed checks that rules without a seed get one that depends on the seed of
// the run and on all names.
func TestRuleSeed(t *testing.T) {
	env, _ := testEnv(t)
	other, _ := testEnv(t)
	other.Seed++
	seen := map[uint64]string{}
	seed := func(name string, env *Env, vm, id string) uint64 {
		d := add(t, newShelf(t, env, vm), Spec{ID: id, Scratch: mib})
		n, err := d.AddRule(failFlushes, false)
		must(t, err)
		rules, err := d.Rules()
		must(t, err)
		must(t, d.RemoveRule(n))
		if before, ok := seen[rules[0].Seed]; ok {
			t.Errorf("%s has the seed of %s", name, before)
		}
		seen[rules[0].Seed] = name
		return rules[0].Seed
	}
	first := seed("first", env, "v", "a")
	seed("another disk", env, "v", "b")
	seed("another vm", env, "w", "a")
	seed("another run", other, "v", "a")
	delete(seen, first)
	if again := seed("repeated", env, "v", "a"); again != first {
		t.Errorf("%d and then %d", first, again)
	}
}

// TestResumedConnection is the one that a copy of a machine gets.
func TestResumedConnection(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	add(t, s, Spec{ID: "a", Scratch: mib})
	_, devices := plugIn(t, s)
	end, err := devices[0].Resume()
	must(t, err)
	defer end.Close()
	read := append([]byte{0x25, 0x60, 0x95, 0x13, 0, 0, 0, 0}, make([]byte, 20)...) // of the first sector
	read[len(read)-2] = 2
	_, err = end.Write(read)
	must(t, err)
	reply := make([]byte, 4)
	if _, err := io.ReadFull(end, reply); err != nil || !bytes.Equal(reply, []byte{0x66, 0x8e, 0x33, 0xef}) {
		t.Errorf("%x, %v", reply, err)
	}
	must(t, s.Close())
	if _, err := io.Copy(io.Discard, end); err != nil { // up to its end
		t.Error(err)
	}
}
