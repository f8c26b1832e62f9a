package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/admission"
	"provium/internal/choose"
	"provium/internal/deadline"
	"provium/internal/dialog"
	"provium/internal/event"
	"provium/internal/report"
	"provium/internal/run/evidence"
	"provium/internal/run/workers"
	"provium/internal/terminal"
)

const poisoned = "failed-due-to-poisoned-state"

// resources is what a running file may draw on. Implementations answer from other
// goroutines.
type resources interface {
	// Acquire asks for the shares of guests, Claim for the file's claim. answer is
	// called exactly once, now or later, also when the request is dropped.
	Acquire(id uint64, what string, shares []admission.Share, answer func(error))
	Claim(id uint64, memory int64, cpus int, answer func(error))
	// Booted says that a guest which boots cold, and has its share, is up.
	Booted()
	// Release releases a share that was granted under id.
	Release(id uint64, share int)
	// Forget withdraws the request, or releases all that was granted for it.
	Forget(id uint64)
}

// fileRun supervises the runner process of one file.
type fileRun struct {
	job       *job
	command   *workers.Command
	idle      *workers.Kept             // workers that have run other files; nil keeps none
	suits     func(*workers.Worker) int // how well one of them suits, as Take has it
	resources resources
	limit     time.Duration          // 0: none; waiting for resources does not count
	fair      bool                   // nobody has asked for the limit; see package deadline
	emit      func(...event.Encoded) // event.Bus.Forward
	stderr    io.Writer
	person    Person                                 // who looks at paused tests; nil: nobody
	launched  func(pid int)                          // called with the runner's process id; nil: not
	early     func(path string, t report.TestResult) // called for a failed test when the file goes on; nil: not

	pipe     *messagePipe
	begun    bool // the runner has said something
	result   *report.Collector
	kept     *evidence.Collector
	status   report.FileStatus
	chunkErr string
	chunkDir string               // of its artifacts
	vms      map[string]time.Time // spawned and not shut down, by name
	waits    int                  // requests to the pool without an answer, and other waits that count against no limit
	waited   time.Duration        // for that, so far
	waiting  time.Time            // when it began to wait; zero: it does not
	cpu      time.Duration        // CPU time of the runner and its guests, once it has ended
	hindered atomic.Int64         // nanoseconds that they have waited for a CPU, in all
	claim    *claim               // the file's claim, from when it is asked for
	claimed  *event.Amount        // the same, from when it is granted
	done     *done
	stop     *stopNow

	collected []choose.Test // where the tests do not run; nil if that failed
	talk      *talk         // the latest
	failed    string        // a test of which it is not known yet whether the file goes on behind it
}

// run runs the file to its end, whatever that is. When stopAll is closed it is
// ended early, for the reason in why; when killAll is, at once.
func (f *fileRun) run(stopAll, killAll <-chan struct{}, why *stopNow) report.FileResult {
	started := time.Now()
	f.result, f.kept = report.NewCollector(f.job.Path), evidence.NewCollector(f.job.Kept, f.stderr)
	f.vms = map[string]time.Time{}
	if err := f.supervise(stopAll, killAll, why); err != nil {
		f.fail(err)
	}
	f.setStatus()
	result := f.result.Result(f.status, f.chunkErr, time.Since(started))
	result.Artifacts = f.chunkDir
	if f.claimed != nil {
		f.send(event.ClaimReleased{Path: f.job.Path, Amount: *f.claimed})
	}
	f.send(event.FileCompleted{
		Path: f.job.Path, Status: eventStatus(result.Status), DurationNS: uint64(result.Duration),
		ChunkError: result.ChunkError, Artifacts: f.chunkDir,
	})
	return result
}

func eventStatus(s report.FileStatus) event.FileStatus {
	switch s {
	case report.FilePassed:
		return event.FilePassed
	case report.FileTimedOut:
		return event.FileTimedOut
	case report.FileCrashed:
		return event.FileCrashed
	case report.FileInterrupted:
		return event.FileInterrupted
	}
	return event.FileFailed
}

// supervise has a worker run the file. An error says why there is no complete report.
func (f *fileRun) supervise(stopAll, killAll <-chan struct{}, why *stopNow) error {
	if w := f.idle.Take(f.suits); w != nil {
		// It may have ended meanwhile: then it says nothing, and the file has not begun.
		if err := f.serve(w, stopAll, killAll, why); f.begun || f.stop != nil {
			return err
		}
	}
	w, err := f.command.Start()
	if err != nil {
		return err
	}
	return f.serve(w, stopAll, killAll, why)
}

// serve talks to a worker until its process is gone, or has run the file and may run another one.
func (f *fileRun) serve(w *workers.Worker, stopAll, killAll <-chan struct{}, why *stopNow) error {
	w.Begin(f.job.Path)
	if f.launched != nil {
		f.launched(w.PID())
	}
	f.pipe = newMessagePipe(w.Conn(), w.Conn())
	messages := make(chan *message)
	ctx, cancel := context.WithCancel(context.Background())
	go f.receive(ctx, messages)
	answers := make(chan answer)
	defer cancel() // after the loop nothing is received
	if err := f.pipe.send(&message{Job: f.job}); err != nil {
		w.Kill()
	}

	limit, expired, stopLimit := f.beginLimit()
	defer stopLimit()
	endings := f.newEndings()
	defer endings.stop()
	halt := func(s stopNow) {
		if f.stop != nil {
			return
		}
		f.stop = &s
		stopLimit()
		endings.begin()
		if f.pipe.send(&message{Interrupt: &s}) != nil {
			w.Kill()
		}
	}
	for messages != nil {
		select {
		case m, ok := <-messages:
			if !ok {
				messages = nil
				break
			}
			f.handle(m, ctx, answers)
			f.hold(limit)
			if f.stop != nil {
				endings.heard()
			}
		case a := <-answers:
			f.answer(a)
			f.hold(limit)
		case <-expired:
			expired = nil
			halt(stopNow{
				Reason: fmt.Sprintf("the file's limit of %v (--timeout) has passed%s", f.limit, limit.Charged()),
				Status: string(report.FileTimedOut),
			})
		case <-stopAll:
			stopAll = nil
			halt(*why)
		case <-killAll:
			killAll = nil
			w.Kill()
		case <-endings.over:
			f.giveUp(w)
		}
	}
	f.endTalk()
	if f.done == nil || !f.done.Reusable {
		return f.outcome(w)
	}
	if f.stop != nil || f.idle == nil { // it waits for what never comes
		w.Kill()
		return f.outcome(w)
	}
	f.cpu = f.done.CPU
	w.Finish(f.cpu)
	maps.Copy(w.Boots, f.done.Boots)
	f.idle.Put(w)
	return nil
}

// giveUp kills a runner that has not ended when it was asked to.
func (f *fileRun) giveUp(w *workers.Worker) {
	fmt.Fprintf(f.stderr, "provium: %s: it does not end as asked, and is killed\n", terminal.Escape(f.job.Path))
	w.Kill()
}

// outcome returns why there is no complete report of a runner that ends.
func (f *fileRun) outcome(w *workers.Worker) error {
	err := w.Wait()
	crash, cpu := w.End(f.done == nil && f.stop == nil)
	f.cpu = cpu
	switch {
	case f.done != nil:
		return nil
	case err != nil && crash != "":
		return fmt.Errorf("runner ended: %w\n%s", err, crash)
	case err != nil:
		return fmt.Errorf("runner ended: %w", err)
	}
	return errors.New("runner ended without a report")
}

// hold stops the file's limit while the file waits, and lets it go on.
func (f *fileRun) hold(limit *deadline.Deadline) {
	waits := f.waits > 0
	limit.Hold(waits)
	switch {
	case waits && f.waiting.IsZero():
		f.waiting = time.Now()
	case !waits && !f.waiting.IsZero():
		f.waited += time.Since(f.waiting)
		f.waiting = time.Time{}
	}
}

// receive passes the runner's messages on until the runner or ctx ends, or the runner may run another file.
func (f *fileRun) receive(ctx context.Context, messages chan<- *message) {
	defer close(messages)
	for {
		m, err := f.pipe.receive()
		if err != nil {
			// A runner that is killed may reset the connection.
			if !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
				fmt.Fprintf(f.stderr, "provium: %s: %v\n", f.job.Path, err)
			}
			return
		}
		select {
		case messages <- m:
		case <-ctx.Done():
			return
		}
		if m.Done != nil && m.Done.Reusable {
			return
		}
	}
}

// answer sends the runner the pool's answer to a request.
func (f *fileRun) answer(a answer) {
	f.waits--
	if f.claim != nil && a.ID == f.claim.ID && a.Err == "" {
		f.claimed = &event.Amount{MemoryBytes: uint64(f.claim.Memory), CPUs: uint32(f.claim.CPUs)}
		f.send(event.ClaimAcquired{Path: f.job.Path, Amount: *f.claimed})
	}
	_ = f.pipe.send(&message{Answer: &a})
}

// handle takes one message of the runner.
func (f *fileRun) handle(m *message, ctx context.Context, answers chan<- answer) {
	reply := func(id uint64) func(error) {
		f.waits++
		return func(err error) {
			a := answer{ID: id}
			if err != nil {
				a.Err = err.Error()
			}
			go func() {
				select {
				case answers <- a:
				case <-ctx.Done():
				}
			}()
		}
	}
	f.begun = true
	switch {
	case m.Events != nil:
		f.handleEvents(m.Events)
	case m.Registered != nil:
		f.result.Expect(m.Registered.Tests)
	case m.Collected != nil:
		f.collected = m.Collected.tests(f.job.Path)
	case m.Acquire != nil:
		f.resources.Acquire(m.Acquire.ID, m.Acquire.What, m.Acquire.Shares, reply(m.Acquire.ID))
	case m.Claim != nil:
		if f.claimed == nil { // a second one is refused
			f.claim = m.Claim
		}
		f.resources.Claim(m.Claim.ID, m.Claim.Memory, m.Claim.CPUs, reply(m.Claim.ID))
	case m.Release != nil && m.Release.Forget:
		f.resources.Forget(m.Release.ID)
	case m.Release != nil:
		f.resources.Release(m.Release.ID, m.Release.Share)
	case m.Paused != nil:
		f.startTalk(m.Paused)
	case m.Shown != nil && f.talk != nil:
		select {
		case f.talk.shown <- dialog.Shown{Text: m.Shown.Text, Incomplete: m.Shown.Incomplete, Names: m.Shown.Names}:
		default: // nobody has asked
		}
	case m.Waits != nil && m.Waits.Begin:
		f.waits++
	case m.Waits != nil:
		f.waits--
	case m.Done != nil:
		f.done = m.Done
	}
}

// handleEvents takes events of the runner. Their bytes go into the event stream as they
// are; to decode them shows that they can be read by others.
func (f *fileRun) handleEvents(list []encodedEvent) {
	batch := make([]event.Encoded, 0, len(list))
	for _, m := range list {
		e, err := event.DecodePayload(event.Kind(m.Kind), m.Payload)
		if err != nil {
			fmt.Fprintf(f.stderr, "provium: %s: %v\n", f.job.Path, err)
			continue
		}
		f.record(e)
		f.showEarly(e)
		batch = append(batch, event.Encoded{Event: e, Payload: m.Payload})
	}
	f.emit(batch...)
}

// showEarly takes an event of the runner, and shows the test that failed before it unless the
// file may be at its end, where it is shown with the others.
func (f *fileRun) showEarly(e event.Event) {
	if e.Kind() == event.KindVMShutdown {
		return
	}
	if f.failed != "" && f.early != nil {
		if t, ok := f.result.Test(f.failed); ok {
			f.early(f.job.Path, t)
		}
	}
	f.failed = ""
	if e, ok := e.(event.TestFailed); ok {
		f.failed = e.Name
	}
}

// tell adds an event that the runner did not send.
func (f *fileRun) tell(e event.Event) {
	if failed, ok := e.(event.TestFailed); ok {
		failed.Artifacts = f.keep(failed.Name, failed.Reason)
		failed.Reason = repeatable(failed.Reason, failed.Name, f.job.Repeat, failed.Artifacts)
		e = failed
	}
	f.record(e)
	f.send(e)
}

// keep keeps the evidence of a failure that the runner has not reported, and returns its folder.
func (f *fileRun) keep(test, reason string) string {
	if strings.HasPrefix(reason, poisoned) {
		return ""
	}
	return f.kept.Lost(test, reason, f.job.TempDir)
}

// send passes an event on.
func (f *fileRun) send(e event.Event) { f.emit(event.Encoded{Event: e}) }

// record takes an event into the file's report.
func (f *fileRun) record(e event.Event) {
	f.kept.Take(e)
	switch e := e.(type) {
	case event.VMSpawned:
		f.vms[e.VMName] = time.Now()
		f.resources.Booted()
	case event.VMShutdown:
		delete(f.vms, e.VMName)
	default:
		f.result.Add(e)
	}
}

// repeatable adds to the reason of a failure the command line that runs the test once more, or
// with "" the file, and the folder with the evidence, in the text that all reports show.
func repeatable(reason, test string, how report.Repeat, folder string) string {
	if strings.HasPrefix(reason, poisoned) {
		return reason
	}
	return how.After(reason, test, folder)
}

// fail completes the report of a runner that could not do so itself.
func (f *fileRun) fail(cause error) {
	timedOut := f.stop != nil && f.stop.Status == string(report.FileTimedOut)
	reason := cause.Error()
	if f.stop != nil {
		reason = f.stop.Reason
	}
	if t := f.result.Running(); t != nil {
		f.tell(event.TestFailed{Path: f.job.Path, Name: t.Name, Reason: reason, Meta: t.Meta})
	}
	for _, name := range f.result.Missing() {
		f.tell(event.TestStarted{Path: f.job.Path, Name: name})
		if f.stop != nil {
			f.tell(event.TestSkipped{Path: f.job.Path, Name: name, Reason: "not run: " + reason})
		} else {
			f.tell(event.TestFailed{Path: f.job.Path, Name: name, Reason: poisoned})
		}
	}
	for name, since := range f.vms {
		f.tell(event.VMShutdown{File: f.job.Path, VMName: name, DurationNS: uint64(time.Since(since))})
	}
	if f.result.Tests() == 0 {
		f.chunkDir = f.keep("", reason)
		f.chunkErr = repeatable(reason, "", f.job.Repeat, f.chunkDir)
	}
	f.status = report.FileCrashed
	switch {
	case timedOut:
		f.status = report.FileTimedOut
	case f.stop != nil:
		f.status = report.FileInterrupted
	}
}

// setStatus decides how the file ended, from its own report if there is one.
func (f *fileRun) setStatus() {
	if f.done == nil {
		return
	}
	if f.done.ChunkError == "" && len(f.result.Missing()) > 0 {
		// A test without a result must not make the file look passed.
		f.fail(errors.New("no result was reported"))
		return
	}
	if f.done.ChunkError != "" {
		f.chunkDir = f.done.Artifacts
		f.chunkErr = repeatable(f.done.ChunkError, "", f.job.Repeat, f.chunkDir)
	}
	switch {
	case f.stop != nil && f.stop.Status == string(report.FileTimedOut):
		f.status = report.FileTimedOut
	case f.stop != nil:
		f.status = report.FileInterrupted
	case f.done.Poisoned:
		f.status = report.FileCrashed
	case f.result.Failed() || f.done.ChunkError != "":
		f.status = report.FileFailed
	default:
		f.status = report.FilePassed
	}
}
