package api

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"provium/internal/guest"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/printk"
	"provium/internal/script/value"
	"provium/internal/topology"
)

// vmWaitReboot waits for a reboot that the guest makes by itself.
func vmWaitReboot(x *env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	limit, err := a.Duration(1, "timeout", -1)
	if err != nil {
		return nil, err
	}
	err = x.Op(a, vm, func(ctx context.Context) error { return vm.WaitReboot(ctx, limit) })
	return value.Results(err, true)
}

// kernelLog returns the log of a guest's kernel as syslog(2) has it. It is read from the guest's
// memory; where that has no log that can be read, the agent is asked, and of a guest without an
// agent it is what the console shows.
func kernelLog(ctx context.Context, vm *lab.VM) ([]byte, error) {
	fromAgent := func() ([]byte, error) { return vm.AsActor().KernelLog(ctx) }
	if s := vm.State(); s == topology.Created || s == topology.Shutdown {
		return fromAgent() // its error names the state
	}
	records, err := vm.Inspect().KernelLog(ctx)
	if err == nil {
		return printk.AppendLines(nil, records), nil
	}
	if vm.State() != topology.Dead && !vm.IsAgentless() {
		var log []byte
		var gone interface {
			error
			GuestIsGone()
		}
		if log, err = fromAgent(); err == nil || !errors.As(err, &gone) {
			return log, err
		}
	}
	if text, e := vm.Console().ReadLog(); e == nil && len(text) > 0 {
		return text, nil
	}
	return nil, fmt.Errorf("vm `%s` dmesg: %w", vm.Name(), err)
}

// vmDmesg is vm:dmesg(opts?).
func vmDmesg(x *env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	levels := guest.LogLevels()
	level, err := o.Choice("level", levels[len(levels)-1], levels...)
	if err != nil {
		return nil, err
	}
	filter := guest.LogFilter{Level: slices.Index(levels, level)}
	if filter.Since, err = o.Duration("since", 0); err != nil {
		return nil, err
	}
	var log []byte
	err = x.Op(a, vm, func(ctx context.Context) (err error) {
		log, err = kernelLog(ctx, vm)
		return err
	})
	if err != nil {
		return nil, err
	}
	text, err := filter.Text(log)
	if err != nil {
		return nil, o.Errorf("since", "cannot be applied: %w", err)
	}
	return []lua.Value{string(text)}, nil
}
