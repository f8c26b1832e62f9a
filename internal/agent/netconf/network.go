package netconf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// Network carries out network operations and remembers what they have set up. Use
// New. It is safe for concurrent use.
type Network struct {
	proc, sys int

	mu       sync.Mutex
	given    map[string][]netip.Prefix // by the interface's path on PCI
	routes   map[string][]route        // the same
	hosts    string
	resolver string
}

// spareName is what an interface is called between two names.
const spareName = "provium-new"

// New returns a Network of which nothing is set up. proc and sysfs are descriptors
// of the roots of procfs and sysfs; 0 makes it use /proc and /sys.
func New(proc, sysfs int) *Network { return &Network{proc: proc, sys: sysfs} }

// Apply carries out a wire.Network. One that repeats another changes nothing.
func (n *Network) Apply(ctx context.Context, r *wire.Network) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, path := range r.Gone {
		if err := n.forget(path); err != nil {
			return err
		}
	}
	if len(r.Interfaces) > 0 {
		link, err := openRTNetlink()
		if err != nil {
			return err
		}
		defer link.close()
		found, err := n.awaitInterfaces(ctx, r.Interfaces)
		if err != nil {
			return err
		}
		if err := n.setNames(link, r.Interfaces, found); err != nil {
			return err
		}
		for i := range r.Interfaces {
			if err := n.setInterface(link, &r.Interfaces[i], found[r.Interfaces[i].Path]); err != nil {
				return fmt.Errorf("interface %s: %w", r.Interfaces[i].Name, err)
			}
		}
	}
	n.hosts, n.resolver = r.Hosts, r.Resolver
	return n.writeNames()
}

// forget removes the device at a path of one step from its bus, as the unplugging of it
// would.
func (n *Network) forget(path string) error {
	delete(n.given, path)
	delete(n.routes, path)
	if len(path) != len("02.0") || path[2] != '.' {
		return fmt.Errorf("forget interface: %q is no device of the root bus", path)
	}
	err := writeFileAt(n.sys, "/sys", "bus/pci/devices/0000:00:"+path+"/remove", "1")
	if errors.Is(err, unix.ENOENT) {
		return nil // forgotten before
	}
	return err
}

// CarryNames writes the names into another root directory, the one that the agent
// has just moved to. That one may not be ready for it, which is no reason to fail
// the operation that moved there.
func (n *Network) CarryNames() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts != "" || n.resolver != "" {
		_ = n.writeNames()
	}
}

// found is an interface of the kernel's.
type found struct {
	name  string
	index int
}

// awaitInterfaces finds the interfaces of all paths, waiting for those that the
// kernel has not created yet.
func (n *Network) awaitInterfaces(ctx context.Context, wanted []wire.Interface) (map[string]found, error) {
	all, missing, err := interfaces(n.sys, wanted)
	if err != nil || missing == "" {
		return all, err
	}
	news, err := linkNews()
	if err != nil {
		return nil, err
	}
	defer news.Close()
	stop := context.AfterFunc(ctx, func() { news.Close() })
	defer stop()
	if err := sys.RescanPCI(n.sys); err != nil {
		return nil, fmt.Errorf("look for interfaces: %w", err)
	}
	buf := make([]byte, 16<<10)
	for {
		all, missing, err = interfaces(n.sys, wanted)
		if err != nil || missing == "" {
			return all, err
		}
		if _, err := news.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
			if ctx.Err() != nil {
				return nil, context.Canceled
			}
			return nil, fmt.Errorf("wait for interfaces: %w", err)
		}
	}
}

// interfaces returns the kernel's interfaces by their path on PCI. missing is the
// path of a wanted one that is not there.
func interfaces(sysfs int, wanted []wire.Interface) (all map[string]found, missing string, err error) {
	names, err := readDir(sysfs, "/sys", "class/net")
	if err != nil {
		return nil, "", err
	}
	all = map[string]found{}
	for _, name := range names {
		target, err := readLink(sysfs, "/sys", "class/net/"+name)
		if err != nil {
			continue // just gone, or a file like bonding_masters
		}
		index, err := readFileAt(sysfs, "/sys", "class/net/"+name+"/ifindex")
		if err != nil {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(index))
		if err != nil {
			return nil, "", fmt.Errorf("index of interface %s: %w", name, err)
		}
		if p := pciPath(target); p != "" {
			all[p] = found{name, n}
		}
	}
	for _, w := range wanted {
		if _, ok := all[w.Path]; !ok {
			return all, w.Path, nil
		}
	}
	return all, "", nil
}

// pciPath takes device and function of each step out of a path in sysfs such as
// devices/pci0000:00/0000:00:1e.0/0000:01:02.0/virtio5/net/eth0. Bus numbers are
// the guest's choice and are left out.
func pciPath(target string) string {
	var steps []string
	for _, part := range strings.Split(target, "/") {
		if len(part) == len("0000:00:1e.0") && part[4] == ':' && part[7] == ':' && part[10] == '.' {
			steps = append(steps, part[8:])
		}
	}
	return strings.Join(steps, "/")
}

func (n *Network) setInterface(link *rtnetlink, want *wire.Interface, is found) error {
	addresses := make([]netip.Prefix, len(want.Addresses))
	for i, text := range want.Addresses {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return err
		}
		addresses[i] = p
	}
	before := n.given[want.Path]
	mac, err := readFileAt(n.sys, "/sys", "class/net/"+want.Name+"/address")
	if err != nil {
		return err
	}
	if strings.TrimSpace(mac) != hexMAC(want.MAC) {
		if err := link.setMAC(is.index, want.MAC); err != nil {
			return fmt.Errorf("set hardware address: %w", err)
		}
	}
	for _, p := range before {
		if !slices.Contains(addresses, p) {
			if err := link.removeAddress(is.index, p); err != nil {
				return fmt.Errorf("remove %v: %w", p, err)
			}
		}
	}
	if n.given == nil {
		n.given = map[string][]netip.Prefix{}
	}
	n.given[want.Path] = addresses
	if err := n.removeRoutes(link, want, is.index); err != nil {
		return err
	}
	if len(addresses) == 0 {
		return nil
	}
	// Nobody on the bridge is asked for routes, and no address is defended:
	// the bridge stays silent. Kernels without IPv6 have none of this.
	for _, setting := range []string{"accept_ra", "accept_dad", "router_solicitations"} {
		_ = writeFileAt(n.proc, "/proc", "sys/net/ipv6/conf/"+want.Name+"/"+setting, "0")
	}
	if err := link.setUp(is.index, true); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	for _, p := range addresses {
		err := link.addAddress(is.index, p)
		if p.Addr().Is6() && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EACCES)) {
			continue // the kernel has no IPv6, or it is disabled
		}
		if err != nil {
			return fmt.Errorf("add %v: %w", p, err)
		}
	}
	return n.addRoutes(link, want, is.index)
}

// setNames names interfaces, also those that have their name already: udev does not
// rename an interface that was named.
func (n *Network) setNames(link *rtnetlink, wanted []wire.Interface, all map[string]found) error {
	var todo []*wire.Interface
	for i := range wanted {
		w := &wanted[i]
		if _, known := n.given[w.Path]; !known || all[w.Path].name != w.Name {
			todo = append(todo, w)
		}
	}
	// Two may swap their names.
	for i, w := range todo {
		is := all[w.Path]
		if err := link.setUp(is.index, false); err != nil {
			return fmt.Errorf("interface %s: set down: %w", is.name, err)
		}
		if err := link.setName(is.index, spareName+strconv.Itoa(i)); err != nil {
			return fmt.Errorf("interface %s: rename: %w", is.name, err)
		}
	}
	for _, w := range todo {
		if err := link.setName(all[w.Path].index, w.Name); err != nil {
			return fmt.Errorf("interface %s: rename to %s: %w", all[w.Path].name, w.Name, err)
		}
	}
	return nil
}

func hexMAC(mac []byte) string {
	parts := make([]string, len(mac))
	for i, b := range mac {
		parts[i] = fmt.Sprintf("%02x", b)
	}
	return strings.Join(parts, ":")
}

// openAt opens a file of a pseudo file system below a descriptor of its root, or at
// its usual place for a root of 0.
func openAt(root int, place, name string, flags int) (*os.File, error) {
	at, full := root, name
	if root == 0 {
		at, full = unix.AT_FDCWD, place+"/"+name
	}
	var fd int
	err := sys.Retry(func() (err error) {
		fd, err = unix.Openat(at, full, flags|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open %s/%s: %w", place, name, err)
	}
	return os.NewFile(uintptr(fd), full), nil
}

func readFileAt(root int, place, name string) (string, error) {
	f, err := openAt(root, place, name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, 4096))
	return string(p), err
}

func writeFileAt(root int, place, name, text string) error {
	f, err := openAt(root, place, name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

func readDir(root int, place, name string) ([]string, error) {
	f, err := openAt(root, place, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func readLink(root int, place, name string) (string, error) {
	at, full := root, name
	if root == 0 {
		at, full = unix.AT_FDCWD, place+"/"+name
	}
	buf := make([]byte, 1024)
	n, err := unix.Readlinkat(at, full, buf)
	return string(buf[:max(n, 0)]), err
}
