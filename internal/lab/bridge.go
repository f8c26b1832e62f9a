package lab

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"provium/internal/qemu"
	"provium/internal/vnet"
)

// BridgeOpts are what a bridge is created with.
type BridgeOpts struct {
	Seed         *uint64 // of the impairments; nil: from the run's seed, file, lab and name
	NoAddressing bool    // guests get neither addresses nor names
}

// Bridge is a layer-2 switch between VMs.
type Bridge struct {
	host       *Host
	owner      *Lab // where it was created: VM names are looked up from there
	name       string
	seed       uint64
	addressing bool
	v4, v6     netip.Prefix
	sw         *vnet.Switch
	services   services

	mu       sync.Mutex
	nics     map[string]*NIC // by VM name, all there ever were: a NIC keeps MAC and address
	members  []*NIC          // attached, in that order
	holders  int             // labs that hold this bridge
	captures []*Stream       // open ones
	closed   bool
}

// firstHost and lastHost bound the last byte of a guest's IPv4 address: .1 is the
// gateway's.
const firstHost, lastHost = 2, 254

func newBridge(l *Lab, name string, opts *BridgeOpts) *Bridge {
	h := l.host
	h.mu.Lock()
	n := h.nextBridge
	h.nextBridge++
	h.mu.Unlock()
	id := digest(h.File, l.name, name)
	// A run without a seed of its own draws the same numbers each time.
	b := &Bridge{host: h, owner: l, name: name, seed: binary.BigEndian.Uint64(id[8:]) ^ h.Seed*0x9e3779b97f4a7c15, addressing: true, nics: map[string]*NIC{}, holders: 1}
	if opts != nil {
		b.addressing = !opts.NoAddressing
		if opts.Seed != nil {
			b.seed = *opts.Seed
		}
	}
	b.v4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(77 + n>>8), byte(n), 0}), 24)
	v6 := [16]byte{0: 0xfd, 6: byte(n >> 8), 7: byte(n)}
	copy(v6[1:6], id[:])
	b.v6 = netip.PrefixFrom(netip.AddrFrom16(v6), 64)
	b.sw = vnet.New(vnet.Config{Seed: b.seed})
	h.mu.Lock()
	h.bridges = append(h.bridges, b)
	h.mu.Unlock()
	return b
}

// digest is a fingerprint of names.
func digest(names ...string) [sha256.Size]byte {
	return sha256.Sum256([]byte(strings.Join(names, "\x00")))
}

// Name is the name given at creation.
func (b *Bridge) Name() string { return b.name }

func (b *Bridge) memberKind() string { return "bridge" }

func (b *Bridge) hold(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holders += n
	return b.holders
}

// Switch has the bridge's rules. Its ports are named like the VMs.
func (b *Bridge) Switch() *vnet.Switch { return b.sw }

// fits tells what of opts differs from what an existing bridge was created with.
func (b *Bridge) fits(opts *BridgeOpts) error {
	if opts == nil {
		return nil
	}
	if opts.Seed != nil && *opts.Seed != b.seed {
		return fmt.Errorf("bridge `%s` exists with seed %d, not %d", b.name, int64(b.seed), int64(*opts.Seed))
	}
	if opts.NoAddressing && b.addressing {
		return fmt.Errorf("bridge `%s` exists with addressing", b.name)
	}
	return nil
}

// Endpoint is a VM, or the name of one that may not be declared yet.
type Endpoint struct {
	VM   *VM
	Name string
}

// Attach puts VMs on the bridge: all of them or, if one cannot be, none. It
// returns when running guests have their addresses.
func (b *Bridge) Attach(ctx context.Context, ends []Endpoint) error {
	added, err := b.join(ends)
	if err != nil {
		return err
	}
	var joined []*VM
	for _, n := range added {
		if n.vm != nil {
			joined = append(joined, n.vm)
		}
	}
	if err := eachVM(joined, func(v *VM) error { return v.syncNetwork(ctx) }); err != nil {
		for _, n := range added {
			b.leave(n)
		}
		return fmt.Errorf("bridge `%s` attach: %w", b.name, err)
	}
	return b.tell(ctx, joined)
}

// join records new members.
func (b *Bridge) join(ends []Endpoint) (added []*NIC, err error) {
	for i := range ends {
		if ends[i].VM == nil {
			ends[i].VM, _ = b.owner.VM(ends[i].Name)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, fmt.Errorf("bridge `%s` is closed", b.name)
	}
	fresh := map[string]*VM{}
	for _, e := range ends {
		n := b.nics[e.Name]
		if other, twice := fresh[e.Name]; twice && other != e.VM || n != nil && n.attached && n.vm != nil && n.vm != e.VM {
			return nil, fmt.Errorf("bridge `%s` cannot have two members called `%s`", b.name, e.Name)
		}
		if n == nil {
			fresh[e.Name] = e.VM
		}
		if e.VM != nil && (n == nil || !n.attached) && e.VM.nicCount() >= qemu.MaxSlot {
			return nil, fmt.Errorf("vm `%s` is on %d bridges already, which is the most", e.Name, qemu.MaxSlot)
		}
	}
	if have := len(b.nics); have+len(fresh) > lastHost-firstHost+1 {
		return nil, fmt.Errorf("bridge `%s` is full: it has had %d of at most %d VMs, and %d more do not fit",
			b.name, have, lastHost-firstHost+1, len(fresh))
	}
	for _, e := range ends {
		n := b.nics[e.Name]
		if n == nil {
			id := digest(b.owner.name, e.Name, b.name)
			n = &NIC{bridge: b, vmName: e.Name, host: b.freeHost(), port: b.sw.AddPort(e.Name),
				mac: net.HardwareAddr{0x02, id[0], id[1], id[2], id[3], id[4]}}
			b.nics[e.Name] = n
		}
		if n.attached {
			continue
		}
		n.attached, n.vm = true, e.VM
		n.port.SetUp(!n.down)
		b.members = append(b.members, n)
		added = append(added, n)
		if e.VM != nil {
			e.VM.addNIC(n)
		}
	}
	return added, nil
}

// Detach takes a VM off the bridge and drops all rules that name it.
func (b *Bridge) Detach(ctx context.Context, name string) error {
	b.mu.Lock()
	n := b.nics[name]
	if n == nil || !n.attached {
		b.mu.Unlock()
		return b.notAttached(name)
	}
	vm := n.vm
	b.mu.Unlock()
	b.leave(n)
	var err error
	if vm != nil {
		err = vm.syncNetwork(ctx)
	}
	return errors.Join(err, b.tell(ctx, nil))
}

// leave ends a membership.
func (b *Bridge) leave(n *NIC) {
	b.mu.Lock()
	n.attached = false
	n.port.SetUp(false)
	vm := n.vm
	b.members = slices.DeleteFunc(b.members, func(m *NIC) bool { return m == n })
	b.mu.Unlock()
	b.sw.Forget(n.vmName)
	if vm != nil {
		vm.dropNIC(n)
	}
}

func (b *Bridge) notAttached(name string) error {
	return fmt.Errorf("vm `%s` is not attached to bridge `%s` (members: %s); attach it with bridge:attach first",
		name, b.name, listOr(b.Members(), "none"))
}

// tell has all other running members, and those of routed bridges, know what has
// changed.
func (b *Bridge) tell(ctx context.Context, except []*VM) error {
	if !b.addressing {
		return nil
	}
	var vms []*VM
	for _, on := range append(b.routed(), b) {
		for _, v := range on.memberVMs() {
			if !slices.Contains(except, v) && !slices.Contains(vms, v) {
				vms = append(vms, v)
			}
		}
	}
	if err := eachVM(vms, func(v *VM) error { return v.syncNetwork(ctx) }); err != nil {
		return fmt.Errorf("bridge `%s` names: %w", b.name, err)
	}
	return nil
}

// eachVM does something to all VMs at once.
func eachVM(vms []*VM, do func(*VM) error) error {
	errs := make([]error, len(vms))
	var wg sync.WaitGroup
	for i, v := range vms {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = do(v)
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Members lists the names of the attached VMs in order of attaching.
func (b *Bridge) Members() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]string, len(b.members))
	for i, n := range b.members {
		names[i] = n.vmName
	}
	return names
}

// NIC is the one of an attached VM.
func (b *Bridge) NIC(name string) (*NIC, error) {
	b.mu.Lock()
	n := b.nics[name]
	attached := n != nil && n.attached
	b.mu.Unlock()
	if !attached {
		return nil, b.notAttached(name)
	}
	return n, nil
}

// PartitionAll partitions every pair of present members.
func (b *Bridge) PartitionAll() { b.sw.PartitionAll(b.Members()) }

// bind gives a VM that was just declared the memberships recorded for its name.
func (h *Host) bind(vm *VM) {
	h.mu.Lock()
	bridges := slices.Clone(h.bridges)
	h.mu.Unlock()
	for _, b := range bridges {
		if found, ok := b.owner.VM(vm.name); !ok || found != vm {
			continue
		}
		b.mu.Lock()
		n := b.nics[vm.name]
		waiting := n != nil && n.attached && n.vm == nil
		if waiting {
			n.vm = vm
			vm.addNIC(n)
		}
		b.mu.Unlock()
	}
}

// Close takes everybody off, unplugs the NICs and ends the switch. It may be repeated.
func (b *Bridge) Close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	members := slices.Clone(b.members)
	b.mu.Unlock()
	h := b.host
	h.mu.Lock()
	h.bridges = slices.DeleteFunc(h.bridges, func(o *Bridge) bool { return o == b })
	h.mu.Unlock()
	routed := b.endServices()
	for _, n := range members {
		b.leave(n)
	}
	b.mu.Lock()
	var vms []*VM
	for _, n := range b.nics {
		if n.vm != nil {
			vms = append(vms, n.vm)
		}
	}
	b.mu.Unlock()
	for _, o := range routed {
		for _, v := range o.memberVMs() {
			if !slices.Contains(vms, v) {
				vms = append(vms, v)
			}
		}
	}
	err := eachVM(vms, func(v *VM) error { return v.syncNetwork(ctx) })
	b.sw.Close()
	return err
}

// isClosed tells whether Close was called.
func (b *Bridge) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// hosts adds the lines of /etc/hosts that a member gets for this bridge; bare are
// the names that an earlier bridge has given already.
func (b *Bridge) hosts(text *strings.Builder, bare map[string]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.addressing {
		return
	}
	for _, n := range b.members {
		names := n.vmName + "." + b.name
		if !bare[n.vmName] {
			bare[n.vmName] = true
			names += " " + n.vmName
		}
		for _, p := range n.prefixes() {
			fmt.Fprintf(text, "%s %s\n", p.Addr(), names)
		}
	}
}

// Seed is that of the bridge's impairments, with the run's seed in it.
func (b *Bridge) Seed() uint64 { return b.seed }

// ImpairmentRule is an impairment with its details, see package vnet.
type ImpairmentRule = vnet.Rule

// GilbertElliott is loss in bursts, see package vnet.
type GilbertElliott = vnet.GilbertElliott

// Distribution says how jitter is spread, see package vnet.
type Distribution = vnet.Distribution

// The distributions of jitter.
const (
	Uniform = vnet.Uniform
	Normal  = vnet.Normal
	Pareto  = vnet.Pareto
)

// Impairment is a kind of impairment, see package vnet.
type Impairment = vnet.Kind

// The kinds, with the unit of their values.
const (
	Latency   = vnet.Latency   // milliseconds
	Jitter    = vnet.Jitter    // milliseconds
	Loss      = vnet.Loss      // percent
	Duplicate = vnet.Duplicate // percent
	Reorder   = vnet.Reorder   // percent
	Corrupt   = vnet.Corrupt   // percent
	Bandwidth = vnet.Bandwidth // bits per second
)
