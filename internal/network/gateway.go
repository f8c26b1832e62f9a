package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"

	"provium/internal/vnet"
	"provium/internal/vnet/gateway"
	"provium/internal/vnet/uplink"
)

// bridgeGateway is the router on a bridge's switch, with the stack that ends the
// connections of uplink and forwards.
type bridgeGateway struct {
	inside *vnet.Inside
	router *gateway.Gateway
	stack  *uplink.Stack
}

// openGateway puts a gateway on the switch unless there is one. The caller must
// hold net.mu, and call syncGateway afterwards.
func (b *Bridge) openGateway() error {
	if b.gateway != nil {
		return nil
	}
	id := digest(b.lab, vnet.GatewayName, b.name)
	port := b.sw.AddPort(vnet.GatewayName)
	router, err := gateway.New(gateway.Config{MAC: net.HardwareAddr{0x02, id[0], id[1], id[2], id[3], id[4]},
		V4: b.v4, V6: b.v6, Send: port.Send, Isolated: b.sw.IsolatedAddress})
	if err != nil {
		b.sw.RemovePort(vnet.GatewayName)
		return err
	}
	stack, err := uplink.New(uplink.Config{V4: b.v4, V6: b.v6, Deliver: router.Deliver, Refuse: router.Refuse,
		Resolvers: hostResolvers})
	if err != nil {
		b.sw.RemovePort(vnet.GatewayName)
		router.Close()
		return err
	}
	b.gateway = &bridgeGateway{inside: port.Join(router.Receive), router: router, stack: stack}
	return nil
}

// hostResolvers returns the name servers of the host.
func hostResolvers() []netip.AddrPort {
	text, _ := os.ReadFile("/etc/resolv.conf") // without the file: the default
	return uplink.ParseResolvers(text)
}

// syncGateway makes the gateway do what routes, uplink and forwards need, and
// closes it when they are gone. The caller must hold net.mu.
func (b *Bridge) syncGateway() {
	g := b.gateway
	if g == nil {
		return
	}
	if len(b.routes) == 0 && !b.uplink && len(b.forwards) == 0 {
		// From the inside out: guests still hear that their connections end.
		g.stack.Close()
		g.router.Close()
		b.sw.RemovePort(vnet.GatewayName)
		g.inside.Close()
		b.gateway = nil
		return
	}
	var peers []*gateway.Gateway
	for _, to := range b.routes {
		peers = append(peers, to.gateway.router)
	}
	g.router.SetPeers(peers)
	if b.uplink {
		g.stack.Enable()
	} else {
		g.stack.Disable()
	}
	if b.uplink || len(b.forwards) > 0 {
		g.router.SetUplink(g.stack)
	} else {
		g.router.SetUplink(nil)
	}
}

// mayServe returns an error if the bridge cannot have a gateway. The caller must
// hold net.mu.
func (b *Bridge) mayServe() error {
	if b.closed {
		return fmt.Errorf("bridge `%s` is closed", b.name)
	}
	if !b.addressing {
		return fmt.Errorf("bridge `%s` has no addressing (addressing = \"none\"), and a gateway needs an address",
			b.name)
	}
	return b.mayAnswer("a gateway")
}

// EnableUplink lets guests reach other networks through the host. Enabling it
// again does nothing.
func (b *Bridge) EnableUplink(ctx context.Context) error {
	if err := b.setUplink(true); err != nil {
		return err
	}
	return b.announce(ctx, nil)
}

// DisableUplink undoes EnableUplink and ends the connections. Disabling it again
// does nothing.
func (b *Bridge) DisableUplink(ctx context.Context) error {
	if err := b.setUplink(false); err != nil {
		return err
	}
	return b.announce(ctx, nil)
}

func (b *Bridge) setUplink(on bool) error {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	if on {
		if err := b.mayServe(); err != nil {
			return err
		}
		if err := b.openGateway(); err != nil {
			return fmt.Errorf("bridge `%s` uplink: %w", b.name, err)
		}
	}
	b.uplink = on
	b.syncGateway()
	return nil
}

// dropServices removes routes and uplink, closes the gateway, and returns the
// bridges that were routed to. There must be no forwards. The caller must hold
// net.mu.
func (b *Bridge) dropServices() []*Bridge {
	routed := b.routes
	b.routes, b.uplink = nil, false
	for _, o := range routed {
		o.routes = without(o.routes, b)
		o.syncGateway()
	}
	b.syncGateway()
	return routed
}
