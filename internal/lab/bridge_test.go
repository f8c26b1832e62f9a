package lab

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"provium/internal/image"
	"provium/internal/network"
)

func declareVM(t *testing.T, l *Lab, name string) *VM {
	t.Helper()
	vm, err := l.DeclareVM(name, "p", nil)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func makeBridge(t *testing.T, l *Lab, name string) *network.Bridge {
	t.Helper()
	b, err := l.Bridge(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(t.Context()) })
	return b
}

func TestBridgeScopes(t *testing.T) {
	file := newLab(t, noGuests(t))
	wan := makeBridge(t, file, "wan")
	body := file.OpenScope()
	if b, err := body.Bridge("wan", nil); b != wan || err != nil {
		t.Error(b, err)
	}
	lan := makeBridge(t, body, "lan")
	vm := declareVM(t, body, "v")
	for _, b := range []*network.Bridge{wan, lan} {
		if err := b.Attach(t.Context(), []network.Endpoint{{VM: vm, Name: "v"}}); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(body.Members()); got != "[{vm v} {bridge lan}]" {
		t.Error(got)
	}
	if errs := body.CloseScope(t.Context()); len(errs) > 0 {
		t.Error(errs)
	}
	if m := wan.Members(); len(m) != 0 {
		t.Errorf("a VM of an ended scope is still on the bridge: %v", m)
	}
	if err := lan.Attach(t.Context(), []network.Endpoint{{Name: "x"}}); err == nil ||
		!strings.Contains(err.Error(), "closed") {
		t.Error(err)
	}
	if b, _ := file.LookupBridge("lan"); b != nil {
		t.Error("found after its scope")
	}
}

func TestBridgeHeldByTwoLabs(t *testing.T) {
	file := newLab(t, noGuests(t))
	body := file.OpenScope()
	b := makeBridge(t, body, "b")
	if err := file.Include([]Member{b}); err != nil {
		t.Fatal(err)
	}
	body.CloseScope(t.Context())
	if b.IsClosed() {
		t.Error("closed while another lab holds it")
	}
	if err := file.RemoveName("b"); err != nil {
		t.Error(err)
	}
}

func TestNamesDeclaredLater(t *testing.T) {
	l := newLab(t, noGuests(t))
	b := makeBridge(t, l, "b")
	if err := b.Attach(t.Context(), []network.Endpoint{{Name: "late"}}); err != nil {
		t.Fatal(err)
	}
	vm := declareVM(t, l, "late")
	n, err := vm.NIC("b")
	if err != nil || n.VMName() != "late" {
		t.Error(n, err)
	}
	if err := b.Attach(t.Context(), []network.Endpoint{{VM: vm, Name: "late"}}); err != nil || len(b.Members()) != 1 {
		t.Error(err, b.Members())
	}
	other := declareVM(t, newLab(t, noGuests(t)), "late")
	if err := b.Attach(t.Context(), []network.Endpoint{{VM: other, Name: "late"}}); err == nil {
		t.Error("two members of one name")
	}
}

// The network of a guest whose image Provium adds no agent to is the guest's own, at its
// boot, at attach, at a change of members and after its reset.
func TestForeignNetwork(t *testing.T) {
	ctx := t.Context()
	h, f := fakeHost(t)
	h.Profiles["foreign"] = &Profile{Name: "foreign", Accel: "tcg", Image: image.Spec{NoAgent: true}}
	h.BootCache = t.TempDir()
	l := newLab(t, h)
	v, err := l.DeclareVM("v", "foreign", nil)
	must(t, err)
	other := declare(t, l, "other")
	wan, late := makeBridge(t, l, "wan"), makeBridge(t, l, "late")
	attach := func(b *network.Bridge, vm *VM) {
		t.Helper()
		must(t, b.Attach(ctx, []network.Endpoint{{VM: vm, Name: vm.Name()}}))
	}
	attach(wan, v)
	must(t, v.Boot(ctx, nil))
	m := machineOf(f, v)
	must(t, other.Boot(ctx, nil))
	attach(wan, other)
	attach(late, v)
	must(t, v.Reset(ctx))
	must(t, late.Close(ctx))
	if n := m.Asked("network"); n != 0 {
		t.Errorf("the guest was configured %d times", n)
	}
	if n := machineOf(f, other).Asked("network"); n == 0 {
		t.Error("the guest with an agent was not configured")
	}
	commands := m.Commands()
	if !slices.Contains(commands, "device_add") || !slices.Contains(commands, "device_del") {
		t.Errorf("no device was plugged and unplugged: %v", commands)
	}
}

// A cached boot of such a guest has the MACs that it was booted with, so only a boot with
// these is served.
func TestForeignBootCache(t *testing.T) {
	ctx := t.Context()
	h, f := fakeHost(t)
	h.Profiles["foreign"] = &Profile{Name: "foreign", Accel: "tcg", Image: image.Spec{NoAgent: true}}
	h.BootCache = t.TempDir()
	identify(f, 1<<20)
	boot := func(name string) string {
		t.Helper()
		l := newLab(t, h)
		v, err := l.DeclareVM(name, "foreign", nil)
		must(t, err)
		b := makeBridge(t, l, "wan")
		must(t, b.Attach(ctx, []network.Endpoint{{VM: v, Name: name}}))
		must(t, v.Boot(ctx, nil))
		id := shell(t, v, bootID)
		must(t, v.Shutdown(ctx))
		return id
	}
	first := boot("a")
	if boot("b") == first {
		t.Error("a VM with another MAC got the cached guest")
	}
	if boot("a") != first {
		t.Error("the boot was not cached")
	}
}
