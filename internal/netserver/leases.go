package netserver

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Lease is an address that a client has.
type Lease struct {
	Addr     netip.Addr
	MAC      net.HardwareAddr
	Hostname string // that the client has sent
	Expires  time.Time
}

// offerTime is how long an address is kept for a client that was offered it.
const offerTime = time.Minute

// lease is an address that is not free.
type lease struct {
	Lease
	key   string // of the client; "" for an address that a client has found in use
	bound bool   // the client has requested it
}

// leases are the addresses that are not free.
type leases struct {
	cfg *DHCPConfig
	of  map[netip.Addr]*lease
}

// get returns what holds an address now, or nil.
func (l *leases) get(a netip.Addr, now time.Time) *lease {
	held := l.of[a]
	if held != nil && !now.Before(held.Expires) {
		delete(l.of, a)
		return nil
	}
	return held
}

// byKey returns the lease of a client, or nil.
func (l *leases) byKey(key string, now time.Time) *lease {
	for a := range l.of {
		if held := l.get(a, now); held != nil && held.key == key {
			return held
		}
	}
	return nil
}

// choose returns the address for a client: its fixed one, the one that it has, the one that
// it wants, or the first free one. It returns false if there is none.
func (l *leases) choose(key string, mac net.HardwareAddr, wanted netip.Addr, now time.Time) (netip.Addr, bool) {
	free := func(a netip.Addr) bool {
		held := l.get(a, now)
		return held == nil || held.key == key
	}
	if a := l.cfg.Fixed(mac); a.IsValid() {
		return a, free(a)
	}
	if held := l.byKey(key, now); held != nil && l.inRange(held.Addr) {
		return held.Addr, true
	}
	if l.inRange(wanted) && free(wanted) {
		return wanted, true
	}
	for a := l.cfg.First; a.IsValid() && a.Compare(l.cfg.Last) <= 0; a = a.Next() {
		if l.inRange(a) && free(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// inRange reports whether an address is one of those for any client.
func (l *leases) inRange(a netip.Addr) bool {
	return a.Is4() && l.cfg.First.IsValid() && a.Compare(l.cfg.First) >= 0 && a.Compare(l.cfg.Last) <= 0 &&
		a != l.cfg.Address.Addr() && !l.cfg.Taken(a)
}

// put leases an address to a client, and frees what it had.
func (l *leases) put(key string, mac net.HardwareAddr, a netip.Addr, hostname string, bound bool, until time.Time) {
	l.drop(key)
	l.of[a] = &lease{Lease{a, slices.Clone(mac), hostname, until}, key, bound}
}

// drop frees the address of a client.
func (l *leases) drop(key string) {
	for a, held := range l.of {
		if held.key == key && key != "" {
			delete(l.of, a)
		}
	}
}

// bound returns the leases of clients, by address.
func (l *leases) bound(now time.Time) (all []Lease) {
	for a := range l.of {
		if held := l.get(a, now); held != nil && held.bound && held.key != "" {
			all = append(all, held.Lease)
		}
	}
	slices.SortFunc(all, func(a, b Lease) int { return a.Addr.Compare(b.Addr) })
	return all
}

// addressCount returns the number of addresses from first to last, both of IPv4.
func addressCount(first, last netip.Addr) int64 {
	a, b := first.As4(), last.As4()
	return int64(binary.BigEndian.Uint32(b[:])) - int64(binary.BigEndian.Uint32(a[:])) + 1
}
