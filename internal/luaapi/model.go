package luaapi

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Option is a key of a table of options, or a field of a handle or of a returned table.
type Option struct {
	Name    string
	Type    string // as in Arg
	Default string // as written in Lua; "" for none
	Text    string
	// Fields are the keys of a table, or of the tables in an array.
	Fields []Option
}

// Arg is an argument of a function.
type Arg struct {
	Name string // "..." stands for any number of arguments
	// Type has the names of alternatives with | between them. They are those of Lua, of
	// handles and returned tables (Class.Name), of values (Values), "options" for
	// Function.Options, "details" for Function.Details, "fun(a: T, b: T)", and T[] for arrays.
	Type     string
	Optional bool
}

// Accepts reports whether the argument can have a type.
func (a Arg) Accepts(typ string) bool { return slices.Contains(splitTop(a.Type, '|'), typ) }

// Function is a function or method.
type Function struct {
	Name    string // without the class
	Args    []Arg  // without self
	Results []string
	Text    string // one sentence, or a few
	Example string // Lua; "" for none
	// Options are the keys that the argument of type "options" takes; Details those of the
	// argument of type "details". The order is that of error messages.
	Options, Details []Option
	// Open says that other keys are allowed in Options.
	Open bool
}

// Class is a kind of handle, a table of functions, or a table that functions return.
type Class struct {
	Name  string // as in `provium help api NAME`
	Kind  Kind
	Title string
	Text  string
	// Prefix stands before the names of methods in errors, where that is not Name.
	Prefix  string
	Methods []Function
	Fields  []Option
	Page    string // page and section of the manual
}

// Kind says what a Class is.
type Kind int

// Kinds of classes.
const (
	Globals Kind = iota // global functions and variables
	Library             // a table with functions, called with a dot
	Handle              // userdata, whose methods are called with a colon
	Record              // a table that functions return
)

// Separator stands between the name of the class and that of a member.
func (c *Class) Separator() string {
	switch c.Kind {
	case Globals:
		return ""
	case Handle:
		return ":"
	}
	return "."
}

// Qualified returns the name of a member as it is written in Lua: vm:run, json.encode, test.
func (c *Class) Qualified(member string) string {
	if c.Kind == Globals {
		return member
	}
	return c.Name + c.Separator() + member
}

// Method returns a method by its name, or nil.
func (c *Class) Method(name string) *Function {
	for i := range c.Methods {
		if c.Methods[i].Name == name {
			return &c.Methods[i]
		}
	}
	return nil
}

// Field returns a field by its name, or nil.
func (c *Class) Field(name string) *Option {
	for i := range c.Fields {
		if c.Fields[i].Name == name {
			return &c.Fields[i]
		}
	}
	return nil
}

// Members returns the names of methods and fields, sorted.
func (c *Class) Members() []string {
	var names []string
	for _, m := range c.Methods {
		names = append(names, m.Name)
	}
	for _, f := range c.Fields {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
}

// Signature returns how the function is called, with its name given.
func (f *Function) Signature(name string) string {
	var b strings.Builder
	b.WriteString(name + "(")
	for i, a := range f.Args {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(a.Name)
		if a.Optional {
			b.WriteByte('?')
		}
	}
	b.WriteByte(')')
	return b.String()
}

// OptionsOf returns the options that argument i takes, counted from 1, and whether it takes a
// table of options at all.
func (f *Function) OptionsOf(i int) (options []Option, ok bool) {
	if i < 1 || i > len(f.Args) {
		return nil, false
	}
	switch a := f.Args[i-1]; {
	case a.Accepts("options"):
		return f.Options, true
	case a.Accepts("details"):
		return f.Details, true
	}
	return nil, false
}

// Keys returns the names of options, in their order.
func Keys(options []Option) []string {
	names := make([]string, len(options))
	for i, o := range options {
		names[i] = o.Name
	}
	return names
}

// optionKey is an argument of a function of the API.
type optionKey struct {
	function string
	argument int
}

// optionKeys are the valid keys of each table of options.
var optionKeys = sync.OnceValue(func() map[optionKey][]string {
	all := map[optionKey][]string{}
	for _, c := range known() {
		prefix := c.Prefix
		if prefix == "" {
			prefix = c.Name
		}
		for _, m := range c.Methods {
			name := prefix + c.Separator() + m.Name
			if c.Kind == Globals {
				name = m.Name
			}
			for i := range m.Args {
				if options, ok := m.OptionsOf(i + 1); ok {
					all[optionKey{name, i + 1}] = Keys(options)
				}
			}
		}
	}
	return all
})

// OptionKeys returns the valid keys of the table of options that is argument i, counted from
// 1, of a function. The name is that of error messages, such as "vm:push_file". It returns
// nil where there is no such table. The caller must not change the result.
func OptionKeys(function string, i int) []string { return optionKeys()[optionKey{function, i}] }

// splitTop splits a text at a separator outside of parentheses.
func splitTop(text string, separator byte) []string {
	var parts []string
	depth, from := 0, 0
	for i := range len(text) {
		switch text[i] {
		case '(', '<':
			depth++
		case ')', '>':
			depth--
		case separator:
			if depth == 0 {
				parts = append(parts, strings.TrimSpace(text[from:i]))
				from = i + 1
			}
		}
	}
	if rest := strings.TrimSpace(text[from:]); rest != "" {
		parts = append(parts, rest)
	}
	return parts
}

// parseArgs reads "path: string, opts?: options".
func parseArgs(text string) []Arg {
	var args []Arg
	for _, part := range splitTop(text, ',') {
		name, typ, ok := strings.Cut(part, ":")
		if !ok {
			panic(fmt.Sprintf("luaapi: argument %q has no type", part))
		}
		a := Arg{Name: strings.TrimSpace(name), Type: strings.TrimSpace(typ)}
		a.Name, a.Optional = strings.CutSuffix(a.Name, "?")
		args = append(args, a)
	}
	return args
}

// FunctionType returns the arguments of a type such as "fun(vm: vm, disk: disk)".
func FunctionType(typ string) (args []Arg, ok bool) {
	for _, alternative := range splitTop(typ, '|') {
		if body, isFunction := strings.CutPrefix(alternative, "fun("); isFunction {
			return parseArgs(strings.TrimSuffix(body, ")")), true
		}
	}
	return nil, false
}

// detail is something to add to a function.
type detail func(*Function)

func options(o ...Option) detail { return func(f *Function) { f.Options = o } }

func details(o ...Option) detail { return func(f *Function) { f.Details = o } }

func open(o ...Option) detail {
	return func(f *Function) { f.Options, f.Open = o, true }
}

func example(text string) detail {
	return func(f *Function) { f.Example = strings.Trim(text, "\n") }
}

// fn makes a function of "name(argument: type, …) -> results".
func fn(signature, text string, more ...detail) Function {
	call, results, _ := strings.Cut(signature, " -> ")
	name, arguments, ok := strings.Cut(call, "(")
	if !ok {
		panic(fmt.Sprintf("luaapi: %q is no signature", signature))
	}
	f := Function{Name: name, Args: parseArgs(strings.TrimSuffix(arguments, ")")), Text: text,
		Results: splitTop(results, ',')}
	for _, add := range more {
		add(&f)
	}
	return f
}

// opt makes an option.
func opt(name, typ, absent, text string, fields ...Option) Option {
	return Option{Name: name, Type: typ, Default: absent, Text: text, Fields: fields}
}

// field makes a field.
func field(name, typ, text string, fields ...Option) Option {
	return Option{Name: name, Type: typ, Text: text, Fields: fields}
}
