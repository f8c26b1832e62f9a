package luacheck

import (
	"slices"
	"strings"

	"provium/internal/luaapi"
	"provium/internal/luascan"
)

// typeOf returns the type of an expression as the description of the API names it, "" if it
// is not known.
func (k *checker) typeOf(e luascan.Expr) string {
	switch e := e.(type) {
	case *luascan.Name:
		return k.typeOfVariable(k.vars.of[e])
	case *luascan.Op:
		if e.Op == "(" {
			return k.typeOf(e.Operands[0])
		}
	case *luascan.Call:
		return k.resultOf(e, 0)
	case *luascan.Index:
		name, ok := e.Key.(*luascan.String)
		if c := luaapi.ClassOf(k.typeOf(e.Object)); ok && c != nil && c.Kind == luaapi.Handle {
			if f := c.Field(name.Value); f != nil {
				return single(f.Type)
			}
		}
	}
	return ""
}

// typeOfVariable returns the type that all values of a variable have.
func (k *checker) typeOfVariable(v *variable) string {
	if v == nil || v.opaque || v.inferring {
		return ""
	}
	if v.typ != nil {
		return *v.typ
	}
	v.inferring = true
	defer func() { v.inferring = false }()
	typ := ""
	if v.global && len(v.values) == 0 && !k.globals[v.name] {
		if f := luaapi.ClassOf("globals").Field(v.name); f != nil {
			typ = f.Type
		}
	}
	for i, given := range v.values {
		if l, ok := given.expr.(*luascan.Literal); ok && l.Text == "nil" {
			continue
		}
		one := k.typeOfValue(given)
		if one == "" || typ != "" && one != typ && i > 0 {
			typ = ""
			break
		}
		typ = one
	}
	if v.global && len(v.values) > 0 {
		typ = "" // other files may assign to it
	}
	v.typ = &typ
	return typ
}

func (k *checker) typeOfValue(v value) string {
	if v.call == nil {
		if call, ok := v.expr.(*luascan.Call); ok {
			return k.resultOf(call, v.index)
		}
		if v.index > 0 {
			return ""
		}
		return k.typeOf(v.expr)
	}
	f := k.callee(v.call)
	if f == nil {
		return ""
	}
	i := position(f, v.call.Args, v.arg)
	if i < 0 {
		return ""
	}
	typ := f.Args[i].Type
	if v.key != "" {
		options, _ := f.OptionsOf(i + 1)
		n := slices.IndexFunc(options, func(o luaapi.Option) bool { return o.Name == v.key })
		if n < 0 {
			return ""
		}
		typ = options[n].Type
	}
	params, ok := luaapi.FunctionType(typ)
	if !ok || v.index >= len(params) {
		return ""
	}
	return single(params[v.index].Type)
}

// single returns a type without nil, "" if there are several.
func single(typ string) string {
	alternatives := slices.DeleteFunc(strings.Split(typ, "|"), func(a string) bool { return a == "nil" })
	if len(alternatives) != 1 || alternatives[0] == "any" {
		return ""
	}
	return alternatives[0]
}

// resultOf returns the type of a result of a call.
func (k *checker) resultOf(c *luascan.Call, i int) string {
	f := k.callee(c)
	if f == nil || i >= len(f.Results) {
		return ""
	}
	if len(c.Args) == 0 && strings.Contains(f.Results[i], "|") { // vm:fork(), lab:snapshot()
		first, _, _ := strings.Cut(f.Results[i], "|")
		return single(first)
	}
	return single(f.Results[i])
}

// callee returns the function of the API that is called, or nil.
func (k *checker) callee(c *luascan.Call) *luaapi.Function {
	if c.Method != "" {
		if class := k.handleClass(c.Fn); class != nil {
			return class.Method(c.Method)
		}
		return nil
	}
	switch fn := c.Fn.(type) {
	case *luascan.Name:
		if k.isAPIGlobal(fn) {
			return luaapi.ClassOf("globals").Method(fn.Name)
		}
		if v := k.vars.of[fn]; v != nil && len(v.values) == 1 && !v.opaque && !v.global {
			return k.sweepFunction(v.values[0].expr)
		}
	case *luascan.Index:
		name, ok := fn.Key.(*luascan.String)
		if !ok {
			return nil
		}
		if library, ok := fn.Object.(*luascan.Name); ok && k.isAPIGlobal(library) {
			if class := luaapi.ClassOf(library.Name); class != nil && class.Kind == luaapi.Library {
				return class.Method(name.Value)
			}
		}
		if class := k.handleClass(fn.Object); class != nil && dotted(class, name.Value) {
			return class.Method(name.Value)
		}
	case *luascan.Call:
		return k.sweepFunction(fn)
	}
	return nil
}

// sweepFunction returns the description of what disk:sweep returns, nil for another value.
func (k *checker) sweepFunction(e luascan.Expr) *luaapi.Function {
	call, ok := e.(*luascan.Call)
	if !ok || call.Method != "sweep" || k.typeOf(call.Fn) != "disk" {
		return nil
	}
	return &luaapi.Function{Name: "sweep",
		Args: []luaapi.Arg{{Name: "fn", Type: "fun(vm: vm, disk: disk, number: integer)"}}}
}

// dotted reports whether a method can be called with a dot.
func dotted(c *luaapi.Class, name string) bool {
	return c.Name == "lab" && slices.Contains([]string{"vm_fixture", "lab_fixture", "pack", "unpack"}, name)
}

// handleClass returns the class of a handle, nil if it is not known to be one.
func (k *checker) handleClass(e luascan.Expr) *luaapi.Class {
	if c := luaapi.ClassOf(k.typeOf(e)); c != nil && c.Kind == luaapi.Handle {
		return c
	}
	return nil
}

// isAPIGlobal reports whether a name means a global variable of the API, which no file
// assigns to.
func (k *checker) isAPIGlobal(n *luascan.Name) bool {
	v := k.vars.of[n]
	return v != nil && v.global && !k.globals[n.Name]
}

// position returns which argument of a function the i'th of a call is: an optional one in the
// middle may be left out before a function. It returns -1 for one too many.
func position(f *luaapi.Function, given []luascan.Expr, i int) int {
	at := 0
	for n := range i + 1 {
		if at >= len(f.Args) {
			if len(f.Args) > 0 && f.Args[len(f.Args)-1].Name == "..." {
				return len(f.Args) - 1
			}
			return -1
		}
		if f.Args[at].Optional && at+1 < len(f.Args) && len(given) < len(f.Args) && n == len(given)-1 {
			if _, ok := luaapi.FunctionType(f.Args[at+1].Type); ok {
				at++
			}
		}
		if n == i {
			return at
		}
		at++
	}
	return -1
}
