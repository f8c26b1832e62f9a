package script

import (
	"errors"
	"fmt"
	"time"

	"provium/internal/lua"
	"provium/internal/script/api"
	"provium/internal/script/value"
)

// timeLimit is provium.timeout as assigned, and what it means.
type timeLimit struct {
	raw   lua.Value
	limit time.Duration // 0 is no limit
}

// timeout returns the limit of tests whose metadata have no limit; 0 is no limit.
func (s *session) timeout() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.defaultLimit.limit
}

// Setting implements api.Session.
func (s *session) Setting(name string) (v lua.Value, ok bool) {
	switch name {
	case "timeout":
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.defaultLimit.raw, true
	case "reset_between_tests":
		return s.wantReset, true
	}
	return nil, false
}

// Assign implements api.Session.
func (s *session) Assign(key, v lua.Value) error {
	switch key {
	case "timeout":
		return s.setTimeout(v)
	case "reset_between_tests":
		return s.setReset(v)
	}
	return fmt.Errorf("provium: unknown setting %s (valid: %s)", value.FormatKey(key), api.Settings)
}

// setTimeout is provium.timeout = v. It counts for the running test at once.
func (s *session) setTimeout(v lua.Value) error {
	next := timeLimit{raw: v}
	if v != nil {
		limit, err := value.ParseDuration(v)
		if err != nil {
			return fmt.Errorf("provium.timeout: %w", err)
		}
		next.limit = limit
	}
	s.mu.Lock()
	s.defaultLimit = next
	e := s.current
	s.mu.Unlock()
	if e != nil {
		e.recheckLimit()
	}
	return nil
}

// setReset is provium.reset_between_tests = v.
func (s *session) setReset(v lua.Value) error {
	wanted, ok := v.(bool)
	if !ok && v != nil {
		return fmt.Errorf("provium.reset_between_tests: expected boolean, got %s", lua.TypeName(v))
	}
	if s.inTest() {
		return errors.New("provium.reset_between_tests: cannot be set inside a test body (set it at file scope)")
	}
	s.wantReset = wanted
	return nil
}
