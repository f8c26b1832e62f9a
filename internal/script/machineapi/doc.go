// Package machineapi is the Lua API of the machine below a guest: the commands of QEMU's
// monitor, its gdb stub, its screen and its keyboard.
//
// It has no logic of machines: it checks arguments, calls package lab and turns results into
// Lua values. What it needs of the running test is behind binding.Runner.
//
// Start with Open, which lists the methods.
package machineapi

import (
	"context"
	"encoding/json"

	"provium/internal/debugger"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/qemu"
	"provium/internal/script/binding"
	"provium/internal/script/luajson"
	"provium/internal/script/value"
)

type env = binding.Env

// Open returns the methods that VMs have.
func Open(x *binding.Env) (vm map[string]lua.GoFunc) {
	x.Types.Screen, x.Types.Keyboard = newScreenType(x), newKeyboardType(x)
	return binding.MethodTable(x, "vm", map[string]binding.Method[*env, *lab.VM]{
		"qmp": vmQMP, "gdb": vmGDB, "screen": vmScreen, "keyboard": vmKeyboard,
	})
}

// vmQMP is vm:qmp(command, arguments?).
func vmQMP(x *env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	if err := a.AtMost(2, "command, arguments"); err != nil {
		return nil, err
	}
	command, err := a.Str(1, "command")
	if err != nil {
		return nil, err
	}
	var arguments json.RawMessage
	switch v := a.Value(2).(type) {
	case nil:
	case *lua.Table:
		text, err := luajson.Encode(v)
		if err != nil {
			return nil, a.Errorf("argument 2 (arguments): %w", err)
		}
		arguments = json.RawMessage(text)
	default:
		return nil, a.TypeError(2, "arguments", "a table")
	}
	var reply json.RawMessage
	err = x.Op(a, vm, func(ctx context.Context) error {
		return vm.OnMachine(ctx, "qmp", func(m *qemu.Machine) (err error) {
			reply, err = m.MonitorCommand(ctx, command, arguments)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	v, err := luajson.Decode(x.State, string(reply))
	return value.Results(err, v)
}

// vmGDB is vm:gdb().
func vmGDB(x *env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	var d debugger.Debugger
	err := x.Op(a, vm, func(ctx context.Context) (err error) {
		d, err = debugger.Open(ctx, vm)
		return err
	})
	if err != nil {
		return nil, err
	}
	t := x.State.NewTable()
	value.MustSet(t, "socket", d.Socket)
	value.MustSet(t, "offset", int64(d.Offset))
	value.MustSet(t, "command", d.Command())
	if d.Vmlinux != "" {
		value.MustSet(t, "vmlinux", d.Vmlinux)
	}
	return []lua.Value{t}, nil
}
