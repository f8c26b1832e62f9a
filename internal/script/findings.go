package script

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"provium/internal/kernelreport"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/salvage"
	"provium/internal/script/scene"
	"provium/internal/script/value"
)

// takeFindings describes the guest failures seen since it was last called. It waits for
// what is on its way from the consoles.
func (e *execution) takeFindings(vms []*lab.VM) []string {
	found := make([][]kernelreport.Finding, len(vms))
	_ = e.s.state.Block(func() error {
		for i, vm := range vms {
			found[i] = vm.TakeFindings()
		}
		return nil
	})
	var out []string
	for i, vm := range vms {
		out = append(out, e.failures(vm, found[i])...)
	}
	return out
}

// failures describes the reports of a guest's kernel that fail the execution. Those that are
// only to be noted go to its log.
func (e *execution) failures(vm *lab.VM, found []kernelreport.Finding) []string {
	failures, notes := e.verdict.Judge(vm, found)
	for _, n := range notes {
		e.warn(n)
	}
	return failures
}

// tExpectKernel has a report of a kernel fail nothing, which then must come.
func (s *assertions) tExpectKernel(a value.Args, e *execution) ([]lua.Value, error) {
	p, err := a.SearchPattern()
	if err == nil {
		err = e.verdict.Expect(p, a.Call.Caller().String())
	}
	return nil, err
}

const (
	// sceneLimit is how long guests are asked what they do when a test has failed.
	sceneLimit = 2 * time.Second
	// sceneLastLimit is the same for a file that is stopped: it is killed soon.
	sceneLastLimit = time.Second
	// sceneSilentLimit is the same where a guest was silent, so that the test ends 1 s late at most.
	sceneSilentLimit = 150 * time.Millisecond
	// maxStuck is how many guests are asked what is stuck in them.
	maxStuck = 4
)

// evidence is what a failure leaves behind that is gone when the test has ended.
type evidence struct {
	taken  bool
	output []string // of commands that were stopped
	world  string   // rules, and commands in the background
	stuck  string   // what guests did when the time was up
	silent bool     // one of them did not answer that
	states string   // that are kept
}

// parts returns what there is, for people.
func (v *evidence) parts() []string {
	all := append(slices.Clone(v.output), v.world, v.stuck, v.states)
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// hasFailed reports whether the body has failed, of which err is the error.
func (e *execution) hasFailed(err error) bool {
	var stop *stopError
	return e.failure != nil || err != nil && e.skipped == nil || errors.As(err, &stop)
}

// takeEvidence records the state of the world, once.
func (e *execution) takeEvidence() {
	if e.evidence.taken {
		return
	}
	e.evidence.taken = true
	if list := e.s.points.List(); list != "" {
		e.evidence.states = "states that are kept, for rewind(N):\n" + list
	}
	e.evidence.output = append(e.evidence.output, e.s.takeCutOff()...)
	seen := reach(e.s.scope)
	maps.Copy(seen, reach(e.s.root))
	var background []binding.Resource
	for _, scope := range slices.Compact([]*lab.Lab{e.s.root, e.s.scope}) {
		if all := e.s.opened[scope]; all != nil {
			background = slices.Concat(background, all[binding.ProcessResource], all[binding.CallResource])
		}
	}
	_ = e.s.state.Block(func() error {
		limit := sceneLimit
		switch {
		case e.isGuestSilent():
			limit = sceneSilentLimit
		case e.s.ctx.Err() != nil:
			limit = sceneLastLimit
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		e.evidence.world = scene.World(ctx, seen, background, e.touchedVMs(), e.s.Reports.Name)
		return nil
	})
	e.salvage(false)
}

// lookAtStuck asks the guests that operations wait for what they do, until over is closed. It
// runs beside the execution.
func (e *execution) lookAtStuck(limit time.Duration, over <-chan struct{}) {
	waiting := e.trace.VMs()
	var vms []*lab.VM
	for _, vm := range e.touchedVMs() {
		if len(waiting) == 0 || slices.Contains(waiting, vm.Name()) {
			vms = append(vms, vm)
		}
	}
	if e.trace.InFlight() == "" || len(vms) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	go func() {
		select {
		case <-over:
			cancel()
		case <-ctx.Done():
		}
	}()
	text, silent := scene.Stuck(ctx, vms[max(0, len(vms)-maxStuck):], e.s.Reports.Name)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.evidence.stuck, e.evidence.silent = text, silent
}

// isGuestSilent reports whether lookAtStuck has met a guest that does not answer.
func (e *execution) isGuestSilent() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.evidence.silent
}

// salvage hands over what the VMs of the execution leave behind. last says that nothing of it will run
// any more.
func (e *execution) salvage(last bool) {
	if e.s.Salvage == nil {
		return
	}
	vms := e.vms()
	for _, vm := range e.s.liveVMs() {
		if !slices.Contains(vms, vm) {
			vms = append(vms, vm)
		}
	}
	r := salvage.Remains{VMs: vms, Silent: e.isGuestSilent() || e.s.ctx.Err() != nil, Last: last}
	if e.s.scope != e.s.root {
		r.Ending = e.s.scope.AllVMs()
	}
	_ = e.s.state.Block(func() error {
		e.s.Salvage(context.WithoutCancel(e.s.ctx), r)
		return nil
	})
}
