package merge

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"provium/internal/event"
)

// list is a reader of given events, a second apart.
type list struct {
	at     int64
	events []event.Event
}

func (l *list) Decode() (event.Envelope, error) {
	if len(l.events) == 0 {
		return event.Envelope{}, io.EOF
	}
	env := event.Envelope{TS: l.at, Event: l.events[0]}
	l.at, l.events = l.at+1e9, l.events[1:]
	return env, nil
}

func read(t *testing.T, s *Shards, name string, at int64, events ...event.Event) (times []int64) {
	t.Helper()
	r := s.Watch(name, &list{at, events})
	for {
		env, err := r.Decode()
		if err == io.EOF {
			return times
		}
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, env.TS)
		if e, ok := env.Event.(event.OperationEnded); ok {
			times = append(times, e.StartNS)
		}
	}
}

func started(part string) event.RunStarted {
	return event.RunStarted{Version: "1", Shard: part, Selection: "s", Durations: "d"}
}

func TestShardsThatFit(t *testing.T) {
	var s Shards
	for _, part := range []string{"2/3", "1/3", "3/3"} {
		read(t, &s, part, 5, started(part), event.RunCompleted{ExitCode: 1})
	}
	read(t, &s, "whole", 5, event.RunStarted{Version: "other"}, event.RunCompleted{})
	if c, l := s.Conflicts(), s.Lost(); len(c) > 0 || len(l) > 0 || s.ExitCode() != 1 {
		t.Errorf("%q, %q, %d", c, l, s.ExitCode())
	}
}

func TestConflicts(t *testing.T) {
	for want, change := range map[string]func(*event.RunStarted){
		"b: another version (2) than a (1)":          func(r *event.RunStarted) { r.Version = "2" },
		"b: another number of shards (3) than a (2)": func(r *event.RunStarted) { r.Shard = "2/3" },
		"b: another selection (sha256:0123456789ab) than a (s): run all shards of the same files with the same " +
			"arguments": func(r *event.RunStarted) { r.Selection = "sha256:0123456789abcdef" },
		"b: another durations file (no) than a (d): give all shards the same": func(r *event.RunStarted) {
			r.Durations = ""
		},
		"b: shard 1/2 came twice, in a, too: give one of them": func(r *event.RunStarted) { r.Shard = "1/2" },
	} {
		var s Shards
		other := started("2/2")
		change(&other)
		read(t, &s, "a", 0, started("1/2"), event.RunCompleted{})
		read(t, &s, "b", 0, other, event.RunCompleted{})
		if got := strings.Join(s.Conflicts(), "\n"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestLost(t *testing.T) {
	var s Shards
	read(t, &s, "a", 0, started("1/4"), event.RunCompleted{})
	read(t, &s, "c", 0, started("3/4"), event.FileDiscovered{Path: "x"})
	read(t, &s, "empty", 0)
	want := "[{shard 3/4 it died, or has not ended yet: c ends before the run does} " +
		"{empty empty has no run: nothing was saved before its end} " +
		"{shard 2/4 it is missing: 2 of 4 shards are there} {shard 4/4 it is missing: 2 of 4 shards are there}]"
	if got := fmt.Sprint(s.Lost()); got != want {
		t.Errorf("%s", got)
	}
	s = Shards{}
	read(t, &s, "huge", 0, started("1/999999999"), event.RunCompleted{})
	if n := len(s.Lost()); n != maxShards {
		t.Errorf("%d shards are lost", n)
	}
}

func TestClocks(t *testing.T) {
	var s Shards
	op := func(at int64) event.Event { return event.OperationEnded{StartNS: at} }
	one := read(t, &s, "a", 100e9, event.ProfileBuildStarted{}, started("1/2"), op(102e9), event.RunCompleted{})
	two := read(t, &s, "b", 7e9, event.ProfileBuildStarted{}, started("2/2"), op(9e9), event.RunCompleted{})
	if fmt.Sprint(one) != fmt.Sprint(two) || one[0] != 100e9 {
		t.Errorf("%v, %v", one, two)
	}
	// Runs that are no shards follow each other.
	if whole := read(t, &s, "c", 7e9, event.RunStarted{}); whole[0] != 7e9 {
		t.Errorf("%v", whole)
	}
}

func TestDurations(t *testing.T) {
	var s Shards
	done := func(path string, status event.FileStatus, ms uint64) event.Event {
		return event.FileCompleted{Path: path, Status: status, DurationNS: ms * 1e6}
	}
	read(t, &s, "a", 0, started("1/1"), done("x", event.FilePassed, 100), done("x", event.FileFailed, 300),
		done("y", event.FileCrashed, 5), done("z", event.FileTimedOut, 9))
	var out bytes.Buffer
	if err := s.Durations().Write(&out); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(strings.Fields(out.String()), ""); got != `{"version":1,"files":{"x":200,"z":9}}` {
		t.Errorf("%s", got)
	}
}

// TestJoined reads files that were joined: each shard in them counts, and one that came twice is named.
func TestJoined(t *testing.T) {
	var s Shards
	read(t, &s, "all", 0, started("1/2"), event.RunCompleted{}, started("2/2"), event.RunCompleted{ExitCode: 1})
	if why, lost := s.Conflicts(), s.Lost(); len(why) > 0 || len(lost) > 0 || s.ExitCode() != 1 {
		t.Errorf("%v, %v, code %d", why, lost, s.ExitCode())
	}
	s = Shards{}
	again := started("2/2")
	again.Iteration = 2
	read(t, &s, "a", 0, started("1/2"), event.RunCompleted{}, started("1/2"), event.RunCompleted{})
	read(t, &s, "b", 0, started("2/2"), event.RunCompleted{}, again, event.RunCompleted{}) // --repeat 2
	if why := fmt.Sprint(s.Conflicts()); why != "[a: shard 1/2 came twice in it: give one of them]" {
		t.Error(why)
	}
	s = Shards{}
	read(t, &s, "a", 0, started("1/2"), started("2/2"), event.RunCompleted{})
	if lost := fmt.Sprint(s.Lost()); lost != "[{shard 1/2 it died, or has not ended yet: a ends before the run does}]" {
		t.Error(lost)
	}
	// Clocks are those of each shard.
	s = Shards{}
	if at := read(t, &s, "a", 5e9, started("1/2"), event.RunCompleted{}, started("2/2")); at[2] != at[0] {
		t.Error(at)
	}
}

// TestWholeBesideShards merges a run of all files with a shard of it.
func TestWholeBesideShards(t *testing.T) {
	for selection, want := range map[string]string{
		"s":     "[w: a run of all files, of which a is shard 1/2: give the shards or this run]",
		"other": "[]",
	} {
		var s Shards
		whole := started("")
		whole.Selection = selection
		read(t, &s, "w", 0, whole, event.RunCompleted{})
		read(t, &s, "a", 0, started("1/2"), event.RunCompleted{})
		if why := fmt.Sprint(s.Conflicts()); why != want {
			t.Errorf("%s: %s", selection, why)
		}
	}
}
