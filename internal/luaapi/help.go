package luaapi

import (
	"fmt"
	"strings"
)

// Overview returns the list of classes as text for a terminal.
func Overview() string {
	var b strings.Builder
	b.WriteString("The Lua API. `provium help api NAME` describes one of these, or a member of it:\n\n")
	for _, c := range Classes() {
		if c.Kind == Record {
			continue
		}
		fmt.Fprintf(&b, "  %-12s  %s\n", c.Name, c.Title)
	}
	b.WriteString("\nTables that functions return:\n\n")
	for _, c := range Classes() {
		if c.Kind == Record {
			fmt.Fprintf(&b, "  %-16s  %s\n", c.Name, c.Title)
		}
	}
	b.WriteString("\nExamples:\n  provium help api vm\n  provium help api vm:run\n  provium help api wait_until\n")
	return b.String()
}

// Help returns the description of what a name stands for as text for a terminal.
func (e Entry) Help() string {
	var b strings.Builder
	switch {
	case e.Method != nil:
		e.functionHelp(&b)
	case e.Field != nil:
		fmt.Fprintf(&b, "%s: %s\n\n%s\n", e.Name(), e.Field.Type, e.Field.Text)
	default:
		e.classHelp(&b)
	}
	if e.Class.Page != "" {
		fmt.Fprintf(&b, "\nManual: docs/%s\n", e.Class.Page)
	}
	return b.String()
}

func (e Entry) classHelp(b *strings.Builder) {
	c := e.Class
	fmt.Fprintf(b, "%s\n", c.Title)
	if c.Text != "" {
		fmt.Fprintf(b, "\n%s\n", c.Text)
	}
	if len(c.Methods) > 0 {
		b.WriteByte('\n')
	}
	for _, m := range c.Methods {
		fmt.Fprintf(b, "  %s\n      %s\n", m.Signature(c.Qualified(m.Name)), m.Text)
	}
	if len(c.Fields) > 0 {
		b.WriteString("\nFields:\n")
		writeOptions(b, c.Fields, "  ")
	}
}

func (e Entry) functionHelp(b *strings.Builder) {
	m := e.Method
	b.WriteString(m.Signature(e.Name()))
	if len(m.Results) > 0 {
		b.WriteString(" -> " + strings.Join(m.Results, ", "))
	}
	fmt.Fprintf(b, "\n\n%s\n", m.Text)
	if len(m.Args) > 0 {
		b.WriteString("\nArguments:\n")
		width := 0
		for _, a := range m.Args {
			width = max(width, len(a.Name)+1)
		}
		for _, a := range m.Args {
			name := a.Name
			if a.Optional {
				name += "?"
			}
			fmt.Fprintf(b, "  %-*s  %s\n", width, name, a.Type)
		}
	}
	for _, group := range []struct {
		title   string
		options []Option
	}{{"Options", m.Options}, {"Details", m.Details}} {
		if len(group.options) > 0 {
			fmt.Fprintf(b, "\n%s:\n", group.title)
			writeOptions(b, group.options, "  ")
		}
	}
	if m.Open {
		b.WriteString("  Other keys are data, for --tag-meta and reports.\n")
	}
	for _, v := range Values() {
		if m.mentions(v.Name) {
			fmt.Fprintf(b, "\n%s: %s\n", v.Name, strings.ReplaceAll(v.Text, "`", ""))
		}
	}
	if m.Example != "" {
		fmt.Fprintf(b, "\nExample:\n  %s\n", strings.ReplaceAll(m.Example, "\n", "\n  "))
	}
}

// mentions reports whether an argument or option has a type.
func (f *Function) mentions(typ string) bool {
	for _, a := range f.Args {
		if a.Accepts(typ) {
			return true
		}
	}
	for _, o := range append(f.Options[:len(f.Options):len(f.Options)], f.Details...) {
		if (Arg{Type: o.Type}).Accepts(typ) {
			return true
		}
	}
	return false
}

func writeOptions(b *strings.Builder, options []Option, indent string) {
	width := 0
	for _, o := range options {
		width = max(width, len(o.Name))
	}
	for _, o := range options {
		fmt.Fprintf(b, "%s%-*s  %s", indent, width, o.Name, o.Type)
		if o.Text != "" {
			fmt.Fprintf(b, ": %s", o.Text)
		}
		if o.Default != "" {
			fmt.Fprintf(b, " (default: %s)", o.Default)
		}
		b.WriteByte('\n')
		writeOptions(b, o.Fields, indent+"    ")
	}
}
