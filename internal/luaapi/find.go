package luaapi

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/agext/levenshtein"
)

// Entry is what a name stands for: a class, or a method or field of one.
type Entry struct {
	Class  *Class
	Method *Function // nil for a class or a field
	Field  *Option   // nil for a class or a method
}

// Name returns the name as it is written in Lua.
func (e Entry) Name() string {
	switch {
	case e.Method != nil:
		return e.Class.Qualified(e.Method.Name)
	case e.Field != nil && e.Class.Kind == Globals:
		return e.Field.Name
	case e.Field != nil:
		return e.Class.Name + "." + e.Field.Name
	}
	return e.Class.Name
}

// known is Classes, made once. Nothing changes it.
var known = sync.OnceValue(func() map[string]*Class {
	classes := Classes()
	m := make(map[string]*Class, len(classes))
	for i := range classes {
		m[classes[i].Name] = &classes[i]
	}
	return m
})

// ClassOf returns a class by its name, or nil. The caller must not change it.
func ClassOf(name string) *Class { return known()[name] }

// aliases are other words for classes that people use.
var aliases = map[string]string{"provium": "lab", "runresult": "run_result", "result": "run_result", "proc": "process"}

// Find returns what a name stands for: `vm`, `vm:run`, `vm.run`, `json.encode`, `provium:vm`,
// or `run` for the member of that name in every class. It ignores case and what follows a
// parenthesis. The result is empty for an unknown name.
func Find(name string) []Entry {
	name, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(name)), "(")
	class, member, qualified := strings.Cut(strings.ReplaceAll(name, ":", "."), ".")
	if alias, ok := aliases[class]; ok {
		class = alias
	}
	if qualified {
		c := ClassOf(class)
		if c == nil {
			return nil
		}
		return entries(c, member)
	}
	var found []Entry
	if global := entries(ClassOf("globals"), name); len(global) > 0 && name != "provium" {
		found = global
	}
	if c := ClassOf(class); c != nil {
		return append(found, Entry{Class: c})
	}
	if len(found) > 0 {
		return found
	}
	for _, c := range Classes() {
		found = append(found, entries(&c, name)...)
	}
	return found
}

// entries returns the member of a class as a slice, which is empty for an unknown one.
func entries(c *Class, member string) []Entry {
	for i, m := range c.Methods {
		if strings.EqualFold(m.Name, member) {
			return []Entry{{Class: c, Method: &c.Methods[i]}}
		}
	}
	for i, f := range c.Fields {
		if strings.EqualFold(f.Name, member) {
			return []Entry{{Class: c, Field: &c.Fields[i]}}
		}
	}
	return nil
}

// Names returns the names of all classes and members, as they are written in Lua.
func Names() []string {
	var names []string
	for _, c := range Classes() {
		names = append(names, c.Name)
		for _, m := range c.Methods {
			names = append(names, c.Qualified(m.Name))
		}
		for i := range c.Fields {
			names = append(names, Entry{Class: &c, Field: &c.Fields[i]}.Name())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// maxCompared bounds the work for a name that a person has written: it grows with the square.
const maxCompared = 60

// Nearest returns the name nearest to a wrong one, "" when no name is near enough to be meant.
func Nearest(wrong string, names []string) string {
	if len(wrong) > maxCompared || len(names) == 0 {
		return ""
	}
	far := func(name string) int { return levenshtein.Distance(strings.ToLower(wrong), strings.ToLower(name), nil) }
	best := slices.MinFunc(names, func(a, b string) int { return cmp.Compare(far(a), far(b)) })
	limit := max(2, len(wrong)/3)
	if len(wrong) <= 3 {
		limit = 1
	}
	if far(best) > limit || far(best) >= max(len(wrong), len(best)) {
		return ""
	}
	return best
}
