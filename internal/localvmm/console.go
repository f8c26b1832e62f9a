package localvmm

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// console is the guest's end of a console. Its zero value is ready.
type console struct {
	mu     sync.Mutex
	conn   net.Conn
	early  []byte // printed before open
	got    []byte // what the host has written
	held   int    // calls of hold that were not released
	closed bool
	wake   chan struct{} // closed when held or closed changes
}

// connection makes a net.Conn of a socket and closes the file.
func connection(f *os.File) (net.Conn, error) {
	if f == nil {
		return nil, errors.New("a socket is missing")
	}
	defer f.Close()
	return net.FileConn(f)
}

// open connects the console to the host.
func (c *console) open(f *os.File) error {
	conn, err := connection(f)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	_, _ = conn.Write(c.early) // the host sees it, or is gone
	c.early = nil
	return nil
}

// serve reads what the host writes until the console is closed.
func (c *console) serve() {
	defer c.conn.Close()
	p := make([]byte, 4096)
	for c.mayRead() {
		n, err := c.conn.Read(p)
		c.mu.Lock()
		c.got = append(c.got, p[:n]...)
		c.mu.Unlock()
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return // the host has closed it
		}
	}
}

// mayRead waits while the console is held and reports whether it is open.
func (c *console) mayRead() bool {
	for {
		c.mu.Lock()
		held, closed := c.held > 0, c.closed
		if c.wake == nil {
			c.wake = make(chan struct{})
		}
		wake := c.wake
		c.mu.Unlock()
		if closed || !held {
			return !closed
		}
		<-wake
	}
}

// change changes held or closed and wakes the reader. The caller must hold c.mu.
func (c *console) changed() {
	if c.wake != nil {
		close(c.wake)
		c.wake = nil
	}
	if c.conn == nil {
		return
	}
	deadline := time.Time{}
	if c.held > 0 {
		deadline = time.Unix(1, 0)
	}
	_ = c.conn.SetReadDeadline(deadline) // a closed one is not read
}

func (c *console) hold() (release func()) {
	add := func(n int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.held += n
		c.changed()
	}
	add(+1)
	return sync.OnceFunc(func() { add(-1) })
}

func (c *console) print(text string) {
	c.mu.Lock()
	conn := c.conn
	if conn == nil {
		c.early = append(c.early, text...)
	}
	c.mu.Unlock()
	if conn != nil {
		_, _ = io.WriteString(conn, text) // a machine that has ended prints nothing
	}
}

func (c *console) input() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.got)
}

func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.changed()
	if c.conn != nil {
		c.conn.Close()
	}
}

func (m *Machine) console(hvc bool) *console {
	if hvc {
		return &m.consoles[1]
	}
	return &m.consoles[0]
}

// Print writes to ttyS0, or to hvc0, as the kernel or a program of the guest does.
func (m *Machine) Print(hvc bool, text string) { m.console(hvc).print(text) }

// ConsoleInput returns what the host has written to a console so far.
func (m *Machine) ConsoleInput(hvc bool) string { return m.console(hvc).input() }

// HoldConsole keeps the guest from reading a console until release is called.
func (m *Machine) HoldConsole(hvc bool) (release func()) { return m.console(hvc).hold() }
