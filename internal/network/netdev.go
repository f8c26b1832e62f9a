package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"provium/internal/qemu"
)

// netdev is a network interface of a running guest: the socket that QEMU connects
// to, and the NIC that its frames go to.
type netdev struct {
	dev    qemu.NIC
	bridge string // name
	label  string // of its NIC
	nic    *NIC   // nil while there is no such bridge
	ifname string // in the guest
	up     bool   // the carrier that QEMU was last told of
	gone   bool   // see PlannedNIC

	admitted *Bridge    // that has counted it, nil for none
	wires    *Wires     // nil unless the guest is deterministic
	link     *pacedLink // likewise

	listener *net.UnixListener
	bound    chan *NIC // receives the NIC that the connection is for
	done     chan struct{}

	mu      sync.Mutex
	conn    net.Conn
	closed  bool
	isBound bool
}

// noMAC is the address of an interface that is on no bridge. Its link is down.
const noMAC = "02:00:00:00:00:01"

// newNetdev listens for QEMU in dir. nic may be nil. The caller must close the
// netdev.
func newNetdev(dir string, p PlannedNIC, wires *Wires) (*netdev, error) {
	if wires != nil {
		return newPacedNetdev(p, wires)
	}
	path := filepath.Join(dir, fmt.Sprintf("nic%d", p.Slot))
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("network socket: %w", err)
	}
	d := &netdev{dev: qemu.NIC{Slot: p.Slot, Socket: path, MAC: noMAC}, bridge: p.Bridge, label: p.Label,
		ifname: p.Name, up: true, gone: p.Gone, listener: listener,
		bound: make(chan *NIC, 1), done: make(chan struct{})}
	d.dev.Quiet = d.quiet
	if p.NIC != nil {
		d.dev.MAC = p.NIC.MAC()
		if err := d.bind(p.NIC); err != nil {
			listener.Close()
			return nil, err
		}
	}
	go d.run()
	return d, nil
}

// newPacedNetdev is newNetdev for a deterministic guest.
func newPacedNetdev(p PlannedNIC, wires *Wires) (*netdev, error) {
	d := &netdev{dev: qemu.NIC{Slot: p.Slot, MAC: noMAC}, bridge: p.Bridge, label: p.Label,
		ifname: p.Name, up: true, gone: p.Gone, wires: wires, done: make(chan struct{})}
	close(d.done)
	if err := d.pace(); err != nil {
		return nil, err
	}
	if p.NIC != nil {
		d.dev.MAC = p.NIC.MAC()
		if err := d.bind(p.NIC); err != nil {
			d.close()
			return nil, err
		}
	}
	return d, nil
}

// bind connects the interface to a NIC. It must be called at most once. On a
// closed netdev it connects nothing. It returns an error for a bridge of other guests.
func (d *netdev) bind(nic *NIC) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		if err := nic.bridge.admit(d.wires); err != nil {
			return err
		}
		d.admitted = nic.bridge
		if d.link != nil {
			d.link.connect(nic.port)
		} else {
			d.bound <- nic
			close(d.bound)
		}
		d.isBound = true
	}
	d.nic = nic
	return nil
}

// run moves the frames of QEMU's connections, one after the other, until the netdev is closed: where a copy of a
// template fails, another QEMU takes its place.
func (d *netdev) run() {
	defer close(d.done)
	var nic *NIC
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.conn = conn
		closed := d.closed
		d.mu.Unlock()
		if !closed && nic == nil {
			nic = <-d.bound
		}
		if closed || nic == nil {
			conn.Close()
			return
		}
		// An error is dropped: the end of QEMU, which causes it, is reported elsewhere.
		_ = nic.port.Serve(conn)
	}
}

// quiet implements qemu.NIC's Quiet. Nothing is sent to an interface that is on no bridge.
func (d *netdev) quiet() (release func(), ok bool) {
	d.mu.Lock()
	bound := d.isBound
	d.mu.Unlock()
	if !bound {
		return func() {}, true
	}
	return d.nic.port.Quiet()
}

// close ends the connection and returns when no goroutine of the netdev is left.
func (d *netdev) close() {
	d.mu.Lock()
	first := !d.closed
	d.closed = true
	if first && d.admitted != nil {
		defer d.admitted.dismiss(d.link != nil)
	}
	if first && d.link != nil {
		d.closePaced()
	}
	if d.conn != nil {
		d.conn.Close()
	}
	if first && !d.isBound && d.link == nil {
		close(d.bound)
	}
	d.mu.Unlock()
	if d.listener != nil {
		d.listener.Close()
	}
	<-d.done
}
