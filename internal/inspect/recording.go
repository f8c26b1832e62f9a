package inspect

import (
	"context"

	"provium/internal/kallsyms"
	"provium/internal/qemu"
	"provium/internal/recording"
)

// openTape opens what is needed to run the guest of a machine again, if it is recorded. The caller must hold g.mu.
func (g *Guest) openTape(m *qemu.Machine) {
	if g.tape != nil {
		_ = g.tape.Close() // it was only read
	}
	g.tape, g.tapeErr = nil, nil
	if m.Recorder() != nil {
		g.tape, g.tapeErr = m.Tape()
	}
}

// Tape returns what is needed to run the last guest again, nil where it was not recorded. It is closed when the next
// guest begins.
func (g *Guest) Tape() (*recording.Tape, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tape, g.tapeErr
}

// Mark makes the present moment of a recorded guest one to which a debugger can go. It does nothing with others.
func (g *Guest) Mark(ctx context.Context, p recording.Point) error {
	g.mu.Lock()
	m := g.machine
	g.mu.Unlock()
	if m == nil || m.Recorder() == nil {
		return nil
	}
	return m.Recorder().Mark(ctx, p)
}

// IsRecorded reports whether a recorded guest runs.
func (g *Guest) IsRecorded() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.machine != nil && g.machine.Recorder() != nil
}

// Symbols returns the symbols of the kernel in a machine, and how far it was moved from the addresses of its vmlinux.
func Symbols(ctx context.Context, m *qemu.Machine) (symbols []recording.Symbol, offset uint64, err error) {
	memory, err := m.OpenMemory()
	if err != nil {
		return nil, 0, err
	}
	defer memory.Close()
	k, _, err := ReadLog(ctx, memory, &Places{}, pageTables(ctx, m))
	if err != nil {
		return nil, 0, inWords(err)
	}
	const half = 1 << 63 // what is below is of each CPU
	err = kallsyms.Each(kernelMemory{k, k.Note}, func(address uint64, name string) {
		if address >= half {
			symbols = append(symbols, recording.Symbol{Address: address, Name: name})
		}
	})
	return symbols, k.Note.KernelOffset(), err
}

// EndRecording ends a recorded guest, so that its log is complete, and returns when it has ended.
func (g *Guest) EndRecording() {
	g.mu.Lock()
	m := g.machine
	g.mu.Unlock()
	if m != nil && m.Recorder() != nil {
		m.Kill()
		<-m.Done()
	}
}
