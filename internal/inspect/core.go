package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"

	"provium/internal/guestmem"
	"provium/internal/kerneltasks"
	"provium/internal/printk"
	"provium/internal/qemu"
	"provium/internal/vmcore"
)

const (
	// coreLimit is how long it may take to write the memory of a guest that is about to end.
	coreLimit = time.Minute
	// answerLimit is how long QEMU may take to answer.
	answerLimit = time.Second
)

// keepCore writes the memory of a guest that is about to end into DumpDir. Errors are dropped.
func (g *Guest) keepCore(ctx context.Context, m *qemu.Machine) {
	if g.DumpDir == "" {
		return
	}
	f, err := os.CreateTemp(g.DumpDir, "core-*.zst")
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, coreLimit)
	defer cancel()
	if err := errors.Join(g.writeCore(ctx, m, f), f.Close()); err != nil {
		_ = os.Remove(f.Name()) // with the run's directory, if not now
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.core = f.Name()
}

// TakeCore writes the memory of a guest that hangs or has ended by itself as an ELF core,
// compressed by zstd, once. It returns ErrNoGuest if there is no such guest.
func (g *Guest) TakeCore(ctx context.Context, w io.Writer) error {
	g.mu.Lock()
	m, path, looked := g.machine, g.core, g.looked
	g.core = ""
	g.mu.Unlock()
	switch {
	case path != "":
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("core: %w", err)
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return errors.Join(err, os.Remove(path))
	case m != nil && looked:
		ctx, cancel := context.WithTimeout(ctx, coreLimit)
		defer cancel()
		return inWords(g.writeCore(ctx, m, w))
	}
	return ErrNoGuest
}

// HasCore reports whether TakeCore would write something.
func (g *Guest) HasCore() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.core != "" || g.machine != nil && g.looked
}

// writeCore writes the memory of a machine. Its CPUs stand still meanwhile.
func (g *Guest) writeCore(ctx context.Context, m *qemu.Machine, w io.Writer) (err error) {
	answer, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	status, err := m.Status(answer)
	if err != nil {
		return fmt.Errorf("core: %w", err)
	}
	if status == "running" {
		if err := m.Stop(ctx); err != nil {
			return fmt.Errorf("core: %w", err)
		}
		defer func() { err = errors.Join(err, m.Cont(context.WithoutCancel(ctx))) }()
	}
	memory, err := m.OpenMemory()
	if err != nil {
		return err
	}
	defer memory.Close()
	c := vmcore.Core{Layout: memory.Layout(), Memory: memory}
	cpus, err := m.Registers(ctx)
	if err != nil {
		return fmt.Errorf("core: %w", err)
	}
	var tables []uint64
	for _, cpu := range cpus {
		c.CPUs = append(c.CPUs, vmcore.CPU{Number: cpu.Number, PID: noTask, Registers: cpu.Registers})
		tables = append(tables, cpu.Registers["CR3"])
	}
	var k *guestmem.Kernel
	var log []printk.Record
	if k, log, err = ReadLog(ctx, memory, g.places(), tables); err == nil && len(log) > 0 {
		c.Note, c.PhysBase = k.Note.Text, k.PhysBase()
		setTasks(k, c.CPUs)
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("core: %w", err)
	}
	if err := c.Write(ctx, z); err != nil {
		return errors.Join(err, z.Close())
	}
	return z.Close()
}

// noTask is the process id of a CPU whose task is not known. It is no task's, so that debuggers show no task with the
// registers of another one.
const noTask = 1 << 30

// setTasks sets which tasks run on the CPUs, as far as they are known.
func setTasks(k *guestmem.Kernel, cpus []vmcore.CPU) {
	var numbers []int
	for i := range cpus {
		numbers = append(numbers, cpus[i].Number)
	}
	running, err := kerneltasks.Running(kernelMemory{k, k.Note}, numbers)
	if err != nil {
		return
	}
	for i := range cpus {
		if pid, ok := running[cpus[i].Number]; ok {
			cpus[i].PID = pid
		}
	}
}
