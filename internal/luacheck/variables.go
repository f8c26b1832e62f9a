package luacheck

import (
	"slices"

	"provium/internal/luascan"
)

// variable is a local variable, or the global one of a name in one file.
type variable struct {
	name   string
	global bool
	values []value // all that is assigned to it
	opaque bool    // something unknown is assigned to it, too

	inferring bool
	typ       *string // memo of its type
}

// value is what a variable gets.
type value struct {
	expr luascan.Expr // the index'th result of it
	// index counts from 0. For a parameter of a function that is an argument of a call, it is
	// the number of the parameter.
	index int
	call  *luascan.Call // the function is an argument of this call; nil for an assignment
	arg   int           // which argument it is
	key   string        // it is in this field of the argument; "" for the argument itself
}

// variables says which variable each name of a file means.
type variables struct {
	of       map[*luascan.Name]*variable
	globals  map[string]*variable // that are assigned in the file
	free     map[string]*variable // global variables that are read
	required []*luascan.String
	// probed are names that the file asks for: `x == nil`, `not x`, `x or y`, `if x then`.
	probed map[string]bool
	// dynamic says that the file changes the table of globals in ways that are not seen.
	dynamic bool
	// paths says that the file changes where modules are looked for.
	paths bool

	scopes []map[string]*variable
}

// resolve finds the variables of a file.
func resolve(b *luascan.Block) *variables {
	v := &variables{of: map[*luascan.Name]*variable{}, globals: map[string]*variable{}, free: map[string]*variable{},
		probed: map[string]bool{}}
	v.block(b)
	for name, global := range v.free {
		if assigned := v.globals[name]; assigned != nil {
			*global = variable{name: name, global: true, values: assigned.values, opaque: assigned.opaque}
		}
	}
	return v
}

func (v *variables) push() { v.scopes = append(v.scopes, map[string]*variable{}) }

func (v *variables) pop() { v.scopes = v.scopes[:len(v.scopes)-1] }

// declare makes a local variable.
func (v *variables) declare(n *luascan.Name) *variable {
	made := &variable{name: n.Name}
	v.scopes[len(v.scopes)-1][n.Name] = made
	v.of[n] = made
	return made
}

// use finds the variable that a name means.
func (v *variables) use(n *luascan.Name) *variable {
	for i := len(v.scopes) - 1; i >= 0; i-- {
		if found := v.scopes[i][n.Name]; found != nil {
			v.of[n] = found
			return found
		}
	}
	found := v.free[n.Name]
	if found == nil {
		found = &variable{name: n.Name, global: true}
		v.free[n.Name] = found
	}
	v.of[n] = found
	if n.Name == "_ENV" || n.Name == "_G" {
		v.dynamic = true
	}
	return found
}

func (v *variables) block(b *luascan.Block) {
	v.push()
	defer v.pop()
	v.stmts(b)
}

func (v *variables) stmts(b *luascan.Block) {
	for _, s := range b.Stmts {
		v.stmt(s)
	}
}

func (v *variables) stmt(s luascan.Stmt) {
	switch s := s.(type) {
	case *luascan.Local:
		v.exprs(s.Values)
		for i, n := range s.Names {
			v.assign(v.declare(n), s.Values, i)
		}
	case *luascan.LocalFunction:
		made := v.declare(s.Name)
		made.values = append(made.values, value{expr: s.Function})
		v.function(s.Function, nil)
	case *luascan.Assign:
		v.exprs(s.Values)
		for i, target := range s.Targets {
			if n, ok := target.(*luascan.Name); ok {
				v.assignName(n, s.Values, i)
				continue
			}
			v.expr(target)
		}
	case *luascan.CallStmt:
		v.expr(s.Call)
	case *luascan.Group:
		v.group(s)
	case *luascan.NumericFor:
		v.exprs(s.Exps)
		v.push()
		v.declare(s.Var).opaque = true
		v.stmts(s.Body)
		v.pop()
	case *luascan.GenericFor:
		v.exprs(s.Exps)
		v.push()
		for _, n := range s.Vars {
			v.declare(n).opaque = true
		}
		v.stmts(s.Body)
		v.pop()
	case *luascan.Return:
		v.exprs(s.Values)
	}
}

// probes reports whether an operator asks if a variable is there.
func probes(o *luascan.Op) bool {
	return o.Op == "not" || o.Op == "and" || o.Op == "or" || slices.ContainsFunc(o.Operands, func(e luascan.Expr) bool {
		l, ok := e.(*luascan.Literal)
		return ok && l.Text == "nil"
	})
}

// probe notes the names among conditions.
func (v *variables) probe(conditions []luascan.Expr) {
	for _, e := range conditions {
		if n, ok := e.(*luascan.Name); ok {
			v.probed[n.Name] = true
		}
	}
}

func (v *variables) group(g *luascan.Group) {
	v.probe(g.Conditions)
	if g.Repeat { // the condition sees the variables of the block
		v.push()
		v.stmts(g.Blocks[0])
		v.exprs(g.Conditions)
		v.pop()
		return
	}
	v.exprs(g.Conditions)
	for _, b := range g.Blocks {
		v.block(b)
	}
}

// assignName assigns to a variable, which is global where no local one has its name.
func (v *variables) assignName(n *luascan.Name, values []luascan.Expr, i int) {
	to := v.use(n)
	if to.global {
		if v.globals[n.Name] == nil {
			v.globals[n.Name] = &variable{name: n.Name, global: true}
		}
		to = v.globals[n.Name]
	}
	v.assign(to, values, i)
}

// assign notes what a variable gets: value i of a list, whose last call may have several.
func (v *variables) assign(to *variable, values []luascan.Expr, i int) {
	switch {
	case i < len(values):
		to.values = append(to.values, value{expr: values[i]})
	case len(values) > 0:
		last := len(values) - 1
		if _, ok := values[last].(*luascan.Call); ok {
			to.values = append(to.values, value{expr: values[last], index: i - last})
		}
	}
}

func (v *variables) exprs(all []luascan.Expr) {
	for _, e := range all {
		v.expr(e)
	}
}

func (v *variables) expr(e luascan.Expr) {
	switch e := e.(type) {
	case *luascan.Name:
		v.use(e)
	case *luascan.Function:
		v.function(e, nil)
	case *luascan.Table:
		for _, entry := range e.Entries {
			v.expr(entry.Key)
			v.expr(entry.Value)
		}
	case *luascan.Index:
		if n, ok := e.Object.(*luascan.Name); ok && n.Name == "package" {
			v.paths = true
		}
		v.expr(e.Object)
		v.expr(e.Key)
	case *luascan.Op:
		v.exprs(e.Operands)
		if probes(e) {
			v.probe(e.Operands)
		}
	case *luascan.Call:
		v.call(e)
	}
}

// call resolves a call. Functions among its arguments get values from it.
func (v *variables) call(c *luascan.Call) {
	v.expr(c.Fn)
	if n, ok := c.Fn.(*luascan.Name); ok && c.Method == "" && len(c.Args) > 0 {
		name, isText := c.Args[0].(*luascan.String)
		switch {
		case n.Name == "require" && isText:
			v.required = append(v.required, name)
		case n.Name == "dofile" || n.Name == "load" || n.Name == "loadfile":
			v.dynamic = true
		}
	}
	for i, arg := range c.Args {
		switch arg := arg.(type) {
		case *luascan.Function:
			v.function(arg, &value{call: c, arg: i})
		case *luascan.Table:
			for _, entry := range arg.Entries {
				v.expr(entry.Key)
				key, named := entry.Key.(*luascan.String)
				if f, ok := entry.Value.(*luascan.Function); ok && named {
					v.function(f, &value{call: c, arg: i, key: key.Value})
					continue
				}
				v.expr(entry.Value)
			}
		default:
			v.expr(arg)
		}
	}
}

// function resolves a function. from is the call that the function is an argument of.
func (v *variables) function(f *luascan.Function, from *value) {
	v.push()
	defer v.pop()
	for i, n := range f.Params {
		param := v.declare(n)
		if from == nil {
			param.opaque = true
			continue
		}
		got := *from
		got.index = i
		param.values = append(param.values, got)
	}
	v.stmts(f.Body)
}
