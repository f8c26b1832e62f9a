package localvmm

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// nics are the network interfaces of a machine, by the id of their netdev. The
// zero value is ready.
type nics struct {
	mu     sync.Mutex
	byID   map[string]*nic
	work   sync.WaitGroup
	closed bool
}

type nic struct {
	conn   net.Conn
	frames chan []byte // what the network has sent
}

// frameBacklog is how many frames wait for a guest; further ones are lost.
const frameBacklog = 256

// plug connects an interface to the host's end of its network.
func (n *nics) plug(m *Machine, id, path string) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return fmt.Errorf("netdev %s: %w", id, err)
	}
	added := &nic{conn: conn, frames: make(chan []byte, frameBacklog)}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.byID[id] != nil {
		conn.Close()
		return fmt.Errorf("netdev %s: it cannot be added", id)
	}
	if n.byID == nil {
		n.byID = map[string]*nic{}
	}
	n.byID[id] = added
	n.work.Go(added.receive)
	return nil
}

func (n *nics) unplug(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if gone := n.byID[id]; gone != nil {
		gone.conn.Close()
		delete(n.byID, id)
	}
}

func (n *nics) close() {
	n.mu.Lock()
	n.closed = true
	for _, c := range n.byID {
		c.conn.Close()
	}
	n.byID = nil
	n.mu.Unlock()
	n.work.Wait()
}

func (n *nics) find(slot int) (*nic, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.byID[fmt.Sprintf("net%d", slot)]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("no interface in slot %d", slot)
}

// receive takes frames until the connection ends.
func (c *nic) receive() {
	defer close(c.frames)
	var head [4]byte
	for {
		if _, err := io.ReadFull(c.conn, head[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(head[:])&0xffff)
		if _, err := io.ReadFull(c.conn, frame); err != nil {
			return
		}
		select {
		case c.frames <- frame:
		default:
		}
	}
}

// Frames returns the channel of the Ethernet frames that arrive at the interface
// in a slot. It is closed when the interface is gone.
func (m *Machine) Frames(slot int) (<-chan []byte, error) {
	c, err := m.nics.find(slot)
	if err != nil {
		return nil, err
	}
	return c.frames, nil
}

// SendFrame sends an Ethernet frame from the interface in a slot.
func (m *Machine) SendFrame(slot int, frame []byte) error {
	c, err := m.nics.find(slot)
	if err != nil {
		return err
	}
	_, err = c.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
	return err
}
