package lab

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

// cable is a network interface of a running guest and what it is plugged into.
type cable struct {
	dev    qemu.NIC
	bridge string // name
	nic    *NIC   // nil while there is no such bridge
	ifname string // in the guest
	up     bool   // the carrier that QEMU was told of

	ln    *net.UnixListener
	bound chan *NIC // who the connection is for
	done  chan struct{}

	mu      sync.Mutex
	conn    net.Conn
	closed  bool
	isBound bool
}

// newCable waits for QEMU's end in dir. It must be closed.
func newCable(dir, bridge string, nic *NIC, slot int, ifname string) (*cable, error) {
	path := filepath.Join(dir, fmt.Sprintf("nic%d", slot))
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("network socket: %w", err)
	}
	c := &cable{dev: qemu.NIC{Slot: slot, Socket: path}, bridge: bridge, ifname: ifname, up: true, ln: ln,
		bound: make(chan *NIC, 1), done: make(chan struct{})}
	c.dev.MAC = "02:00:00:00:00:01" // of an interface that is on no bridge; its link is down
	if nic != nil {
		c.dev.MAC = nic.MAC()
		c.bind(nic)
	}
	go c.run()
	return c, nil
}

// bind plugs the cable in. It is called once; a closed cable stays loose.
func (c *cable) bind(nic *NIC) {
	c.nic = nic
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.bound <- nic
		close(c.bound)
		c.isBound = true
	}
}

func (c *cable) run() {
	defer close(c.done)
	conn, err := c.ln.Accept()
	c.ln.Close()
	if err != nil {
		return
	}
	c.mu.Lock()
	c.conn = conn
	closed := c.closed
	c.mu.Unlock()
	if closed {
		conn.Close()
		return
	}
	if nic, ok := <-c.bound; ok {
		// How a connection ends says nothing that the guest's end does not.
		_ = nic.port.Serve(conn)
		return
	}
	conn.Close()
}

// close unplugs the cable and returns when nothing of it is left.
func (c *cable) close() {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	if c.conn != nil {
		c.conn.Close()
	}
	if first && !c.isBound {
		close(c.bound)
	}
	c.mu.Unlock()
	c.ln.Close()
	<-c.done
}
