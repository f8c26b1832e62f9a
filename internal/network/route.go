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
	if err := syncAll(ctx, members); err != nil {
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
// routing.
func (b *Bridge) Routes() []string {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	names := make([]string, len(b.routes))
	for i, o := range b.routes {
		names[i] = o.name
	}
	return names
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
