//go:build bench

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"time"

	"provium/internal/event"
	eventsink "provium/internal/event/sink"
)

// eventSuite is a file of many short operations, where events cost most.
const eventSuite = `
local vm = provium:vm("v", "host"):boot()
test("commands", function(t) for i = 1, 150 do vm:run("true") end end)
test("files", function(t) for i = 1, 300 do vm:write_file("/tmp/f", "x") vm:read_file("/tmp/f") end end)
test("calls", function(t) for i = 1, 1000 do vm:syscall(39) end end)
`

// events measures what the event stream costs a run, and how many events readers get.
func (b *bench) events(ctx context.Context) error {
	p, err := b.project(map[string]string{"e.test.lua": eventSuite})
	if err != nil {
		return err
	}
	if err := p.run(ctx, nil); err != nil { // fills the boot cache
		return err
	}
	var with, without sample
	saved := filepath.Join(p.dir, "events")
	for range 12 {
		for _, run := range []struct {
			to   *sample
			args []string
		}{{&without, nil}, {&with, []string{"--save-events", saved}}} {
			start := time.Now()
			if err := p.run(ctx, nil, run.args...); err != nil {
				return err
			}
			*run.to = append(*run.to, time.Since(start))
		}
	}
	b.table.atMost("a run of 1750 operations with full events / without", with, 1.02, without)
	return b.eventReaders()
}

const (
	eventReaders = 3
	eventsRead   = 50_000
)

// eventReaders sends events through a buffer and a bus to the clients of a socket. The
// reference is to send the same bytes to as many sockets.
func (b *bench) eventReaders() error {
	code := int64(0)
	op := event.OperationEnded{Path: "tests/net/split.test.lua", Name: "the cluster heals", VMName: "node1",
		Call: `vm:run("cat /proc/uptime")`, Where: "tests/net/split.test.lua:123", StartNS: time.Now().UnixNano(),
		DurationNS: 3e6, Status: event.OperationOK, Result: "exit 0", ExitCode: &code, Output: "123.45 678.90\n"}
	var ours, raw sample
	var size int64
	for n := range 5 {
		took, bytes, err := sendEvents(filepath.Join(b.dir, fmt.Sprintf("events%d", n)), op)
		if err != nil {
			return err
		}
		ours, size = append(ours, took), bytes
		if took, err = sendBytes(filepath.Join(b.dir, fmt.Sprintf("bytes%d", n)), size); err != nil {
			return err
		}
		raw = append(raw, took)
	}
	rate := eventsRead / ours.median().Seconds()
	b.table.judge(fmt.Sprintf("events to %d readers", eventReaders), fmt.Sprintf("%.0f/s", rate), ">= 10000/s",
		rate >= 10_000)
	b.table.floor(fmt.Sprintf("%d events to %d readers / their bytes", eventsRead, eventReaders), ours, raw)
	return nil
}

// readers are clients of a socket that read to its end.
type readers struct {
	wait  sync.WaitGroup
	mu    sync.Mutex
	bytes int64
	err   error
}

func (r *readers) add(path string) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	r.wait.Add(1)
	go func() {
		defer r.wait.Done()
		defer conn.Close()
		n, err := io.Copy(io.Discard, conn)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bytes += n
		if err != nil {
			r.err = err
		}
	}()
	return nil
}

func sendEvents(path string, op event.OperationEnded) (took time.Duration, bytes int64, err error) {
	socket, err := eventsink.Listen(path, event.Msgpack)
	if err != nil {
		return 0, 0, err
	}
	var r readers
	for range eventReaders {
		if err := r.add(path); err != nil {
			return 0, 0, err
		}
	}
	for socket.Clients() < eventReaders {
		time.Sleep(time.Millisecond)
	}
	bus := event.NewBus(time.Now, socket)
	buffer := event.NewBuffer(event.Everything, func(batch []event.Encoded) {
		for i, e := range batch { // as the dispatcher does
			if batch[i].Event, err = event.DecodePayload(e.Event.Kind(), e.Payload); err != nil {
				return
			}
		}
		bus.Forward(batch...)
	}, func(e error) { err = e })
	start := time.Now()
	for i := range eventsRead {
		op.ID = uint64(i)
		buffer.Emit(op)
	}
	buffer.Flush()
	if err == nil {
		err = socket.Close()
	}
	r.wait.Wait()
	took = time.Since(start)
	if err == nil {
		err = r.err
	}
	return took, r.bytes / eventReaders, err
}

// sendBytes sends so many bytes to each reader, in pieces as large as batches.
func sendBytes(path string, size int64) (time.Duration, error) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	var r readers
	var conns []net.Conn
	for range eventReaders {
		if err := r.add(path); err != nil {
			return 0, err
		}
		conn, err := listener.Accept()
		if err != nil {
			return 0, err
		}
		conns = append(conns, conn)
	}
	piece := make([]byte, 64<<10)
	start := time.Now()
	for sent := int64(0); sent < size; sent += int64(len(piece)) {
		for _, c := range conns {
			if _, err := c.Write(piece[:min(int64(len(piece)), size-sent)]); err != nil {
				return 0, err
			}
		}
	}
	for _, c := range conns {
		c.Close()
	}
	r.wait.Wait()
	return time.Since(start), r.err
}
