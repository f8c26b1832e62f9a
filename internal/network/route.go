package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Route connects the bridge to others by their gateways, each pair in both
// directions: all of them or, if one cannot be, none. It returns when running
// guests have the routes.
func (b *Bridge) Route(ctx context.Context, others []*Bridge) error {
	b.net.mu.Lock()
	err := b.mayRoute(others)
	if err == nil {
		err = b.addRoutes(others)
	}
	members := membersOf(append([]*Bridge{b}, others...)...)
	b.net.mu.Unlock()
	if err != nil {
		return err
	}
	if err := b.net.syncAll(ctx, members); err != nil {
		return fmt.Errorf("bridge `%s` routes: %w", b.name, err)
	}
	return nil
}

// mayRoute returns an error if one of the routes is not possible. The caller must
// hold net.mu.
func (b *Bridge) mayRoute(others []*Bridge) error {
	if err := b.mayServe(); err != nil {
		return err
	}
	for _, o := range others {
		if o == b {
			return fmt.Errorf("bridge `%s` cannot be routed to itself", b.name)
		}
		if err := o.mayServe(); err != nil {
			return err
		}
	}
	return nil
}

// addRoutes opens the gateways of all bridges and adds the routes that are
// missing. The caller must hold net.mu.
func (b *Bridge) addRoutes(others []*Bridge) error {
	all := append([]*Bridge{b}, others...)
	var errs []error
	for _, o := range all {
		errs = append(errs, o.openGateway())
	}
	err := errors.Join(errs...)
	if err == nil {
		for _, o := range others {
			b.connect(o)
		}
	}
	for _, o := range all {
		o.syncGateway()
	}
	if err != nil {
		return fmt.Errorf("bridge `%s` route: %w", b.name, err)
	}
	return nil
}

// Routes returns the names of the bridges that this one is routed to, in order of
// routing, then those of the bridges that routes wait for.
func (b *Bridge) Routes() []string {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	names := make([]string, 0, len(b.routes)+len(b.awaitedRoutes))
	for _, o := range b.routes {
		names = append(names, o.name)
	}
	return append(names, b.awaitedNames()...)
}

// awaitedRoute is a route to a bridge that does not exist yet.
type awaitedRoute struct {
	name  string
	scope Scope // beside the bridge's own, where it may be created
}

// awaitedNames returns the names of the bridges that routes wait for. The caller must hold
// net.mu.
func (b *Bridge) awaitedNames() (names []string) {
	for _, r := range b.awaitedRoutes {
		names = append(names, r.name)
	}
	return names
}

// AwaitRoute makes a route to the bridge of that name begin when it is created where
// b's scope or the given one finds it.
func (b *Bridge) AwaitRoute(name string, scope Scope) error {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	if err := b.mayServe(); err != nil {
		return err
	}
	if !slices.Contains(b.awaitedNames(), name) {
		b.awaitedRoutes = append(b.awaitedRoutes, awaitedRoute{name, scope})
	}
	return nil
}

// ConnectAwaited adds the routes that have waited for b. No guest is told until SyncRoutes.
func (b *Bridge) ConnectAwaited() error {
	for _, o := range b.net.open() {
		if !o.awaits(b) {
			continue
		}
		b.net.mu.Lock()
		err := b.mayRoute([]*Bridge{o})
		if err == nil {
			err = b.addRoutes([]*Bridge{o})
		}
		if err == nil {
			b.unsynced = true
			o.awaitedRoutes = slices.DeleteFunc(o.awaitedRoutes, func(r awaitedRoute) bool { return r.name == b.name })
		}
		b.net.mu.Unlock()
		if err != nil {
			return fmt.Errorf("bridge `%s` waits for a route to `%s`: %w", o.name, b.name, err)
		}
	}
	return nil
}

// awaits reports whether a route waits for that bridge.
func (b *Bridge) awaits(o *Bridge) bool {
	b.net.mu.Lock()
	at := slices.IndexFunc(b.awaitedRoutes, func(r awaitedRoute) bool { return r.name == o.name })
	var in Scope
	if at >= 0 {
		in = b.awaitedRoutes[at].scope
	}
	b.net.mu.Unlock()
	if in == nil {
		return false
	}
	for _, s := range []Scope{b.scope, in} {
		if found, ok := s.Bridge(o.name); ok && found == o {
			return true
		}
	}
	return false
}

// NeedsSync reports whether there are routes that guests have not been told of.
func (b *Bridge) NeedsSync() bool {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	return b.unsynced
}

// SyncRoutes tells the guests of routes that ConnectAwaited has added.
func (b *Bridge) SyncRoutes(ctx context.Context) error {
	b.net.mu.Lock()
	b.unsynced = false
	members := membersOf(append([]*Bridge{b}, b.routes...)...)
	b.net.mu.Unlock()
	if err := b.net.syncAll(ctx, members); err != nil {
		return fmt.Errorf("bridge `%s` routes: %w", b.name, err)
	}
	return nil
}

// connect adds the route between two bridges, whose gateways must be open, unless
// there is one. The caller must hold net.mu and call syncGateway of both.
func (b *Bridge) connect(o *Bridge) {
	if !slices.Contains(b.routes, o) {
		b.routes, o.routes = append(b.routes, o), append(o.routes, b)
	}
}

// disconnect removes the route between two bridges. The caller must hold net.mu
// and call syncGateway of both.
func (b *Bridge) disconnect(o *Bridge) {
	b.routes, o.routes = without(b.routes, o), without(o.routes, b)
}

// without returns a copy of list that does not contain b.
func without(list []*Bridge, b *Bridge) []*Bridge {
	return slices.DeleteFunc(slices.Clone(list), func(o *Bridge) bool { return o == b })
}
