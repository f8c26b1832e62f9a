package binding_test

import (
	"context"
	"strings"
	"testing"

	"provium/internal/fakemachine"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/apitest"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

func host(t testing.TB) *lab.Host {
	machines := fakemachine.New(t)
	return &lab.Host{
		Profiles: map[string]*lab.Profile{"host": {Name: "host", Accel: "tcg"}}, ConfigPath: "provium.toml",
		TempDir: t.TempDir(), Starter: machines, Images: machines,
	}
}

// An open stream is a resource of its scope until it is closed.
func TestStreams(t *testing.T) {
	s := apitest.New(t, host(t))
	if err := s.Run(`vm = provium:vm("n1", "host"):boot() vm:write_file("/f", "") a = vm:tail_file("/f") b =
		vm:tail_file("/f")`); err != nil {
		t.Fatal(err)
	}
	if got := s.Owned[binding.StreamResource]; len(got) != 2 || !strings.Contains(got[0].String(), "/f") {
		t.Errorf("%v", got)
	}
	if err := s.Run(`a:close() pcall(vm.tail_file, vm, "/gone")`); err != nil {
		t.Fatal(err)
	}
	got := s.Owned[binding.StreamResource]
	if len(got) != 1 {
		t.Fatalf("%v", got)
	}
	if err := got[0].Close(context.Background()); err != nil {
		t.Error(err)
	}
	s.Idle = true
	if err := s.Run(`b:close()`); err == nil || !strings.Contains(err.Error(), binding.ErrIdle.Error()) {
		t.Error(err)
	}
}

// An object has one handle, which tables can have as key.
func TestHandles(t *testing.T) {
	s := apitest.New(t, host(t))
	if err := s.Run(`
		local vm = provium:vm("n1", "host", {disks = {{scratch = "1M", id = "d"}}}):boot()
		local net = provium:bridge("net") net:attach(vm)
		local seen = {[vm] = 1, [vm:disk("d")] = 2, [net] = 3, [net:nic(vm)] = 4}
		assert(seen[provium.n1] == 1 and seen[vm:disk("d")] == 2 and seen[provium.net] == 3 and
		seen[vm:nic("net")] == 4)
	`); err != nil {
		t.Error(err)
	}
}

// Methods get their environment, the arguments without self, and the object.
func TestMethodTable(t *testing.T) {
	state, err := lua.New(lua.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	type thing struct{ name string }
	methods := binding.MethodTable("env", "thing", map[string]binding.Method[string, *thing]{
		"show": func(x string, a value.Args, object *thing) ([]lua.Value, error) {
			return []lua.Value{x + " " + a.Func + " " + object.name + " " + binding.String(a.Call, a.Value(1))}, nil
		},
	})
	u := state.NewUserdata(&lua.Type{Name: "thing", Methods: methods}, &thing{"it"})
	if err := state.SetGlobal("thing", u); err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{
		`return thing:show(7)`: "env thing:show it 7",
		`return thing:show(setmetatable({}, {__tostring = function() return "mine" end}))`: "env thing:show it mine",
		`return thing:show(setmetatable({}, {__tostring = function() error("no text")
			end}))`: "env thing:show it table",
	} {
		chunk, err := state.LoadString(source, "test")
		if err != nil {
			t.Fatal(err)
		}
		got, err := state.Call(context.Background(), chunk)
		if err != nil || got[0] != want {
			t.Errorf("%s: %v, %v", source, got, err)
		}
	}
	if binding.StringValue("x") != lua.Value("x") {
		t.Error("not the string")
	}
}
