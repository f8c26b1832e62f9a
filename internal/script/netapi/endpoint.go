package netapi

import (
	"fmt"
	"slices"
	"strings"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/network"
	"provium/internal/script/value"
)

// endpoint reads a VM, or the name of one that is a member, or is declared in the bridge's
// lab, in the running scope, or outward. what names the argument in errors.
func endpoint(x *env, a value.Args, b *network.Bridge, v lua.Value, what string) (network.Endpoint, error) {
	switch v := v.(type) {
	case string:
		if v == "" {
			return network.Endpoint{}, a.Errorf("%s must not be empty", what)
		}
		if e, ok := find(x, b, v); ok {
			return e, nil
		}
		return network.Endpoint{}, a.Errorf("%s: %s", what, unknownVM(x, b, v))
	case *lua.Userdata:
		if vm, ok := v.Object().(*lab.VM); ok {
			if err := x.Ended(a, "vm", vm.Name(), vm); err != nil {
				return network.Endpoint{}, err
			}
			return network.Endpoint{VM: vm, Name: vm.Name()}, nil
		}
	}
	return network.Endpoint{}, a.Errorf("%s must be a vm or the name of one, got %s", what, lua.TypeName(v))
}

// find returns what a name means for a bridge in the running scope.
func find(x *env, b *network.Bridge, name string) (network.Endpoint, bool) {
	if e, ok := b.Find(name); ok {
		return e, true
	}
	if vm, ok := x.Scope().VM(name); ok {
		return network.Endpoint{VM: vm, Name: name}, true
	}
	return network.Endpoint{}, false
}

// unknownVM says that a name is declared nowhere, and which are.
func unknownVM(x *env, b *network.Bridge, name string) string {
	names := append(b.VMNames(), x.Scope().VisibleVMs()...)
	slices.Sort(names)
	names = slices.Compact(names)
	hint := "none is"
	if best := lua.Closest(name, names); best != "" {
		hint = fmt.Sprintf("did you mean `%s`?", best)
	} else if len(names) > 0 {
		hint = "known: " + strings.Join(names, ", ")
	}
	return fmt.Sprintf("no vm named `%s` is declared in lab `%s` or outward (%s)", value.Clip(name, 80), b.Lab(), hint)
}

// ruled reads what a rule can name: a VM, an open port of the bridge, or the name of one.
func ruled(x *env, a value.Args, b *network.Bridge, v lua.Value, what string) (network.Endpoint, error) {
	name, _ := v.(string)
	if u, ok := v.(*lua.Userdata); ok {
		if p, ok := u.Object().(*network.Port); ok {
			switch {
			case p.Bridge() != b:
				return network.Endpoint{}, a.Errorf("%s: port `%s` is on bridge `%s`, not `%s`", what, p.Name(),
					p.Bridge().Name(), b.Name())
			case b.Port(p.Name()) != p:
				return network.Endpoint{}, a.Errorf("%s: port `%s` is closed", what, p.Name())
			}
			name = p.Name()
		}
	}
	if name != "" && b.Port(name) != nil {
		return network.Endpoint{Name: name}, nil
	}
	return endpoint(x, a, b, v, what)
}

// endpoints reads as many VMs or ports as there are names, and checks that they differ.
func endpoints(x *env, a value.Args, b *network.Bridge, names ...string) ([]network.Endpoint, error) {
	out := make([]network.Endpoint, len(names))
	for i, n := range names {
		var err error
		if out[i], err = ruled(x, a, b, a.Value(i+1), fmt.Sprintf("argument %d (%s)", i+1, n)); err != nil {
			return nil, err
		}
	}
	if len(out) == 2 && out[0].Name == out[1].Name {
		return nil, a.Errorf("both are %s `%s` (they must differ)", kindOf(b, out[0].Name), out[0].Name)
	}
	return out, nil
}

// member reads a VM that is attached to the bridge, and returns its name.
func member(x *env, a value.Args, b *network.Bridge, v lua.Value, what string) (string, error) {
	name, isName := v.(string)
	if !isName || name == "" {
		e, err := endpoint(x, a, b, v, what)
		if err != nil {
			return "", err
		}
		name = e.Name
	}
	_, err := b.NIC(name, "")
	if err == nil {
		return name, nil
	}
	if _, ok := find(x, b, name); !ok {
		return "", a.Errorf("%w: %s", err, unknownVM(x, b, name))
	}
	return "", a.Errorf("%w", err)
}

// isPort reports whether v is a port, or the name of one on the bridge.
func isPort(b *network.Bridge, v lua.Value) bool {
	if name, ok := v.(string); ok {
		return b.Port(name) != nil
	}
	u, ok := v.(*lua.Userdata)
	if !ok {
		return false
	}
	_, ok = u.Object().(*network.Port)
	return ok
}

// kindOf returns what a name of a member is of.
func kindOf(b *network.Bridge, name string) string {
	if b.Port(name) != nil {
		return "port"
	}
	return "vm"
}

// direction reads from and to of a table, which must both be attached if so wanted.
func direction(x *env, a value.Args, b *network.Bridge, o value.Options, attached bool) (from, to string, err error) {
	var names [2]string
	for i, key := range []string{"from", "to"} {
		if !o.Has(key) {
			return "", "", a.Errorf("`%s` is missing (a table needs from and to, each a vm or the name of one)", key)
		}
		if attached && !isPort(b, o.Get(key)) {
			if names[i], err = member(x, a, b, o.Get(key), "`"+key+"`"); err != nil {
				return "", "", err
			}
			continue
		}
		e, err := ruled(x, a, b, o.Get(key), "`"+key+"`")
		if err != nil {
			return "", "", err
		}
		names[i] = e.Name
	}
	if names[0] == names[1] {
		return "", "", a.Errorf("from and to are both %s `%s` (they must differ)", kindOf(b, names[0]), names[0])
	}
	return names[0], names[1], nil
}
