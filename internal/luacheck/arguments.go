package luacheck

import (
	"slices"
	"strings"

	"provium/internal/luaapi"
	"provium/internal/luascan"
)

// arguments looks at the arguments of a call of the API. name is that of the function.
func (k *checker) arguments(c *luascan.Call, f *luaapi.Function, name string) {
	given := c.Args
	if _, ok := c.Fn.(*luascan.Index); ok && c.Method == "" && len(given) > 0 && literalType(given[0]) == "" {
		return // called with a dot, perhaps with the object
	}
	for i, arg := range given {
		at := position(f, given, i)
		if at < 0 {
			return
		}
		a := f.Args[at]
		if table, ok := arg.(*luascan.Table); ok {
			if options, ok := f.OptionsOf(at + 1); ok {
				k.options(table, options, f.Open, name)
				continue
			}
			if a.Accepts("pattern") {
				k.options(table, []luaapi.Option{{Name: "pattern", Type: "string"}}, false, name)
				continue
			}
		}
		if typ := literalType(arg); typ != "" && !fits(a.Type, typ) {
			k.report(c.Line, "%s: argument %d (%s) must be %s, got %s", name, at+1, a.Name, a.Type, typ)
		}
	}
}

// options looks at the keys and values of a table of options.
func (k *checker) options(t *luascan.Table, valid []luaapi.Option, open bool, name string) {
	for _, entry := range t.Entries {
		key, ok := entry.Key.(*luascan.String)
		if !ok {
			continue // computed, or an entry of an array
		}
		i := slices.IndexFunc(valid, func(o luaapi.Option) bool { return o.Name == key.Value })
		if i < 0 {
			if !open {
				keys := luaapi.Keys(valid)
				hint := didYouMean(key.Value, keys)
				if hint == "" {
					hint = " (valid: " + strings.Join(keys, ", ") + ")"
				}
				k.report(entry.Line, "%s: unknown option `%s`%s", name, key.Value, hint)
			}
			continue
		}
		o := valid[i]
		if typ := literalType(entry.Value); typ != "" && !fits(o.Type, typ) {
			k.report(entry.Line, "%s: option `%s` must be %s, got %s", name, o.Name, o.Type, typ)
		}
		if s, ok := entry.Value.(*luascan.String); ok && o.Type == "duration" && !isDuration(s.Value) {
			k.report(entry.Line, "%s: option `%s`: cannot parse `%s` (a decimal number with ms, s, m or h)", name,
				o.Name, s.Value)
		}
		list, ok := entry.Value.(*luascan.Table)
		if !ok || len(o.Fields) == 0 {
			continue
		}
		for _, item := range list.Entries {
			if fields, ok := item.Value.(*luascan.Table); ok && item.Key == nil {
				k.options(fields, o.Fields, false, name+": "+o.Name)
			}
		}
	}
}

// isDuration reports whether a text is a number with a unit.
func isDuration(text string) bool {
	for _, unit := range []string{"ms", "s", "m", "h"} {
		if number, ok := strings.CutSuffix(text, unit); ok {
			return number != "" && strings.Trim(number, "0123456789.") == ""
		}
	}
	return false
}

// literalType returns the Lua type of a literal, "" for another expression and for nil.
func literalType(e luascan.Expr) string {
	switch e := e.(type) {
	case *luascan.String:
		return "string"
	case *luascan.Function:
		return "function"
	case *luascan.Table:
		return "table"
	case *luascan.Literal:
		switch {
		case e.Text == "true" || e.Text == "false":
			return "boolean"
		case e.IsNumber():
			return "number"
		}
	}
	return ""
}

// fits reports whether a value of a Lua type may be of a type of the description.
func fits(typ, lua string) bool {
	return slices.ContainsFunc(alternatives(typ), func(a string) bool {
		switch a {
		case "any":
			return true
		case "string", "path":
			return lua == "string"
		case "integer", "number", "mode":
			return lua == "number"
		case "duration", "size", "signal":
			return lua == "number" || lua == "string"
		case "pattern":
			return lua == "string" || lua == "table"
		case "boolean", "function":
			return lua == a
		case "table", "options", "details":
			return lua == "table"
		}
		return strings.HasSuffix(a, "[]") && lua == "table" || strings.HasPrefix(a, "fun(") && lua == "function"
	})
}

func alternatives(typ string) []string {
	if strings.HasPrefix(typ, "fun(") {
		return []string{typ}
	}
	return strings.Split(typ, "|")
}
