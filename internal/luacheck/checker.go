package luacheck

import (
	"fmt"
	"slices"
	"strings"

	"provium/internal/luaapi"
	"provium/internal/luascan"
)

// checker looks at one file.
type checker struct {
	*check
	*source
	failing int // depth of code that is expected to fail
}

func (k *checker) report(line int, format string, values ...any) {
	k.found = append(k.found, Finding{k.path, line, fmt.Sprintf(format, values...)})
}

// isFixture reports whether the file is a fixture, which has no tests.
func (k *checker) isFixture() bool { return strings.HasSuffix(k.abs, fixtureSuffix) }

// testGlobals are the global functions that fixtures do not have.
var testGlobals = []string{"test", "before_each", "after_each", "todo"}

// duplicates reports tests whose literal name stands twice where each runs once.
func (k *checker) duplicates(b *luascan.Block, lines map[string]int) {
	for _, s := range b.Stmts {
		switch s := s.(type) {
		case *luascan.Group:
			if s.Plain {
				k.duplicates(s.Blocks[0], lines)
			}
		case *luascan.CallStmt:
			fn, ok := s.Call.Fn.(*luascan.Name)
			if !ok || s.Call.Method != "" || fn.Name != "test" || !k.isAPIGlobal(fn) || len(s.Call.Args) == 0 {
				continue
			}
			name, ok := s.Call.Args[0].(*luascan.String)
			if !ok {
				continue
			}
			if first := lines[name.Value]; first > 0 {
				k.report(name.Line, "duplicate test `%s`, the first one is in line %d", name.Value, first)
				continue
			}
			lines[name.Value] = name.Line
		}
	}
}

func (k *checker) block(b *luascan.Block) {
	for _, s := range b.Stmts {
		switch s := s.(type) {
		case *luascan.Local:
			k.exprs(s.Values)
		case *luascan.LocalFunction:
			k.block(s.Function.Body)
		case *luascan.Assign:
			k.exprs(s.Values)
			for _, target := range s.Targets {
				k.target(target)
			}
		case *luascan.CallStmt:
			k.expr(s.Call)
		case *luascan.Group:
			k.exprs(s.Conditions)
			for _, b := range s.Blocks {
				k.block(b)
			}
		case *luascan.NumericFor:
			k.exprs(s.Exps)
			k.block(s.Body)
		case *luascan.GenericFor:
			k.exprs(s.Exps)
			k.block(s.Body)
		case *luascan.Return:
			k.exprs(s.Values)
		}
	}
}

// target looks at what is assigned to.
func (k *checker) target(e luascan.Expr) {
	index, ok := e.(*luascan.Index)
	if !ok {
		return // a variable
	}
	k.expr(index.Object)
	k.expr(index.Key)
	n, isName := index.Object.(*luascan.Name)
	key, isText := index.Key.(*luascan.String)
	if !isName || !isText || n.Name != "provium" || !k.isAPIGlobal(n) || k.failing > 0 {
		return
	}
	settings := luaapi.Keys(luaapi.ClassOf("lab").Fields)
	if !slices.Contains(settings, key.Value) {
		k.report(index.Line, "unknown setting `%s` of provium%s", key.Value, known(key.Value, settings))
	}
}

func (k *checker) exprs(all []luascan.Expr) {
	for _, e := range all {
		k.expr(e)
	}
}

func (k *checker) expr(e luascan.Expr) {
	switch e := e.(type) {
	case *luascan.Name:
		k.name(e)
	case *luascan.Function:
		k.block(e.Body)
	case *luascan.Table:
		for _, entry := range e.Entries {
			k.expr(entry.Key)
			k.expr(entry.Value)
		}
	case *luascan.Op:
		k.exprs(e.Operands)
	case *luascan.Index:
		k.expr(e.Object)
		k.expr(e.Key)
		k.member(e)
	case *luascan.Call:
		k.call(e)
	}
}

// name reports a global variable that is not there.
func (k *checker) name(n *luascan.Name) {
	v := k.vars.of[n]
	if v == nil || !v.global || k.vars.dynamic || k.vars.probed[n.Name] || k.globals[n.Name] || k.failing > 0 {
		return
	}
	names := append(luaapi.StandardGlobals(), luaapi.ClassOf("globals").Members()...)
	names = append(names, "co", "json", "_ENV")
	switch {
	case k.isFixture() && slices.Contains(testGlobals, n.Name):
		k.report(n.Line, "`%s` is not there in fixtures", n.Name)
	case !slices.Contains(names, n.Name):
		for name := range k.globals {
			names = append(names, name)
		}
		slices.Sort(names)
		k.report(n.Line, "unknown variable `%s`%s", n.Name, didYouMean(n.Name, names))
	}
}

// member reports a field or method that a handle or library does not have.
func (k *checker) member(e *luascan.Index) {
	key, ok := e.Key.(*luascan.String)
	if !ok || k.failing > 0 {
		return
	}
	if n, ok := e.Object.(*luascan.Name); ok && k.isAPIGlobal(n) {
		if c := luaapi.ClassOf(n.Name); c != nil && c.Kind == luaapi.Library && c.Method(key.Value) == nil {
			k.report(e.Line, "unknown function `%s.%s`%s", n.Name, key.Value, didYouMean(key.Value, c.Members()))
			return
		}
	}
	c := k.handleClass(e.Object)
	if c == nil || c.Name == "lab" || c.Method(key.Value) != nil || c.Field(key.Value) != nil {
		return // the members of labs have names of their own
	}
	k.report(e.Line, "unknown field or method `%s` of %s%s", key.Value, c.Name, didYouMean(key.Value, c.Members()))
}

// call looks at a call and its arguments.
func (k *checker) call(c *luascan.Call) {
	k.expr(c.Fn)
	if k.expectsFailure(c) {
		k.failing++
		defer func() { k.failing-- }()
	}
	k.exprs(c.Args)
	if k.failing > 0 {
		return
	}
	name := ""
	if class := k.handleClass(c.Fn); class != nil && c.Method != "" {
		name = class.Qualified(c.Method)
		if class.Method(c.Method) == nil {
			k.report(c.Line, "unknown method `%s` of %s%s", c.Method, class.Name, didYouMean(c.Method, class.Members()))
			return
		}
	}
	k.forgottenColon(c)
	if f := k.callee(c); f != nil {
		if name == "" {
			name = f.Name
		}
		k.arguments(c, f, name)
		k.names(c, f)
	}
	k.requires(c)
}

// forgottenColon reports a method that is called with a dot, and so without its object.
func (k *checker) forgottenColon(c *luascan.Call) {
	fn, ok := c.Fn.(*luascan.Index)
	if !ok || c.Method != "" {
		return
	}
	key, ok := fn.Key.(*luascan.String)
	class := k.handleClass(fn.Object)
	if !ok || class == nil || class.Method(key.Value) == nil || dotted(class, key.Value) {
		return
	}
	if len(c.Args) == 0 || literalType(c.Args[0]) != "" {
		k.report(fn.Line, "self is missing: call it with ':' as in %s:%s(...), not '.'", class.Name, key.Value)
	}
}

// names looks at names of profiles and fixtures.
func (k *checker) names(c *luascan.Call, f *luaapi.Function) {
	text := func(i int) *luascan.String {
		if i < len(c.Args) {
			s, _ := c.Args[i].(*luascan.String)
			return s
		}
		return nil
	}
	switch f.Name {
	case "vm":
		if s := text(1); s != nil && k.Profiles != nil && !slices.Contains(k.Profiles, s.Value) {
			k.report(s.Line, "unknown profile `%s`%s", s.Value, known(s.Value, k.Profiles))
		}
	case "vm_fixture", "lab_fixture":
		s := text(0)
		if s == nil && len(c.Args) == 2 {
			s = text(1) // provium.vm_fixture(lab, name)
		}
		if s != nil && !slices.Contains(k.Fixtures, s.Value) {
			k.report(s.Line, "unknown fixture `%s`%s", s.Value, known(s.Value, k.Fixtures))
		}
	}
}

// requires reports a module that is below no root.
func (k *checker) requires(c *luascan.Call) {
	fn, ok := c.Fn.(*luascan.Name)
	if !ok || c.Method != "" || fn.Name != "require" || !k.isAPIGlobal(fn) || k.vars.paths || len(c.Args) == 0 {
		return
	}
	if name, ok := c.Args[0].(*luascan.String); ok && !slices.Contains(luaapi.StandardGlobals(), name.Value) {
		if _, found := k.module(name.Value); !found {
			k.report(name.Line, "module `%s` is below no root", name.Value)
		}
	}
}

// catching are the functions and methods that go on when their function fails.
var catching = []string{"pcall", "xpcall", "assert_raises", "assert_error_matches"}

// expectsFailure reports whether the functions among the arguments of a call may fail without
// harm: those of pcall and assert_raises, and those of local functions that call these.
func (k *checker) expectsFailure(c *luascan.Call) bool {
	if c.Method != "" {
		return slices.Contains(catching, c.Method)
	}
	n, ok := c.Fn.(*luascan.Name)
	if !ok {
		return false
	}
	v := k.vars.of[n]
	if v == nil {
		return false
	}
	if slices.Contains(catching, n.Name) && v.global {
		return true
	}
	for _, given := range v.values {
		if f, ok := given.expr.(*luascan.Function); ok && given.call == nil && k.catches(f.Body) {
			return true
		}
	}
	return false
}

// catches reports whether a block has a call of a catching function.
func (k *checker) catches(b *luascan.Block) bool {
	found := false
	walk(b, func(e luascan.Expr) {
		if c, ok := e.(*luascan.Call); ok {
			n, isName := c.Fn.(*luascan.Name)
			found = found || slices.Contains(catching, c.Method) || isName && slices.Contains(catching, n.Name)
		}
	})
	return found
}
