// Package osapi is the Lua API of what the operating system of a guest has reached: the methods of VMs that wait for
// files, ports, units and the end of the boot, and the journal.
//
// It checks arguments and turns results into Lua values; the waits are those of package guestos.
package osapi

import (
	"context"
	"fmt"
	"time"

	"provium/internal/deadline"
	"provium/internal/guestos"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

const (
	defaultWait = 30 * time.Second
	bootWait    = 5 * time.Minute // of wait_boot
)

// Methods returns the methods that VMs have.
func Methods(x *binding.Env) map[string]lua.GoFunc {
	return binding.MethodTable(x, "vm", map[string]binding.Method[*binding.Env, *lab.VM]{
		"wait_file": waitFile,
		"wait_port": waitPort,
		"wait_unit": waitUnit,
		"wait_boot": waitBoot,
		"journal":   journal,
	})
}

// op carries out what waits for at most the option `timeout`.
func op(x *binding.Env, a value.Args, o value.Options, vm *lab.VM, absent time.Duration,
	wait func(ctx context.Context, g guestos.Guest, limit *deadline.Deadline) error) ([]lua.Value, error) {
	limit, err := o.Duration("timeout", absent)
	if err != nil {
		return nil, err
	}
	err = x.Op(a, vm, func(ctx context.Context) error {
		return wait(ctx, vm.AsActor(), deadline.Begin(limit, deadline.Clock{}))
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Func, err)
	}
	return nil, nil
}

// waitFile is vm:wait_file(path, opts?).
func waitFile(x *binding.Env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	o, err := a.Options(2)
	if err != nil {
		return nil, err
	}
	return op(x, a, o, vm, defaultWait, func(ctx context.Context, g guestos.Guest, limit *deadline.Deadline) error {
		return guestos.AwaitFile(ctx, g, limit, path)
	})
}

// waitPort is vm:wait_port(port, opts?).
func waitPort(x *binding.Env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	port, ok := value.ToInteger(a.Value(1))
	if !ok {
		return nil, a.TypeError(1, "port", "an integer")
	}
	if port < 1 || port > 65535 {
		return nil, a.Errorf("argument 1 (port) must be between 1 and 65535, got %d", port)
	}
	o, err := a.Options(2)
	if err != nil {
		return nil, err
	}
	protocol, err := o.Choice("protocol", guestos.Protocols()[0], guestos.Protocols()...)
	if err != nil {
		return nil, err
	}
	return op(x, a, o, vm, defaultWait, func(ctx context.Context, g guestos.Guest, limit *deadline.Deadline) error {
		return guestos.AwaitPort(ctx, g, limit, protocol, int(port))
	})
}

// waitUnit is vm:wait_unit(name, opts?).
func waitUnit(x *binding.Env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	name, err := a.Str(1, "name")
	if err != nil {
		return nil, err
	}
	if err := guestos.CheckUnit(name); err != nil {
		return nil, a.Errorf("%w", err)
	}
	o, err := a.Options(2)
	if err != nil {
		return nil, err
	}
	state, err := o.Choice("state", guestos.UnitStates()[0], guestos.UnitStates()...)
	if err != nil {
		return nil, err
	}
	return op(x, a, o, vm, defaultWait, func(ctx context.Context, g guestos.Guest, limit *deadline.Deadline) error {
		return guestos.AwaitUnit(ctx, g, limit, name, state)
	})
}

// waitBoot is vm:wait_boot(opts?).
func waitBoot(x *binding.Env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	return op(x, a, o, vm, bootWait, guestos.AwaitBoot)
}

// journal is vm:journal(opts?).
func journal(x *binding.Env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	var q guestos.JournalQuery
	if q.Unit, err = o.Str("unit", ""); err != nil {
		return nil, err
	}
	if o.Has("unit") {
		if err := guestos.CheckUnit(q.Unit); err != nil {
			return nil, o.Errorf("unit", "is wrong: %w", err)
		}
	}
	if q.Since, err = o.Duration("since", 0); err != nil {
		return nil, err
	}
	lines, err := o.IntegerWithin("lines", 0, 1, 1<<31-1)
	if err != nil {
		return nil, err
	}
	q.Lines = int(lines)
	var entries []guestos.JournalEntry
	err = x.Op(a, vm, func(ctx context.Context) (err error) {
		entries, err = guestos.Journal(ctx, vm.AsActor(), q)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Func, err)
	}
	return []lua.Value{value.Array(x.State, entries, func(e guestos.JournalEntry) lua.Value {
		return entry(x.State, e)
	})}, nil
}

// entry is an entry of a journal as Lua has it.
func entry(s *lua.State, e guestos.JournalEntry) lua.Value {
	t := s.NewTable()
	for _, f := range []struct {
		key string
		v   lua.Value
	}{
		{"time", float64(e.Time.UnixMicro()) / 1e6}, {"uptime", e.Uptime.Seconds()}, {"priority", int64(e.Priority)},
		{"message", e.Message},
	} {
		value.MustSet(t, f.key, f.v)
	}
	if e.Unit != "" {
		value.MustSet(t, "unit", e.Unit)
	}
	if e.Identifier != "" {
		value.MustSet(t, "identifier", e.Identifier)
	}
	if e.PID != 0 {
		value.MustSet(t, "pid", int64(e.PID))
	}
	return t
}
