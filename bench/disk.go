//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"provium/internal/blockdev"
	"provium/internal/blockdev/fault"
	"provium/internal/guest"
	"provium/internal/machine"
	"provium/internal/qemu"
)

const (
	diskSize   = 256 << 20
	diskRounds = 15
	diskRules  = 64
)

// diskWork is what is done to a disk in one round: direct I/O, by one program in the
// guest, one request at a time. Reads find what the writes have left.
var diskWork = []struct {
	name, mode string
	count      int
	size       int
}{
	{"sequential writes of 1 MiB", "seqwrite", 64, 1 << 20},
	{"sequential reads of 1 MiB", "seqread", 64, 1 << 20},
	{"random reads of 4 KiB", "randread", 800, 4 << 10},
	{"random writes of 4 KiB", "randwrite", 800, 4 << 10},
}

// disks compares a disk of ours with one that QEMU serves from a raw file, and with one that qemu-nbd serves, which is
// another process as our server is, all in one guest and in turns.
func (b *bench) disks(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp(b.dir, "disk")
	if err != nil {
		return err
	}
	raw, other := filepath.Join(dir, "raw"), filepath.Join(dir, "other")
	for _, path := range []string{raw, other} {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(diskSize), f.Close()); err != nil {
			return err
		}
	}
	foreign := filepath.Join(dir, "qemu-nbd")
	if err := b.serveByQEMU(other, foreign); err != nil {
		return err
	}
	disk, err := blockdev.Open(blockdev.Config{Size: diskSize, TempDir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	socket := filepath.Join(dir, "nbd")
	stop, err := serveDisk(ctx, disk, socket)
	if err != nil {
		return err
	}
	defer stop()
	machine, err := qemu.Start(ctx, qemu.Config{Name: "disk", Dir: dir, Accel: b.accel.Name, Memory: guestMemory,
		Kernel: b.image.Kernel, Initrd: b.image.Initrd, Cmdline: b.image.Cmdline, Starter: b.starter,
		Disks: []qemu.Disk{{Slot: 1, Socket: socket, Serial: "ours"}},
		Shape: machine.Shape{Args: []string{"-drive", "file=" + raw + ",format=raw,if=none,id=raw,cache=writeback",
			"-device", "virtio-blk-pci,drive=raw,serial=raw",
			"-drive", "file=nbd+unix:///?socket=" + foreign + ",format=raw,if=none,id=other,cache=writeback",
			"-device", "virtio-blk-pci,drive=other,serial=other"}}})
	if err != nil {
		return err
	}
	defer func() {
		machine.Kill()
		<-machine.Done()
	}()
	conn, err := machine.DialAgent(ctx)
	if err != nil {
		return err
	}
	agent, err := guest.Connect(ctx, conn, guest.Config{})
	if err != nil {
		return err
	}
	defer agent.Close()
	tool, err := os.Open(b.refTool)
	if err != nil {
		return err
	}
	defer tool.Close()
	if err := agent.PushFile(ctx, "/tmp/ref", tool, guest.Mode(0o755)); err != nil {
		return err
	}
	work := func(serial, mode string, count int) (time.Duration, error) {
		text := fmt.Sprintf("d=$(grep -l '^%s' /sys/block/*/serial); d=${d%%/serial}; "+
			"/tmp/ref disk /dev/${d##*/} %s %d", serial, mode, count)
		r, err := agent.Run(ctx, guest.RunRequest{Shell: text})
		if err != nil {
			return 0, err
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(string(r.Stdout)), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("disk %s: %w: %s", serial, err, r.Stderr)
		}
		return time.Duration(ns), nil
	}
	return b.compareDisks(disk, work)
}

// compareDisks does the work on both disks in turns, without rules and with many.
func (b *bench) compareDisks(disk *blockdev.Disk, work func(serial, mode string, n int) (time.Duration, error)) error {
	for _, rules := range []int{0, diskRules} {
		limit, with := 0.8, ""
		if rules > 0 {
			limit, with = 0.75, fmt.Sprintf(", with %d rules", rules)
			for i := range int64(rules) { // that meet nothing, all over the disk
				r := fault.Rule{Sectors: fault.Range{First: i * 4096, Count: 1}, Errno: "EIO", Probability: 1e-12}
				if _, err := disk.AddRule(r); err != nil {
					return err
				}
			}
		}
		for _, w := range diskWork {
			took := map[string]sample{}
			for range diskRounds {
				for _, serial := range []string{"ours", "raw", "other"} {
					t, err := work(serial, w.mode, w.count)
					if err != nil {
						return err
					}
					took[serial] = append(took[serial], t)
				}
			}
			b.table.atLeast(w.name+with+" / QEMU's raw file", w.count*w.size, took["ours"], took["raw"], limit)
			b.table.compareBulk("… the same / qemu-nbd", w.count*w.size, took["ours"], took["other"])
		}
	}
	return nil
}

// serveByQEMU has qemu-nbd serve a raw file at a unix socket, until the end of the bench.
func (b *bench) serveByQEMU(path, socket string) error {
	cmd := exec.Command("qemu-nbd", "--persistent", "--format=raw", "--cache=writeback", "--shared=0",
		"--socket="+socket, path)
	if err := b.starter.Start(cmd); err != nil {
		return fmt.Errorf("%w (package qemu-utils)", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if conn, err := net.Dial("unix", socket); err == nil {
			return conn.Close()
		}
		select {
		case err := <-ended:
			return fmt.Errorf("qemu-nbd: %w", err)
		case <-time.After(time.Millisecond):
		}
	}
}

// serveDisk serves a disk at a unix socket until stop is called.
func serveDisk(ctx context.Context, disk *blockdev.Disk, socket string) (stop func(), err error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	serving.Add(1)
	go func() {
		defer serving.Done()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Add(1)
			go func() {
				defer serving.Done()
				_ = disk.Serve(ctx, conn) // it ends with the guest
			}()
		}
	}()
	return func() {
		l.Close()
		cancel()
		serving.Wait()
	}, nil
}
