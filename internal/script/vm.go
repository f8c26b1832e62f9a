package script

import (
	"context"
	"fmt"
	"maps"
	"time"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

// powerButtonWait is how long power_button waits by default.
const powerButtonWait = 30 * time.Second

type vmMethod = func(f *file, a value.Args, vm *lab.VM) ([]lua.Value, error)

func (f *file) newVMType() *lua.Type {
	t := &lua.Type{
		Name:     "vm",
		Methods:  methodTable(f, "vm", vmMethods()),
		ToString: func(_ *lua.Call, obj any) string { return vmText(obj.(*lab.VM)) },
	}
	maps.Copy(t.Methods, guestMethods[*lab.VM](f, "vm"))
	return t
}

func vmMethods() map[string]vmMethod {
	return map[string]vmMethod{
		"boot":     (*file).vmBoot,
		"pause":    plainVMOp((*lab.VM).Pause),
		"resume":   plainVMOp((*lab.VM).Resume),
		"reset":    plainVMOp((*lab.VM).Reset),
		"shutdown": plainVMOp((*lab.VM).Shutdown),
		"close":    plainVMOp((*lab.VM).Close),
		"wakeup":   plainVMOp((*lab.VM).Wakeup),

		"power_button": (*file).vmPowerButton,
		"snapshot":     (*file).vmSnapshot,
		"nic":          (*file).vmNIC,
		"restore":      (*file).vmRestore,
		"fork":         (*file).vmFork,

		"spawn_worker": (*file).vmSpawnWorker,
		"batch":        (*file).vmBatch,

		"attach_disk": (*file).vmAttachDisk,
		"disk":        (*file).vmDisk,

		"console": func(f *file, _ value.Args, vm *lab.VM) ([]lua.Value, error) {
			return []lua.Value{f.state.NewUserdata(f.types.console, vm.Console())}, nil
		},
		"clock": func(f *file, _ value.Args, vm *lab.VM) ([]lua.Value, error) {
			return []lua.Value{f.state.NewUserdata(f.types.clock, vm.Clock())}, nil
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
	return func(f *file, a value.Args, vm *lab.VM) ([]lua.Value, error) {
		return nil, f.op(a, vm, func(ctx context.Context) error { return do(vm, ctx) })
	}
}

// vmValue is an accessor; it works in every state.
func vmValue(get func(*lab.VM) lua.Value) vmMethod {
	return func(_ *file, _ value.Args, vm *lab.VM) ([]lua.Value, error) { return []lua.Value{get(vm)}, nil }
}

// vmHandle is the one handle of a VM.
func (f *file) vmHandle(vm *lab.VM) lua.Value { return f.state.NewUserdata(f.types.vm, vm) }

func vmText(vm *lab.VM) string {
	cid := "-"
	if n, ok := vm.CID(); ok {
		cid = fmt.Sprint(n)
	}
	return fmt.Sprintf("vm(%s state=%s cid=%s)", vm.Name(), vm.State(), cid)
}

func (f *file) vmBoot(a value.Args, vm *lab.VM) ([]lua.Value, error) {
	opts, err := bootOpts(a, 1)
	if err != nil {
		return nil, err
	}
	err = f.op(a, vm, func(ctx context.Context) error { return vm.Boot(ctx, opts) })
	return value.Results(err, f.vmHandle(vm))
}

func (f *file) vmPowerButton(a value.Args, vm *lab.VM) ([]lua.Value, error) {
	limit, err := a.Duration(1, "timeout", powerButtonWait)
	if err != nil {
		return nil, err
	}
	var graceful bool
	err = f.op(a, vm, func(ctx context.Context) (err error) {
		graceful, err = vm.PowerButton(ctx, limit)
		return err
	})
	if err == nil && !graceful {
		f.current.warn(fmt.Sprintf("vm `%s` ignored the power button for %s and was stopped hard", vm.Name(), value.FormatSeconds(limit)))
	}
	return value.Results(err, graceful)
}
