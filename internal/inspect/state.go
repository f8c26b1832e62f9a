package inspect

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"provium/internal/guestmem"
	"provium/internal/kallsyms"
	"provium/internal/kmodules"
	"provium/internal/printk"
	"provium/internal/qemu"
)

// State is a guest at one moment.
type State struct {
	CPUs []CPU
	Log  []printk.Record // of the kernel; empty if it cannot be read
}

// CPU is a virtual CPU at one moment.
type CPU struct {
	qemu.CPU
	At    string   // the kernel's function that it is in; "" if that is not known
	Stack []string // functions that have called others on its kernel stack, the innermost first
}

const (
	maxFrames   = 24
	threadSize  = 16 << 10 // of a kernel stack, which is aligned to it
	maxLookedAt = 16       // CPUs whose stacks are read: kallsyms takes 4096 addresses
)

// InKernel reports whether the CPU runs the kernel, and not a program.
func (c *CPU) InKernel() bool { return c.Registers["CS"]&3 == 0 }

// String describes what the CPU does, in one line.
func (c *CPU) String() string {
	const interrupts = 1 << 9
	text := fmt.Sprintf("CPU %d ", c.Number)
	halted, forEver := c.IsHalted()
	switch {
	case forEver:
		text += "is halted for ever, with interrupts off"
	case halted:
		text += "is idle"
	case c.InKernel():
		text += "runs the kernel"
	default:
		text += "runs a program"
	}
	if !halted && c.Registers["RFL"]&interrupts == 0 {
		text += " with interrupts off"
	}
	text += fmt.Sprintf(", RIP %#x", c.Registers["RIP"])
	if c.At != "" {
		text += " (" + c.At + ")"
	}
	return text
}

// Look takes the state of the guest that runs and does not answer. What cannot be read is left out.
func (g *Guest) Look(ctx context.Context) (*State, error) {
	s, err := g.Peek(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.looked = g.looked || err == nil
	return s, err
}

// Peek is Look for a guest that answers: it does not count as lost.
func (g *Guest) Peek(ctx context.Context) (*State, error) {
	g.mu.Lock()
	m := g.machine
	g.mu.Unlock()
	if m == nil {
		return nil, ErrNoGuest
	}
	return g.look(ctx, m)
}

func (g *Guest) look(ctx context.Context, m *qemu.Machine) (*State, error) {
	cpus, err := m.Registers(ctx)
	if err != nil {
		return nil, err
	}
	s := &State{}
	var tables []uint64
	for _, c := range cpus {
		s.CPUs = append(s.CPUs, CPU{CPU: c})
		tables = append(tables, c.Registers["CR3"])
	}
	memory, err := m.OpenMemory()
	if err != nil {
		return s, nil
	}
	defer memory.Close()
	k, records, err := ReadLog(ctx, memory, g.places(), tables)
	if err != nil {
		return s, nil
	}
	s.Log = records
	s.resolve(k)
	return s, nil
}

// resolve names where the CPUs are. It leaves out what the kernel does not say.
func (s *State) resolve(k *guestmem.Kernel) {
	type place struct{ cpu, frame int } // frame -1: where the CPU is
	var addresses []uint64
	var places []place
	add := func(address uint64, p place) {
		addresses, places = append(addresses, address), append(places, p)
	}
	for i := range s.CPUs {
		c := &s.CPUs[i]
		if !c.InKernel() {
			continue
		}
		add(c.Registers["RIP"], place{i, -1})
		if i < maxLookedAt {
			for n, address := range returns(k, c.Registers["RSP"]) {
				add(address, place{i, n})
			}
		}
	}
	symbols, err := symbolsOf(kernelMemory{k, k.Note}, addresses)
	if err != nil {
		return
	}
	for i, symbol := range symbols {
		c := &s.CPUs[places[i].cpu]
		switch {
		case symbol.Name == "" || !symbol.IsText:
		case places[i].frame < 0:
			c.At = symbol.String()
		case symbol.Offset > 0 && len(c.Stack) < maxFrames:
			c.Stack = append(c.Stack, symbol.String())
		}
	}
}

// symbolsOf names addresses of a kernel and its modules.
func symbolsOf(m kernelMemory, addresses []uint64) ([]kallsyms.Symbol, error) {
	symbols, err := kallsyms.Resolve(m, addresses)
	if err != nil {
		return nil, err
	}
	var others []uint64
	var which []int
	for i, symbol := range symbols {
		if symbol.Name == "" && addresses[i] > guestmem.TextStart {
			others, which = append(others, addresses[i]), append(which, i)
		}
	}
	inModules, err := kmodules.Resolve(m, others)
	if err != nil {
		return symbols, nil // the kernel's own are good
	}
	for n, i := range which {
		symbols[i] = inModules[n]
	}
	return symbols, nil
}

// maxReturns is how many addresses of a stack are looked up.
const maxReturns = 200

// returns returns the addresses on a kernel stack to which functions can return: those behind
// a call. Some may be left over from earlier calls.
func returns(k *guestmem.Kernel, rsp uint64) (found []uint64) {
	if rsp%8 != 0 || rsp < 1<<63 {
		return nil
	}
	var page [guestmem.PageSize]byte
	at := rsp
	for left := threadSize - rsp%threadSize; left > 0; { // the address may be the last ones there are
		n := guestmem.PageSize - at%guestmem.PageSize
		if k.Read(page[:n], at) != nil {
			return found
		}
		for i := uint64(0); i < n; i += 8 {
			if v := binary.LittleEndian.Uint64(page[i:]); v > guestmem.TextStart && followsCall(k, v) {
				if found = append(found, v); len(found) == maxReturns {
					return found
				}
			}
		}
		at, left = at+n, left-n
	}
	return found
}

// followsCall reports whether the instruction before an address is a call.
func followsCall(k *guestmem.Kernel, address uint64) bool {
	var code [7]byte
	if k.Read(code[:], address-7) != nil {
		return false
	}
	isIndirect := func(at int) bool { return code[at] == 0xff && code[at+1]>>3&7 == 2 } // call r/m
	return code[2] == 0xe8 || isIndirect(5) || isIndirect(4) || isIndirect(1)
}

// InKernel returns the state without the CPUs that run programs or are idle.
func (s *State) InKernel() *State {
	busy := *s
	busy.CPUs = slices.DeleteFunc(slices.Clone(s.CPUs), func(c CPU) bool {
		halted, forEver := c.IsHalted()
		return !c.InKernel() || halted && !forEver
	})
	return &busy
}

// Text describes what the CPUs do, with their registers and stacks, for people.
func (s *State) Text() string {
	var b strings.Builder
	for i := range s.CPUs {
		c := &s.CPUs[i]
		fmt.Fprintf(&b, "%s\n", c)
		for line := range strings.Lines(c.Text) {
			b.WriteString("  " + strings.TrimRight(line, "\n") + "\n")
		}
		if len(c.Stack) > 0 {
			b.WriteString("  called by, as far as its stack shows:\n")
			for _, frame := range c.Stack {
				b.WriteString("    " + frame + "\n")
			}
		}
	}
	return strings.TrimRight(b.String(), "\n")
}
