package vnet

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestStateRoundTrip(t *testing.T) {
	s := New(Config{Seed: 1})
	defer s.Close()
	for _, name := range []string{"a", "b", "c"} {
		s.AddPort(name)
	}
	s.Set(Loss, 20)
	s.SetPair("a", "b", Latency, 5)
	s.Partition("b", "c")
	s.PartitionOneWay("c", "a")
	s.Isolate("c", true)
	frame := make([]byte, 60)
	frame[0], frame[6] = 0xff, 2
	s.AddPort("a").Send(frame)
	want := s.Save()
	if len(want.Links) != 1 || want.Links[0] != (LinkState{Pair{"a", "b"}, 1}) {
		t.Errorf("%+v", want.Links)
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var state State
	if err := json.Unmarshal(text, &state); err != nil {
		t.Fatal(err)
	}
	s.Reset()
	s.Isolate("a", true)
	s.Set(Bandwidth, 1)
	if err := s.Load(state); err != nil {
		t.Fatal(err)
	}
	if got := s.Save(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if !s.IsPartitioned("c", "b") || !s.IsPartitioned("c", "a") || s.IsPartitioned("a", "c") || s.IsIsolated("a") || s.PairValue("a", "b", Latency) != 5 {
		t.Error("the rules differ")
	}
	for _, bad := range []map[string]float64{{"speed": 1}, {"drop_pct": -1}} {
		if err := s.Load(State{Whole: bad}); err == nil {
			t.Errorf("%v was taken", bad)
		}
		if err := s.Load(State{Pairs: []PairState{{Pair{"a", "b"}, bad}}}); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	if got := s.Save(); !reflect.DeepEqual(got, want) {
		t.Error("an error changed something")
	}
}
