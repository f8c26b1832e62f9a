package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"provium/internal/parallel"
)

// Env is what a Network needs to know of the run.
type Env struct {
	// File is the test file. Seeds and IPv6 networks of bridges follow from it.
	File string
	// Seed changes the seeds of all bridges that have none of their own; with 0
	// they follow from names alone.
	Seed uint64
}

// Station is a VM as a bridge sees it.
type Station interface {
	Name() string
	// SyncNetwork updates the devices and the configuration of the VM's guest, if
	// one runs.
	SyncNetwork(ctx context.Context) error
}

// Scope is the lab in which a bridge is created: it finds what is declared there and
// outward. Its methods are called without locks.
type Scope interface {
	Station(name string) (Station, bool)
	Bridge(name string) (*Bridge, bool)
	// VMNames returns the names of all stations that can be found.
	VMNames() []string
}

// Network is all bridges of one test file. It is safe for concurrent use.
type Network struct {
	env Env

	mu       sync.Mutex
	created  int                // number of bridges created so far
	bridges  []*Bridge          // open ones, in order of creation
	attached map[Station][]*NIC // in order of attaching
	captures []openCapture
}

// New returns a network without bridges. The caller must close it.
func New(env Env) *Network {
	return &Network{env: env, attached: map[Station][]*NIC{}}
}

// Close closes all bridges.
func (n *Network) Close(ctx context.Context) error {
	var errs []error
	for _, b := range n.open() {
		errs = append(errs, b.Close(ctx))
	}
	return errors.Join(errs...)
}

// KeepNumbers has bridges that are created after free is called be numbered as if those created before, from now on,
// had never been. These must be closed then.
func (n *Network) KeepNumbers() (free func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	created := n.created
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.created = created
	}
}

// open returns the open bridges in order of creation.
func (n *Network) open() []*Bridge {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.bridges)
}

// NICs returns the NICs with which a VM is attached, in order of bridge names. Those on one
// bridge are in order of their labels.
func (n *Network) NICs(s Station) []*NIC {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sortedNICs(s)
}

// sortedNICs is NICs. The caller must hold n.mu.
func (n *Network) sortedNICs(s Station) []*NIC {
	nics := slices.Clone(n.attached[s])
	slices.SortStableFunc(nics, func(a, b *NIC) int {
		return cmp.Or(cmp.Compare(a.bridge.name, b.bridge.name), cmp.Compare(a.label, b.label))
	})
	return nics
}

var (
	guestName = regexp.MustCompile(`^(eth|enp0s|ens)([0-9]{1,3})$`)
	nicLabel  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)
	ethName   = regexp.MustCompile(`^eth[0-9]{1,3}$`)
)

// firstSlot is the PCI slot by which guests name the first NIC where the machine has
// nothing else in it. On other machines that is the next one.
const firstSlot = 2

// FindNIC returns the NIC of a VM by the name of its bridge, by its label, or by the name
// that a guest may have for the interface: ethN is the Nth in order of bridge names from 0, enp0sN and
// ensN the (N-3)th. With N = 2 they are the first, too.
func (n *Network) FindNIC(s Station, name string) (*NIC, error) {
	nics := n.NICs(s)
	bridges := make([]string, len(nics))
	for i, nic := range nics {
		if nic.bridge.name == name {
			return nic, nil
		}
		bridges[i] = "`" + nic.bridge.name + "`"
		if nic.label != "" {
			bridges[i] += " (nic `" + nic.label + "`)"
		}
	}
	if at := slices.IndexFunc(nics, func(nic *NIC) bool { return nic.label == name }); at >= 0 {
		return nics[at], nil
	}
	if m := guestName.FindStringSubmatch(name); m != nil {
		i, _ := strconv.Atoi(m[2]) // at most three digits
		if m[1] != "eth" {
			if i == firstSlot {
				i++
			}
			i -= firstSlot + 1
		}
		if i >= 0 && i < len(nics) {
			return nics[i], nil
		}
	}
	hint := "it is on no bridge; attach it with bridge:attach"
	if len(bridges) > 0 {
		hint = fmt.Sprintf("its bridges: %s; by guest name: eth0 to eth%d, ens3 to ens%d or enp0s3 to enp0s%d",
			strings.Join(bridges, ", "), len(bridges)-1, len(bridges)+2, len(bridges)+2)
	}
	return nil, fmt.Errorf("vm:nic: no NIC `%s` on vm `%s` (%s)", name, s.Name(), hint)
}

// Bind connects a VM that was just declared to the bridges to which its name was
// attached before.
func (n *Network) Bind(s Station) {
	for _, b := range n.open() {
		if found, ok := b.scope.Station(s.Name()); !ok || found != s {
			continue
		}
		n.mu.Lock()
		for _, nic := range b.members {
			if nic.vmName == s.Name() && nic.station == nil {
				nic.station = s
				n.attached[s] = append(n.attached[s], nic)
			}
		}
		n.mu.Unlock()
	}
}

// AttachLike attaches a copy of a VM, under its own name, to the bridges of the
// original. No guest is told.
func (n *Network) AttachLike(original, copied Station) error {
	for _, nic := range n.NICs(original) {
		if _, err := nic.bridge.join([]Endpoint{{VM: copied, Name: copied.Name(), NIC: nic.label}}); err != nil {
			return err
		}
	}
	return nil
}

// Announce updates the guests of all VMs that share a bridge, or a route, with s,
// except those listed.
func (n *Network) Announce(ctx context.Context, s Station, except []Station) error {
	for _, nic := range n.NICs(s) {
		if err := nic.bridge.announce(ctx, except); err != nil {
			return err
		}
	}
	return nil
}

// Leave ends all memberships of a VM that is closed. Its NICs wait for another VM
// of that name.
func (n *Network) Leave(ctx context.Context, s Station) error {
	n.mu.Lock()
	for _, b := range n.bridges {
		if b.awaited[s.Name()] == s {
			delete(b.awaited, s.Name())
			b.sw.Forget(s.Name())
		}
	}
	n.mu.Unlock()
	var errs []error
	for _, nic := range n.NICs(s) {
		n.mu.Lock()
		nic.leave()
		nic.station = nil
		n.mu.Unlock()
		errs = append(errs, nic.bridge.announce(ctx, nil))
	}
	return errors.Join(errs...)
}

// rejoin attaches a VM to the bridge of that name in its lab, with the NIC of that label.
// It returns nil when there is none, or it has no room.
func (n *Network) rejoin(s Station, bridge, label string) *NIC {
	for _, nic := range n.NICs(s) {
		if nic.bridge.name == bridge && nic.label == label {
			return nic
		}
	}
	for _, b := range slices.Backward(n.open()) {
		if b.name != bridge {
			continue
		}
		if found, ok := b.scope.Station(s.Name()); !ok || found != s {
			continue
		}
		if added, err := b.join([]Endpoint{{VM: s, Name: s.Name(), NIC: label}}); err == nil && len(added) == 1 {
			return added[0]
		}
	}
	return nil
}

// Each returns how something is done that concerns many guests: at once, and in turn if there are deterministic ones.
func Each[T any](n *Network) func([]T, func(T) error) []error {
	if n.isPaced() {
		return parallel.InTurn[T]
	}
	return parallel.Each[T]
}

// syncAll updates the guests of all stations.
func (n *Network) syncAll(ctx context.Context, stations []Station) error {
	return errors.Join(Each[Station](n)(stations, func(s Station) error { return s.SyncNetwork(ctx) })...)
}
