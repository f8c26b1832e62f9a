// Package attach lets a user work in the guests of runs that are under way: each process with
// guests serves them on a socket in its private directory, and another process of the same
// user lists and enters them.
//
// It knows neither tests nor Lua, and a visitor takes nothing from them. Start with Serve and
// Find.
package attach

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"provium/internal/msgpack"
)

// socketName is the name of the socket in the directory of a process.
const socketName = "attach"

// maxMessage is the most that a message may have, pieceSize what is passed on at a time, in
// bytes.
const (
	maxMessage = 1 << 20
	pieceSize  = 32 << 10
)

// message is what a visitor and a process with guests send each other, as frames of package
// msgpack. One field is set.
type message struct {
	// From the visitor. The first message is List or Enter.
	List   bool
	Enter  *Enter
	Input  []byte
	Close  bool // there is no more input
	Size   *Size
	Signal int

	// From the process with guests.
	Run    *Run
	Output []byte
	Errors []byte // standard error
	Exit   *exit  // the last message
}

// Enter asks for a command in a guest.
type Enter struct {
	CID      uint32   // of the guest
	Args     []string // the command; a login shell if it is empty
	Env      []string // that say what the terminal can do
	Terminal *Size    // nil for a command without one
	NoInput  bool
}

// Size is that of a terminal.
type Size struct{ Rows, Cols uint16 }

// Run is a process with guests.
type Run struct {
	PID    int
	File   string // the test file; "" for a guest by hand
	Status string // what else is to be known of it, as "paused"
	Guests []Guest

	path string // of the socket
}

// Guest is one guest of a Run.
type Guest struct {
	Name, Profile, State string
	CID                  uint32 // no other guest of the host has it
}

type exit struct {
	Code int
	Err  string // of what is not the command's
}

var errMalformed = errors.New("malformed message")

// pipe sends and receives messages. Sending is safe for concurrent use.
type pipe struct {
	conn *net.UnixConn
	mu   sync.Mutex
}

func (p *pipe) send(m *message) error {
	frame, err := msgpack.AppendFrame(nil, m, maxMessage)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err = p.conn.Write(frame)
	return err
}

func (p *pipe) receive() (*message, error) {
	m := &message{}
	return m, msgpack.ReadFrame(p.conn, m, maxMessage, errMalformed)
}

// checkPeer returns an error if the process at the other end is of another user.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil || err != nil {
		return errors.Join(cerr, err)
	}
	if int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("the other end is of uid %d", peer.Uid)
	}
	return nil
}

// output writes one output of a command as messages.
type output struct {
	p     *pipe
	field func(*message) *[]byte
}

// Write implements io.Writer.
func (o output) Write(b []byte) (written int, err error) {
	for len(b) > 0 {
		n := min(len(b), pieceSize)
		m := &message{}
		*o.field(m) = b[:n]
		if err := o.p.send(m); err != nil {
			return written, err
		}
		b = b[n:]
		written += n
	}
	return written, nil
}
