package instance

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"provium/internal/guest"
	"provium/internal/inspect"
	"provium/internal/printk"
)

// BootError is returned for a boot in which no agent answered. The guest was ended.
type BootError struct {
	VM      string
	Err     error
	Console string // the last 8 KiB of the guest's console
	// Kernel is the end of the kernel's log, if the console does not show it, as with `quiet`.
	Kernel string
}

const (
	kernelTail  = 8 << 10 // bytes of the log in a BootError
	kernelLimit = time.Second
	sourceLimit = 2 * time.Second // for lines of source
)

// FailedBoot returns the error of a boot whose guest has been ended, with the end of its console and of its kernel's
// log. source, which may be nil, puts lines of source behind the frames in them; what it returns is good also with an
// error.
func FailedBoot(ctx context.Context, vm string, err error, consoleTail string, g *inspect.Guest,
	source func(context.Context, string) (string, error)) *BootError {
	e := &BootError{VM: vm, Err: err, Console: consoleTail}
	e.Kernel = unseenLog(ctx, consoleTail, g)
	if source != nil {
		ctx, cancel := context.WithTimeout(ctx, sourceLimit)
		defer cancel()
		e.Kernel, _ = source(ctx, e.Kernel)
		e.Console, _ = source(ctx, e.Console)
	}
	return e
}

// unseenLog returns the end of the kernel's log, if the console does not show it.
func unseenLog(ctx context.Context, consoleTail string, g *inspect.Guest) string {
	ctx, cancel := context.WithTimeout(ctx, kernelLimit)
	defer cancel()
	records, kerr := g.KernelLog(ctx)
	if kerr != nil || len(records) == 0 {
		return ""
	}
	last := records[len(records)-1].Text
	if strings.Contains(consoleTail, last) {
		return ""
	}
	text, kerr := guest.LogFilter{Level: len(guest.LogLevels()) - 1}.Text(printk.AppendLines(nil, records))
	if kerr != nil {
		return ""
	}
	if cut := len(text) - kernelTail; cut > 0 {
		text = text[cut:]
		text = text[bytes.IndexByte(text, '\n')+1:]
	}
	return string(text)
}

func (e *BootError) Error() string {
	s := fmt.Sprintf("vm `%s` boot: %v", e.VM, e.Err)
	if e.Kernel != "" {
		s += "; the log of the guest's kernel ends with:\n" + strings.TrimRight(e.Kernel, "\n") + "\n"
		if e.Console == "" {
			return s + "(the guest's console is empty)"
		}
		return s + "the guest's console ends with:\n" + e.Console
	}
	if e.Console == "" {
		return s + " (the guest's console is empty)"
	}
	return s + "; the guest's console ends with:\n" + e.Console
}

func (e *BootError) Unwrap() error { return e.Err }

// Explain adds to the error of a boot what the guest's kernel reported during it, unless
// the error says so already.
func Explain(err error, reports []Finding) error {
	if len(reports) == 0 || strings.Contains(err.Error(), reports[0].Title) {
		return err
	}
	return fmt.Errorf("%w; the guest's kernel reported: %s", err, reports[0].Title)
}
