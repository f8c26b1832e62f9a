//go:build bench

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/vnet"
)

const (
	switchRounds = 9
	switchFrames = 2_000_000 // per round
	burst        = 512       // frames per read, as QEMU's come
)

// feed is a connection that gives bursts of frames, the next one when the last has
// arrived.
type feed struct {
	net.Conn
	frames  []byte
	left    int
	arrived chan struct{}
}

func (f *feed) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	<-f.arrived
	f.left--
	return copy(p, f.frames), nil
}

func (f *feed) Close() error { return nil }

// sink is a connection that takes frames.
type sink struct {
	net.Conn
	burst, have int
	arrived     chan struct{}
	stop        chan struct{}
}

func (s *sink) Write(p []byte) (int, error) {
	for s.have += len(p); s.have >= s.burst; s.have -= s.burst {
		s.arrived <- struct{}{}
	}
	return len(p), nil
}

func (s *sink) Read([]byte) (int, error) {
	<-s.stop
	return 0, io.EOF
}

func (s *sink) Close() error { return nil }

// switchAlone measures CPU time per frame without guests: from the bytes that are
// read to those that are written.
func (b *bench) switchAlone() error {
	one := slices.Concat([]byte{2, 0, 0, 0, 0, 2}, []byte{2, 0, 0, 0, 0, 1}, []byte{0x88, 0xb5}, make([]byte, 46))
	stream := binary.BigEndian.AppendUint32(nil, uint32(len(one)))
	stream = bytes.Repeat(append(stream, one...), burst)
	run := func(rules int) (time.Duration, float64, error) {
		sw := vnet.New(vnet.Config{})
		defer sw.Close()
		from, to := sw.AddPort("from"), sw.AddPort("to")
		for i := range rules {
			sw.PartitionOneWay("from", fmt.Sprint("x", i))
		}
		to.Send(slices.Concat(one[6:12], one[:6], one[12:])) // is learned
		arrived := make(chan struct{}, 4)
		arrived <- struct{}{}
		arrived <- struct{}{}
		in := &feed{frames: stream, left: switchFrames / burst, arrived: arrived}
		out := &sink{burst: len(stream), arrived: arrived, stop: make(chan struct{})}
		done := make(chan error, 1)
		go func() { done <- to.Serve(out) }()
		for !to.IsLive() {
			time.Sleep(time.Millisecond)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := cpuTime()
		if err := from.Serve(in); err != nil {
			return 0, 0, err
		}
		took := cpuTime() - start
		runtime.ReadMemStats(&after)
		close(out.stop)
		if err := <-done; err != nil {
			return 0, 0, err
		}
		if c := to.Counters(); c.RxPackets+3*burst < switchFrames || c.Errors > 0 {
			return 0, 0, fmt.Errorf("switch: %+v", c)
		}
		return took / switchFrames, float64(after.Mallocs-before.Mallocs) / switchFrames, nil
	}
	var none, many sample
	allocations := 0.0
	for range switchRounds {
		t, a, err := run(1)
		if err != nil {
			return err
		}
		none, allocations = append(none, t), max(allocations, a)
		if t, _, err = run(1000); err != nil {
			return err
		}
		many = append(many, t)
	}
	rate := float64(time.Second) / float64(none.median())
	b.table.judge("switch alone, frames of 64 bytes per second of CPU time", fmt.Sprintf("%.2f M/s", rate/1e6),
		">= 1 M/s", rate >= 1e6)
	b.table.judge("  allocations per frame", fmt.Sprintf("%.4f", allocations), "0", allocations < 0.001)
	b.table.atMost("  a frame with 1,000 rules / with one", many, 1.1, none)
	return nil
}

// cpuTime returns what this process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
