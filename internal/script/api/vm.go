package api

import (
	"context"
	"fmt"
	"maps"
	"time"

	"provium/internal/guest/handle"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// powerButtonWait is how long power_button waits by default.
const powerButtonWait = 30 * time.Second

type vmMethod = binding.Method[*env, *lab.VM]

// newVMType makes the type of VMs. more are their methods from other packages.
func newVMType(x *env, more ...map[string]lua.GoFunc) *lua.Type {
	t := &lua.Type{
		Name:     "vm",
		Methods:  binding.MethodTable(x, "vm", vmMethods()),
		ToString: func(_ *lua.Call, obj any) string { return vmText(obj.(*lab.VM)) },
	}
	for _, methods := range append(more, guestMethods[*lab.VM](x, "vm")) {
		maps.Copy(t.Methods, methods)
	}
	return t
}

func vmMethods() map[string]vmMethod {
	return map[string]vmMethod{
		"boot":     vmBoot,
		"pause":    plainVMOp((*lab.VM).Pause),
		"resume":   plainVMOp((*lab.VM).Resume),
		"reset":    plainVMOp((*lab.VM).Reset),
		"shutdown": plainVMOp((*lab.VM).Shutdown),
		"close":    plainVMOp((*lab.VM).Close),
		"wakeup":   plainVMOp((*lab.VM).Wakeup),

		"power_button": vmPowerButton,
		"wait_reboot":  vmWaitReboot,
		"dmesg":        vmDmesg,
		"snapshot":     vmSnapshot,
		"restore":      vmRestore,
		"fork":         vmFork,

		"spawn_worker": vmSpawnWorker,
		"batch":        vmBatch,

		"console": func(x *env, _ value.Args, vm *lab.VM) ([]lua.Value, error) {
			return []lua.Value{x.State.NewUserdata(x.Types.Console, vm.Console())}, nil
		},
		"clock": func(x *env, _ value.Args, vm *lab.VM) ([]lua.Value, error) {
			return []lua.Value{x.State.NewUserdata(x.Types.Clock, handle.NewClock(vm))}, nil
		},

		"name":    vmValue(func(vm *lab.VM) lua.Value { return vm.Name() }),
		"profile": vmValue(func(vm *lab.VM) lua.Value { return vm.Profile() }),
		"state":   vmValue(func(vm *lab.VM) lua.Value { return string(vm.State()) }),
		"cid": vmValue(func(vm *lab.VM) lua.Value {
			if cid, ok := vm.CID(); ok {
				return int64(cid)
			}
			return nil
		}),
		"is_quiescent":      vmValue(func(vm *lab.VM) lua.Value { return vm.IsQuiescent() }),
		"open_file_count":   vmValue(func(vm *lab.VM) lua.Value { return int64(vm.OpenFileCount()) }),
		"open_stream_count": vmValue(func(vm *lab.VM) lua.Value { return int64(vm.OpenStreamCount()) }),
	}
}

// plainVMOp is an operation without arguments or value.
func plainVMOp(do func(*lab.VM, context.Context) error) vmMethod {
	return func(x *env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
		return nil, x.Op(a, vm, func(ctx context.Context) error { return do(vm, ctx) })
	}
}

// vmValue is an accessor; it works in every state.
func vmValue(get func(*lab.VM) lua.Value) vmMethod {
	return func(_ *env, _ value.Args, vm *lab.VM) ([]lua.Value, error) { return []lua.Value{get(vm)}, nil }
}

func vmText(vm *lab.VM) string {
	cid := "-"
	if n, ok := vm.CID(); ok {
		cid = fmt.Sprint(n)
	}
	return fmt.Sprintf("vm(%s state=%s cid=%s)", vm.Name(), vm.State(), cid)
}

func vmBoot(x *env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	opts, err := bootOpts(x, a, 1)
	if err != nil {
		return nil, err
	}
	err = x.Op(a, vm, func(ctx context.Context) error { return vm.Boot(ctx, opts) })
	return value.Results(err, x.VM(vm))
}

func vmPowerButton(x *env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	limit, err := a.Duration(1, "timeout", powerButtonWait)
	if err != nil {
		return nil, err
	}
	var graceful bool
	err = x.Op(a, vm, func(ctx context.Context) (err error) {
		graceful, err = vm.PowerButton(ctx, limit)
		return err
	})
	if err == nil && !graceful {
		x.Warn(fmt.Sprintf("vm `%s` ignored the power button for %s and was stopped hard", vm.Name(),
			value.FormatSeconds(limit)))
	}
	return value.Results(err, graceful)
}
