package api

import (
	"context"

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
