package qmp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, ` +
	`"capabilities": ["oob"]}}` + "\r\n"

// fakeQEMU greets, accepts capabilities and answers with reply(command, id).
func fakeQEMU(t *testing.T, conn net.Conn, reply func(command, id string) string) {
	t.Helper()
	fmt.Fprint(conn, greeting)
	sc := bufio.NewScanner(conn)
	for sc.Scan() {
		var req struct {
			Execute string `json:"execute"`
			ID      string `json:"id"`
		}
		if err := json.Unmarshal(sc.Bytes(), &req); err != nil {
			t.Errorf("request %q: %v", sc.Text(), err)
			return
		}
		if req.Execute == "qmp_capabilities" {
			fmt.Fprintf(conn, `{"return": {}, "id": %q}`+"\n", req.ID)
			continue
		}
		fmt.Fprint(conn, reply(req.Execute, req.ID))
	}
}

func TestRepliesMatchByIDAndEventsGoApart(t *testing.T) {
	host, qemu := net.Pipe()
	var held []string
	go fakeQEMU(t, qemu, func(command, id string) string {
		// Answer in reverse order, with an event in between.
		held = append(held, fmt.Sprintf(`{"return": {"name": %q}, "id": %q}`+"\n", command, id))
		if len(held) < 2 {
			return ""
		}
		return held[1] + `{"event": "STOP", "timestamp": {"seconds": 5, "microseconds": 7}}` + "\n" + held[0]
	})
	events := make(chan Event, 1)
	c, err := Connect(context.Background(), host, func(e Event) { events <- e })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var out struct{ Name string }
			if err := c.Execute(context.Background(), name, map[string]int{"x": 1}, &out); err != nil ||
				out.Name != name {
				t.Errorf("%s: got %q, %v", name, out.Name, err)
			}
		}()
	}
	wg.Wait()
	if e := <-events; e.Name != "STOP" || e.Time.UnixMicro() != 5000007 {
		t.Errorf("event %+v", e)
	}
}

func TestPipelineIsSentAtOnce(t *testing.T) {
	host, qemu := net.Pipe()
	sent := make(chan string, 1)
	go func() {
		fmt.Fprint(qemu, greeting)
		p := make([]byte, 4096) // net.Pipe gives one write to one read that has room
		n, err := qemu.Read(p)
		if err != nil {
			t.Error(err)
		}
		sent <- string(p[:n])
		fmt.Fprint(qemu, `{"return": {}, "id": "1"}`+"\n"+
			`{"error": {"class": "GenericError", "desc": "no"}, "id": "2"}`+"\n"+
			`{"return": {"name": "c"}, "id": "3"}`+"\n")
	}()
	c, err := Greet(context.Background(), host, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var out struct{ Name string }
	err = c.Pipeline(context.Background(), Command{Name: Negotiate}, Command{Name: "b"}, Command{Name: "c", Out: &out})
	var refused *Error
	if !errors.As(err, &refused) || refused.Command != "b" {
		t.Errorf("error %v", err)
	}
	if got := <-sent; strings.Count(got, "\n") != 3 || !strings.Contains(got, `"execute":"qmp_capabilities"`) {
		t.Errorf("sent at once: %q", got)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) != 0 {
		t.Errorf("%d replies are still waited for", len(c.waiting))
	}
}

func TestRefusalAndClose(t *testing.T) {
	host, qemu := net.Pipe()
	go fakeQEMU(t, qemu, func(command, id string) string {
		if command == "quit" {
			qemu.Close()
			return ""
		}
		return fmt.Sprintf(`{"error": {"class": "GenericError", "desc": "no such thing"}, "id": %q}`+"\n", id)
	})
	c, err := Connect(context.Background(), host, nil)
	if err != nil {
		t.Fatal(err)
	}
	var qe *Error
	if err := c.Execute(context.Background(), "device_del", nil, nil); !errors.As(err, &qe) ||
		qe.Desc != "no such thing" {
		t.Errorf("err = %v", err)
	}
	if err := c.Execute(context.Background(), "quit", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("err = %v", err)
	}
	<-c.Done()
	if err := c.Execute(context.Background(), "stop", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("err = %v", err)
	}
}

func TestContextEndsTheWaitOnly(t *testing.T) {
	host, qemu := net.Pipe()
	asked := make(chan struct{})
	go fakeQEMU(t, qemu, func(command, id string) string {
		if command == "never" {
			close(asked)
			return ""
		}
		return fmt.Sprintf(`{"return": {}, "id": %q}`+"\n", id)
	})
	c, err := Connect(context.Background(), host, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-asked; cancel() }()
	if err := c.Execute(ctx, "never", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	if err := c.Execute(context.Background(), "cont", nil, nil); err != nil {
		t.Errorf("err = %v", err)
	}
}

func TestOversizedMessageEndsTheSession(t *testing.T) {
	host, qemu := net.Pipe()
	go func() {
		fmt.Fprint(qemu, greeting)
		bufio.NewReader(qemu).ReadString('\n')
		fmt.Fprint(qemu, strings.Repeat("x", maxMessage+1))
		qemu.Close()
	}()
	if _, err := Connect(context.Background(), host, nil); !errors.Is(err, ErrClosed) {
		t.Fatalf("err = %v", err)
	}
}

func FuzzDecodeMessage(f *testing.F) {
	for _, s := range []string{greeting, `{"return":{},"id":"1"}`,
		`{"event":"RESET","data":{"guest":true},"timestamp":{"seconds":1,"microseconds":2}}`,
		`{"error":{"class":"GenericError","desc":"x"},"id":"9"}`, `{"id":3}`, `[]`, `{"timestamp":"x"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		encode := func(m message) string {
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		line = bytes.Clone(line)
		m, err := decodeMessage(line)
		if err != nil {
			return
		}
		want := encode(m)
		clear(line)
		if got := encode(m); got != want {
			t.Errorf("the message changed with its line: %s, was %s", got, want)
		}
		again, err := decodeMessage([]byte(want))
		if got := encode(again); err != nil || got != want {
			t.Errorf("encoded and decoded again: %s, %v, want %s", got, err, want)
		}
	})
}

// brokenConn is a connection whose end is the error that a test wants.
type brokenConn struct {
	net.Conn
	end error
}

func (c *brokenConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		err = fmt.Errorf("read unix /run/monitor: %w", c.end)
	}
	return n, err
}

// TestEndInWords ends the connection in every way that a system has: no command fails in the words of Go.
func TestEndInWords(t *testing.T) {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, unix.ECONNRESET} {
		host, qemu := net.Pipe()
		go fakeQEMU(t, qemu, func(_, _ string) string {
			qemu.Close()
			return ""
		})
		c, err := Connect(context.Background(), &brokenConn{host, end}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // under way at the end, and begun after it
			err = c.Execute(context.Background(), "stop", nil, nil)
			if !errors.Is(err, ErrClosed) || !strings.HasSuffix(err.Error(), ErrClosed.Error()) {
				t.Errorf("%v: %v", end, err)
			}
			<-c.Done()
		}
		c.Close()
	}
}
