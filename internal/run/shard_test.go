package run

import (
	"testing"
	"time"

	"provium/internal/event"
	"provium/internal/shard"
)

// TestShardsSayWhatTheyAreOf looks at what a merge needs, also of a shard without files.
func TestShardsSayWhatTheyAreOf(t *testing.T) {
	const pass = "test('t', function(t) end)"
	l := newLocalRun(t, "", map[string]string{"a": pass, "b": pass, "c": pass})
	l.o.Select.Durations = shard.NewDurations(map[string]time.Duration{"a.test.lua": time.Second,
		"b.test.lua": 3 * time.Second, "c.test.lua": time.Second})
	l.o.Select.Durations.Digest = "sha256:d0"
	all := shard.Selection([]string{"a.test.lua", "b.test.lua", "c.test.lua"}, "")
	for i, want := range []uint32{1, 2} { // b; a and c
		l.o.Select.Shard = shard.Shard{Index: i + 1, Count: 2}
		if code, err := l.run(); code != ExitOK || err != nil {
			t.Fatal(code, err)
		}
		first, ok := l.events[0].(event.RunStarted)
		if !ok || first.Files != want || first.Selection != all || first.Durations != "sha256:d0" {
			t.Errorf("%d/2: %+v", i+1, l.events[0])
		}
	}
	l.o.Select.Shard = shard.Shard{Index: 4, Count: 4}
	if code, err := l.run(); code != ExitOK || err != nil {
		t.Fatal(code, err)
	}
	if len(l.events) != 2 {
		t.Fatalf("an empty shard has %d events", len(l.events))
	}
	first, ok := l.events[0].(event.RunStarted)
	if _, ended := l.events[1].(event.RunCompleted); !ok || !ended || first.Files != 0 || first.Shard != "4/4" ||
		first.Selection != all {
		t.Errorf("%+v", l.events)
	}
}
