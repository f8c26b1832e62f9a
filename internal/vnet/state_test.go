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
	s.ApplyPair("b", "a", Rule{Kind: Loss, Value: 10, Burst: GilbertElliott{1, 9, 0, 100}})
	s.ApplyPair("c", "b", Rule{Kind: Jitter, Value: 1, Distribution: Pareto})
	s.Apply(Rule{Kind: Bandwidth, Value: 1e9, Queue: 5000})
	s.Partition("b", "c")
	s.PartitionOneWay("c", "a")
	s.PartitionAll()
	s.Unpartition("a", "b")
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
	if !s.IsPartitioned("c", "b") || !s.IsPartitioned("c", "a") || s.IsPartitioned("a", "b") || s.IsIsolated("a") ||
		s.PairRule("a", "b", Latency).Value != 5 {
		t.Error("the rules differ")
	}
	if r := s.PairRule("b", "a", Loss); r.Burst != (GilbertElliott{1, 9, 0, 100}) || s.Rule(Bandwidth).Queue != 5000 ||
		s.PairRule("c", "b", Jitter).Distribution != Pareto {
		t.Errorf("details differ: %+v", r)
	}
	for _, bad := range []map[string]float64{{"jitter_distribution": 7}, {"burst_enter_pct": 101}, {"speed": 1},
		{"drop_pct": -1}} {
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
