package netconf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

// route is a network that is reached by way of a gateway.
type route struct {
	to     netip.Prefix
	via    netip.Addr
	metric uint32
}

// maxMetric keeps metrics of interfaces far below those of the kernel's own routes.
const maxMetric = 1 << 16

// routesOf parses the routes of an interface.
func routesOf(want *wire.Interface) ([]route, error) {
	if want.Metric > maxMetric {
		return nil, fmt.Errorf("metric %d of routes, at most %d are possible", want.Metric, maxMetric)
	}
	var via4, via6 netip.Addr
	for _, text := range want.Gateways {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, err
		}
		if a.Is4() {
			via4 = a
		} else {
			via6 = a
		}
	}
	routes := make([]route, len(want.Routes))
	for i, text := range want.Routes {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		routes[i] = route{p.Masked(), via6, uint32(want.Metric)}
		if p.Addr().Is4() {
			routes[i].via = via4
		}
		if !routes[i].via.IsValid() {
			return nil, fmt.Errorf("route to %v without a gateway", p)
		}
	}
	return routes, nil
}

// removeRoutes removes the routes of an interface that are no longer wanted, and
// records those that are.
func (n *Network) removeRoutes(link *rtnetlink, want *wire.Interface, index int) error {
	routes, err := routesOf(want)
	if err != nil {
		return err
	}
	for _, r := range n.routes[want.Path] {
		if slices.Contains(routes, r) {
			continue
		}
		if err := link.removeRoute(index, r); err != nil {
			return fmt.Errorf("remove route to %v: %w", r.to, err)
		}
	}
	if n.routes == nil {
		n.routes = map[string][]route{}
	}
	n.routes[want.Path] = routes
	return nil
}

// addRoutes adds the routes that removeRoutes has recorded.
func (n *Network) addRoutes(link *rtnetlink, want *wire.Interface, index int) error {
	for _, r := range n.routes[want.Path] {
		err := link.addRoute(index, r)
		if r.to.Addr().Is6() && err != nil && noIPv6(n.proc) {
			continue
		}
		if err != nil {
			return fmt.Errorf("add route to %v: %w", r.to, err)
		}
	}
	return nil
}

// noIPv6 reports whether the kernel has no IPv6, or has it disabled.
func noIPv6(proc int) bool {
	disabled, err := readFileAt(proc, "/proc", "sys/net/ipv6/conf/all/disable_ipv6")
	return err != nil || disabled == "1\n"
}

// routeBody is struct rtmsg with its attributes.
func routeBody(index int, r route) []byte {
	family := byte(unix.AF_INET6)
	if r.to.Addr().Is4() {
		family = unix.AF_INET
	}
	b := []byte{
		family, byte(r.to.Bits()), 0, 0,
		unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0,
	}
	b = attribute(b, unix.RTA_DST, r.to.Addr().AsSlice())
	b = attribute(b, unix.RTA_GATEWAY, r.via.AsSlice())
	b = attribute(b, unix.RTA_OIF, nativeUint32(uint32(index)))
	return attribute(b, unix.RTA_PRIORITY, nativeUint32(r.metric))
}

func (r *rtnetlink) addRoute(index int, to route) error {
	return r.do(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, routeBody(index, to))
}

// removeRoute removes a route. It succeeds if the route is gone already.
func (r *rtnetlink) removeRoute(index int, to route) error {
	err := r.do(unix.RTM_DELROUTE, 0, routeBody(index, to))
	for _, gone := range []error{unix.ESRCH, unix.ENODEV, unix.EAFNOSUPPORT, unix.EOPNOTSUPP} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	return err
}
