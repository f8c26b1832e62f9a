package api

import (
	"context"
	"slices"

	"provium/internal/guest"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
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
		log, err = vm.AsActor().KernelLog(ctx)
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
