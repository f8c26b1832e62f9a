package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"provium/internal/console"
)

// Console is a VM's console: what ttyS0 and hvc0 printed.
type Console struct{ vm *VM }

// Console is the VM's console; it is checked when used.
func (v *VM) Console() Console { return Console{v} }

// VM is the machine whose console it is.
func (c Console) VM() *VM { return c.vm }

func (c Console) log() *console.Log {
	c.vm.mu.Lock()
	defer c.vm.mu.Unlock()
	return c.vm.log
}

// ReadLog returns everything printed since the first boot, also after the
// guest's end.
func (c Console) ReadLog() ([]byte, error) {
	log := c.log()
	if log == nil {
		return nil, nil
	}
	return log.ReadAll()
}

// Tail returns the last n bytes printed. A log that cannot be read is said to
// be so in the text, which is only for people.
func (c Console) Tail(n int) string {
	log := c.log()
	if log == nil {
		return ""
	}
	b, err := log.Tail(n)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return string(b)
}

// expectTail is how much of the console the error of a failed Expect shows.
const expectTail = 1 << 10

// Expect waits until pattern has been printed after the previous match, or
// since the last boot. The position is one per VM.
func (c Console) Expect(ctx context.Context, pattern string, timeout time.Duration) error {
	log := c.log()
	if log == nil {
		return c.vm.stateError("console:expect", Booted)
	}
	limited, cancel := context.WithTimeoutCause(ctx, timeout, errExpectTimeout)
	defer cancel()
	err := log.Expect(limited, []byte(pattern))
	if err != nil && errors.Is(context.Cause(limited), errExpectTimeout) {
		return fmt.Errorf("expect timed out waiting for `%s` on the console of vm `%s`; it ends with:\n%s", pattern, c.vm.name, c.Tail(expectTail))
	}
	return err
}

var errExpectTimeout = errors.New("expect timed out")

// reportQuiet ends a failure report that the kernel has stopped adding to.
const reportQuiet = 300 * time.Millisecond

// consoleWatch takes what the guest prints into the VM's log and looks for
// failures of the guest in it.
type consoleWatch struct {
	vm   *VM
	inst *instance

	mu       sync.Mutex
	detector *console.Detector
	partial  [2][]byte   // unfinished line of each device
	quiet    *time.Timer // runs while a report is unfinished
	lossy    bool        // the log could not be written, and that was said
}

// Devices whose output lands in one log.
const (
	deviceSerial = iota
	deviceHVC
)

// maxPartial is where a line without an end is given to the detector as it is.
const maxPartial = 4 << 10

func newConsoleWatch(v *VM, i *instance) *consoleWatch {
	w := &consoleWatch{vm: v, inst: i, detector: console.NewDetector(v.host.Oops)}
	w.quiet = time.AfterFunc(reportQuiet, w.flush)
	w.quiet.Stop()
	return w
}

// device is the writer for the output of one device.
func (w *consoleWatch) device(n int) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		w.write(n, p)
		// A log that cannot be written must not stop the guest's console.
		return len(p), nil
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (w *consoleWatch) write(device int, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.vm.log.Write(p); err != nil && !w.lossy {
		// Once: a guest may print as fast as a full disk can refuse it.
		w.lossy = true
		w.vm.host.warn("vm `%s` console log: %v; what does not fit is lost", w.vm.name, err)
	}
	// The detector sees whole lines, so that two devices do not mix in one.
	held := &w.partial[device]
	*held = append(*held, p...)
	end := bytes.LastIndexByte(*held, '\n') + 1
	if len(*held)-end > maxPartial {
		end = len(*held)
	}
	w.report(w.detector.Feed((*held)[:end]))
	*held = append((*held)[:0], (*held)[end:]...)
	if _, open := w.detector.Open(); open {
		w.quiet.Reset(reportQuiet)
	} else {
		w.quiet.Stop()
	}
}

// flush reports what is half seen: the guest has ended, has printed nothing for
// a while, or somebody asks.
func (w *consoleWatch) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.quiet.Stop()
	for i, held := range w.partial {
		w.report(w.detector.Feed(held))
		w.partial[i] = nil
	}
	w.report(w.detector.Flush())
}

func (w *consoleWatch) report(findings []console.Finding) {
	for _, f := range findings {
		if f.Panic {
			w.inst.fail("guest panicked: " + f.Title)
		}
		w.vm.found(f)
	}
}
