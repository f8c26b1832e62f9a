// Package qmp speaks the QEMU Machine Protocol over a connection: commands are
// matched to replies by id, events go to one handler.
//
// It knows the protocol and no command; which commands to send, and what an
// event means, is the caller's business. Source:
// https://www.qemu.org/docs/master/interop/qmp-spec.html
package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxMessage caps one line from QEMU. The largest real one, the reply to
// query-qmp-schema, is below 1 MiB in QEMU 9.
const maxMessage = 8 << 20

// Event is an asynchronous message of QEMU.
type Event struct {
	Name string
	Data json.RawMessage
	Time time.Time // host clock of the QEMU process
}

// Error is QEMU's refusal of a command.
type Error struct {
	Command string
	Class   string
	Desc    string
}

func (e *Error) Error() string { return fmt.Sprintf("qmp %s: %s: %s", e.Command, e.Class, e.Desc) }

// ErrClosed says that the connection to QEMU ended.
var ErrClosed = errors.New("qmp: connection closed")

// Client is one QMP session. It is safe for concurrent use.
type Client struct {
	conn    net.Conn
	reading *reading
	onEvent func(Event)

	writeMu sync.Mutex

	version string // of QEMU, from the greeting

	mu      sync.Mutex
	nextID  uint64
	waiting map[string]chan message
	err     error // set once the reader has ended

	done chan struct{}
}

type message struct {
	QMP    json.RawMessage `json:"QMP"`
	ID     string          `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event     string          `json:"event"`
	Data      json.RawMessage `json:"data"`
	Timestamp struct {
		Seconds      int64 `json:"seconds"`
		Microseconds int64 `json:"microseconds"`
	} `json:"timestamp"`
}

// decodeMessage parses one line. The result owns its memory: nothing in it
// aliases line, which the reader reuses.
func decodeMessage(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return message{}, fmt.Errorf("qmp message decode: %w", err)
	}
	return m, nil
}

// Connect reads the greeting and negotiates capabilities. Otherwise it is Greet.
func Connect(ctx context.Context, conn net.Conn, onEvent func(Event)) (*Client, error) {
	c, err := Greet(ctx, conn, onEvent)
	if err != nil {
		return nil, err
	}
	if err := c.Execute(ctx, Negotiate, nil, nil); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Negotiate is the command that has to come before all others.
const Negotiate = "qmp_capabilities"

// Greet reads the greeting, which QEMU sends before it has made its machine. The first
// command must be Negotiate. It takes over conn. onEvent is called for each event in
// order, from the goroutine that reads, so it must not block and must not call Execute;
// nil drops events.
func Greet(ctx context.Context, conn net.Conn, onEvent func(Event)) (*Client, error) {
	c := newClient(conn, onEvent)
	greeted := make(chan struct{})
	go c.read(greeted)
	select {
	case <-greeted:
	case <-c.done:
		return nil, fmt.Errorf("qmp greeting: %w", c.err)
	case <-ctx.Done():
		c.Close()
		return nil, fmt.Errorf("qmp greeting: %w", context.Cause(ctx))
	}
	return c, nil
}

// Attach goes on with a monitor that another client has negotiated with. The version is QEMU's.
// Otherwise it is Greet.
func Attach(conn net.Conn, onEvent func(Event), version string) *Client {
	c := newClient(conn, onEvent)
	c.version = version
	go c.read(nil)
	return c
}

func newClient(conn net.Conn, onEvent func(Event)) *Client {
	if onEvent == nil {
		onEvent = func(Event) {}
	}
	return &Client{conn: conn, reading: newReading(conn), onEvent: onEvent, waiting: map[string]chan message{},
		done: make(chan struct{})}
}

func (c *Client) read(greeted chan<- struct{}) {
	defer close(c.done)
	defer c.reading.end()
	r := bufio.NewReaderSize(c.reading, 64<<10)
	err := c.readAll(r, greeted)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, unix.ECONNRESET} {
		if errors.Is(err, end) {
			err = nil // which says no more than that
		}
	}
	c.err = ErrClosed
	if err != nil {
		c.err = fmt.Errorf("%w: %v", ErrClosed, err)
	}
	for id, ch := range c.waiting {
		close(ch)
		delete(c.waiting, id)
	}
}

func (c *Client) readAll(r *bufio.Reader, greeted chan<- struct{}) error {
	for {
		line, err := readLine(r)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			continue
		}
		m, err := decodeMessage(line)
		if err != nil {
			return err
		}
		switch {
		case m.QMP != nil:
			if greeted != nil {
				if c.version, err = decodeVersion(m.QMP); err != nil {
					return err
				}
				close(greeted)
				greeted = nil
			}
		case m.Event != "":
			c.onEvent(Event{Name: m.Event, Data: m.Data,
				Time: time.Unix(m.Timestamp.Seconds, m.Timestamp.Microseconds*1000)})
		default:
			c.mu.Lock()
			ch := c.waiting[m.ID]
			delete(c.waiting, m.ID)
			c.mu.Unlock()
			if ch != nil {
				ch <- m
			}
		}
	}
}

// decodeVersion reads QEMU's version from the greeting, "7.2.0 (package)".
func decodeVersion(greeting json.RawMessage) (string, error) {
	var g struct {
		Version struct {
			QEMU    struct{ Major, Minor, Micro int }
			Package string
		}
	}
	if err := json.Unmarshal(greeting, &g); err != nil {
		return "", fmt.Errorf("qmp greeting decode: %w", err)
	}
	v := fmt.Sprintf("%d.%d.%d", g.Version.QEMU.Major, g.Version.QEMU.Minor, g.Version.QEMU.Micro)
	if g.Version.Package != "" {
		v += " (" + g.Version.Package + ")"
	}
	return v, nil
}

// SyncEvents returns when all events that QEMU had sent when it was called were handled, or the connection has ended.
// The handler must not call it.
func (c *Client) SyncEvents() { c.reading.await() }

// Version is QEMU's version with that of its package, as the greeting gave it.
func (c *Client) Version() string { return c.version }

// readLine returns the next line, without its end, up to maxMessage bytes.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxMessage {
			return nil, fmt.Errorf("qmp message exceeds %d bytes", maxMessage)
		}
		if err == nil {
			for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
				line = line[:len(line)-1]
			}
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

// Command is a command with its arguments, which are marshalled to JSON unless nil. The
// return value is unmarshalled into Out unless nil.
type Command struct {
	Name      string
	Arguments any
	Out       any
}

// Execute sends a command and waits for its reply, as Pipeline does.
func (c *Client) Execute(ctx context.Context, command string, args, out any) error {
	return c.Pipeline(ctx, Command{command, args, out})
}

// Pipeline sends commands at once and waits for their replies. QEMU carries them out in
// order, also those behind one that it refuses. The first error is returned: a refusal is
// an *Error, the end of QEMU wraps ErrClosed. When ctx ends first the replies are dropped;
// the commands may still have been carried out.
func (c *Client) Pipeline(ctx context.Context, commands ...Command) error {
	sent := make([]pending, len(commands))
	defer func() {
		for i := range sent {
			c.forget(sent[i].id)
		}
	}()
	var lines []byte
	for i := range commands {
		line, err := c.expect(&commands[i], &sent[i])
		if err != nil {
			return fmt.Errorf("qmp %s: %w", commands[i].Name, err)
		}
		lines = append(append(lines, line...), '\n')
	}
	c.writeMu.Lock()
	_, err := c.conn.Write(lines)
	c.writeMu.Unlock()
	if err != nil {
		return fmt.Errorf("qmp %s: %w: %v", commands[0].Name, ErrClosed, err)
	}
	for i := range commands {
		if err := commands[i].await(ctx, sent[i].reply); err != nil {
			return err
		}
	}
	return nil
}

// pending is a command whose reply is waited for.
type pending struct {
	id    string
	reply chan message
}

// expect numbers a command, and returns it as a line.
func (c *Client) expect(command *Command, p *pending) ([]byte, error) {
	reply := make(chan message, 1)
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	c.nextID++
	*p = pending{strconv.FormatUint(c.nextID, 10), reply}
	c.waiting[p.id] = reply
	c.mu.Unlock()
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        string `json:"id"`
	}{command.Name, command.Arguments, p.id})
	if err != nil {
		err = fmt.Errorf("encode: %w", err)
	}
	return line, err
}

// await waits for the reply to a command.
func (c *Command) await(ctx context.Context, reply <-chan message) error {
	select {
	case m, ok := <-reply:
		switch {
		case !ok:
			return fmt.Errorf("qmp %s: %w", c.Name, ErrClosed)
		case m.Error != nil:
			return &Error{Command: c.Name, Class: m.Error.Class, Desc: m.Error.Desc}
		case c.Out == nil:
			return nil
		}
		if err := json.Unmarshal(m.Return, c.Out); err != nil {
			return fmt.Errorf("qmp %s reply decode: %w", c.Name, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("qmp %s: %w", c.Name, context.Cause(ctx))
	}
}

func (c *Client) forget(id string) {
	c.mu.Lock()
	delete(c.waiting, id)
	c.mu.Unlock()
}

// Done is closed when the connection has ended and no event will follow.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the session and joins the reader.
func (c *Client) Close() {
	_ = c.conn.Close()
	<-c.done
}
