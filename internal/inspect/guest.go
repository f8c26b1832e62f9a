package inspect

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"provium/internal/guestmem"
	"provium/internal/printk"
	"provium/internal/qemu"
)

// Places remembers where kernels keep their notes, so that a memory is searched once. It is
// safe for concurrent use; its zero value is empty.
type Places struct {
	mu   sync.Mutex
	last []int64 // the latest first
}

// maxPlaces is how many places are remembered.
const maxPlaces = 16

func (p *Places) list() []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.last)
}

func (p *Places) add(at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = slices.DeleteFunc(p.last, func(x int64) bool { return x == at })
	p.last = slices.Insert(p.last, 0, at)
	p.last = p.last[:min(len(p.last), maxPlaces)]
}

// Forget forgets all of them.
func (p *Places) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = nil
}

// Guest is what can be known from outside of the guests that a VM has one after the other. It
// is safe for concurrent use. Its zero value has no guest.
type Guest struct {
	Places *Places // shared with others; nil: this Guest's own

	own Places

	mu      sync.Mutex
	machine *qemu.Machine   // nil while no guest runs
	log     []printk.Record // of the last guest, once that has ended
}

// ErrNoGuest is returned where no guest runs, and none has left anything.
var ErrNoGuest = errors.New("no guest is running, and the last one has left no kernel log")

func (g *Guest) places() *Places {
	if g.Places != nil {
		return g.Places
	}
	return &g.own
}

// Began records that a guest runs in a machine. What the one before has left is dropped.
func (g *Guest) Began(m *qemu.Machine) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.machine, g.log = m, nil
}

// Ended records that the guest of a machine has ended.
func (g *Guest) Ended(m *qemu.Machine) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.machine == m {
		g.machine = nil
	}
}

// keepLimit is how long the reading of a log may take that is kept.
const keepLimit = 400 * time.Millisecond

// Keep reads the log of a guest that is about to end, for who asks later. Errors are dropped:
// the guest then leaves no log.
func (g *Guest) Keep(ctx context.Context, m *qemu.Machine) {
	g.mu.Lock()
	done := g.machine != m || g.log != nil
	g.mu.Unlock()
	if done {
		return
	}
	limited, cancel := context.WithTimeout(ctx, keepLimit)
	defer cancel()
	records, err := g.read(limited, m)
	if err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.machine == m {
		g.log = records
	}
}

// KernelLog returns the log of the guest's kernel, from its memory. Of a guest that has ended
// it is what was read before the end.
func (g *Guest) KernelLog(ctx context.Context) ([]printk.Record, error) {
	g.mu.Lock()
	m, kept := g.machine, g.log
	g.mu.Unlock()
	if m == nil || kept != nil {
		if kept == nil {
			return nil, ErrNoGuest
		}
		return kept, nil
	}
	return g.read(ctx, m)
}

// read reads the log of a machine's kernel.
func (g *Guest) read(ctx context.Context, m *qemu.Machine) (records []printk.Record, err error) {
	memory, err := m.OpenMemory()
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	_, records, err = ReadLog(ctx, memory, g.places(), pageTables(ctx, m))
	return records, err
}

// registersLimit is how long QEMU may take to say where its CPUs are.
const registersLimit = 200 * time.Millisecond

// pageTables returns the addresses of the page tables that the CPUs use. It returns nothing
// where QEMU does not say.
func pageTables(ctx context.Context, m *qemu.Machine) (tables []uint64) {
	limited, cancel := context.WithTimeout(ctx, registersLimit)
	defer cancel()
	cpus, err := m.Registers(limited)
	if err != nil {
		return nil
	}
	for _, c := range cpus {
		tables = append(tables, c.Registers["CR3"])
	}
	return tables
}

// ReadLog finds the kernel in a memory whose log can be read, and reads it. Memory also holds
// kernels that have ended, before a reset or a kexec: one of the page tables given, if there
// are any, must be the kernel's.
func ReadLog(ctx context.Context, memory guestmem.Source, places *Places, tables []uint64) (*guestmem.Kernel,
	[]printk.Record, error) {
	var records []printk.Record
	var refused error
	k, err := guestmem.Find(ctx, memory, places.list(), func(k *guestmem.Kernel) bool {
		if len(tables) > 0 && !slices.ContainsFunc(tables, k.Runs) {
			return false
		}
		var err error
		records, err = printk.Read(kernelMemory{k, k.Note})
		if err != nil && refused == nil {
			refused = err
		}
		return err == nil && len(records) > 0
	})
	if err != nil {
		if errors.Is(err, guestmem.ErrNoKernel) && refused != nil {
			err = refused
		}
		return nil, nil, err
	}
	places.add(k.Note.At)
	return k, records, nil
}

// kernelMemory is a kernel as package printk reads it.
type kernelMemory struct {
	*guestmem.Kernel
	*guestmem.Note
}
