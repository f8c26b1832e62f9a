//go:build bench

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/wire"
)

const (
	callRounds   = 20
	callsPer     = 100 // per round
	batchCalls   = 500
	batchRounds  = 8
	tailRounds   = 300
	streamBytes  = 100 << 20
	streamRounds = 5
	// exchangeRounds is how often the floor of a system call is measured.
	exchangeRounds = 5
)

// calls measures system calls.
func (b *bench) calls(ctx context.Context) error {
	return b.onLink(ctx, (*bench).smallCalls, (*bench).callBuffers, (*bench).batches)
}

// surface measures what else goes beyond commands and whole files: workers, streams,
// parallel.
func (b *bench) surface(ctx context.Context) error {
	if err := b.onLink(ctx, (*bench).workers, (*bench).tails, (*bench).outputs); err != nil {
		return err
	}
	return b.parallelTasks(ctx)
}

// onLink measures in one guest.
func (b *bench) onLink(ctx context.Context, takes ...func(*bench, context.Context, *linkGuest) error) error {
	g, err := b.linkGuest(ctx)
	if err != nil {
		return err
	}
	defer g.close()
	if err := g.push(ctx, b.swapper, "/tmp/exchange"); err != nil {
		return err
	}
	if err := g.reference(ctx, "echo "+echoPort); err != nil {
		return err
	}
	for _, take := range takes {
		if err := take(b, ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// exchanges returns what one exchange of two C programs in the guest took, a few times.
func (g *linkGuest) exchanges(ctx context.Context, how string, size int) (sample, error) {
	var s sample
	for range exchangeRounds {
		out, err := g.shell(ctx, fmt.Sprintf("/tmp/exchange %s 500 %d", how, size))
		if err != nil {
			return nil, err
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("exchange: %w", err)
		}
		s = append(s, time.Duration(ns))
	}
	return s, nil
}

// floors compares system calls with an echo and exchanges of two C programs: with the way
// that ours takes, and others.
func (b *bench) floors(ctx context.Context, g *linkGuest, size int, ours, echo sample) error {
	for _, how := range []string{"futex", "eventfd", "socket"} {
		s, err := g.exchanges(ctx, how, size)
		if err != nil {
			return err
		}
		b.table.floor(fmt.Sprintf("… the same / that and an exchange of two C programs (%s)", how), ours, echo, s)
	}
	s, err := g.passes(ctx, max(size, len(echoMessage)))
	if err != nil {
		return err
	}
	b.table.floor("… the same / an echo of a C program that has another one look at the bytes (futex)", ours, s)
	return nil
}

// passes measures echoes of so many bytes, each of which goes through another process of the guest.
func (g *linkGuest) passes(ctx context.Context, size int) (s sample, err error) {
	instead := func(args string) error {
		if _, err := g.shell(ctx, "killall ref; :"); err != nil {
			return err
		}
		return g.reference(ctx, args)
	}
	if err := instead(fmt.Sprintf("pass %s %d", echoPort, size)); err != nil {
		return nil, err
	}
	p, into := make([]byte, size), make([]byte, size)
	for range callRounds * callsPer / 4 {
		start := time.Now()
		if err := g.echoBytes(p, into); err != nil {
			return nil, err
		}
		s = append(s, time.Since(start))
	}
	return s, instead("echo " + echoPort)
}

// inTurns measures a and b in turns, so often in each round.
func inTurns(rounds, each int, a, b func() error) (ours, reference sample, err error) {
	timed := func(do func() error) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			start := time.Now()
			err := do()
			return time.Since(start), err
		}
	}
	for range rounds {
		if err = repeat(each, &ours, timed(a)); err != nil {
			return nil, nil, err
		}
		if err = repeat(each, &reference, timed(b)); err != nil {
			return nil, nil, err
		}
	}
	return ours, reference, nil
}

func getpid(ctx context.Context, g *linkGuest) error {
	r, err := g.agent.Syscall(ctx, &guest.Syscall{Nr: unix.SYS_GETPID})
	if err == nil && r.Ret <= 0 {
		err = fmt.Errorf("getpid gave %d", r.Ret)
	}
	return err
}

func (b *bench) smallCalls(ctx context.Context, g *linkGuest) error {
	ours, ping, err := inTurns(callRounds, callsPer,
		func() error { return getpid(ctx, g) },
		func() error { return g.agent.Ping(ctx) })
	if err != nil {
		return err
	}
	b.table.atMost("syscall(getpid) / smallest op", ours, 2.5, ping)
	return b.floors(ctx, g, 0, ours, ping)
}

// echoBytes sends p over the bare port and takes it back.
func (g *linkGuest) echoBytes(p, into []byte) error {
	if err := writeAll(g.echo, p); err != nil {
		return err
	}
	return readAll(g.echo, into[:len(p)])
}

// callBuffers has calls carry memory both ways, as an echo of it does.
func (b *bench) callBuffers(ctx context.Context, g *linkGuest) error {
	for _, size := range []int{4 << 10, 64 << 10} {
		data := bytes.Repeat([]byte{0xa5}, size)
		into := make([]byte, size)
		ours, bare, err := inTurns(callRounds, callsPer/2, func() error {
			r, err := g.agent.Syscall(ctx, &guest.Syscall{Nr: unix.SYS_GETPID, Bufs: [][]byte{data}, Slots: []int{0}})
			if err == nil && !bytes.Equal(r.Bufs[0], data) {
				err = errors.New("a buffer came back different")
			}
			return err
		}, func() error { return g.echoBytes(data, into) })
		if err != nil {
			return err
		}
		if size == 4<<10 {
			b.table.atMost("syscall with a buffer of 4 KiB / echo of 4 KiB", ours, 2.5, bare)
		} else {
			b.table.atLeast("syscall with a buffer of 64 KiB, in and out / echo of 64 KiB", 2*size, ours, bare, 0.6)
		}
		if err := b.floors(ctx, g, size, ours, bare); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) batches(ctx context.Context, g *linkGuest) error {
	ops := make([]guest.Op, batchCalls)
	for i := range ops {
		ops[i] = guest.SyscallOp{Syscall: guest.Syscall{Nr: unix.SYS_GETPID}}
	}
	single := func() error {
		for range batchCalls {
			if err := getpid(ctx, g); err != nil {
				return err
			}
		}
		return nil
	}
	batch, singly, err := inTurns(batchRounds, 1, func() error {
		results, err := g.agent.Batch(ctx, ops)
		for _, r := range results {
			err = errors.Join(err, r.Err)
		}
		return err
	}, single)
	if err == nil {
		b.table.atMost("batch of 500 syscalls / 500 syscalls", batch, 0.1, singly)
	}
	return err
}

// workers compares a worker's whole life with a program's, measured inside the
// guest.
func (b *bench) workers(ctx context.Context, g *linkGuest) error {
	var ours, spawned sample
	for range runRounds {
		for range runs {
			start := time.Now()
			w, err := g.agent.SpawnWorker(ctx)
			if err != nil {
				return err
			}
			if _, err := g.agent.Syscall(ctx, &guest.Syscall{Executor: w, Nr: unix.SYS_GETPID}); err != nil {
				return err
			}
			if err := g.agent.CloseWorker(ctx, w); err != nil {
				return err
			}
			ours = append(ours, time.Since(start))
		}
		out, err := g.shell(ctx, fmt.Sprintf("/tmp/ref spawn %d /tmp/ref true", runs))
		if err != nil {
			return err
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
		if err != nil {
			return fmt.Errorf("spawn: %w", err)
		}
		spawned = append(spawned, time.Duration(ns))
	}
	b.table.atMost("spawn_worker, a syscall, join / fork and exec of a static program in the guest", ours, 3, spawned)
	return nil
}

// tails measures from the start of the operation that appends a line to the
// line's arrival; the reference is that operation.
func (b *bench) tails(ctx context.Context, g *linkGuest) error {
	const path = "/tmp/tailed"
	name := append([]byte(path), 0)
	r, err := g.agent.Syscall(ctx, &guest.Syscall{Nr: unix.SYS_OPEN,
		Args: [6]int64{0, unix.O_CREAT | unix.O_WRONLY | unix.O_APPEND, 0o600},
		Bufs: [][]byte{name}, Slots: []int{0}})
	if err != nil {
		return err
	}
	if r.Ret < 0 {
		return fmt.Errorf("open %s: errno %d", path, r.Errno)
	}
	s, err := g.agent.TailFile(ctx, path, 0, true, 0)
	if err != nil {
		return err
	}
	defer s.Close()
	line := []byte("a line of the log\n")
	write := &guest.Syscall{Nr: unix.SYS_WRITE, Args: [6]int64{r.Ret, 0, int64(len(line))}, Bufs: [][]byte{line},
		Slots: []int{1}}
	var op, arrival sample
	for range tailRounds {
		start := time.Now()
		if _, err := g.agent.Syscall(ctx, write); err != nil {
			return err
		}
		op = append(op, time.Since(start))
		for got := 0; got < len(line); {
			p, err := s.Next(ctx)
			if err != nil {
				return fmt.Errorf("tail: %w", err)
			}
			got += len(p)
		}
		arrival = append(arrival, time.Since(start))
	}
	b.table.atMost("append of a line to its arrival in a tail / the append alone, a round trip", arrival, 2, op)
	return nil
}

// outputs moves much output of a process through a stream.
func (b *bench) outputs(ctx context.Context, g *linkGuest) error {
	buf := make([]byte, 128<<10)
	var ours, bare, relayed sample
	for range streamRounds {
		start := time.Now()
		p, err := g.agent.StartProcess(ctx, guest.RunRequest{Path: "/tmp/ref",
			Args: []string{"pour", strconv.Itoa(streamBytes)}}, 0)
		if err != nil {
			return err
		}
		s, err := g.agent.ProcessOutput(ctx, p.Handle, false)
		if err != nil {
			return err
		}
		if err := countUp(ctx, s); err != nil {
			return err
		}
		ours = append(ours, time.Since(start))
		s.Close()
		if err := g.agent.CloseProcess(ctx, p.Handle); err != nil {
			return err
		}
		t, err := g.source(ctx, buf, "")
		if err != nil {
			return err
		}
		// As many bytes.
		bare = append(bare, time.Duration(float64(t)*streamBytes/bulkSize))
		t, err = g.pull(ctx, buf, fmt.Sprintf("relay %s %d %d", bulkPort, streamBytes, wire.MaxOutput), streamBytes)
		if err != nil {
			return err
		}
		relayed = append(relayed, t)
	}
	b.table.atLeast("100 MiB of a process's output through a stream / bare transfer", streamBytes, ours, bare, 0.7)
	b.table.compareBulk("… the same / a C program that keeps and forwards it", streamBytes, ours, relayed)
	return nil
}

// countUp checks that the stream gives all pages, each with its number.
func countUp(ctx context.Context, s *guest.Stream) error {
	const page = 4096
	var at, have int
	var number [4]byte
	for !s.Ended() {
		p, err := s.Next(ctx)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("stream: %w", err)
		}
		for len(p) > 0 {
			n := min(page-have, len(p))
			if have < len(number) {
				copy(number[have:], p)
			}
			if have, p = have+n, p[n:]; have < page {
				continue
			}
			have = 0
			if got := int(binary.LittleEndian.Uint32(number[:])); got != at {
				return fmt.Errorf("stream: page %d has the number %d", at, got)
			}
			at++
		}
	}
	if at != streamBytes/page {
		return fmt.Errorf("stream: %d pages, not %d", at, streamBytes/page)
	}
	return nil
}

// parallelTasks has eight tasks sleep in the guest at once, by the program.
func (b *bench) parallelTasks(ctx context.Context) error {
	p, err := b.project(map[string]string{"nap.test.lua": `
local vm = provium:vm("v", "host"):boot()
local function nap() vm:clock():sleep("200ms") end
test("warm", nap)
test("one", nap)
test("eight", function() parallel{nap, nap, nap, nap, nap, nap, nap, nap} end)
`})
	if err != nil {
		return err
	}
	took := map[string]sample{}
	for range 3 {
		if err := p.passedTimes(ctx, took); err != nil {
			return err
		}
	}
	b.table.atMost("parallel{} of eight sleeps of 200 ms / one", took["eight"], 2, took["one"])
	return nil
}
