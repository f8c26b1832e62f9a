package agent

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

	"provium/internal/wire"
)

// network remembers what network operations have set up. Its zero value is ready.
type network struct {
	mu       sync.Mutex
	given    map[string][]netip.Prefix // by the interface's path on PCI
	routes   map[string][]route        // the same
	hosts    string
	resolver string
}

// spareName is what an interface is called between two names.
const spareName = "provium-new"

// network carries out a wire.Network. One that repeats another changes nothing.
func (o *op) network(r *wire.Network) error {
	a := o.agent
	a.net.mu.Lock()
	defer a.net.mu.Unlock()
	if len(r.Interfaces) > 0 {
		link, err := openRTNetlink()
		if err != nil {
			return err
		}
		defer link.close()
		found, err := o.awaitInterfaces(r.Interfaces)
		if err != nil {
			return err
		}
		if err := a.setNames(link, r.Interfaces, found); err != nil {
			return err
		}
		for i := range r.Interfaces {
			if err := a.setInterface(link, &r.Interfaces[i], found[r.Interfaces[i].Path]); err != nil {
				return fmt.Errorf("interface %s: %w", r.Interfaces[i].Name, err)
			}
		}
	}
	a.net.hosts, a.net.resolver = r.Hosts, r.Resolver
	return a.net.writeNames()
}

// carryHosts takes the names along into another root directory. That one may not
// be ready for it, which is no reason to fail what the caller is about.
func (a *Agent) carryHosts() {
	a.net.mu.Lock()
	defer a.net.mu.Unlock()
	if a.net.hosts != "" || a.net.resolver != "" {
		_ = a.net.writeNames()
	}
}

// found is an interface of the kernel's.
type found struct {
	name  string
	index int
}

// awaitInterfaces finds the interfaces of all paths, waiting for those that the
// kernel has not made yet.
func (o *op) awaitInterfaces(wanted []wire.Interface) (map[string]found, error) {
	sys := o.agent.cfg.Sys
	all, missing, err := interfaces(sys, wanted)
	if err != nil || missing == "" {
		return all, err
	}
	news, err := linkNews()
	if err != nil {
		return nil, err
	}
	defer news.Close()
	stop := context.AfterFunc(o.ctx, func() { news.Close() })
	defer stop()
	buf := make([]byte, 16<<10)
	for {
		all, missing, err = interfaces(sys, wanted)
		if err != nil || missing == "" {
			return all, err
		}
		if _, err := news.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
			if o.ctx.Err() != nil {
				return nil, context.Canceled
			}
			return nil, fmt.Errorf("wait for interfaces: %w", err)
		}
	}
}

// interfaces looks the kernel's interfaces through. missing is a wanted one that
// is not there.
func interfaces(sys int, wanted []wire.Interface) (all map[string]found, missing string, err error) {
	names, err := readDir(sys, "/sys", "class/net")
	if err != nil {
		return nil, "", err
	}
	all = map[string]found{}
	for _, name := range names {
		target, err := readLink(sys, "/sys", "class/net/"+name)
		if err != nil {
			continue // just gone, or a file like bonding_masters
		}
		index, err := readFileAt(sys, "/sys", "class/net/"+name+"/ifindex")
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

func (a *Agent) setInterface(link *rtnetlink, want *wire.Interface, is found) error {
	addresses := make([]netip.Prefix, len(want.Addresses))
	for i, text := range want.Addresses {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return err
		}
		addresses[i] = p
	}
	sys := a.cfg.Sys
	before := a.net.given[want.Path]
	mac, err := readFileAt(sys, "/sys", "class/net/"+want.Name+"/address")
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
	if a.net.given == nil {
		a.net.given = map[string][]netip.Prefix{}
	}
	a.net.given[want.Path] = addresses
	if err := a.removeRoutes(link, want, is.index); err != nil {
		return err
	}
	if len(addresses) == 0 {
		return nil
	}
	// Nobody on the bridge is asked for routes, and no address is defended:
	// the bridge stays silent. Kernels without IPv6 have none of this.
	for _, setting := range []string{"accept_ra", "accept_dad", "router_solicitations"} {
		_ = writeFileAt(a.cfg.Proc, "/proc", "sys/net/ipv6/conf/"+want.Name+"/"+setting, "0")
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
	return a.addRoutes(link, want, is.index)
}

// setNames gives interfaces their names, also when they have them already: udev
// leaves alone what somebody has named.
func (a *Agent) setNames(link *rtnetlink, wanted []wire.Interface, all map[string]found) error {
	var todo []*wire.Interface
	for i := range wanted {
		w := &wanted[i]
		if _, known := a.net.given[w.Path]; !known || all[w.Path].name != w.Name {
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

// openAt opens a file of a pseudo file system: below a descriptor of its root, or
// at its usual place where there is none.
func openAt(root int, place, name string, flags int) (*os.File, error) {
	at, full := root, name
	if root == 0 {
		at, full = unix.AT_FDCWD, place+"/"+name
	}
	var fd int
	err := retry(func() (err error) {
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
