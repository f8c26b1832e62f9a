// Package luacomplete proposes what may stand at the end of an unfinished line of Lua, by the
// description of the API: members of what a call returns, and keys of options.
//
// It runs nothing. The types of variables are asked for; names of variables and members of
// values are completed where the values are.
//
// Start with Names.
package luacomplete

import (
	"slices"
	"strings"

	"provium/internal/luaapi"
	"provium/internal/luascan"
)

// maxLine is the length of lines that are looked at, in bytes: the work grows with its square.
const maxLine = 1000

// Names returns the texts that may stand in place of the word at the end of a line. typeOf
// returns the class of the value of a global variable, "" for others.
func Names(line string, typeOf func(name string) string) []string {
	if len(line) > maxLine {
		return nil
	}
	word := line[strings.LastIndexFunc(line, func(r rune) bool { return !isWord(r) })+1:]
	before := strings.TrimRight(line[:len(line)-len(word)], " \t")
	var all []string
	switch {
	case strings.HasSuffix(before, "):"), strings.HasSuffix(before, ")."), strings.HasSuffix(before, "}:"),
		strings.HasSuffix(before, "\":"), strings.HasSuffix(before, "':"):
		if c := luaapi.ClassOf(exprType(lastExpr(before[:len(before)-1]), typeOf)); c != nil {
			all = members(c, before[len(before)-1] == ':')
		}
	case strings.HasSuffix(before, "{"), strings.HasSuffix(before, ","):
		all = optionKeys(before, typeOf)
	}
	var names []string
	for _, name := range all {
		if strings.HasPrefix(name, word) {
			names = append(names, line[:len(line)-len(word)]+name)
		}
	}
	slices.Sort(names)
	return names
}

func isWord(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

func members(c *luaapi.Class, methods bool) (names []string) {
	for _, m := range c.Methods {
		names = append(names, m.Name)
	}
	if !methods {
		names = append(names, luaapi.Keys(c.Fields)...)
	}
	return names
}

// lastExpr returns the longest expression at the end of a text, or nil.
func lastExpr(text string) luascan.Expr {
	for i := range len(text) {
		if i > 0 && isWord(rune(text[i-1])) && isWord(rune(text[i])) {
			continue // within a word
		}
		b, err := luascan.Parse([]byte("return " + text[i:]))
		if err != nil || len(b.Stmts) != 1 {
			continue
		}
		if r, ok := b.Stmts[0].(*luascan.Return); ok && len(r.Values) == 1 {
			return r.Values[0]
		}
	}
	return nil
}

// exprType returns the class of an expression, "" if it is not known.
func exprType(e luascan.Expr, typeOf func(string) string) string {
	switch e := e.(type) {
	case *luascan.Name:
		return typeOf(e.Name)
	case *luascan.Call:
		if f := callee(e, typeOf); f != nil && len(f.Results) > 0 {
			first, _, _ := strings.Cut(f.Results[0], "|")
			return first
		}
	}
	return ""
}

// callee returns the description of what is called, or nil.
func callee(c *luascan.Call, typeOf func(string) string) *luaapi.Function {
	if c.Method != "" {
		if class := luaapi.ClassOf(exprType(c.Fn, typeOf)); class != nil {
			return class.Method(c.Method)
		}
		return nil
	}
	if n, ok := c.Fn.(*luascan.Name); ok {
		return luaapi.ClassOf("globals").Method(n.Name)
	}
	return nil
}

// optionKeys returns the keys of the table of options that is open at the end of a text, less
// those that it has.
func optionKeys(text string, typeOf func(string) string) []string {
	open := strings.LastIndexByte(text, '{')
	if open < 0 {
		return nil
	}
	entries := strings.TrimSuffix(strings.TrimSpace(text[open+1:]), ",")
	for _, closing := range []string{"}", "})"} {
		call, ok := lastExpr(text[:open] + "{" + entries + closing).(*luascan.Call)
		if !ok || len(call.Args) == 0 {
			continue
		}
		table, ok := call.Args[len(call.Args)-1].(*luascan.Table)
		f := callee(call, typeOf)
		if !ok || f == nil {
			return nil
		}
		options, _ := f.OptionsOf(len(call.Args))
		keys := slices.Clone(luaapi.Keys(options))
		for _, e := range table.Entries {
			if key, ok := e.Key.(*luascan.String); ok {
				keys = slices.DeleteFunc(keys, func(k string) bool { return k == key.Value })
			}
		}
		return keys
	}
	return nil
}
