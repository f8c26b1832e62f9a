package console

import "bytes"

// Kind is the sort of failure that a [Finding] is about.
type Kind string

// The kinds of findings.
const (
	KindPanic      Kind = "kernel panic"
	KindBug        Kind = "BUG"
	KindOops       Kind = "Oops"
	KindGPF        Kind = "general protection fault"
	KindKASAN      Kind = "KASAN"
	KindKFENCE     Kind = "KFENCE"
	KindKCSAN      Kind = "KCSAN"
	KindUBSAN      Kind = "UBSAN"
	KindLockdep    Kind = "lockdep"
	KindHungTask   Kind = "hung task"
	KindSoftLockup Kind = "soft lockup"
	KindHardLockup Kind = "hard lockup"
	KindRCUStall   Kind = "RCU stall"
	// KindWarning is a report of WARN(), after which the kernel goes on.
	KindWarning Kind = "WARNING"
	// KindPattern is a line that one of [Rules.Extra] matches.
	KindPattern Kind = "pattern"
)

// match returns which report the text of a kernel message begins, or "". The
// text must begin with the report's own words: kernel messages that merely
// quote them, and what programs print, are innocent. stamped means that
// the line has a kernel time stamp.
func match(text []byte, stamped bool) Kind {
	if len(text) < 4 {
		return ""
	}
	switch text[0] {
	case 'B':
		return matchBug(text)
	case 'K':
		if has(text, "Kernel panic - not") {
			return KindPanic
		}
	case 'O':
		return matchOops(text)
	case 'I':
		if k := matchInfo(text); k != "" {
			return k
		}
	case 'W':
		if t, ok := bytes.CutPrefix(text, []byte("WARNING: ")); ok && isLockdep(t) {
			return KindLockdep
		} else if ok && isWarn(t) {
			return KindWarning
		}
	case '[':
		// Lockdep up to 4.10, and invalid wait contexts to this day, are boxed.
		if t, ok := bytes.CutPrefix(text, []byte("[ BUG: ")); ok && isLockdep(t) {
			return KindLockdep
		}
		if t, ok := bytes.CutPrefix(text, []byte("[ INFO: ")); ok && isLockdep(t) {
			return KindLockdep
		}
	case 'U':
		if has(text, "UBSAN: ") {
			return KindUBSAN
		}
		if has(text, "Unable to handle kernel ") {
			return KindOops
		}
	case 'P':
		if has(text, "PANIC: double fault") {
			return KindOops
		}
	case 'g':
		if has(text, "general protection fault") && (len(text) == 24 || text[24] == ':' || text[24] == ',') {
			return KindGPF
		}
	case 'k':
		if has(text, "kernel BUG at ") {
			return KindBug
		}
	}
	if isDie(text) {
		return KindOops
	}
	if stamped || text[0] == 'w' || text[0] == 'N' || text[0] == 'r' {
		return matchPrefixed(text, stamped)
	}
	return ""
}

// matchPrefixed looks behind the name of a subsystem, "watchdog: " and the like.
func matchPrefixed(text []byte, stamped bool) Kind {
	for range 2 {
		i := bytes.Index(text[:min(len(text), 32)], []byte(": "))
		if i <= 0 {
			return ""
		}
		name := text[:i]
		text = text[i+2:]
		switch {
		case string(name) == "watchdog" || string(name) == "NMI watchdog":
			if bytes.Contains(text, []byte("hard LOCKUP")) || bytes.Contains(text, []byte("Hard LOCKUP")) {
				return KindHardLockup
			}
		case string(name) == "rcu":
			if k := matchInfo(text); k != "" {
				return k
			}
		case !stamped || !isWord(name):
			return ""
		}
		if has(text, "BUG: ") {
			return matchBug(text)
		}
	}
	return ""
}

func matchBug(text []byte) Kind {
	t, ok := bytes.CutPrefix(text, []byte("BUG:"))
	if !ok {
		// SLUB's reports: "BUG kmalloc-64 (Not tainted): Redzone overwritten".
		if has(text, "BUG ") && bytes.Contains(text, []byte("): ")) &&
			(bytes.Contains(text, []byte("ainted)")) || bytes.Contains(text, []byte("ainted: "))) {
			return KindBug
		}
		return ""
	}
	t = bytes.TrimLeft(t, " ")
	switch {
	case has(t, "KASAN: "):
		return KindKASAN
	case has(t, "KFENCE: "):
		return KindKFENCE
	case has(t, "KCSAN: "):
		return KindKCSAN
	case has(t, "soft lockup"), has(t, "workqueue lockup"):
		return KindSoftLockup
	case has(t, "MAX_LOCK"), isLockdep(t):
		return KindLockdep
	}
	return KindBug
}

func matchOops(text []byte) Kind {
	t, ok := bytes.CutPrefix(text, []byte("Oops"))
	if !ok {
		return ""
	}
	switch {
	case !bytes.Contains(t, []byte("[#")):
		return "" // the kernel counts them
	case has(t, ": general protection fault"):
		return KindGPF
	case has(t, ": "), has(t, " - "), has(t, "[#"), has(t, " [#"):
		return KindOops
	}
	return ""
}

func matchInfo(text []byte) Kind {
	t, ok := bytes.CutPrefix(text, []byte("INFO: "))
	switch {
	case !ok:
		return ""
	case has(t, "task ") && isHungTask(t[len("task "):]):
		return KindHungTask
	case has(t, "rcu") && bytes.Contains(t, []byte("detected ")) && bytes.Contains(t, []byte("stall")):
		return KindRCUStall
	case isLockdep(t), has(t, "trying to register non-static key"):
		return KindLockdep
	}
	return ""
}

// isHungTask recognises "dd:312 blocked for more than 122 seconds.", without "task ". A
// task's name may have blanks.
func isHungTask(t []byte) bool {
	name, rest, ok := bytes.Cut(t, []byte(" blocked "))
	if !ok {
		return false
	}
	_, limit, ok := bytes.Cut(rest, []byte("for more than "))
	return ok && len(name) > 0 && isDigit(name[len(name)-1]) && bytes.IndexByte(name, ':') >= 0 &&
		len(limit) > 0 && isDigit(limit[0]) && bytes.Contains(limit, []byte(" second"))
}

// isWarn recognises the title of WARN(), without its "WARNING: ": up to Linux 6.16
// "CPU: 0 PID: 7 at FILE:LINE f+0x1/0x2", then "FILE:LINE at f+0x1/0x2, CPU#0: sh/7".
// Other messages that begin with "WARNING: " are remarks without a report.
func isWarn(t []byte) bool {
	if has(t, "CPU: ") {
		return bytes.Contains(t, []byte(" PID: ")) && bytes.Contains(t, []byte(" at "))
	}
	at := bytes.Index(t, []byte("at "))
	return at >= 0 && bytes.Contains(t[at:], []byte("+0x")) && (at == 0 || t[at-1] == ' ' && isDigit(t[max(0, at-2)]))
}

// isLockdep recognises the title of a lockdep report, without its "WARNING: ".
func isLockdep(t []byte) bool {
	for _, p := range []string{
		"possible circular locking dependency", "possible recursive locking",
		"possible irq lock inversion dependency", "inconsistent lock state",
		"possible unsafe locking", "bad unlock balance", "bad contention detected",
		"held lock freed", "lock held at task exit time", "lock held when returning to user space",
		"suspicious RCU usage", "Nested lock was not taken", "Invalid wait context",
		"invalid wait context", "irq lock inversion", "possible reason: unannotated irqs",
	} {
		if has(t, p) {
			return true
		}
	}
	return bytes.Contains(t, []byte("-unsafe lock order detected"))
}

// isDie recognises the line of die(): "invalid opcode: 0000 [#1] PREEMPT SMP".
func isDie(text []byte) bool {
	i := bytes.Index(text, []byte(" [#"))
	if i < 6 || i+3 >= len(text) || !isDigit(text[i+3]) {
		return false
	}
	code := text[i-6 : i]
	if code[0] != ':' || code[1] != ' ' {
		// arm64's code is longer: "Internal error: Oops: 0000000096000004 [#1]".
		return has(text, "Internal error: ")
	}
	for _, c := range code[2:] {
		if !isDigit(c) && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// endsReport reports whether the text is the last line of a report of the kind;
// died means that the report has a line of die(), which prints more.
func endsReport(k Kind, died bool, text []byte) bool {
	if has(text, "---[ end ") || has(text, "Linux version ") {
		return true // or a crash kernel begins
	}
	switch k {
	case KindPanic:
		return has(text, "Rebooting in ")
	case KindKASAN, KindKFENCE, KindKCSAN, KindUBSAN:
		return isRule(text)
	case KindOops, KindGPF:
		return false
	case KindRCUStall, KindHardLockup:
		return false // several processors may follow
	}
	return !died && has(text, "</TASK>")
}

// isGoodbye recognises what the kernel says when the guest reboots or powers off by
// itself.
func isGoodbye(text []byte) bool {
	return has(text, "reboot: Restarting system") || has(text, "reboot: Power down") ||
		has(text, "reboot: System halted")
}

// isRule recognises the line of equals signs around a report.
func isRule(text []byte) bool {
	return len(text) >= 20 && len(bytes.Trim(text, "=")) == 0
}

func isWord(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func has(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}
