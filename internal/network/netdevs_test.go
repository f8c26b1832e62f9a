package network

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"provium/internal/guest"
	"provium/internal/vnet/gateway"
)

// TestGuestsExchangeFrames has two guests meet on a bridge.
func TestGuestsExchangeFrames(t *testing.T) {
	s := newSite(t)
	a, c := s.vm("a"), s.vm("c")
	b := s.bridge("lan", nil)
	attach(t, b, "a", "c")
	a.boot(t, s)
	c.boot(t, s)
	awaitLive(t, b)
	from, _ := b.NIC("a", "")
	a.sendFrame(t, 1, textFrame(from, "hello"))
	c.awaitFrame(t, 1, hasText("hello"))
	if n := from.Counters(); n.TxPackets != 1 {
		t.Errorf("%+v", n)
	}
	must(t, from.Disconnect(t.Context()))
	if a.machine.link(1) {
		t.Error("the guest still sees a carrier")
	}
	back, _ := b.NIC("c", "")
	c.sendFrame(t, 1, textFrame(back, "lost"))
	eventually(t, "a frame was not read", func() bool { return back.Counters().TxPackets == 1 })
	must(t, from.Reconnect(t.Context()))
	if !a.machine.link(1) {
		t.Error("the guest sees no carrier")
	}
	c.sendFrame(t, 1, textFrame(back, "again"))
	if got := a.awaitFrame(t, 1, func([]byte) bool { return true }); !hasText("again")(got) {
		t.Errorf("received %q", got[14:])
	}
}

// TestAnotherQEMU takes the place of a copy that has failed.
func TestAnotherQEMU(t *testing.T) {
	s := newSite(t)
	a, c := s.vm("a"), s.vm("c")
	b := s.bridge("lan", nil)
	attach(t, b, "a", "c")
	a.boot(t, s)
	c.boot(t, s)
	awaitLive(t, b)
	failed := a.machine.conns[1]
	must(t, failed.Close())
	next, err := net.Dial("unix", failed.RemoteAddr().String())
	must(t, err)
	a.machine.conns[1] = next
	awaitLive(t, b)
	from, _ := b.NIC("a", "")
	a.sendFrame(t, 1, textFrame(from, "hello"))
	c.awaitFrame(t, 1, hasText("hello"))
}

// TestConfiguration compares what a guest's agent is told.
func TestConfiguration(t *testing.T) {
	s := newSite(t)
	v := s.vm("v")
	lan, wan, far := s.bridge("lan", nil), s.bridge("wan", nil), s.bridge("far", nil)
	plain := s.bridge("plain", &BridgeOpts{NoAddressing: true})
	for _, b := range []*Bridge{wan, lan, plain} {
		attach(t, b, "v")
	}
	attach(t, far, "z")
	must(t, lan.Route(t.Context(), []*Bridge{far, wan}))
	must(t, wan.EnableUplink(t.Context()))
	v.boot(t, s)
	var want []guest.Interface
	for i, b := range []*Bridge{lan, plain, wan} {
		n, _ := b.NIC("v", "")
		face := guest.Interface{Path: fmt.Sprintf("%02x.0", i+2), Name: fmt.Sprint("eth", i), MAC: n.mac}
		if b != plain {
			face.Addresses = []string{n.addresses()[0].String(), n.addresses()[1].String()}
			face.Gateways = []string{gateway.First(b.v4).String(), gateway.First(b.v6).String()}
			face.Metric = uint64(2000 + i)
		}
		want = append(want, face)
	}
	want[0].Routes = []string{far.v4.String(), far.v6.String()} // wan is reached directly
	want[2].Routes = []string{"0.0.0.0/0", "::/0"}
	if got := v.config.Interfaces; !reflect.DeepEqual(got, want) {
		t.Errorf("interfaces %+v, want %+v", got, want)
	}
	if v.config.Resolver != "nameserver 10.77.1.1\n" {
		t.Errorf("resolver %q", v.config.Resolver)
	}
	if h := v.config.Hosts; !strings.Contains(h, "z.far z\n") || !strings.HasSuffix(h, "10.77.1.1 "+HostName+"\n") {
		t.Errorf("hosts:\n%s", h)
	}
	must(t, wan.DisableUplink(t.Context()))
	if v.config.Resolver != "" || strings.Contains(v.config.Hosts, HostName) {
		t.Errorf("uplink is gone, and the guest is told of it: %+v", v.config)
	}
}

// late is the slot of the first interface that a running guest gets.
const late = 25

// TestHotPlug attaches a running guest to bridges, and closes them.
func TestHotPlug(t *testing.T) {
	s := newSite(t)
	v := s.vm("v")
	one, two := s.bridge("one", nil), s.bridge("two", nil)
	attach(t, two, "v")
	v.boot(t, s)
	attach(t, one, "v")
	if got := v.machine.slots(); !slices.Equal(got, []int{1, late}) {
		t.Errorf("slots %v", got)
	}
	if last := v.config.Interfaces[1]; last.Path != "1e.0/01.0" {
		t.Errorf("%+v", last)
	}
	planned := v.devices.Planned()
	if len(planned) != 2 || planned[1].Bridge != "one" || planned[1].Name != "eth1" || planned[1].Slot != late {
		t.Errorf("%+v", planned)
	}
	if d := Devices(planned); len(d) != 2 || d[1].Slot != late || d[1].MAC != "" {
		t.Errorf("%+v", d)
	}
	must(t, two.Detach(t.Context(), "v", ""))
	if v.machine.link(1) || len(v.config.Interfaces) != 2 || len(v.config.Interfaces[0].Addresses) != 0 {
		t.Errorf("detached, it has a link or an address: %+v", v.config.Interfaces)
	}
	v.set(func() { v.paused = true })
	must(t, two.Close(t.Context()))
	if got := v.machine.slots(); !slices.Equal(got, []int{1, late}) || !v.devices.IsStale() {
		t.Errorf("a paused guest has slots %v", got)
	}
	v.set(func() { v.paused = false })
	must(t, v.SyncNetwork(t.Context()))
	// That of the boot cannot be unplugged: the guest is to forget it, also after a reset,
	// and its name is free.
	gone := func(interfaces int) {
		t.Helper()
		if c := v.config; len(c.Interfaces) != interfaces || !slices.Equal(c.Gone, []string{"02.0"}) {
			t.Errorf("%+v", c)
		}
	}
	gone(1)
	if v.machine.link(1) || v.devices.IsStale() {
		t.Error("an interface to a closed bridge has a link")
	}
	must(t, v.devices.Configure(t.Context(), v))
	gone(1)
	must(t, one.Close(t.Context()))
	if got := v.machine.slots(); !slices.Equal(got, []int{1}) {
		t.Errorf("slots %v after a close", got)
	}
	gone(0)
	attach(t, s.bridge("two", nil), "v")
	if planned := v.devices.Planned(); len(planned) != 2 ||
		planned[0] != (PlannedNIC{nil, "two", "", 1, "eth0", true}) ||
		planned[1].Slot != late || planned[1].Name != "eth0" {
		t.Errorf("%+v", planned)
	}
	gone(1)
}

func TestSyncErrors(t *testing.T) {
	s := newSite(t)
	v := s.vm("v")
	b := s.bridge("b", nil)
	v.boot(t, s)
	for _, op := range []string{"plug", "link", "unplug"} {
		v.machine.fail = op
		var err error
		switch op {
		case "plug":
			err = b.Attach(t.Context(), endpoints("v"))
			if len(b.Members()) != 0 || len(v.devices.Planned()) != 0 {
				t.Error("a refused NIC is there")
			}
			v.machine.fail = ""
			attach(t, b, "v")
		case "link":
			n, _ := b.NIC("v", "")
			err = n.Disconnect(t.Context())
		case "unplug":
			err = b.Close(t.Context())
		}
		wantError(t, err, errFake.Error())
	}
	v.machine.fail = ""
	v.refuse = errFake
	wantError(t, v.devices.Configure(t.Context(), v), "network: "+errFake.Error())
	v.refuse = nil
	must(t, v.SyncNetwork(t.Context()))
}

// TestFullMachine has a guest whose slots are all taken by interfaces of bridges
// that are gone.
func TestFullMachine(t *testing.T) {
	s := newSite(t)
	v := s.vm("v")
	var planned []PlannedNIC
	for slot := 1; slot <= 55; slot++ {
		planned = append(planned, PlannedNIC{nil, fmt.Sprint("old", slot), "", slot, fmt.Sprint("eth", slot-1), false})
	}
	v.start(t, s.NewNetdevs(v, t.TempDir()), planned, true)
	wantError(t, s.bridge("b", nil).Attach(t.Context(), endpoints("v")),
		"55 network interfaces already, of which 31 came after its boot")
	if v.machine.link(1) {
		t.Error("an interface to no bridge has a link")
	}
	// A bridge of a name that the guest knows takes the interface over.
	old := s.bridge("old3", nil)
	attach(t, old, "v")
	awaitLive(t, old)
	if !v.machine.link(3) {
		t.Error("an interface that found its bridge has no link")
	}
}

func TestCreateFails(t *testing.T) {
	s := newSite(t)
	v := s.vm("v")
	attach(t, s.bridge("b", nil), "v")
	devices := s.NewNetdevs(v, filepath.Join(t.TempDir(), "none"))
	if _, err := devices.Create(s.Plan(v), false); err == nil {
		t.Error("created in a directory that is not there")
	}
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "nic2", "full"), 0o700))
	devices = s.NewNetdevs(v, dir)
	planned := []PlannedNIC{{nil, "x", "", 1, "eth0", false}, {nil, "x", "", 2, "eth1", false}}
	if _, err := devices.Create(planned, false); err == nil || len(devices.Planned()) != 0 {
		t.Error("interfaces are left after an error", err)
	}
}

// TestAdopt passes the guest of a snapshot to a VM, with its interfaces.
func TestAdopt(t *testing.T) {
	s := newSite(t)
	v, w := s.vm("v"), s.vm("w")
	b := s.bridge("b", nil)
	attach(t, b, "v", "w")
	w.boot(t, s)
	standby := s.NewNetdevs(nil, t.TempDir())
	nics, err := standby.CreateUnbound([]PlannedNIC{{nil, "b", "", 1, "eth0", false},
		{nil, "gone", "", 2, "eth1", false},
		{nil, "x", "", 3, "eth2", false}})
	must(t, err)
	devices := s.NewNetdevs(v, t.TempDir())
	devices.Adopt(standby, append(s.Plan(v), PlannedNIC{nil, "gone", "", 2, "eth5", false}))
	standby.Close() // it has nothing any more
	v.run(t, devices, nics)
	awaitLive(t, b)
	if !v.machine.link(1) || v.machine.link(2) || v.machine.link(3) {
		t.Errorf("links %v", v.machine.links)
	}
	if p := devices.Planned(); len(p) != 3 || p[1].Name != "eth5" {
		t.Errorf("%+v", p)
	}
	from, _ := b.NIC("w", "")
	w.sendFrame(t, 1, textFrame(from, "hello"))
	v.awaitFrame(t, 1, hasText("hello"))
}

// TestCloseUnconnected closes interfaces to which no QEMU has connected, or which
// belong to no bridge.
func TestCloseUnconnected(t *testing.T) {
	s := newSite(t)
	v := s.vm("v")
	attach(t, s.bridge("b", nil), "v")
	devices := s.NewNetdevs(v, t.TempDir())
	_, err := devices.Create(append(s.Plan(v), PlannedNIC{nil, "x", "", 2, "eth1", false}), false)
	must(t, err)
	devices.Close()
	devices.Close()
	devices.list[1].bind(devices.list[0].nic) // too late: nothing happens
}
