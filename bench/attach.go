//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"provium/internal/guest"
	"provium/internal/lab"
	"provium/internal/network"
	"provium/internal/topology"
)

const attachRounds = 15

// attach measures how long a running guest takes from being put on a bridge to
// the first answer to its ping, beside what a ping takes on a bridge on which it
// has been all the time.
func (b *bench) attach(ctx context.Context) (err error) {
	l, err := b.lab()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(append(l.CloseScope(ctx), err)...) }()
	var vms [2]*lab.VM
	var ends [2]network.Endpoint
	old, err := l.Bridge("old", nil)
	if err != nil {
		return err
	}
	for i, name := range []string{"a", "b"} {
		if vms[i], err = l.DeclareVM(name, "host", &topology.BootOpts{Memory: guestMemory}); err != nil {
			return err
		}
		ends[i] = network.Endpoint{VM: vms[i], Name: name}
	}
	if err := old.Attach(ctx, ends[:]); err != nil {
		return err
	}
	if err := l.Boot(ctx); err != nil {
		return err
	}
	var hot, settled sample
	for round := range attachRounds {
		fresh, err := l.Bridge(fmt.Sprint("fresh", round), nil)
		if err != nil {
			return err
		}
		if err := fresh.Attach(ctx, ends[1:]); err != nil {
			return err
		}
		start := time.Now()
		if err := fresh.Attach(ctx, ends[:1]); err != nil {
			return err
		}
		if err := ping(ctx, vms[0], "b."+fresh.Name()); err != nil {
			return err
		}
		hot = append(hot, time.Since(start))
		start = time.Now()
		if err := ping(ctx, vms[0], "b.old"); err != nil {
			return err
		}
		settled = append(settled, time.Since(start))
		if err := fresh.Close(ctx); err != nil {
			return err
		}
	}
	const limit = 500 * time.Millisecond
	b.table.compare(row{figure: "hot attach to the first answered ping", value: hot.String(),
		reference: settled.String() + " (a ping alone)",
		target:    "<= " + short(limit)}, hot.median() <= limit)
	return nil
}

func ping(ctx context.Context, vm *lab.VM, to string) error {
	r, err := vm.Run(ctx, guest.RunRequest{Shell: "ping -c 1 -W 10 " + to})
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("ping %s: %s%s", to, r.Stdout, r.Stderr)
	}
	return err
}
