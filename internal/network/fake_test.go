package network

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"provium/internal/guest"
	"provium/internal/qemu"
)

// fakeVM is a station. Its guest, if one runs, records its configuration.
type fakeVM struct {
	name string

	mu      sync.Mutex
	err     error // of SyncNetwork
	synced  int
	machine *fakeMachine // nil: no guest runs
	devices *Netdevs
	paused  bool
	config  *guest.Network // the latest
	refuse  error          // of Network
}

func (v *fakeVM) Name() string { return v.name }

func (v *fakeVM) SyncNetwork(ctx context.Context) error {
	v.mu.Lock()
	v.synced++
	err, machine, paused := v.err, v.machine, v.paused
	v.mu.Unlock()
	switch {
	case err != nil || machine == nil:
		return err
	case paused:
		return v.devices.Sync(ctx, machine, nil)
	}
	return v.devices.Sync(ctx, machine, v)
}

// Network is the agent of the guest.
func (v *fakeVM) Network(_ context.Context, config *guest.Network) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.refuse == nil {
		v.config = config
	}
	return v.refuse
}

// set changes the VM under its lock.
func (v *fakeVM) set(change func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change()
}

// syncs returns how often the VM was told since the last call.
func (v *fakeVM) syncs() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.synced
	v.synced = 0
	return n
}

// fakeMachine is a QEMU as far as NICs are concerned: it connects to their sockets
// and speaks the protocol of its stream netdevs.
type fakeMachine struct {
	mu    sync.Mutex
	conns map[int]net.Conn // by slot
	links map[int]bool
	fail  string // the operation that fails
}

var errFake = errors.New("the fake QEMU refuses")

func (m *fakeMachine) do(op string, f func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == op {
		return errFake
	}
	return f()
}

func (m *fakeMachine) PlugNIC(_ context.Context, n qemu.NIC) error {
	return m.do("plug", func() error {
		conn, err := net.Dial("unix", n.Socket)
		m.conns[n.Slot] = conn
		m.links[n.Slot] = true
		return err
	})
}

func (m *fakeMachine) UnplugNIC(_ context.Context, n qemu.NIC) error {
	return m.do("unplug", func() error {
		err := m.conns[n.Slot].Close()
		delete(m.conns, n.Slot)
		return err
	})
}

func (m *fakeMachine) SetLink(_ context.Context, n qemu.NIC, up bool) error {
	return m.do("link", func() error {
		m.links[n.Slot] = up
		return nil
	})
}

// slots returns the slots of the devices there are.
func (m *fakeMachine) slots() (all []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.conns {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

func (m *fakeMachine) link(slot int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.links[slot]
}

// boot starts a guest with the interfaces that are planned.
func (v *fakeVM) boot(t *testing.T, s *site) {
	t.Helper()
	v.start(t, s.NewNetdevs(v, t.TempDir()), s.Plan(v), false)
}

// start starts a guest with these interfaces.
func (v *fakeVM) start(t *testing.T, devices *Netdevs, planned []PlannedNIC, restored bool) {
	t.Helper()
	nics, err := devices.Create(planned, restored)
	must(t, err)
	v.run(t, devices, nics)
}

// run starts a guest with these devices.
func (v *fakeVM) run(t *testing.T, devices *Netdevs, nics []qemu.NIC) {
	t.Helper()
	m := &fakeMachine{conns: map[int]net.Conn{}, links: map[int]bool{}}
	for _, n := range nics {
		must(t, m.PlugNIC(t.Context(), n))
	}
	v.set(func() { v.machine, v.devices = m, devices })
	t.Cleanup(func() {
		v.set(func() { v.machine = nil })
		for _, c := range m.conns {
			c.Close()
		}
		devices.Close()
	})
	must(t, v.SyncNetwork(t.Context()))
}

// awaitLive waits until the switch serves the connections of all VMs of a bridge
// whose guests run.
func awaitLive(t *testing.T, b *Bridge) {
	t.Helper()
	eventually(t, "a port is not live", func() bool {
		for _, name := range b.Members() {
			n, err := b.NIC(name, "")
			if err != nil || !n.port.IsLive() {
				return false
			}
		}
		return true
	})
}

// eventually waits for something that another goroutine is about to do.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.Now().Add(10 * time.Second)
	for !done() {
		if time.Now().After(limit) {
			t.Fatal(what)
		}
		time.Sleep(time.Millisecond)
	}
}

// sendFrame has the guest send a frame by the device in slot.
func (v *fakeVM) sendFrame(t *testing.T, slot int, frame []byte) {
	t.Helper()
	_, err := v.machine.conns[slot].Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
	must(t, err)
}

// awaitFrame returns the first frame that reaches the device in slot and that match
// accepts.
func (v *fakeVM) awaitFrame(t *testing.T, slot int, match func([]byte) bool) []byte {
	t.Helper()
	conn := v.machine.conns[slot]
	must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	for {
		var size [4]byte
		_, err := io.ReadFull(conn, size[:])
		must(t, err)
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		_, err = io.ReadFull(conn, frame)
		must(t, err)
		if match(frame) {
			return frame
		}
	}
}

var broadcast = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// frameOf returns an Ethernet frame.
func frameOf(to, from []byte, kind uint16, payload ...byte) []byte {
	frame := append(slices.Clone(to), from...)
	return append(binary.BigEndian.AppendUint16(frame, kind), payload...)
}

// textFrame returns a broadcast frame with a text, of a type that nobody knows.
func textFrame(from *NIC, text string) []byte {
	return frameOf(broadcast, from.mac, 0x88b5, []byte(text)...)
}

func hasText(text string) func([]byte) bool {
	return func(frame []byte) bool { return len(frame) >= 14 && string(frame[14:]) == text }
}

const (
	typeARP    = 0x0806
	arpRequest = 1
	arpReply   = 2
)

// arp returns an ARP packet in a frame.
func arp(op uint16, to, from []byte, fromIP, ofIP net.IP) []byte {
	p := []byte{0, 1, 8, 0, 6, 4, byte(op >> 8), byte(op)}
	p = append(append(p, from...), fromIP.To4()...)
	p = append(append(p, to...), ofIP.To4()...)
	return frameOf(to, from, typeARP, p...)
}

// isARP accepts ARP packets of a kind that ask for, or come from, an address.
func isARP(op uint16, ip net.IP) func([]byte) bool {
	at := 28 // sender's address
	if op == arpRequest {
		at = 38
	}
	return func(f []byte) bool {
		return len(f) >= 42 && binary.BigEndian.Uint16(f[12:]) == typeARP && binary.BigEndian.Uint16(f[20:]) == op &&
			net.IP(f[at:at+4]).Equal(ip)
	}
}
