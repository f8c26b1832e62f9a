package luacheck

import "provium/internal/luascan"

// walk calls visit for each expression of a block, and of what is in it.
func walk(b *luascan.Block, visit func(luascan.Expr)) {
	all := func(list []luascan.Expr) {
		for _, e := range list {
			walkExpr(e, visit)
		}
	}
	for _, s := range b.Stmts {
		switch s := s.(type) {
		case *luascan.Local:
			all(s.Values)
		case *luascan.LocalFunction:
			walk(s.Function.Body, visit)
		case *luascan.Assign:
			all(s.Targets)
			all(s.Values)
		case *luascan.CallStmt:
			walkExpr(s.Call, visit)
		case *luascan.Group:
			all(s.Conditions)
			for _, b := range s.Blocks {
				walk(b, visit)
			}
		case *luascan.NumericFor:
			all(s.Exps)
			walk(s.Body, visit)
		case *luascan.GenericFor:
			all(s.Exps)
			walk(s.Body, visit)
		case *luascan.Return:
			all(s.Values)
		}
	}
}

func walkExpr(e luascan.Expr, visit func(luascan.Expr)) {
	if e == nil {
		return
	}
	visit(e)
	switch e := e.(type) {
	case *luascan.Function:
		walk(e.Body, visit)
	case *luascan.Table:
		for _, entry := range e.Entries {
			walkExpr(entry.Key, visit)
			walkExpr(entry.Value, visit)
		}
	case *luascan.Op:
		for _, o := range e.Operands {
			walkExpr(o, visit)
		}
	case *luascan.Index:
		walkExpr(e.Object, visit)
		walkExpr(e.Key, visit)
	case *luascan.Call:
		walkExpr(e.Fn, visit)
		for _, a := range e.Args {
			walkExpr(a, visit)
		}
	}
}
