package lab

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	"provium/internal/guest"
	"provium/internal/network"
)

// network returns the bridges of the file.
func (h *Host) network() *network.Network {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.net == nil {
		h.net = network.New(network.Env{File: h.File, Seed: h.Seed})
	}
	return h.net
}

// NIC returns the VM's NIC by the name of its bridge, or by a guest's name for it.
func (v *VM) NIC(name string) (*network.NIC, error) { return v.host.network().FindNIC(v, name) }

// SyncNetwork updates the network devices and the configuration of the guest, if
// one runs, to what the VM is attached to.
func (v *VM) SyncNetwork(ctx context.Context) error {
	release, err := v.lifecycle(ctx)
	if err != nil {
		return err
	}
	defer release()
	v.mu.Lock()
	state, inst := v.state, v.inst
	v.mu.Unlock()
	if inst == nil || state != Booted && state != Paused {
		return nil
	}
	err = inst.syncNetwork(ctx, state == Booted)
	if err != nil && inst.IsOver() {
		return nil // its next boot begins with what is right then
	}
	if err != nil {
		return fmt.Errorf("vm `%s`: %w", v.name, err)
	}
	return nil
}

// syncNetwork is SyncNetwork for this guest. One that does not run is told when it
// does.
func (i *guestRun) syncNetwork(ctx context.Context, runs bool) error {
	if !runs || i.IsSuspended() {
		return i.netdevs.Sync(ctx, i.machine, nil)
	}
	link, err := i.Client(ctx)
	if err != nil {
		return err
	}
	return i.netdevs.Sync(ctx, i.machine, link)
}

// refreshNetwork tells a guest that runs again what it has missed.
func (i *guestRun) refreshNetwork(ctx context.Context) error {
	if !i.netdevs.IsStale() {
		return nil
	}
	return i.syncNetwork(ctx, true)
}

// reconfigure configures the network for the agent of a boot that the guest itself,
// or a reset, has begun.
func (i *guestRun) reconfigure(ctx context.Context, link *guest.Client) error {
	return i.netdevs.Configure(ctx, link)
}

// digest returns a fingerprint of names.
func digest(names ...string) [sha256.Size]byte {
	return sha256.Sum256([]byte(strings.Join(names, "\x00")))
}
