package localvmm

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
)

// version is the QEMU whose monitor is spoken.
const greeting = `{"QMP":{"version":{"qemu":{"major":7,"minor":2,"micro":0},"package":"local"},"capabilities":[]}}` +
	"\n"

// monitor is QEMU's end of the QMP connection. Its zero value is ready.
type monitor struct {
	mu      sync.Mutex
	conn    net.Conn
	greeted bool     // events may be sent
	early   [][]byte // sent before
	closed  bool
}

type command struct {
	Execute   string          `json:"execute"`
	Arguments json.RawMessage `json:"arguments"`
	ID        string          `json:"id"`
}

func (q *monitor) serve(m *Machine, f *os.File) error {
	conn, err := connection(f)
	if err != nil {
		return err
	}
	defer conn.Close()
	q.mu.Lock()
	q.conn = conn
	closed := q.closed
	_, err = conn.Write([]byte(greeting))
	q.mu.Unlock()
	if closed || err != nil {
		return nil // the host is gone, and kills the machine
	}
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return fmt.Errorf("monitor: %w", err)
		}
		if !q.answer(m, &c) {
			return nil
		}
	}
	return nil
}

// answer carries out a command and reports whether the connection goes on.
func (q *monitor) answer(m *Machine, c *command) bool {
	how := m.guest.Command(c.Execute)
	if how.Before != nil {
		select {
		case <-how.Before:
		case <-m.killed:
			return false
		}
	}
	var value any = struct{}{}
	var after func()
	var err error
	switch {
	case how.Die:
		m.Kill()
		return false
	case how.Silent:
		return true
	case how.Refuse != "":
		err = errors.New(how.Refuse)
	default:
		var v any
		if v, after, err = m.execute(c); v != nil {
			value = v
		}
	}
	if err != nil {
		q.send(map[string]any{"error": map[string]string{"class": "GenericError", "desc": err.Error()}, "id": c.ID})
	} else {
		q.send(map[string]any{"return": value, "id": c.ID})
	}
	if c.Execute == "qmp_capabilities" {
		q.release()
	}
	if after != nil {
		after()
	}
	return true
}

// send writes a message; events before the handshake wait for its end.
func (q *monitor) send(message map[string]any) {
	line, _ := json.Marshal(message) // maps of strings and numbers cannot fail
	line = append(line, '\n')
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, event := message["event"]; event && !q.greeted {
		q.early = append(q.early, line)
		return
	}
	if q.conn != nil {
		_, _ = q.conn.Write(line) // a host that is gone kills the machine
	}
}

func (q *monitor) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.greeted = true
	for _, line := range q.early {
		_, _ = q.conn.Write(line)
	}
	q.early = nil
}

func (q *monitor) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.conn != nil {
		q.conn.Close()
	}
}

// execute carries out a command. after is what follows the answer, such as its
// events; it may be nil.
func (m *Machine) execute(c *command) (value any, after func(), err error) {
	var args struct {
		ID       string
		URI      string
		Filename string
		Driver   string
		Netdev   string
		Addr     struct{ Path string }
		Command  string `json:"command-line"`
		Reboot   string
	}
	if c.Execute == "device_add" {
		// addr is a text there.
		var device struct{ ID string }
		return nil, nil, json.Unmarshal(c.Arguments, &device)
	}
	if len(c.Arguments) > 0 {
		if err := json.Unmarshal(c.Arguments, &args); err != nil {
			return nil, nil, err
		}
	}
	switch c.Execute {
	case "qmp_capabilities", "migrate-set-capabilities", "migrate-set-parameters", "blockdev-add", "blockdev-del",
		"qom-set", "block_resize", "set_link":
		return nil, nil, nil
	case "set-action":
		m.setHeld(args.Reboot == "shutdown")
		return nil, nil, nil
	case "query-status":
		return map[string]any{"status": m.Status()}, nil, nil
	case "query-chardev":
		return m.chardevs(), nil, nil
	case "stop", "cont":
		after, err := m.turn(c.Execute == "cont")
		return nil, after, err
	case "system_reset":
		return nil, m.pressReset, nil
	case "system_powerdown":
		return nil, func() {
			m.Event("POWERDOWN", nil)
			if m.guest.PowerButton() {
				m.PowerOff()
			}
		}, nil
	case "system_wakeup":
		if m.Status() != statusSuspended {
			//lint:ignore ST1005 these are QEMU's words
			return nil, nil, errors.New("Unable to wake up: guest is not in suspended state")
		}
		m.setStatus(statusRunning)
		return nil, func() { m.Event("WAKEUP", nil) }, nil
	case "quit":
		return nil, func() { m.End(nil) }, nil
	case "netdev_add":
		return nil, nil, m.nics.plug(m, args.ID, args.Addr.Path)
	case "netdev_del":
		m.nics.unplug(args.ID)
		return nil, nil, nil
	case "device_del":
		return nil, func() {
			m.Event("DEVICE_DELETED", map[string]any{"device": args.ID, "path": "/machine/peripheral/" + args.ID})
		}, nil
	case "migrate":
		after, err := m.migrate(args.URI)
		return nil, after, err
	case "migrate-incoming":
		after, err := m.migrateIncoming(args.URI)
		return nil, after, err
	case "xen-save-devices-state":
		return nil, nil, m.saveDevices(args.Filename)
	case "human-monitor-command":
		text, err := m.hmp(args.Command)
		return text, nil, err
	}
	//lint:ignore ST1005 these are QEMU's words
	return nil, nil, fmt.Errorf("The command %s has not been found", c.Execute)
}

func (m *Machine) chardevs() any {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := "unix:" + m.opts.agent
	if !m.connected {
		name = "disconnected:" + name
	}
	return []map[string]any{{"label": "agent", "filename": name}}
}

// hmp carries out a command of the monitor for people. The machine has an LPC
// bridge of another make, whose registers nobody puts back after a wake-up.
func (m *Machine) hmp(line string) (string, error) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "gpa2hva":
		return fmt.Sprintf("Host virtual address for 0x0 (ram) is %#x\r\n", m.memory.address()), nil
	case "info":
		if text := m.registersText(); rest == "registers -a" && text != "" {
			return text, nil
		}
	case "i":
		var port uint32
		if _, err := fmt.Sscanf(rest, "/w 0x%x", &port); err != nil {
			return "", err
		}
		return fmt.Sprintf("portl[%#06x] = 0x00000000\r\n", port), nil
	case "o":
		return "", nil
	}
	return fmt.Sprintf("unknown command: '%s'\r\n", word), nil
}
