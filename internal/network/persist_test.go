package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"provium/internal/vnet"
)

// plainName accepts lower-case names.
func plainName(kind, name string) error {
	if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("%s name `%s` is not valid", kind, name)
	}
	return nil
}

// saved is a lab's bridges in a file.
type saved map[string]*State

// save writes the bridges of a site as JSON and reads them again.
func save(t *testing.T, s *site) saved {
	t.Helper()
	all := saved{}
	for _, b := range s.open() {
		text, err := json.Marshal(b.Save(func(o *Bridge) string { return o.Name() }))
		must(t, err)
		state := &State{}
		must(t, json.Unmarshal(text, state))
		must(t, state.Check(plainName))
		all[b.Name()] = state
	}
	return all
}

// restore makes the bridges of a site the ones that were saved. Missing ones are
// created.
func (all saved) restore(t *testing.T, s *site, asCopy bool) map[string]*Bridge {
	t.Helper()
	have, bridges, loaded := map[string]*Bridge{}, map[string]*Bridge{}, map[string]Loaded{}
	for _, b := range s.open() {
		have[b.Name()] = b
	}
	names := []string{}
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b := have[name]
		if b == nil {
			b = s.NewBridgeFrom(all[name], "provium", s, asCopy)
		}
		must(t, b.Load(all[name], asCopy))
		bridges[name], loaded[name] = b, Loaded{b, all[name]}
	}
	must(t, s.LoadServices(loaded))
	return bridges
}

// sample returns a site with everything that a snapshot has.
func sample(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	for _, name := range []string{"a", "b", "c"} {
		s.vm(name)
	}
	lan, wan := s.bridge("lan", nil), s.bridge("wan", nil)
	plain := s.bridge("plain", &BridgeOpts{NoAddressing: true})
	attach(t, lan, "gone", "c", "a", "b")
	must(t, lan.Detach(t.Context(), "gone", ""))
	attach(t, wan, "b")
	attach(t, plain, "a")
	lan.Switch().Set(vnet.Latency, 5)
	lan.Switch().Partition("a", "b")
	n, err := lan.NIC("c", "")
	must(t, err)
	must(t, n.Disconnect(t.Context()))
	must(t, wan.EnableUplink(t.Context()))
	must(t, lan.Route(t.Context(), []*Bridge{wan}))
	return s
}

func TestSaveAndRestore(t *testing.T) {
	before := sample(t)
	state := save(t, before)
	after := newSite(t)
	state.restore(t, after, false)
	if got := save(t, after); !reflect.DeepEqual(got, state) {
		t.Errorf("restored %+v, saved %+v", got["lan"], state["lan"])
	}
	// In place, over something else.
	for _, b := range before.open() {
		b.Switch().Reset()
		must(t, b.DisableUplink(t.Context()))
	}
	lan := before.open()[0]
	attach(t, lan, "stranger", "gone")
	must(t, lan.Detach(t.Context(), "a", ""))
	state.restore(t, before, false)
	got := save(t, before)["lan"]
	if at := got.find(&NIC{vmName: "stranger"}); at < 0 || got.NICs[at].Attached {
		t.Errorf("a VM that the snapshot does not have: %+v", got.NICs)
	} else {
		got.NICs = slices.Delete(got.NICs, at, at+1)
	}
	if !reflect.DeepEqual(got, state["lan"]) {
		t.Errorf("restored %+v, saved %+v", got, state["lan"])
	}
}

// TestRestoreCopy checks that a copy has its own networks, addresses and MACs.
func TestRestoreCopy(t *testing.T) {
	s := sample(t)
	state := save(t, s)
	delete(state, "plain")
	s2 := &site{s.Network, map[string]*fakeVM{}}
	copied := saved{}
	for name, v := range state {
		w := *v
		w.Name, w.Routes = name+"-copy", nil
		copied[w.Name] = &w
	}
	bridges := copied.restore(t, s2, true)
	lan := bridges["lan-copy"]
	n, err := lan.NIC("a", "")
	if err != nil || n.MAC() == state["lan"].NICs[1].MAC || lan.v4.String() == state["lan"].V4 {
		t.Error(n, err, lan.v4)
	}
	if got := lan.Members(); !slices.Equal(got, []string{"c", "a", "b"}) {
		t.Errorf("members %v", got)
	}
}

// TestNetworksStayUnique creates bridges beside one that was restored with the
// networks of a number that is still to come.
func TestNetworksStayUnique(t *testing.T) {
	old := newSite(t)
	for i := range 3 {
		old.bridge(fmt.Sprint("b", i), nil)
	}
	state := save(t, old)
	s := newSite(t)
	saved{"b2": state["b2"]}.restore(t, s, false)
	taken := saved{"b2": state["b2"], "again": func() *State { w := *state["b2"]; w.Name = "again"; return &w }()}
	taken.restore(t, s, false)
	for i := range 4 {
		s.bridge(fmt.Sprint("c", i), nil)
	}
	seen := map[string]bool{}
	for _, b := range s.open() {
		if seen[b.v4.String()] || seen[b.v6.String()] {
			t.Errorf("bridge %s has the network %s of another", b.Name(), b.v4)
		}
		seen[b.v4.String()], seen[b.v6.String()] = true, true
	}
}

// TestRoutesKeepTheirOrder restores a mesh whose bridges were routed in another
// order than that of their names.
func TestRoutesKeepTheirOrder(t *testing.T) {
	s := newSite(t)
	var all []*Bridge
	for _, name := range []string{"hub", "d", "b", "e", "a", "c"} {
		all = append(all, s.bridge(name, nil))
	}
	must(t, all[0].Route(t.Context(), all[1:]))
	must(t, all[3].Route(t.Context(), []*Bridge{all[1], all[5]}))
	must(t, all[5].Route(t.Context(), []*Bridge{all[4]}))
	state := save(t, s)
	if want := []string{"d", "b", "e", "a", "c"}; !slices.Equal(state["hub"].Routes, want) {
		t.Fatalf("saved %v", state["hub"].Routes)
	}
	for range 5 { // the order of a map differs each time
		for name, b := range state.restore(t, newSite(t), false) {
			if got := b.Routes(); !slices.Equal(got, state[name].Routes) {
				t.Errorf("routes of %s: %v, want %v", name, got, state[name].Routes)
			}
		}
		must(t, all[2].Route(t.Context(), []*Bridge{all[4]})) // to be undone
		for name, b := range state.restore(t, s, false) {
			if got := b.Routes(); !slices.Equal(got, state[name].Routes) {
				t.Errorf("in place, routes of %s: %v, want %v", name, got, state[name].Routes)
			}
		}
	}
}

// TestLoadServicesErrors has states that no bridge can have.
func TestLoadServicesErrors(t *testing.T) {
	s := newSite(t)
	a, plain := s.bridge("a", nil), s.bridge("plain", &BridgeOpts{NoAddressing: true})
	err := s.LoadServices(map[string]Loaded{"a": {a, &State{Routes: []string{"plain", "unknown", "a"}}},
		"plain": {plain, &State{}}})
	wantError(t, err, "bridge `plain` has no addressing")
	if len(a.Routes()) != 0 || a.gateway != nil {
		t.Error("a route is there")
	}
	b := s.bridge("b", nil)
	// A route that the file names in one direction only.
	must(t, s.LoadServices(map[string]Loaded{"a": {a, &State{Routes: []string{"b"}}}, "b": {b, &State{}}}))
	if !slices.Equal(b.Routes(), []string{"a"}) {
		t.Errorf("routes %v", b.Routes())
	}
	must(t, b.Close(t.Context()))
	wantError(t, b.Load(&State{NICs: []NICState{{VM: "v", Attached: true}}}, true), "closed")
}

// TestLoadIntoFullBridge restores into a bridge that has had other VMs.
func TestLoadIntoFullBridge(t *testing.T) {
	s := newSite(t)
	b := s.bridge("b", nil)
	attach(t, b, "first")
	state := &State{NICs: []NICState{{VM: "v", Attached: true, Host: firstHost, MAC: "02:00:00:00:00:07"}}}
	must(t, b.Load(state, false))
	if n, err := b.NIC("v", ""); err != nil || n.host != firstHost+1 || n.MAC() != "02:00:00:00:00:07" {
		t.Error("the address of another", n, err)
	}
	for i := range maxNICs - 2 {
		b.newNIC(fmt.Sprint("old", i), "", b.freeHost(), []byte{2, 0, 0, 0, 1, byte(i)})
	}
	state.NICs = append(state.NICs, NICState{VM: "w", Attached: true, Host: 9, MAC: "02:00:00:00:00:08"})
	wantError(t, b.Load(state, false), "bridge `b` is full")
}

func TestCheckState(t *testing.T) {
	good := func() *State {
		return &State{Name: "b", V4: "10.77.0.0/24", V6: "fd00::/64", NICs: []NICState{
			{VM: "v", Attached: true, Host: 2, MAC: "02:00:00:00:00:01"}, {VM: "w", Host: 3, MAC: "02:00:00:00:00:02"}}}
	}
	must(t, good().Check(plainName))
	for want, change := range map[string]func(*State){
		"bridge name `B`": func(s *State) { s.Name = "B" },
		"vm name `V`":     func(s *State) { s.NICs[0].VM = "V" },
		"networks \"x\"":  func(s *State) { s.V4 = "x" },
		"/65":             func(s *State) { s.V6 = "fd00::/65" },
		"nic of vm `v`":   func(s *State) { s.NICs[0].MAC = "02:00" },
		"nic of vm `w`":   func(s *State) { s.NICs[1].Host = 2 },
	} {
		s := good()
		change(s)
		wantError(t, s.Check(plainName), want)
	}
}

func TestDecodeNICs(t *testing.T) {
	s := newSite(t)
	v := s.vm("v")
	b := s.bridge("b", nil)
	attach(t, b, "v")
	c := s.bridge("c", nil) // it is no member there yet
	full := s.bridge("full", nil)
	must(t, full.Close(t.Context()))
	text, err := EncodeNICs([]PlannedNIC{{nil, "b", "", 1, "eth0", false}, {nil, "c", "", 2, "eth1", false},
		{nil, "gone", "", 4, "eth2", false}})
	must(t, err)
	planned, err := s.DecodeNICs(v, text, plainName)
	must(t, err)
	if len(planned) != 3 || planned[0].NIC.Bridge() != b || planned[1].NIC.Bridge() != c ||
		planned[2] != (PlannedNIC{nil, "gone", "", 4, "eth2", false}) {
		t.Errorf("%+v", planned)
	}
	stranger := &fakeVM{name: "v"} // of another lab
	if planned, err = s.DecodeNICs(stranger, text, plainName); err != nil || planned[0].NIC != nil {
		t.Errorf("%+v, %v", planned, err)
	}
	_, err = s.DecodeNICs(v, []byte("["), plainName)
	wantError(t, err, "network interfaces")
	many := "[" + strings.Repeat(`{"bridge":"b","slot":1,"name":"eth0"},`, 55) + `{}]`
	_, err = s.DecodeNICs(v, []byte(many), plainName)
	wantError(t, err, "56, at most 55")
	_, err = s.DecodeNICs(v, []byte(`[{"bridge":"b","slot":25,"name":"eth0","gone":true}]`), plainName)
	wantError(t, err, "slot 25")
	gone := []PlannedNIC{{nil, "b", "", 1, "eth0", true}}
	text, err = EncodeNICs(gone)
	must(t, err)
	if planned, err = s.DecodeNICs(v, text, plainName); err != nil || !slices.Equal(planned, gone) {
		t.Errorf("%+v, %v", planned, err)
	}
}

func FuzzDecodeNICs(f *testing.F) {
	f.Add([]byte(`[{"bridge":"wan","slot":1,"name":"eth0"},{"bridge":"lan","slot":31,"name":"eth1"}]`))
	f.Add([]byte(`[{"bridge":"../x","slot":-1,"name":"lo"}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		nics, err := decodeNICs(text, plainName)
		if err != nil {
			return
		}
		var planned []PlannedNIC
		for i, n := range nics {
			if n.Slot < 1 || n.Slot > 55 || i > 0 && n.Slot <= nics[i-1].Slot ||
				strings.ContainsAny(n.Bridge+n.Name, "/\n ") {
				t.Fatalf("accepted %+v", nics)
			}
			planned = append(planned, PlannedNIC{nil, n.Bridge, n.NIC, n.Slot, n.Name, n.Gone})
		}
		again, err := EncodeNICs(planned)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeNICs(again, plainName)
		if err != nil || len(back) != len(nics) || len(nics) > 0 && !reflect.DeepEqual(back, nics) {
			t.Fatalf("%+v became %+v, %v", nics, back, err)
		}
	})
}

// FuzzState restores whatever a file may hold and has it saved again.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"name":"b","seed":1,"addressing":true,"ipv4":"10.77.0.0/24","ipv6":"fd00::/64","nics":[` +
		`{"vm":"a","attached":true,"host":2,"mac":"02:00:00:00:00:01"},` +
		`{"vm":"b","attached":false,"down":true,"host":9,` +
		`"mac":"02:00:00:00:00:02"}],"switch":{"whole":{"drop_pct":1}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := &State{}
		if json.Unmarshal(text, s) != nil || s.Check(plainName) != nil {
			return
		}
		n := New(Env{})
		defer n.Close(t.Context())
		b := n.NewBridgeFrom(s, "provium", &site{Network: n}, false)
		if b.Load(s, false) != nil {
			return
		}
		path := func(*Bridge) string { return "" }
		first := b.Save(path)
		if len(first.NICs) != len(s.NICs) || first.Seed != s.Seed || first.Addressing != s.Addressing {
			t.Fatalf("%+v became %+v", s, first)
		}
		if err := errors.Join(first.Check(plainName), b.Load(&first, false)); err != nil {
			t.Fatal(err)
		}
		if again := b.Save(path); !reflect.DeepEqual(again, first) {
			t.Fatalf("%+v became %+v", first, again)
		}
	})
}
