package script

import (
	"fmt"

	"provium/internal/lab"
)

// barrierKey names a barrier: names are private to their lab, and with it to the scope.
type barrierKey struct {
	lab  *lab.Lab
	name string
}

// barrier is where tasks wait for each other. Fields are used with the Lua baton held,
// except for open, which is closed once.
type barrier struct {
	key     barrierKey
	count   int
	arrived int
	open    chan struct{}
	err     error // why it opened, nil when all came
}

// isOpen reports whether nobody waits at the barrier any more.
func (b *barrier) isOpen() bool {
	select {
	case <-b.open:
		return true
	default:
		return false
	}
}

// arrive adds the caller to those who wait at a barrier. The last of them opens it. The
// others must call leave if it has not opened when they go on.
func (t *taskSet) arrive(key barrierKey, count int) (*barrier, error) {
	b := t.barriers[key]
	if b == nil {
		b = &barrier{key: key, count: count, open: make(chan struct{})}
		if t.barriers == nil {
			t.barriers = map[barrierKey]*barrier{}
		}
		t.barriers[key] = b
	}
	if b.count != count {
		return nil, fmt.Errorf("callers disagree on count: %d here, %d where others wait", count, b.count)
	}
	b.arrived++
	if b.arrived == b.count {
		delete(t.barriers, key)
		t.waiting -= b.arrived - 1
		close(b.open)
		return b, nil
	}
	t.waiting++
	t.checkBarriers()
	return b, nil
}

// leave takes the caller off those who wait, and returns how many they were with it.
func (t *taskSet) leave(b *barrier) (arrived int) {
	arrived = b.arrived
	b.arrived--
	t.waiting--
	if b.arrived == 0 && t.barriers[b.key] == b {
		delete(t.barriers, b.key)
	}
	return arrived
}

// checkBarriers opens all barriers with an error when every task that is left waits at one:
// no other task could arrive.
func (t *taskSet) checkBarriers() {
	if t.waiting == 0 || t.waiting < t.live {
		return
	}
	for key, b := range t.barriers {
		b.err = fmt.Errorf("lab:barrier: `%s`: %d of %d tasks have arrived, and no task is left that could arrive",
			key.name, b.arrived, b.count)
		t.waiting -= b.arrived
		delete(t.barriers, key)
		close(b.open)
	}
}
