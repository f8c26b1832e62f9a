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
	"provium/internal/recording"
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
	// DumpDir is where the memory of a guest is written that is about to end; "" is nowhere.
	DumpDir string

	own Places

	mu      sync.Mutex
	machine *qemu.Machine // nil while no guest runs
	kept    *State        // of a guest that has ended by itself, or is about to
	looked  bool          // somebody has seen the state of its CPUs, since it did not answer
	core    string        // path of the memory of such a guest
	tape    *recording.Tape
	tapeErr error
	shown   uint64 // number of the first message that Unshown has not returned
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
	g.machine, g.kept, g.shown, g.looked = m, nil, 0, false
	g.openTape(m)
}

// Ended records that the guest of a machine has ended.
func (g *Guest) Ended(m *qemu.Machine) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.machine == m {
		g.machine = nil
	}
}

// keepLimit is how long it may take to read what is kept.
const keepLimit = 400 * time.Millisecond

// Keep reads the log of a guest that is about to end, for who asks later. isStuck says that it
// gives no sign of life: the state of its CPUs is kept, too. What cannot be read is not kept.
func (g *Guest) Keep(ctx context.Context, m *qemu.Machine, isStuck bool) {
	g.mu.Lock()
	done := g.machine != m || g.kept != nil
	g.mu.Unlock()
	if done {
		return
	}
	g.keepCore(ctx, m)
	limited, cancel := context.WithTimeout(ctx, keepLimit)
	defer cancel()
	var s *State
	if isStuck {
		s, _ = g.look(limited, m)
	}
	if s == nil {
		records, err := g.read(limited, m)
		if err != nil {
			return
		}
		s = &State{Log: records}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.machine == m {
		g.kept = s
	}
}

// IsLost reports whether the guest has ended by itself, is about to, or did not answer when
// Look was called.
func (g *Guest) IsLost() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.kept != nil || g.looked
}

// TakeKept returns the state that was kept of a guest that gave no sign of life, once; nil if
// there is nothing.
func (g *Guest) TakeKept() *State {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.kept == nil || len(g.kept.CPUs) == 0 || g.looked {
		return nil
	}
	g.looked = true
	return g.kept
}

// KernelLog returns the log of the guest's kernel, from its memory, without what `dmesg -C` has cleared. Of a guest
// that has ended it is what was read before the end.
func (g *Guest) KernelLog(ctx context.Context) ([]printk.Record, error) {
	records, err := g.WholeKernelLog(ctx)
	return printk.Shown(records), err
}

// WholeKernelLog is KernelLog with what was cleared.
func (g *Guest) WholeKernelLog(ctx context.Context) ([]printk.Record, error) {
	g.mu.Lock()
	m, kept := g.machine, g.kept
	g.mu.Unlock()
	switch {
	case kept != nil && len(kept.Log) > 0:
		return kept.Log, nil
	case m == nil:
		return nil, ErrNoGuest
	}
	return g.read(ctx, m)
}

// Unshown returns the messages of the log that no earlier call has returned.
func (g *Guest) Unshown(ctx context.Context) []printk.Record {
	records, err := g.KernelLog(ctx)
	if err != nil || len(records) == 0 {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	next := records[len(records)-1].Seq + 1
	if next < g.shown {
		g.shown = 0 // another kernel
	}
	from := g.shown
	g.shown = next
	return slices.DeleteFunc(slices.Clone(records), func(r printk.Record) bool { return r.Seq < from })
}

// read reads the log of a machine's kernel.
func (g *Guest) read(ctx context.Context, m *qemu.Machine) (records []printk.Record, err error) {
	memory, err := m.OpenMemory()
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	tables := pageTables(ctx, m)
	if len(tables) > 0 && !slices.ContainsFunc(tables, func(at uint64) bool { return at != 0 }) {
		return nil, guestmem.ErrNoKernel // the firmware's turn, which is not worth a search of the whole memory
	}
	_, records, err = ReadLog(ctx, memory, g.places(), tables)
	return records, inWords(err)
}

// errSlow is the error of what a deadline has ended.
var errSlow = errors.New("the guest's memory was not read in time")

// KernelOffset returns how far the guest's kernel was moved from the addresses of its vmlinux.
func (g *Guest) KernelOffset(ctx context.Context) (uint64, error) {
	g.mu.Lock()
	m := g.machine
	g.mu.Unlock()
	if m == nil {
		return 0, ErrNoGuest
	}
	memory, err := m.OpenMemory()
	if err != nil {
		return 0, err
	}
	defer memory.Close()
	k, _, err := ReadLog(ctx, memory, g.places(), pageTables(ctx, m))
	if err != nil {
		return 0, inWords(err)
	}
	return k.Note.KernelOffset(), nil
}

// inWords returns an error that people understand.
func inWords(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errSlow
	}
	return err
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
