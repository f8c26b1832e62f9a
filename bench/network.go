//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"provium/internal/guest"
	"provium/internal/machine"
	"provium/internal/qemu"
	"provium/internal/vnet"
)

const (
	tcpRounds    = 7
	tcpBytes     = 24 << 20
	frameRounds  = 7
	frameCount   = 20_000
	framePayload = 22 // 64 bytes with headers and the checksum that a wire would have
	tcpPort      = "5001"
)

// netPair are two guests that two wires join: one through our switch, and one that
// QEMU makes by itself. They take turns in the same guests.
type netPair struct {
	sw     *vnet.Switch
	guests [2]*linkGuest
	ends   sync.WaitGroup
	ln     [2]net.Listener
}

// The networks of both wires; a guest's last byte is its number from 1 on.
const (
	oursNet = "10.99.1."
	bareNet = "10.99.2."
)

func (b *bench) netPair(ctx context.Context) (p *netPair, err error) {
	dir, err := os.MkdirTemp(b.dir, "net")
	if err != nil {
		return nil, err
	}
	p = &netPair{sw: vnet.New(vnet.Config{Seed: 1})}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	tool := filepath.Join(b.dir, "netbench")
	if _, stderr, err := b.starter.Run(ctx, "", nil, "gcc", "-O2", "-static", "-o", tool,
		"bench/guest/netbench.c"); err != nil {
		return nil, fmt.Errorf("compile netbench: %w\n%s", err, stderr)
	}
	program, err := os.ReadFile(tool)
	if err != nil {
		return nil, err
	}
	bare := filepath.Join(dir, "bare")
	for i := range p.guests {
		path := filepath.Join(dir, "ours"+strconv.Itoa(i))
		if p.ln[i], err = net.Listen("unix", path); err != nil {
			return nil, err
		}
		port := p.sw.AddPort(strconv.Itoa(i))
		p.ends.Add(1)
		go func() {
			defer p.ends.Done()
			if conn, err := p.ln[i].Accept(); err == nil {
				_ = port.Serve(conn) // ends with the guest
			}
		}()
		server := "on"
		if i > 0 {
			server = "off"
		}
		g := &linkGuest{echo: -1, bulk: -1}
		p.guests[i] = g
		home := filepath.Join(dir, "guest"+strconv.Itoa(i))
		if err := os.Mkdir(home, 0o700); err != nil {
			return nil, err
		}
		device := "virtio-net-pci,disable-legacy=on,romfile=,netdev=%s,mac=02:00:00:00:0%d:0%d"
		g.machine, err = qemu.Start(ctx, qemu.Config{Name: "net", Dir: home, Accel: b.accel.Name, Memory: guestMemory,
			Kernel: b.image.Kernel, Initrd: b.image.Initrd, Cmdline: b.image.Cmdline, Starter: b.starter,
			Shape: machine.Shape{Args: []string{
				"-netdev", "stream,id=ours,server=off,addr.type=unix,addr.path=" + path, "-device",
				fmt.Sprintf(device, "ours", 1, i+1),
				"-netdev", "stream,id=bare,server=" + server + ",addr.type=unix,addr.path=" + bare, "-device",
				fmt.Sprintf(device, "bare", 2, i+1),
			}}})
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
		if err := g.agent.PushFile(ctx, "/tmp/netbench", strings.NewReader(string(program)),
			guest.Mode(0o755)); err != nil {
			return nil, err
		}
		for wire, network := range []string{oursNet, bareNet} {
			text := fmt.Sprintf("for d in /sys/class/net/*; do [ $(cat $d/address) = 02:00:00:00:0%d:0%d ] || "+
				"continue; "+
				"ip addr add %s%d/24 dev ${d##*/}; ip link set ${d##*/} up; exit; done; exit 1", wire+1, i+1, network,
				i+1)
			if _, err := g.shell(ctx, text); err != nil {
				return nil, err
			}
		}
	}
	return p, p.guests[1].background(ctx, "tcpsink "+tcpPort, "/tmp/tcp")
}

// background starts a sink and waits until it listens. What it prints goes to a file.
func (g *linkGuest) background(ctx context.Context, args, out string) error {
	_, err := g.shell(ctx, fmt.Sprintf("rm -f %[2]s; /tmp/netbench %[1]s </dev/null >%[2]s 2>&1 & until grep -q "+
		"ready %[2]s 2>/dev/null; do sleep 0.05; done", args, out))
	return err
}

func (p *netPair) close() {
	for _, g := range p.guests {
		if g != nil {
			g.close()
		}
	}
	for _, ln := range p.ln {
		if ln != nil {
			ln.Close()
		}
	}
	p.sw.Close()
	p.ends.Wait()
}

// network compares our switch with QEMU's own wire, and measures the impairments.
func (b *bench) network(ctx context.Context) error {
	if err := b.switchAlone(); err != nil {
		return err
	}
	p, err := b.netPair(ctx)
	if err != nil {
		return err
	}
	defer p.close()
	var ours, bare sample
	for range tcpRounds {
		for network, s := range map[string]*sample{oursNet: &ours, bareNet: &bare} {
			t, err := p.tcp(ctx, network, tcpBytes)
			if err != nil {
				return err
			}
			*s = append(*s, t)
		}
	}
	b.table.atLeast("TCP between two guests / QEMU's own netdev pair", tcpBytes, ours, bare, 0.8)
	ours, bare = nil, nil
	for range frameRounds {
		for network, s := range map[string]*sample{oursNet: &ours, bareNet: &bare} {
			count, t, err := p.udp(ctx, network, framePayload, frameCount, 0)
			if err != nil {
				return err
			}
			*s = append(*s, t/time.Duration(max(count-1, 1)))
		}
	}
	b.table.atMost("a frame of 64 bytes between two guests / QEMU's own netdev pair", ours, 1/0.7, bare)
	return errors.Join(b.latencyFigure(ctx, p), b.bandwidthFigure(ctx, p))
}

// tcp sends bytes from the first guest to the second one.
func (p *netPair) tcp(ctx context.Context, network string, bytes int) (time.Duration, error) {
	out, err := p.guests[0].shell(ctx, fmt.Sprintf("/tmp/netbench tcpsource %s2 %s %d", network, tcpPort, bytes))
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	return time.Duration(ns), err
}

// udp sends datagrams and tells how many came, and the time from the first to the last.
func (p *netPair) udp(ctx context.Context, network string, size, count, rest int) (int, time.Duration, error) {
	if err := p.guests[1].background(ctx, "udpsink 5002", "/tmp/udp"); err != nil {
		return 0, 0, err
	}
	if _, err := p.guests[0].shell(ctx, fmt.Sprintf("/tmp/netbench udpsource %s2 5002 %d %d %d", network, size, count,
		rest)); err != nil {
		return 0, 0, err
	}
	out, err := p.guests[1].shell(ctx, "until grep -q ' ' /tmp/udp; do sleep 0.1; done; tail -n 1 /tmp/udp")
	if err != nil {
		return 0, 0, err
	}
	var came int
	var ns int64
	if _, err := fmt.Sscan(out, &came, &ns); err != nil {
		return 0, 0, fmt.Errorf("udpsink: %q: %w", out, err)
	}
	return came, time.Duration(ns), nil
}

// latencyFigure compares the shortest round trips with and without 100 ms one way:
// what a busy machine adds to the others is not the switch's.
func (b *bench) latencyFigure(ctx context.Context, p *netPair) error {
	rtt := func() (float64, error) {
		out, err := p.guests[0].shell(ctx, "ping -c 30 -i 0.1 "+oursNet+"2")
		if err != nil {
			return 0, err
		}
		_, tail, _ := strings.Cut(out, "min/avg/max = ")
		parts := strings.Split(tail, "/")
		if len(parts) < 2 {
			return 0, fmt.Errorf("ping: %q", out)
		}
		return strconv.ParseFloat(parts[0], 64)
	}
	without, err := rtt()
	if err != nil {
		return err
	}
	p.sw.SetPair("0", "1", vnet.Latency, 100)
	defer p.sw.Reset()
	with, err := rtt()
	if err != nil {
		return err
	}
	b.table.judge("latency of 100 ms, from the shortest of 30 round trips with and without",
		fmt.Sprintf("%.2f ms", with-without), "100 +- 3 ms",
		with-without > 97 && with-without < 103)
	return nil
}

// bandwidthFigure sends three times what may pass and looks at what comes.
func (b *bench) bandwidthFigure(ctx context.Context, p *netPair) error {
	const bps, payload, onWire = 5e6, 1400, 1442
	p.sw.SetPair("0", "1", vnet.Bandwidth, bps)
	defer p.sw.Reset()
	count, took, err := p.udp(ctx, oursNet, payload, 6000, 5000)
	if err != nil {
		return err
	}
	rate := float64(count-1) * onWire * 8 / took.Seconds()
	b.table.judge("bandwidth limit of 5 Mbit/s, as the receiver sees it", fmt.Sprintf("%.3f Mbit/s", rate/1e6),
		"5 +- 5 %", rate > 0.95*bps && rate < 1.05*bps)
	return nil
}
