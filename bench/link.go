//go:build bench

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/machine"
	"provium/internal/qemu"
)

const (
	pingRounds = 30
	pings      = 100 // per round
	runRounds  = 15
	runs       = 10 // per round
	bulkRounds = 7
	bulkSize   = 64 << 20
)

// Ports of the reference programs, beside the agent's on the same device.
const (
	echoPort = "bench.echo"
	bulkPort = "bench.bulk"
)

// linkGuest is a guest with an agent and two bare ports, so that the link and
// its reference take turns in one and the same guest.
type linkGuest struct {
	machine *qemu.Machine
	agent   *guest.Client
	echo    int // blocking sockets
	bulk    int
}

func (b *bench) linkGuest(ctx context.Context) (g *linkGuest, err error) {
	dir, err := os.MkdirTemp(b.dir, "link")
	if err != nil {
		return nil, err
	}
	g = &linkGuest{echo: -1, bulk: -1}
	made := g
	defer func() {
		if err != nil {
			made.close()
		}
	}()
	extra := []string{"-device", "virtio-serial-pci,id=bare,max_ports=4"}
	for i, name := range []string{echoPort, bulkPort} {
		extra = append(extra,
			"-chardev", fmt.Sprintf("socket,id=%s,server=on,wait=off,path=%s", name, filepath.Join(dir, name)),
			"-device", fmt.Sprintf("virtserialport,bus=bare.0,nr=%d,chardev=%s,name=%s", 1+i, name, name))
	}
	g.machine, err = qemu.Start(ctx, qemu.Config{Name: "link", Dir: dir, Accel: b.accel.Name, Memory: guestMemory,
		Kernel: b.image.Kernel, Initrd: b.image.Initrd, Cmdline: b.image.Cmdline,
		Shape: machine.Shape{Args: extra}, Starter: b.starter})
	if err != nil {
		return nil, err
	}
	conn, err := g.machine.DialAgent(ctx)
	if err != nil {
		return nil, err
	}
	if g.agent, err = guest.Connect(ctx, conn, guest.Config{}); err != nil {
		return nil, err
	}
	for name, fd := range map[string]*int{echoPort: &g.echo, bulkPort: &g.bulk} {
		if *fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return nil, err
		}
		if err = unix.Connect(*fd, &unix.SockaddrUnix{Name: filepath.Join(dir, name)}); err != nil {
			return nil, fmt.Errorf("port %s: %w", name, err)
		}
	}
	return g, g.push(ctx, b.refTool, "/tmp/ref")
}

// push copies a program of the host into the guest.
func (g *linkGuest) push(ctx context.Context, from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return g.agent.PushFile(ctx, to, f, guest.Mode(0o755))
}

func (g *linkGuest) close() {
	if g.agent != nil {
		g.agent.Close()
	}
	if g.machine != nil {
		g.machine.Kill()
		<-g.machine.Done()
	}
	for _, fd := range []int{g.echo, g.bulk} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// shell runs a command in the guest that must succeed and returns its output.
func (g *linkGuest) shell(ctx context.Context, text string) (string, error) {
	r, err := g.agent.Run(ctx, guest.RunRequest{Shell: text})
	if err != nil {
		return "", err
	}
	if r.Status != guest.Exited || r.ExitCode != 0 {
		return "", fmt.Errorf("guest command %q: %v %d: %s", text, r.Status, r.ExitCode, r.Stderr)
	}
	return string(r.Stdout), nil
}

// reference starts a reference program beside the agent.
func (g *linkGuest) reference(ctx context.Context, args string) error {
	_, err := g.shell(ctx, "/tmp/ref "+args+" </dev/null >/dev/null 2>&1 &")
	return err
}

// link measures round trips, commands and bulk transfers.
func (b *bench) link(ctx context.Context) error {
	g, err := b.linkGuest(ctx)
	if err != nil {
		return err
	}
	defer g.close()
	echo, err := b.roundTrips(ctx, g)
	if err != nil {
		return err
	}
	if err := b.commands(ctx, g, echo); err != nil {
		return err
	}
	return b.bulk(ctx, g)
}

// echoMessage is as long as the frame of the smallest request.
var echoMessage = bytes.Repeat([]byte{'e'}, 36)

func (g *linkGuest) echoOnce() error {
	var answer [64]byte
	if err := writeAll(g.echo, echoMessage); err != nil {
		return err
	}
	return readAll(g.echo, answer[:len(echoMessage)])
}

// roundTrips compares the smallest operation with a bare echo.
func (b *bench) roundTrips(ctx context.Context, g *linkGuest) (func() (time.Duration, error), error) {
	if err := g.reference(ctx, "echo "+echoPort); err != nil {
		return nil, err
	}
	timed := func(do func() error) (time.Duration, error) {
		start := time.Now()
		err := do()
		return time.Since(start), err
	}
	echo := func() (time.Duration, error) { return timed(g.echoOnce) }
	ping := func() (time.Duration, error) { return timed(func() error { return g.agent.Ping(ctx) }) }
	var ours, bare sample
	for range pingRounds {
		if err := repeat(pings, &ours, ping); err != nil {
			return nil, err
		}
		if err := repeat(pings, &bare, echo); err != nil {
			return nil, err
		}
	}
	b.table.atMost("smallest op / bare virtio-serial echo", ours, 1.5, bare)
	return echo, nil
}

func repeat(n int, into *sample, do func() (time.Duration, error)) error {
	for range n {
		t, err := do()
		if err != nil {
			return err
		}
		*into = append(*into, t)
	}
	return nil
}

// commands compares vm:run("true") with an echo and a fork and exec inside the
// guest.
func (b *bench) commands(ctx context.Context, g *linkGuest, echo func() (time.Duration, error)) error {
	var ours, bare, spawned sample
	for range runRounds {
		for range runs {
			start := time.Now()
			if _, err := g.agent.Run(ctx, guest.RunRequest{Shell: "true"}); err != nil {
				return err
			}
			ours = append(ours, time.Since(start))
		}
		out, err := g.shell(ctx, fmt.Sprintf("/tmp/ref spawn %d", runs))
		if err != nil {
			return err
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
		if err != nil {
			return fmt.Errorf("spawn: %w", err)
		}
		spawned = append(spawned, time.Duration(ns))
		if err := repeat(pings, &bare, echo); err != nil {
			return err
		}
	}
	b.table.atMost(`run("true") / echo + fork and exec inside the guest`, ours, 1.3, bare, spawned)
	return nil
}

// bulk compares whole files with bare transfers of as many bytes.
func (b *bench) bulk(ctx context.Context, g *linkGuest) error {
	const file, refFile = "/tmp/bulk", "/tmp/bulk.ref"
	data := make([]byte, bulkSize)
	for i := range data {
		data[i] = byte(i ^ i>>8 ^ i>>16)
	}
	buf := make([]byte, 128<<10)
	var write, read, sink, source, sinkFile, sourceFile sample
	for round := range bulkRounds {
		if round > 0 { // freeing what an old file holds is no part of a transfer
			if err := g.agent.Unlink(ctx, file); err != nil {
				return err
			}
		}
		start := time.Now()
		if err := g.agent.WriteFile(ctx, file, data, guest.Perm{}); err != nil {
			return err
		}
		write = append(write, time.Since(start))
		t, err := g.sink(ctx, data, buf, "")
		if err != nil {
			return err
		}
		sink = append(sink, t)
		if t, err = g.sink(ctx, data, buf, refFile); err != nil {
			return err
		}
		sinkFile = append(sinkFile, t)
		start = time.Now()
		got, err := g.agent.ReadFile(ctx, file)
		if err != nil {
			return err
		}
		read = append(read, time.Since(start))
		if !bytes.Equal(got, data) {
			return errors.New("read_file gave other bytes than write_file took")
		}
		if t, err = g.source(ctx, buf, ""); err != nil {
			return err
		}
		source = append(source, t)
		if t, err = g.source(ctx, buf, refFile); err != nil {
			return err
		}
		sourceFile = append(sourceFile, t)
		if err := g.agent.Unlink(ctx, refFile); err != nil {
			return err
		}
	}
	b.table.atLeast("write_file of 64 MiB / bare transfer", bulkSize, write, sink, 0.7)
	b.table.compareBulk("  the same / bare transfer into a file of the guest", bulkSize, write, sinkFile)
	b.table.atLeast("read_file of 64 MiB / bare transfer", bulkSize, read, source, 0.7)
	b.table.compareBulk("  the same / bare transfer from a file of the guest", bulkSize, read, sourceFile)
	return b.bulkMemory(ctx, g, file, data)
}

func (g *linkGuest) sink(ctx context.Context, data, buf []byte, file string) (time.Duration, error) {
	if err := g.reference(ctx, fmt.Sprintf("sink %s %d %s", bulkPort, len(data), file)); err != nil {
		return 0, err
	}
	start := time.Now()
	for p := data; len(p) > 0; {
		n := min(len(p), len(buf))
		if err := writeAll(g.bulk, p[:n]); err != nil {
			return 0, err
		}
		p = p[n:]
	}
	err := readAll(g.bulk, buf[:1])
	return time.Since(start), err
}

func (g *linkGuest) source(ctx context.Context, buf []byte, file string) (time.Duration, error) {
	return g.pull(ctx, buf, fmt.Sprintf("source %s %d %s", bulkPort, bulkSize, file), bulkSize)
}

// pull has a reference program send so many bytes over the bulk port.
func (g *linkGuest) pull(ctx context.Context, buf []byte, program string, size int) (time.Duration, error) {
	if err := g.reference(ctx, program); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := writeAll(g.bulk, buf[:1]); err != nil {
		return 0, err
	}
	for left := size; left > 0; {
		n, err := unix.Read(g.bulk, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return 0, fmt.Errorf("port %s: %d bytes are missing: %w", bulkPort, left, err)
		}
		left -= n
	}
	return time.Since(start), nil
}

// bulkMemory moves the file both ways as a stream and looks at what both sides
// needed for that.
func (b *bench) bulkMemory(ctx context.Context, g *linkGuest, file string, data []byte) error {
	grown, err := heapGrowth(func() error {
		if err := g.agent.PushFile(ctx, file, bytes.NewReader(data), guest.Perm{}); err != nil {
			return err
		}
		_, err := g.agent.PullFile(ctx, file, io.Discard)
		return err
	})
	if err != nil {
		return err
	}
	status, err := agentStatus(ctx, g.agent, "status")
	if err != nil {
		return err
	}
	const limit = 16 << 20
	b.table.judge("host heap during push and pull of 64 MiB", mib(grown), "<= 16 MiB", grown <= limit)
	b.table.judge("agent's peak RSS after 64 MiB both ways", mib(status["VmHWM"]), "<= 32 MiB",
		status["VmHWM"] <= 2*limit)
	return nil
}

// heapGrowth returns how far the heap rose while do ran.
func heapGrowth(do func() error) (uint64, error) {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	now := func() uint64 {
		metrics.Read(heap)
		return heap[0].Value.Uint64()
	}
	runtime.GC()
	before := now()
	peak := before
	stop := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Add(1)
	go func() {
		defer watcher.Done()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				peak = max(peak, now())
			case <-stop:
				return
			}
		}
	}()
	err := do()
	close(stop)
	watcher.Wait()
	return peak - before, err
}

func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("write to bare port: %w", err)
		}
		p = p[n:]
	}
	return nil
}

func readAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Read(fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return fmt.Errorf("read from bare port: %d bytes, %w", n, err)
		}
		p = p[n:]
	}
	return nil
}
