package network

import (
	"context"
	"errors"
	"slices"
	"sync"

	"provium/internal/qemu"
)

// fakeMachine is a QEMU as far as NICs are concerned.
type fakeMachine struct {
	mu      sync.Mutex
	plugged []int // slots
	links   map[int]bool
	fail    string // the operation that fails
}

var errFake = errors.New("fake QEMU refuses")

func (m *fakeMachine) do(op string, f func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == op {
		return errFake
	}
	f()
	return nil
}

func (m *fakeMachine) PlugNIC(_ context.Context, n qemu.NIC) error {
	return m.do("plug", func() { m.plugged = append(m.plugged, n.Slot) })
}

func (m *fakeMachine) UnplugNIC(_ context.Context, n qemu.NIC) error {
	return m.do("unplug", func() { m.plugged = slices.DeleteFunc(m.plugged, func(s int) bool { return s == n.Slot }) })
}

func (m *fakeMachine) SetLink(_ context.Context, n qemu.NIC, up bool) error {
	return m.do("link", func() {
		if m.links == nil {
			m.links = map[int]bool{}
		}
		m.links[n.Slot] = up
	})
}
