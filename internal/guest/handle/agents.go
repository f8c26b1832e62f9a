package handle

import "sync"

// Agents knows the agents that have answered in the guests of one VM, the last ones
// only, by their identities. Its zero value is ready. It is safe for concurrent use.
type Agents struct {
	mu    sync.Mutex
	known []knownAgent // oldest first
}

type knownAgent struct {
	id    string
	epoch *Epoch // of what it holds
}

// maxAgents is how many agents are remembered: more than the one that was hibernated and
// those that ran until it was resumed.
const maxAgents = 16

// Epoch returns the epoch of what an agent holds: what is known of it, or else now. An
// agent that was restored from a snapshot holds what the snapshot says, which now is.
func (a *Agents) Epoch(id string, now *Epoch, restored bool) *Epoch {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n := range a.known {
		if k := &a.known[n]; k.id == id {
			if restored {
				k.epoch = now
			}
			return k.epoch
		}
	}
	if len(a.known) == maxAgents {
		a.known = append(a.known[:0], a.known[1:]...)
	}
	a.known = append(a.known, knownAgent{id, now})
	return now
}
