package machineapi

import (
	"context"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/qemu"
	"provium/internal/script/binding"
	"provium/internal/script/value"
	"provium/internal/seat"
)

// screen and keyboard are the objects of their handles.
type (
	screen   struct{ vm *lab.VM }
	keyboard struct{ vm *lab.VM }
)

func newScreenType(x *env) *lua.Type {
	return &lua.Type{
		Name:     "screen",
		ToString: func(_ *lua.Call, obj any) string { return "screen(" + obj.(screen).vm.Name() + ")" },
		Methods:  binding.MethodTable(x, "screen", map[string]binding.Method[*env, screen]{"png": screenPNG}),
	}
}

func newKeyboardType(x *env) *lua.Type {
	return &lua.Type{
		Name:     "keyboard",
		ToString: func(_ *lua.Call, obj any) string { return "keyboard(" + obj.(keyboard).vm.Name() + ")" },
		Methods: binding.MethodTable(x, "keyboard", map[string]binding.Method[*env, keyboard]{
			"type": keyboardType, "press": keyboardPress,
		}),
	}
}

func vmScreen(x *env, _ value.Args, vm *lab.VM) ([]lua.Value, error) {
	return []lua.Value{x.State.NewUserdata(x.Types.Screen, screen{vm})}, nil
}

func vmKeyboard(x *env, _ value.Args, vm *lab.VM) ([]lua.Value, error) {
	return []lua.Value{x.State.NewUserdata(x.Types.Keyboard, keyboard{vm})}, nil
}

// screenPNG is screen:png().
func screenPNG(x *env, a value.Args, s screen) ([]lua.Value, error) {
	var picture []byte
	err := x.Op(a, s.vm, func(ctx context.Context) error {
		return s.vm.OnMachine(ctx, "screen", func(m *qemu.Machine) error {
			pixmap, err := m.Screen(ctx)
			if err == nil {
				picture, err = seat.PNG(pixmap)
			}
			return err
		})
	})
	return value.Results(err, string(picture))
}

// keyboardType is keyboard:type(text).
func keyboardType(x *env, a value.Args, k keyboard) ([]lua.Value, error) {
	text, err := a.Str(1, "text")
	if err != nil {
		return nil, err
	}
	keys, err := seat.Text(text)
	if err != nil {
		return nil, a.Errorf("argument 1 (text): %w", err)
	}
	return nil, k.send(x, a, keys)
}

// keyboardPress is keyboard:press(key, …).
func keyboardPress(x *env, a value.Args, k keyboard) ([]lua.Value, error) {
	var all []seat.Chord
	for n := 1; n == 1 || a.Value(n) != nil; n++ {
		name, err := a.Str(n, "key")
		if err != nil {
			return nil, err
		}
		keys, err := seat.Keys(name)
		if err != nil {
			return nil, a.Errorf("argument %d (key): %w", n, err)
		}
		all = append(all, keys)
	}
	return nil, k.send(x, a, all)
}

func (k keyboard) send(x *env, a value.Args, keys []seat.Chord) error {
	return x.Op(a, k.vm, func(ctx context.Context) error {
		return k.vm.OnMachine(ctx, "keyboard", func(m *qemu.Machine) error { return seat.Type(ctx, m, keys) })
	})
}
