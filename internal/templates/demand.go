package templates

import (
	"maps"
	"slices"
	"sync"
)

// Demand says for which cached boots a test file should make templates: the first guest has to run a command for that,
// which pays only where others are made of it. It follows from what this file and those that come after it did in
// earlier runs, and notes what this one does, for later ones. A nil one knows nothing. It is safe for concurrent use.
type Demand struct {
	Known *Boots // nil: not all of it is known

	mu   sync.Mutex
	seen map[string]bool // as Boots.Own
}

// Boots are cached boots, by their keys in the cache.
type Boots struct {
	// Own are those that the file has asked for in its last run, true where it did so more than once.
	Own map[string]bool
	// Next are those that files have asked for which have not begun.
	Next []string
}

// BootsOf returns what is known of the boots of a file that starts, and of those that still wait: waiting has, by path,
// what Own is for each of them. It returns nil if that is nil for any.
func BootsOf(path string, waiting map[string]map[string]bool) *Boots {
	b := &Boots{Own: waiting[path]}
	for other, boots := range waiting {
		if boots == nil {
			return nil
		}
		if other != path {
			b.Next = slices.AppendSeq(b.Next, maps.Keys(boots))
		}
	}
	return b
}

// Wants reports whether others can be expected to want the template of a boot. next says whether other files follow.
func (d *Demand) Wants(boot string, next bool) bool {
	if d == nil || d.Known == nil {
		return next
	}
	again, before := d.Known.Own[boot]
	return again || next && (!before || slices.Contains(d.Known.Next, boot))
}

// Ask notes that the file asks for a boot.
func (d *Demand) Ask(boot string) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil {
		d.seen = map[string]bool{}
	}
	_, again := d.seen[boot]
	d.seen[boot] = again
}

// Seen returns what Own is for the next run; it is never nil.
func (d *Demand) Seen() map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil {
		return map[string]bool{}
	}
	return maps.Clone(d.seen)
}
