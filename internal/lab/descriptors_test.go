package lab

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

// descriptors returns what the descriptors of this process are, by their number. The tests
// of this package run one after the other.
func descriptors(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			out[e.Name()] = to
		}
	}
	return out
}

// TestClosedVMsHoldNoDescriptor keeps the VMs, as a test with variables does.
func TestClosedVMsHoldNoDescriptor(t *testing.T) {
	l, _ := fakeLab(t)
	var kept []*VM
	iteration := func(n int) {
		scope := []*VM{}
		for i := range 3 {
			v, err := l.DeclareVM(fmt.Sprintf("v%d-%d", n, i), "p", nil)
			if err != nil {
				t.Fatal(err)
			}
			scope = append(scope, v)
			if err := v.Boot(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, v := range scope {
			if err := v.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := v.Console().ReadLog(); err != nil {
				t.Error(err)
			}
		}
		kept = append(kept, scope...)
	}
	iteration(0) // what all VMs share is opened now
	before := descriptors(t)
	for n := range 4 {
		iteration(n + 1)
	}
	after := descriptors(t)
	for fd, to := range after {
		if _, ok := before[fd]; !ok {
			t.Errorf("descriptor %s stays open: %s", fd, to)
		}
	}
	// A closed VM can be booted again.
	v := kept[0]
	err := errors.Join(v.Boot(t.Context(), nil), v.Close(t.Context()))
	if err != nil {
		t.Error(err)
	}
}
