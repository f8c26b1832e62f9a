package luaapi

import (
	"fmt"
	"strings"
)

// Page is a page of the reference.
type Page struct{ Name, Text string }

// Reference returns the pages of the reference in Markdown. README.md is the list of them.
func Reference() []Page {
	var index, records strings.Builder
	index.WriteString("# Reference of the Lua API\n\nEvery function, method, option and field, generated from " +
		"`internal/luaapi` by `make reference`. `provium help api NAME` shows the same in a terminal. The manual, " +
		"which says how things work together, is [lua-api.md](../lua-api.md).\n\n| | |\n|---|---|\n")
	records.WriteString("# Returned tables\n\nTables that functions return.\n")
	var pages []Page
	for _, c := range Classes() {
		if c.Kind == Record {
			fmt.Fprintf(&records, "\n## %s\n\n%s.%s\n\n", c.Name, c.Title, manual(c.Page))
			writeFieldTable(&records, c.Fields)
			continue
		}
		fmt.Fprintf(&index, "| [%s](%s.md) | %s |\n", c.Name, c.Name, c.Title)
		pages = append(pages, Page{c.Name + ".md", classPage(&c)})
	}
	index.WriteString("| [records](records.md) | Tables that functions return |\n")
	index.WriteString("\n## Kinds of values\n\n| Name | Lua type | |\n|---|---|---|\n")
	for _, v := range Values() {
		fmt.Fprintf(&index, "| %s | %s | %s |\n", v.Name, cell(v.Lua), v.Text)
	}
	return append(pages, Page{"README.md", index.String()}, Page{"records.md", records.String()})
}

func manual(page string) string {
	if page == "" {
		return ""
	}
	return " [Manual](../" + page + ")"
}

func classPage(c *Class) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", c.Title)
	intro := c.Text
	if intro == "" {
		intro = "The functions of `" + c.Name + "`."
	}
	fmt.Fprintf(&b, "%s%s\n", intro, manual(c.Page))
	if len(c.Fields) > 0 {
		b.WriteString("\n## Fields\n\n")
		writeFieldTable(&b, c.Fields)
	}
	for i := range c.Methods {
		writeFunction(&b, c, &c.Methods[i])
	}
	return b.String()
}

func writeFieldTable(b *strings.Builder, fields []Option) {
	b.WriteString("| Field | Type | |\n|---|---|---|\n")
	for _, f := range fields {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", f.Name, linked(f.Type), f.Text)
	}
}

func writeFunction(b *strings.Builder, c *Class, m *Function) {
	fmt.Fprintf(b, "\n## %s\n\n```lua\n%s\n```\n\n%s\n", c.Qualified(m.Name), m.Signature(c.Qualified(m.Name)), m.Text)
	if len(m.Args) > 0 {
		b.WriteString("\n| Argument | Type |\n|---|---|\n")
		for _, a := range m.Args {
			optional := ""
			if a.Optional {
				optional = ", optional"
			}
			fmt.Fprintf(b, "| `%s` | %s%s |\n", a.Name, linked(a.Type), optional)
		}
	}
	writeOptionTable(b, "Option", m.Options)
	if m.Open {
		b.WriteString("\nOther keys are data, for `--tag-meta` and reports.\n")
	}
	writeOptionTable(b, "Detail", m.Details)
	if len(m.Results) > 0 {
		results := make([]string, len(m.Results))
		for i, r := range m.Results {
			results[i] = linked(r)
		}
		fmt.Fprintf(b, "\nReturns: %s\n", strings.Join(results, ", "))
	}
	if m.Example != "" {
		fmt.Fprintf(b, "\n```lua\n%s\n```\n", m.Example)
	}
}

func writeOptionTable(b *strings.Builder, title string, options []Option) {
	if len(options) == 0 {
		return
	}
	fmt.Fprintf(b, "\n| %s | Type | Default | |\n|---|---|---|---|\n", title)
	for _, o := range options {
		writeOptionRow(b, "", o)
	}
}

func writeOptionRow(b *strings.Builder, prefix string, o Option) {
	fmt.Fprintf(b, "| `%s%s` | %s | %s | %s |\n", prefix, o.Name, linked(o.Type), cell(o.Default), cell(o.Text))
	for _, f := range o.Fields {
		writeOptionRow(b, prefix+o.Name+"[].", f)
	}
}

// cell makes a text fit for a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }

// linked returns a type with links to the classes in it.
func linked(typ string) string {
	alternatives := splitTop(typ, '|')
	for i, a := range alternatives {
		name := strings.TrimSuffix(a, "[]")
		switch c := ClassOf(name); {
		case c == nil:
		case c.Kind == Record:
			alternatives[i] = fmt.Sprintf("[%s](records.md#%s)", a, name)
		default:
			alternatives[i] = fmt.Sprintf("[%s](%s.md)", a, name)
		}
	}
	return strings.Join(alternatives, " \\| ")
}
