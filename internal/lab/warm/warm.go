// Package warm is the devices of a guest that is restored ahead of need, before it is known which VM
// takes it over. It does not restore it (package instance).
package warm

import (
	"provium/internal/disk"
	"provium/internal/network"
)

// Parts implements instance.Parts.
type Parts struct {
	Netdevs *network.Netdevs
	Drives  disk.Drives
}

// Stopping is called before the vCPUs stop.
func (p *Parts) Stopping() { p.Drives.HoldFlushes() }

// Stopped is called when the vCPUs have stopped.
func (p *Parts) Stopped() { p.Drives.IgnoreFlushes() }

// Resume is called before the vCPUs run again.
func (p *Parts) Resume() error { return p.Drives.ObeyFlushes() }

// Close ends the devices.
func (p *Parts) Close() {
	p.Netdevs.Close()
	_ = p.Drives.Close() // nobody has seen them
}
