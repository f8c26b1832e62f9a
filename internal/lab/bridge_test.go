package lab

import (
	"fmt"
	"strings"
	"testing"
)

func declareVM(t *testing.T, l *Lab, name string) *VM {
	t.Helper()
	vm, err := l.DeclareVM(name, "p", nil)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func makeBridge(t *testing.T, l *Lab, name string) *Bridge {
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
	for _, b := range []*Bridge{wan, lan} {
		if err := b.Attach(t.Context(), []Endpoint{{vm, "v"}}); err != nil {
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
	if err := lan.Attach(t.Context(), []Endpoint{{nil, "x"}}); err == nil || !strings.Contains(err.Error(), "closed") {
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
	if b.isClosed() {
		t.Error("closed while another lab holds it")
	}
	if err := file.RemoveName("b"); err != nil {
		t.Error(err)
	}
}

func TestNamesDeclaredLater(t *testing.T) {
	l := newLab(t, noGuests(t))
	b := makeBridge(t, l, "b")
	if err := b.Attach(t.Context(), []Endpoint{{nil, "late"}}); err != nil {
		t.Fatal(err)
	}
	vm := declareVM(t, l, "late")
	n, err := vm.NIC("b")
	if err != nil || n.VMName() != "late" {
		t.Error(n, err)
	}
	if err := b.Attach(t.Context(), []Endpoint{{vm, "late"}}); err != nil || len(b.Members()) != 1 {
		t.Error(err, b.Members())
	}
	other := declareVM(t, newLab(t, noGuests(t)), "late")
	if err := b.Attach(t.Context(), []Endpoint{{other, "late"}}); err == nil {
		t.Error("two members of one name")
	}
}

func TestAddresses(t *testing.T) {
	l := newLab(t, noGuests(t))
	b, c := makeBridge(t, l, "b"), makeBridge(t, l, "c")
	var ends []Endpoint
	for i := range lastHost - firstHost + 1 {
		ends = append(ends, Endpoint{Name: fmt.Sprint("v", i)})
	}
	if err := b.Attach(t.Context(), ends); err != nil {
		t.Fatal(err)
	}
	if err := b.Attach(t.Context(), []Endpoint{{nil, "more"}}); err == nil || !strings.Contains(err.Error(), "full") {
		t.Error(err)
	}
	if err := c.Attach(t.Context(), ends[:1]); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, bridge := range []*Bridge{b, c} {
		for _, name := range bridge.Members() {
			n, _ := bridge.NIC(name)
			for _, a := range []string{n.MAC(), n.IP(), n.prefixes()[1].Addr().String()} {
				if seen[a] {
					t.Fatalf("%s twice", a)
				}
				seen[a] = true
			}
			if n.mac[0] != 2 || !n.bridge.v4.Contains(n.prefixes()[0].Addr()) || !n.bridge.v6.Contains(n.prefixes()[1].Addr()) {
				t.Fatalf("%s %v", n.MAC(), n.prefixes())
			}
		}
	}
	again := makeBridge(t, newLab(t, noGuests(t)), "b")
	if err := again.Attach(t.Context(), ends[:1]); err != nil {
		t.Fatal(err)
	}
	x, _ := b.NIC("v0")
	y, _ := again.NIC("v0")
	if x.MAC() != y.MAC() || x.IP() != y.IP() {
		t.Errorf("another run has %s %s, not %s %s", y.MAC(), y.IP(), x.MAC(), x.IP())
	}
}

func TestHosts(t *testing.T) {
	l := newLab(t, noGuests(t))
	vm := declareVM(t, l, "v")
	for _, name := range []string{"b", "a"} {
		if err := makeBridge(t, l, name).Attach(t.Context(), []Endpoint{{vm, "v"}, {nil, "w"}}); err != nil {
			t.Fatal(err)
		}
	}
	var text strings.Builder
	bare := map[string]bool{}
	for _, n := range vm.attached() {
		n.bridge.hosts(&text, bare)
	}
	var names []string
	for _, line := range strings.Split(strings.TrimSpace(text.String()), "\n") {
		_, rest, _ := strings.Cut(line, " ")
		names = append(names, rest)
	}
	want := "v.a v|v.a v|w.a w|w.a w|v.b|v.b|w.b|w.b"
	if got := strings.Join(names, "|"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestNICNames(t *testing.T) {
	l := newLab(t, noGuests(t))
	vm := declareVM(t, l, "v")
	for _, name := range []string{"c", "a", "b"} {
		if err := makeBridge(t, l, name).Attach(t.Context(), []Endpoint{{vm, "v"}}); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"a": "a", "eth0": "a", "eth2": "c", "enp0s1": "b", "enp0s3": "a", "ens4": "b",
		"eth3": "", "ens6": "", "x": "", "eth-1": ""} {
		n, err := vm.NIC(name)
		switch {
		case want == "" && (err == nil || !strings.Contains(err.Error(), "vm:nic: no NIC `"+name+"` on vm `v`")):
			t.Errorf("%s: %v", name, err)
		case want != "" && (err != nil || n.bridge.name != want):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzSavedNICs(f *testing.F) {
	f.Add([]byte(`[{"bridge":"wan","slot":1,"name":"eth0"},{"bridge":"lan","slot":31,"name":"eth1"}]`))
	f.Add([]byte(`[{"bridge":"../x","slot":-1,"name":"lo"}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		saved, err := decodeNICs(text)
		if err != nil {
			return
		}
		slots := map[int]bool{}
		for _, n := range saved {
			if slots[n.Slot] || n.Slot < 1 || n.Slot > 31 || strings.ContainsAny(n.Bridge+n.Name, "/\n ") {
				t.Fatalf("accepted %+v", saved)
			}
			slots[n.Slot] = true
		}
	})
}
