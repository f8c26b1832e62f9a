package luaapi

import (
	"fmt"
	"strings"
)

// Types returns the definitions of the API for editors, in the form of the Lua language server.
func Types() string {
	var b strings.Builder
	b.WriteString("---@meta\n-- Definitions of Provium's Lua API, written by `provium lsp-setup`.\n\n")
	for _, v := range Values() {
		fmt.Fprintf(&b, "---%s\n---@alias provium.%s %s\n\n", v.Text, v.Name, v.Lua)
	}
	for _, c := range Classes() {
		switch c.Kind {
		case Globals:
			writeGlobals(&b, &c)
		default:
			writeClassTypes(&b, &c)
		}
	}
	return b.String()
}

func writeGlobals(b *strings.Builder, c *Class) {
	for _, f := range c.Fields {
		fmt.Fprintf(b, "---%s\n---@type %s\n%s = nil\n\n", f.Text, editorType(f.Type, ""), f.Name)
	}
	for i := range c.Methods {
		m := &c.Methods[i]
		if m.Name == "test" {
			continue // it is a table as well: see its class
		}
		writeOptionTypes(b, c, m)
		writeFunctionTypes(b, m, m.Name, "provium."+c.Name+"."+m.Name)
	}
}

// writeClassTypes writes a class, and for a library the global variable with it.
func writeClassTypes(b *strings.Builder, c *Class) {
	for i := range c.Methods {
		writeOptionTypes(b, c, &c.Methods[i])
	}
	if c.Name == "test" { // the global function that has functions
		test := ClassOf("globals").Method("test")
		fmt.Fprintf(b, "---%s\n---@class provium.test\n---@overload fun(name: string, fn: fun(t: provium.t))\n"+
			"---@overload fun(name: string, meta: provium.test.each.options, fn: fun(t: provium.t))\ntest = {}\n\n",
			test.Text)
	} else {
		fmt.Fprintf(b, "---%s\n---@class provium.%s\n", oneLine(c.Title+". "+c.Text), c.Name)
		for _, f := range c.Fields {
			fmt.Fprintf(b, "---@field %s %s %s\n", f.Name, editorType(f.Type, ""), oneLine(f.Text))
		}
		if c.Name == "lab" {
			b.WriteString("---@field [string] any\n") // members, by their names
		}
		variable := "local " + c.Name
		if c.Kind == Library {
			variable = c.Name
		}
		fmt.Fprintf(b, "%s = {}\n\n", variable)
	}
	for i := range c.Methods {
		m := &c.Methods[i]
		writeFunctionTypes(b, m, c.Qualified(m.Name), "provium."+c.Name+"."+m.Name)
	}
}

// writeOptionTypes writes the classes of the tables of options of a method.
func writeOptionTypes(b *strings.Builder, c *Class, m *Function) {
	for _, group := range []struct {
		name    string
		options []Option
	}{{"options", m.Options}, {"details", m.Details}} {
		if len(group.options) == 0 {
			continue
		}
		fmt.Fprintf(b, "---@class provium.%s.%s.%s\n", c.Name, m.Name, group.name)
		for _, o := range group.options {
			text := o.Text
			if o.Default != "" {
				text += " (default: " + o.Default + ")"
			}
			fmt.Fprintf(b, "---@field %s? %s %s\n", o.Name, editorType(o.Type, ""), oneLine(text))
		}
		if m.Open {
			b.WriteString("---@field [string] any\n")
		}
		b.WriteByte('\n')
	}
}

// writeFunctionTypes writes a function. class is that of its options, without the last word.
func writeFunctionTypes(b *strings.Builder, m *Function, name, class string) {
	fmt.Fprintf(b, "---%s\n", oneLine(m.Text))
	var names []string
	for _, a := range m.Args {
		optional := ""
		if a.Optional {
			optional = "?"
		}
		fmt.Fprintf(b, "---@param %s%s %s\n", a.Name, optional, editorType(a.Type, class))
		names = append(names, a.Name)
	}
	for _, r := range m.Results {
		fmt.Fprintf(b, "---@return %s\n", editorType(r, ""))
	}
	for i, a := range m.Args {
		if a.Optional && i+1 < len(m.Args) && !m.Args[i+1].Optional && m.Args[i+1].Name != "..." {
			fmt.Fprintf(b, "---@overload fun(%s)\n", withoutArgument(m, i, class))
		}
	}
	fmt.Fprintf(b, "function %s(%s) end\n\n", name, strings.Join(names, ", "))
}

// withoutArgument returns the arguments of a function without one.
func withoutArgument(m *Function, without int, class string) string {
	var args []string
	for i, a := range m.Args {
		if i != without {
			args = append(args, a.Name+": "+editorType(a.Type, class))
		}
	}
	return strings.Join(args, ", ")
}

// editorType returns a type in the language server's notation.
func editorType(typ, class string) string {
	alternatives := splitTop(typ, '|')
	for i, a := range alternatives {
		name, array := strings.CutSuffix(a, "[]")
		switch {
		case name == "options" || name == "details":
			name = class + "." + name
			if class == "" {
				name = "table"
			}
		case ClassOf(name) != nil || isValue(name):
			name = "provium." + name
		case strings.HasPrefix(name, "fun("):
			args, _ := FunctionType(name)
			for j := range args {
				args[j].Name += ": " + editorType(args[j].Type, "")
			}
			names := make([]string, len(args))
			for j, arg := range args {
				names[j] = arg.Name
			}
			name = "fun(" + strings.Join(names, ", ") + ")"
		}
		if array {
			name += "[]"
		}
		alternatives[i] = name
	}
	return strings.Join(alternatives, "|")
}

func isValue(name string) bool {
	for _, v := range Values() {
		if v.Name == name {
			return true
		}
	}
	return false
}

// oneLine returns a text without line breaks.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
