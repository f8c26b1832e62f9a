package printk

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// Record is one message of the kernel's log.
type Record struct {
	Seq      uint64 // counts messages from the boot on; a gap is where some were overwritten
	Level    int    // 0 (emerg) to 7 (debug)
	Facility int    // 0: the kernel; others are of programs that wrote to /dev/kmsg
	Time     time.Duration
	// Text is the message without a line end at its end. It may have several lines, and any
	// bytes.
	Text    string
	Cleared bool // `dmesg -C` has hidden it from readers in the guest
}

// Shown returns the records that were not cleared.
func Shown(records []Record) []Record {
	return slices.DeleteFunc(slices.Clone(records), func(r Record) bool { return r.Cleared })
}

// AppendLines appends records as syslog(2) has them: each line has its level, its time stamp
// and its text.
func AppendLines(to []byte, records []Record) []byte { return appendLines(to, records, true) }

// AppendText is AppendLines without the levels, as the console has them.
func AppendText(to []byte, records []Record) []byte { return appendLines(to, records, false) }

func appendLines(to []byte, records []Record, levels bool) []byte {
	for _, r := range records {
		micros := r.Time.Microseconds()
		var prefix []byte
		if levels {
			prefix = fmt.Appendf(nil, "<%d>", r.Facility<<3|r.Level)
		}
		prefix = fmt.Appendf(prefix, "[%5d.%06d] ", micros/1e6, micros%1e6)
		text := []byte(r.Text)
		for {
			line, rest, more := bytes.Cut(text, []byte("\n"))
			to = append(append(append(to, prefix...), line...), '\n')
			if !more {
				break
			}
			text = rest
		}
	}
	return to
}
