package instance

import (
	"bytes"
	"context"
	"io"
	"sync"
	"time"

	"provium/internal/guest"
	"provium/internal/kernelreport"
)

// reportQuiet ends a failure report that the kernel has stopped adding to.
const reportQuiet = 300 * time.Millisecond

// watch takes what the guest prints into the VM's log and looks for failures of the
// guest in it.
type watch struct {
	inst *Instance

	mu       sync.Mutex
	detector *kernelreport.Detector
	partial  [2][]byte   // unfinished line of each device
	begun    [2]bool     // a report has begun with the unfinished line, whose rest is dropped
	quiet    *time.Timer // runs while a report is unfinished
	lossy    bool        // the log could not be written, and that was said
	agent    agentWords
	goodbye  bool // the kernel of this boot has said that it ends
}

// Devices whose output lands in one log.
const (
	deviceSerial = iota
	deviceHVC
)

// maxPartial is where a line without an end is given to the detector as it is.
const maxPartial = 4 << 10

func newWatch(i *Instance) *watch {
	rules := i.cfg.Oops
	rules.Stamps = kernelreport.StampsOf(i.cfg.QEMU.Cmdline)
	w := &watch{inst: i, detector: kernelreport.NewDetector(rules)}
	w.mu.Lock() // on a busy machine the timer may run before it is known
	defer w.mu.Unlock()
	w.quiet = time.AfterFunc(reportQuiet, func() {
		i.readKernelLog() // it has the lines that a quiet console leaves out
		w.pause()
	})
	w.quiet.Stop()
	return w
}

// device returns the writer for the output of one device.
func (w *watch) device(n int) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		w.write(n, p)
		// A log that cannot be written must not stop the guest's console.
		return len(p), nil
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (w *watch) write(device int, p []byte) {
	for _, finish := range w.take(device, p) {
		finish()
	}
}

// take is write, but for what takes long and needs no lock, which it returns.
func (w *watch) take(device int, p []byte) (finish []func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.inst.cfg.Console.Write(p); err != nil && !w.lossy {
		// Once: a guest may print as fast as a full disk can refuse it.
		w.lossy = true
		w.inst.cfg.Hooks.Warn("vm `%s` console log: %v; what does not fit is lost", w.inst.cfg.VM, err)
	}
	// The detector sees whole lines, so that two devices do not mix in one.
	held := &w.partial[device]
	if w.begun[device] {
		end := bytes.IndexByte(p, '\n') + 1
		if end == 0 {
			return nil
		}
		p, w.begun[device] = p[end:], false
	}
	*held = append(*held, p...)
	end := bytes.LastIndexByte(*held, '\n') + 1
	if len(*held)-end > maxPartial {
		end = len(*held)
	}
	if end > 0 {
		w.inst.cfg.Hooks.Printed((*held)[:end])
	}
	if w.agent.take(string((*held)[:end])) {
		w.inst.endWithAgent(w.agent.said)
	}
	if bytes.Contains((*held)[:end], []byte(haltWords)) {
		w.inst.mayHaveHalted()
	}
	if bytes.Contains((*held)[:end], []byte(panicWords)) {
		w.inst.mayEnd()
	}
	w.goodbye = w.goodbye || saysGoodbye((*held)[:end])
	finish = w.report(w.detector.Feed((*held)[:end]), false)
	*held = append((*held)[:0], (*held)[end:]...)
	if w.detector.IsPending() {
		w.quiet.Reset(reportQuiet)
	} else {
		w.quiet.Stop()
	}
	return finish
}

// logged takes a line of the kernel's log that was read from its memory.
func (w *watch) logged(line string) {
	w.mu.Lock()
	finish := w.report(w.detector.Feed([]byte(line)), false)
	w.mu.Unlock()
	for _, f := range finish {
		f()
	}
}

// flush reports what is known so far: the guest has ended, has printed nothing for a
// while, or the caller asks. over says that the guest, or its present boot, has ended. The caller
// must call what it returns, without a lock.
func (w *watch) flush(over bool) (finish []func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.quiet.Stop()
	for i, held := range w.partial {
		// A line that is cut in two here would not be recognised.
		if len(held) > 0 && w.detector.Begin(held) {
			w.partial[i], w.begun[i] = nil, true
		}
	}
	return w.report(w.detector.Flush(), over)
}

// pause is flush for a guest that goes on.
func (w *watch) pause() {
	for _, finish := range w.flush(false) {
		finish()
	}
}

// report hands findings on. The caller must hold w.mu, and call what is returned without it.
func (w *watch) report(findings []Finding, over bool) (finish []func()) {
	for _, f := range findings {
		if !f.Panic {
			w.inst.cfg.Hooks.Finding(f)
		} else if end := w.inst.mayHavePanicked(f, over); end != nil {
			finish = append(finish, end)
		}
	}
	return finish
}

// startOver forgets what the agent and the kernel of the last boot have said of themselves.
func (w *watch) startOver() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.agent, w.goodbye = agentWords{}, false
}

// saidGoodbye reports whether the kernel of this boot has said that it ends.
func (w *watch) saidGoodbye() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.goodbye
}

// stamps returns what is known of the kernel's time stamps.
func (w *watch) stamps() kernelreport.Stamps {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.detector.Stamps()
}

// stampsFile is where a kernel says whether it stamps its lines.
const stampsFile = "/sys/module/printk/parameters/time"

// askForStamps asks a guest that has printed nothing by which it could be seen whether its
// kernel stamps its lines.
func (w *watch) askForStamps(ctx context.Context, link *guest.Client) {
	if w.stamps() != kernelreport.StampsUnknown {
		return
	}
	text, err := link.ReadFile(ctx, stampsFile)
	if err != nil || len(text) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if text[0] == 'Y' {
		w.detector.SetStamps(kernelreport.HasStamps)
	} else {
		w.detector.SetStamps(kernelreport.HasNoStamps)
	}
}

// StampsLines reports whether the guest's kernel stamps its lines: others are of programs.
func (i *Instance) StampsLines() bool { return i.watch.stamps() == kernelreport.HasStamps }

// IsReporting reports whether there is a failure report of the kernel that was not handed on yet.
func (i *Instance) IsReporting() bool {
	i.watch.mu.Lock()
	defer i.watch.mu.Unlock()
	return i.watch.detector.IsPending()
}
