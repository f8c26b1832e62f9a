package run

import (
	"fmt"
	"os"
	"sync/atomic"
)

// interrupts follows Ctrl-C: the first one ends the run with a summary, the
// second one kills what still runs and skips the summary.
type interrupts struct {
	signals    <-chan os.Signal
	stderr     *os.File
	stop, kill func(reason string)
	person     Person // gets those for what they have typed; nil: nobody is there

	once, twice atomic.Bool
}

// watch returns when over is closed.
func (i *interrupts) watch(over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case sig := <-i.signals:
			if sig == os.Interrupt && i.person != nil && i.person.Interrupt() {
				continue
			}
			reason := fmt.Sprintf("interrupted (%v)", sig)
			switch {
			case i.once.CompareAndSwap(false, true):
				fmt.Fprintf(i.stderr, "\nprovium: %v: closing what runs; once more kills it\n", sig)
				i.stop(reason)
			case i.twice.CompareAndSwap(false, true):
				i.kill(reason)
			}
		}
	}
}
