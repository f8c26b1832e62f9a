package executor

import (
	"fmt"
	"strconv"
	"syscall"

	"provium/internal/agent/sys"
)

// disturberName is what makes the program a disturber (init/disturb.h).
const disturberName = "@provium-disturber"

// Disturb starts a process that interrupts all others at moments that follow from a seed, in place of the
// one before.
func (s *Pool) Disturb(seed uint64) error {
	if s.program <= 0 {
		return errNoExecutor
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.other != nil {
		s.other.Kill()
	}
	null := s.starter.DevNull
	cmd, err := s.starter.Start(sys.DescriptorPath(s.program), []string{disturberName, strconv.FormatUint(seed, 10)},
		&syscall.ProcAttr{Dir: "/", Files: []uintptr{uintptr(null), uintptr(null), uintptr(null)}})
	if err != nil {
		return fmt.Errorf("disturber: %w", err)
	}
	s.other = cmd
	s.reaping.Go(func() {
		sys.AwaitExit(cmd.Pidfd)
		_, _ = cmd.Wait() // it is over
	})
	return nil
}
