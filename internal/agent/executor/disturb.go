package executor

import (
	"fmt"
	"strconv"
	"syscall"

	"provium/internal/agent/process"
	"provium/internal/agent/sys"
)

// disturberName is what makes the program a disturber (init/disturb.h).
const disturberName = "@provium-disturber"

// tickerName is what makes the program a ticker (init/tick.h).
const tickerName = "@provium-ticker"

// Disturb starts a process that interrupts all others at moments that follow from a seed, in place of the
// one before.
func (s *Pool) Disturb(seed uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.other != nil {
		s.other.Kill()
	}
	cmd, err := s.startOther([]string{disturberName, strconv.FormatUint(seed, 10)}, s.starter.DevNull)
	if err != nil {
		return fmt.Errorf("disturber: %w", err)
	}
	s.other = cmd
	return nil
}

// Tick starts the process that passes sync points at times that the host chooses by a port, unless there is one.
func (s *Pool) Tick(port int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ticker != nil {
		return nil
	}
	cmd, err := s.startOther([]string{tickerName}, port)
	if err != nil {
		return fmt.Errorf("ticker: %w", err)
	}
	s.ticker = cmd
	return nil
}

// startOther starts a process of the program that is no executor. The caller must hold s.mu.
func (s *Pool) startOther(argv []string, input int) (*process.Child, error) {
	if s.program <= 0 {
		return nil, errNoExecutor
	}
	null := uintptr(s.starter.DevNull)
	cmd, err := s.starter.Start(sys.DescriptorPath(s.program), argv,
		&syscall.ProcAttr{Dir: "/", Files: []uintptr{uintptr(input), null, null}})
	if err != nil {
		return nil, err
	}
	s.reaping.Go(func() {
		sys.AwaitExit(cmd.Pidfd)
		_, _ = cmd.Wait() // it is over
	})
	return cmd, nil
}
