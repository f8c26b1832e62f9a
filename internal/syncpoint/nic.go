package syncpoint

import (
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Link is what a network interface is connected to.
type Link interface {
	// Collect takes bytes of the guest's stream of frames, which it may keep. It is called by one goroutine at a time.
	Collect(stream []byte) error
	// Send sends the frames that were collected, and returns how many they are. Drop forgets them.
	Send() int
	Drop()
	// Receive returns the next frame for the guest as the stream has it, nil if there is no more.
	Receive() []byte
}

// NIC is a network interface of a guest.
type NIC struct {
	Socket *os.File // our end; does not block
	Link   Link

	mu    *sync.Mutex // held while the socket is read
	err   error
	trail uint64 // of all frames
}

// NewNIC returns a NIC.
func NewNIC(socket *os.File, link Link) NIC {
	return NIC{Socket: socket, Link: link, mu: &sync.Mutex{}}
}

// Pollable returns a copy of a socket that does not block.
func Pollable(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, fmt.Errorf("socket of frames: %w", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

var trails = crc64.MakeTable(crc64.ECMA)

// read collects what the guest sends while it runs: QEMU waits where there is no more room in the socket.
func (n *NIC) read() {
	raw, err := n.Socket.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool { // ends when the socket is closed
		return n.drain(int(fd)) != nil
	})
}

// drain collects what there is.
func (n *NIC) drain(fd int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	buf := make([]byte, 64<<10)
	for n.err == nil {
		got, err := unix.Read(fd, buf)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return nil
		case err != nil || got == 0:
			n.err = net.ErrClosed
		default:
			n.trail = crc64.Update(n.trail, trails, buf[:got])
			n.err = n.Link.Collect(buf[:got])
		}
	}
	return n.err
}

// collect takes what the guest has sent by all interfaces. Its CPU stands, so this is all.
func (p *Pacer) collect() error {
	for i := range p.cfg.NICs {
		n := &p.cfg.NICs[i]
		raw, err := n.Socket.SyscallConn()
		if err != nil {
			return fmt.Errorf("%w: %w", net.ErrClosed, err)
		}
		var failed error
		if err := raw.Control(func(fd uintptr) { failed = n.drain(int(fd)) }); err != nil {
			return fmt.Errorf("%w: %w", net.ErrClosed, err)
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

// handFrames hands the guest, which stands, the frames that have come for it.
func (p *Pacer) handFrames() error {
	if !p.isMember() {
		return nil
	}
	for i := range p.cfg.NICs {
		n := &p.cfg.NICs[i]
		for b := n.Link.Receive(); b != nil; b = n.Link.Receive() {
			n.mu.Lock()
			n.trail = crc64.Update(n.trail, trails, b)
			n.mu.Unlock()
			_, err := n.Socket.Write(b)
			if err == nil {
				_, err = p.cfg.Control.Write([]byte{frame, byte(i)})
			}
			var answer [1]byte
			if err == nil {
				_, err = p.cfg.Control.Read(answer[:])
			}
			if err != nil {
				return fmt.Errorf("%w: %w", net.ErrClosed, err)
			}
		}
	}
	return nil
}

func (p *Pacer) isMember() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.member.joined && p.member.runs
}

// trailed returns what is said of what was received where something passes: a check of frames is part of it.
func (p *Pacer) trailed(received, out []byte) []byte {
	if len(received)+len(out) == 0 {
		return received
	}
	for i := range p.cfg.NICs {
		n := &p.cfg.NICs[i]
		n.mu.Lock()
		received = binary.LittleEndian.AppendUint64(received, n.trail)
		n.mu.Unlock()
	}
	return received
}

func (p *Pacer) closeNICs() {
	for i := range p.cfg.NICs {
		p.cfg.NICs[i].Socket.Close()
	}
	if p.cfg.Pace != nil {
		p.cfg.Pace.Close()
	}
}
