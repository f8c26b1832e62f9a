// Package rewind keeps the states that guests had before the operations of a test, and brings them back
// for a person who looks at it.
//
// It knows no Lua. Start with Points.
package rewind

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"provium/internal/lab"
	"provium/internal/topology"
)

const (
	// maxBytes is how much the states may take on disk before the oldest is removed.
	maxBytes = 1 << 30
	// maxPoints is how many of them there may be.
	maxPoints = 1000
	// share is how much of the time the states may take, as a divisor: the rest is the test's.
	share = 2
	// free is what they may take in any case.
	free = 2 * time.Second
)

// Operation is one before which a state is kept.
type Operation struct {
	Func  string // vm:run
	Text  string // with its VM, arguments and place, for people
	Where string // FILE:LINE
}

// Points are the states of the guests before operations. The zero value keeps none. Limit may be set
// before Start. It is safe for concurrent use.
type Points struct {
	Limit int64 // bytes on disk; 0: 1 GiB

	mu      sync.Mutex
	on      bool
	taking  bool
	began   time.Time
	spent   time.Duration
	all     []*point // oldest first
	bytes   int64
	made    int    // points, also those that were removed
	head    *point // the one before the present state of the guests; nil before the first
	skipped error  // why the latest operation has none; nil if it has one
	later   int    // operations since the last point, without one
}

// point is the state before an operation.
type point struct {
	number   int
	before   Operation
	scope    *lab.Lab
	snapshot *lab.LabSnapshot
	bytes    int64
	earlier  *point // the one before it, in what the guests have done
}

// Start begins to keep states. It reports whether that was not so before.
func (p *Points) Start() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on {
		return false
	}
	p.on, p.began, p.spent, p.later, p.skipped, p.made, p.head = true, time.Now(), 0, 0, nil, 0, nil
	return true
}

// Stop ends that, and removes the states.
func (p *Points) Stop() error {
	p.mu.Lock()
	all := p.all
	p.on, p.all, p.head, p.bytes = false, nil, nil, 0
	p.mu.Unlock()
	var errs []error
	for _, at := range all {
		errs = append(errs, at.snapshot.Delete())
	}
	return errors.Join(errs...)
}

// IsOn reports whether states are kept.
func (p *Points) IsOn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.on
}

var (
	errNoGuest  = errors.New("no guest ran")
	errCost     = errors.New("keeping them took half of the time")
	errParallel = errors.New("another one was being kept")
)

// reading are the operations that change nothing in a guest but its time.
var reading = []string{"vm:read_file", "vm:pull_file", "vm:stat", "vm:listdir", "vm:readlink", "vm:getxattr",
	"vm:read_mem", "vm:dmesg", "vm:wait_file", "vm:wait_port", "vm:wait_unit", "console:expect"}

// Keep keeps the state of the guests in scope before an operation, where that can be. Before an operation that only
// reads, it keeps none.
func (p *Points) Keep(ctx context.Context, scope *lab.Lab, before Operation) {
	p.mu.Lock()
	if !p.on || slices.Contains(reading, before.Func) {
		p.mu.Unlock()
		return
	}
	begun := time.Now()
	var err error
	switch {
	case p.taking:
		err = errParallel
	case !slices.ContainsFunc(scope.TargetVMs(), isRunning):
		err = errNoGuest
	case p.spent > free && p.spent*share > begun.Sub(p.began):
		err = errCost
	}
	if err != nil {
		p.skip(err)
		p.mu.Unlock()
		return
	}
	p.taking = true
	p.mu.Unlock()

	s, err := scope.Snapshot(ctx, "")
	var size int64
	if err == nil {
		size, _ = s.Size() // 0 where it cannot be read
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	p.taking = false
	p.spent += time.Since(begun)
	if err != nil {
		p.skip(err)
		return
	}
	p.skipped, p.later = nil, 0
	p.made++
	p.head = &point{p.made, before, scope, s, size, p.head}
	p.all, p.bytes = append(p.all, p.head), p.bytes+size
	for len(p.all) > 1 && (len(p.all) > maxPoints || p.bytes > cmp.Or(p.Limit, maxBytes)) {
		p.dropOldest()
	}
}

// dropOldest removes a state. The caller must hold p.mu.
func (p *Points) dropOldest() {
	oldest := p.all[0]
	_ = oldest.snapshot.Delete() // else it goes with the run's directory
	p.all, p.bytes = slices.Delete(p.all, 0, 1), p.bytes-oldest.bytes
	for _, at := range p.all {
		if at.earlier == oldest {
			at.earlier = nil
		}
	}
	if p.head == oldest {
		p.head = nil
	}
}

// skip notes that an operation has no point. The caller must hold p.mu.
func (p *Points) skip(err error) {
	p.skipped = err
	p.later++
}

func isRunning(vm *lab.VM) bool {
	state := vm.State()
	return state == topology.Booted || state == topology.Paused
}

// Back brings back the state that w asks for. The states after it stay: later calls may go to them. It returns which
// state that is, for people.
func (p *Points) Back(ctx context.Context, w Wish) (text string, err error) {
	p.mu.Lock()
	at, err := p.find(w)
	if err != nil {
		p.mu.Unlock()
		return "", err
	}
	later, skipped := p.later, p.skipped
	isLast := at == p.head
	p.later, p.skipped, p.head = 0, nil, at.earlier
	p.mu.Unlock()
	if err := at.scope.Restore(ctx, at.snapshot.Path()); err != nil {
		return "", fmt.Errorf("rewind: %w", err)
	}
	text = "rewound to the state before " + at.before.Text
	if later > 0 && isLast {
		text += fmt.Sprintf("\n%d later operation(s) have none of their own: %v", later, skipped)
	}
	return text, nil
}

// find returns the point of a wish. The caller must hold p.mu.
func (p *Points) find(w Wish) (*point, error) {
	isIt := func(at *point) bool { return at == p.head }
	switch {
	case w.Where != "":
		isIt = func(at *point) bool {
			return at.before.Where == w.Where || strings.HasSuffix(at.before.Where, "/"+w.Where)
		}
	case w.Number != 0:
		isIt = func(at *point) bool { return at.number == w.Number }
	}
	for _, at := range slices.Backward(p.all) {
		if isIt(at) {
			return at, nil
		}
	}
	if w == (Wish{}) || len(p.all) == 0 {
		why := ""
		if p.skipped != nil {
			why = ": " + p.skipped.Error()
		}
		return nil, fmt.Errorf("there is no state to go back to%s", why)
	}
	return nil, fmt.Errorf("%v is not a state that is kept; these are:\n%s", w, p.list(maxListed))
}

// maxListed is how many states a list shows: the latest.
const maxListed = 20

// List returns the states, a line each, "" for none.
func (p *Points) List() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list(maxListed)
}

// list is List with the latest so many. The caller must hold p.mu.
func (p *Points) list(most int) string {
	var b strings.Builder
	shown := p.all[max(0, len(p.all)-most):]
	if left := len(p.all) - len(shown); left > 0 {
		fmt.Fprintf(&b, "  [%d earlier ones, from %d on]\n", left, p.all[0].number)
	}
	for _, at := range shown {
		fmt.Fprintf(&b, "  %3d before %s\n", at.number, at.before.Text)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
