package script

import (
	"slices"

	"provium/internal/lab"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// scopes are the labs that a session's code works in, and what belongs to each. Fields are
// used with the baton of the state held.
type scopes struct {
	root   *lab.Lab // of file scope
	scope  *lab.Lab // of the running test, else root
	opened map[*lab.Lab]*resources
	gone   map[any]string // VMs, bridges and labs whose scope has ended, with its name
}

func newScopes(root *lab.Lab) scopes {
	return scopes{root: root, scope: root, opened: map[*lab.Lab]*resources{}, gone: map[any]string{}}
}

// Root implements binding.Runner.
func (s *scopes) Root() *lab.Lab { return s.root }

// Scope implements binding.Runner.
func (s *scopes) Scope() *lab.Lab { return s.scope }

// liveVMs returns the VMs of file scope and of the running test.
func (s *scopes) liveVMs() []*lab.VM {
	if s.scope == s.root {
		return s.root.AllVMs()
	}
	return append(s.root.AllVMs(), s.scope.AllVMs()...)
}

// Own implements binding.Runner.
func (s *scopes) Own(kind binding.Kind, r binding.Resource) {
	all := s.opened[s.scope]
	if all == nil {
		all = &resources{}
		s.opened[s.scope] = all
	}
	all[kind] = append(all[kind], r)
}

// Disown implements binding.Runner.
func (s *scopes) Disown(kind binding.Kind, r binding.Resource) {
	for _, all := range s.opened {
		all[kind] = slices.DeleteFunc(all[kind], func(x binding.Resource) bool { return x == r })
	}
}

// Ended implements binding.Runner.
func (s *scopes) Ended(a value.Args, kind, name string, object any) error {
	if scope, gone := s.gone[object]; gone {
		return a.Errorf("%s `%s` belongs to %s, which has ended", kind, name, scope)
	}
	return nil
}

// reach lists the VMs, bridges and labs that a scope owns or holds, itself included.
func reach(scope *lab.Lab) map[any]bool {
	seen := map[any]bool{}
	var walk func(l *lab.Lab)
	walk = func(l *lab.Lab) {
		if seen[l] {
			return
		}
		seen[l] = true
		for _, m := range l.Members() {
			if vm, ok := l.VM(m.Name); ok && m.Kind == "vm" {
				seen[vm] = true
			}
			if sub, ok := l.LookupLab(m.Name); ok && m.Kind == "sub_lab" {
				walk(sub)
			}
		}
		for _, vm := range l.AllVMs() {
			seen[vm] = true
		}
		for _, b := range l.Bridges() {
			seen[b] = true
		}
	}
	walk(scope)
	return seen
}
