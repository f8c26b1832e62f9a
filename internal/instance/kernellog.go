package instance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"provium/internal/kernelreport"
	"provium/internal/printk"
)

// How long the kernel's log is read from a guest's memory at most. That takes a millisecond.
const (
	kernelLogLimit = 300 * time.Millisecond
	lastLogLimit   = 5 * time.Second // of a boot that has ended: it cannot be read later
)

// maxUserLines is how many lines of programs are remembered that look like reports.
const maxUserLines = 64

// kernelLog is how far the log of a guest's kernel has been read from its memory: a quiet
// kernel logs more than it prints. It is safe for concurrent use.
type kernelLog struct {
	reading sync.Mutex // held while the log is read, before mu

	mu    sync.Mutex
	boot  int             // counts the guest's boots
	next  uint64          // the number of the first record that was not read
	users map[string]bool // time stamps and lines of programs that look like reports
}

// skipKernelLog passes over what the kernel of a restored guest has logged before.
func (i *Instance) skipKernelLog() {
	i.kernelLog.reading.Lock() // before anybody reads
	i.work.Go(func() {
		defer i.kernelLog.reading.Unlock()
		i.kernelLog.takeNew(i.kernelRecords(kernelLogLimit), 0)
	})
}

// kernelRecords returns the kernel's log, also what the guest has cleared, or nothing where it cannot be read.
func (i *Instance) kernelRecords(limit time.Duration) []printk.Record {
	ctx, cancel := context.WithTimeout(i.ctx, limit)
	defer cancel()
	records, err := i.cfg.Inspect.WholeKernelLog(ctx)
	if err != nil {
		return nil // the console is what remains
	}
	return records
}

// readKernelLog looks for reports in what the kernel has logged since the last call. Reports
// that its console has shown are known by their time stamps, so the console must have them.
func (i *Instance) readKernelLog() { i.readKernelLogWithin(kernelLogLimit) }

func (i *Instance) readKernelLogWithin(limit time.Duration) {
	if i.watch.stamps() != kernelreport.HasStamps {
		return
	}
	l := &i.kernelLog
	l.reading.Lock()
	defer l.reading.Unlock()
	l.mu.Lock()
	boot := l.boot
	l.mu.Unlock()
	for _, r := range l.takeNew(i.kernelRecords(limit), boot) {
		text := string(printk.AppendLines(nil, []printk.Record{r}))
		for line := range strings.Lines(text) {
			if _, line, _ = strings.Cut(line, ">"); r.Facility == 0 {
				i.watch.logged(line)
			} else if stamp, begins, ok := kernelreport.Begins([]byte(strings.TrimRight(line, "\n"))); ok {
				l.add(stamp, begins)
			}
		}
	}
}

// lookBack looks for reports in what the guest has printed and logged, before a caller ends this boot: a quiet kernel's
// log is gone then. Of one that has panicked as expected, what it has logged before is no report.
func (i *Instance) lookBack() {
	i.mu.Lock()
	goesOn := i.served && !i.crashed && i.ctx.Err() == nil
	i.mu.Unlock()
	if goesOn {
		i.machine.SyncConsole()
		i.readKernelLog()
	}
}

// lookAtEnd is lookBack where the guest has ended this boot itself, and stands still.
func (i *Instance) lookAtEnd() {
	i.machine.SyncConsole()
	i.mu.Lock()
	crashed := i.crashed
	i.mu.Unlock()
	if !crashed {
		i.readKernelLogWithin(lastLogLimit)
	}
}

// takeNew returns those of the records of a boot that were not taken before.
func (l *kernelLog) takeNew(records []printk.Record, boot int) []printk.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(records) == 0 || boot != l.boot {
		return nil
	}
	last := records[len(records)-1].Seq + 1
	if last < l.next {
		l.next = 0 // another kernel
	}
	i := slices.IndexFunc(records, func(r printk.Record) bool { return r.Seq >= l.next })
	if l.next = last; i < 0 {
		return nil
	}
	return records[i:]
}

// add remembers a line of a program.
func (l *kernelLog) add(stamp, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users == nil {
		l.users = map[string]bool{}
	}
	if len(l.users) < maxUserLines {
		l.users[stamp+" "+line] = true
	}
}

// startOver is called when the guest begins a further boot.
func (l *kernelLog) startOver() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.boot++
	l.next, l.users = 0, nil
}

// IsOfProgram reports whether a program has written the report into the kernel's log, as far
// as SyncConsole has seen that.
func (i *Instance) IsOfProgram(f Finding) bool {
	i.kernelLog.mu.Lock()
	defer i.kernelLog.mu.Unlock()
	return f.Stamp != "" && i.kernelLog.users[fmt.Sprintf("%s %s", f.Stamp, f.Line)]
}
