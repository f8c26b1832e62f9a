package api_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"provium/internal/lua"
	"provium/internal/luaapi"
	"provium/internal/script/apitest"
	"provium/internal/script/value"
)

// oneOfEach makes a global variable for each kind of handle, by the name of its class.
const oneOfEach = `
lab = provium
vm = provium:vm("n1", "host", {disks = {{scratch = "1M", id = "d"}}}):boot()
other = provium:vm("n2", "host")
run_result = vm:run("true")
process = vm:run_async("sleep 100")
vm:write_file("/f", "")
stream = vm:tail_file("/f")
file = vm:open_file("/f", {read = true})
worker = vm:spawn_worker()
call = vm:syscall_async(1)
vm:batch(function(b) batch = b end)
console, clock = vm:console(), vm:clock()
screen, keyboard = vm:screen(), vm:keyboard()
bridge = provium:bridge("net")
bridge:attach({vm, other})
nic, port = bridge:nic(vm), bridge:port()
dhcp_server, ra_server, dns_server = bridge:serve_dhcp{}, bridge:serve_ra{}, bridge:serve_dns{}
disk = vm:disk("d")
recording = disk:record()
saved = provium:lab("saved")
saved:vm("s", "host"):boot()
snapshot, lab_snapshot = saved.s:snapshot(), saved:snapshot()
`

func describedSession(t *testing.T) *apitest.Session {
	t.Helper()
	h, machines := newHost(t)
	_ = machines
	s := apitest.New(t, h)
	if err := s.Run(oneOfEach); err != nil {
		t.Fatal(err)
	}
	return s
}

// indexed are the members of labs that are no methods.
var indexed = []string{"lab_fixture", "pack", "reset_between_tests", "timeout", "unpack", "vm_fixture"}

// Every handle has the methods and fields that the description of the API says, and no other.
func TestDescriptionHasTheMethods(t *testing.T) {
	s := describedSession(t)
	for _, c := range luaapi.Classes() {
		if c.Kind != luaapi.Handle || c.Name == "t" {
			continue
		}
		handle, ok := s.State.Global(c.Name).(*lua.Userdata)
		if !ok {
			t.Errorf("no handle for %s", c.Name)
			continue
		}
		live := slices.Sorted(maps.Keys(handle.Type().Methods))
		live = append(live, handle.Type().Fields...)
		if c.Name == "lab" {
			live = append(live, indexed...)
		}
		slices.Sort(live)
		if described := c.Members(); !slices.Equal(live, described) {
			t.Errorf("%s\nlive:      %v\ndescribed: %v", c.Name, live, described)
		}
	}
}

// sample returns an argument that a function takes for one of the described type.
func sample(a luaapi.Arg) string {
	for typ, text := range map[string]string{
		"string": `"x"`, "path": `"/x"`,
		"integer": "1", "number": "1", "mode": "0", "pattern": `"x"`, "string|nil": "nil",
		"vm": "vm", "size": `"1M"`, "any": "1", "function": "print",
	} {
		if a.Accepts(typ) {
			return text
		}
	}
	if _, ok := luaapi.FunctionType(a.Type); ok {
		return "function() end"
	}
	return "nil"
}

// unsampled need other arguments before their options.
var unsampled = map[string]string{
	"vm:fork": "", "bridge:nic": "vm", "bridge:attach": "vm", "bridge:detach": "vm",
	"lab:vm": `"n3", "host"`,
}

// Each function with options takes the keys that the description says, in their order.
func TestDescriptionHasTheOptions(t *testing.T) {
	s := describedSession(t)
	for _, c := range luaapi.Classes() {
		if c.Kind != luaapi.Handle || c.Name == "t" {
			continue
		}
		for _, m := range c.Methods {
			for i := range m.Args {
				options, ok := m.OptionsOf(i + 1)
				if !ok {
					continue
				}
				checkKeys(t, s, &c, &m, i, options)
			}
		}
	}
}

func checkKeys(t *testing.T, s *apitest.Session, c *luaapi.Class, m *luaapi.Function, i int,
	options []luaapi.Option) {
	t.Helper()
	name := c.Qualified(m.Name)
	var before []string
	for _, a := range m.Args[:i] {
		before = append(before, sample(a))
	}
	arguments := strings.Join(before, ", ")
	if given, ok := unsampled[name]; ok {
		arguments = given
	}
	if arguments != "" {
		arguments += ", "
	}
	object := c.Name
	if object == "batch" { // it takes operations while its function runs
		object = "b"
	}
	source := fmt.Sprintf(`%s:%s(%s{no_such_key = 1})`, object, m.Name, arguments)
	if c.Name == "batch" {
		source = fmt.Sprintf("vm:batch(function(b) %s end)", source)
	}
	err := s.Run(source)
	want := fmt.Sprintf("unknown option `no_such_key` (valid: %s)", strings.Join(luaapi.Keys(options), ", "))
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s\n%v\nwant %s", source, err, want)
	}
	for _, o := range options {
		if len(o.Fields) > 0 {
			checkEntryKeys(t, s, fmt.Sprintf(`%s:%s(%s{%s = {{no_such_key = 1}}})`, object, m.Name, arguments, o.Name),
				o.Fields)
		}
	}
}

func checkEntryKeys(t *testing.T, s *apitest.Session, source string, fields []luaapi.Option) {
	t.Helper()
	err := s.Run(source)
	want := fmt.Sprintf("unknown option `no_such_key` (valid: %s)", strings.Join(luaapi.Keys(fields), ", "))
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s\n%v\nwant %s", source, err, want)
	}
}

// The default of an option is what its text says where that is a literal.
func TestDescriptionHasValidTypes(t *testing.T) {
	known := []string{"any", "boolean", "details", "function", "function[]", "integer", "integer[]", "nil", "number",
		"options", "string", "string[]", "table", "table[]", "thread"}
	for _, v := range luaapi.Values() {
		known = append(known, v.Name)
	}
	for _, c := range luaapi.Classes() {
		known = append(known, c.Name)
	}
	check := func(where, typ string) {
		for _, alternative := range strings.Split(typ, "|") {
			if strings.HasPrefix(alternative, "fun(") || strings.Contains(typ, "fun(") {
				continue
			}
			if !slices.Contains(known, alternative) && !slices.Contains(known, strings.TrimSuffix(alternative, "[]")) {
				t.Errorf("%s: unknown type %s", where, alternative)
			}
		}
	}
	for _, c := range luaapi.Classes() {
		for _, f := range c.Fields {
			check(c.Name+"."+f.Name, f.Type)
		}
		for _, m := range c.Methods {
			name := c.Qualified(m.Name)
			if m.Text == "" {
				t.Errorf("%s has no text", name)
			}
			for _, a := range m.Args {
				check(name, a.Type)
			}
			for _, r := range m.Results {
				check(name, r)
			}
			for _, o := range append(slices.Clone(m.Options), m.Details...) {
				check(name+" "+o.Name, o.Type)
			}
			if _, err := compile(m.Example); err != nil {
				t.Errorf("example of %s: %v", name, err)
			}
		}
	}
	_ = value.Quote
}

func compile(source string) (*lua.Function, error) {
	state, err := lua.New(lua.Config{})
	if err != nil {
		return nil, err
	}
	defer state.Close()
	return state.LoadString(source, "example")
}
