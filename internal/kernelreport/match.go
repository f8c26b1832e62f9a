package kernelreport

import "bytes"

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
		if k := matchBug(text); k != "" {
			return k
		}
	case 'K':
		if has(text, "Kernel panic - not") {
			return KindPanic
		}
		if has(text, "Kernel BUG [#") || has(text, "Kernel BUG at ") {
			return KindBug
		}
	case 'O':
		if has(text, "Out of memory: Kill") {
			return KindOOM
		}
		if k := matchOops(text); k != "" {
			return k
		}
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
	default:
		if k := matchMore(text); k != "" {
			return k
		}
	}
	if isCorruption(text) {
		return KindFilesystem
	}
	if isDie(text) {
		return KindOops
	}
	if stamped && bytes.HasSuffix(text, []byte(" seconds.")) && isHungTask(text) {
		return KindHungTask // its name has a line break
	}
	if stamped || text[0] == 'w' || text[0] == 'N' || text[0] == 'r' {
		return matchPrefixed(text, stamped)
	}
	return ""
}

// matchMore is match for further first letters.
func matchMore(text []byte) Kind {
	switch text[0] {
	case 'U':
		if has(text, "UBSAN: ") {
			return KindUBSAN
		}
		if has(text, "Unable to handle kernel ") || has(text, "Unhandled fault: ") {
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
		if t, ok := bytes.CutPrefix(text, []byte("kmemleak: ")); ok && len(t) > 0 && isDigit(t[0]) &&
			bytes.Contains(t, []byte(" new suspected memory leak")) {
			return KindLeak
		}
		if has(text, "kmemleak: unreferenced object 0x") {
			return KindLeak
		}
	case 'u':
		if has(text, "unreferenced object 0x") {
			return KindLeak
		}
		if has(text, "unregister_netdevice: waiting for ") {
			return KindLeak
		}
	case 'V':
		if has(text, "VFS: Busy inodes after unmount") || has(text, "VFS: Close: file count is 0") {
			return KindLeak
		}
	case 'r':
		if has(text, "rust_kernel: panicked at ") {
			return KindBug
		}
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
			(bytes.Contains(text, []byte("ainted)")) || bytes.Contains(text, []byte("ainted: "))) &&
			!bytes.HasSuffix(text, []byte("kasan: bad access detected")) {
			return KindBug
		}
		return ""
	}
	t = bytes.TrimLeft(t, " ")
	switch {
	case has(t, "KASAN: "), has(t, "KASan: "):
		return KindKASAN
	case has(t, "KMSAN: "):
		return KindKMSAN
	case has(t, "memory leak"):
		return KindLeak
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
		name, rest, ok = bytes.Cut(t, []byte(" can't die "))
	}
	if !ok {
		return false
	}
	_, limit, ok := bytes.Cut(rest, []byte("for more than "))
	return ok && len(name) > 0 && isDigit(name[len(name)-1]) && bytes.IndexByte(name, ':') >= 0 &&
		len(limit) > 0 && isDigit(limit[0]) && bytes.Contains(limit, []byte(" second"))
}

// isWarn recognises the title of WARN(), without its "WARNING: ": up to Linux 6.16
// "CPU: 0 PID: 7 at FILE:LINE f+0x1/0x2", then "FILE:LINE at f+0x1/0x2, CPU#0: sh/7", both
// of which may have the condition in brackets. Other messages that begin with "WARNING: "
// are remarks without a report.
func isWarn(t []byte) bool {
	if has(t, "CPU: ") {
		return bytes.Contains(t, []byte(" PID: ")) && bytes.Contains(t, []byte(" at "))
	}
	if has(t, "kernel stack ") {
		return bytes.Contains(t, []byte(" has bad "))
	}
	at := bytes.Index(t, []byte("at "))
	if at < 0 || !bytes.Contains(t[at:], []byte("+0x")) && !bytes.Contains(t[at:], []byte(", CPU#")) {
		return false
	}
	return at == 0 || t[at-1] == ' ' && isDigit(t[max(0, at-2)])
}

// isLockdep recognises the title of a lockdep report, without its "WARNING: ".
func isLockdep(t []byte) bool {
	for _, p := range []string{
		"possible circular locking dependency", "possible recursive locking",
		"possible irq lock inversion dependency", "inconsistent lock state",
		"possible unsafe locking", "bad unlock balance", "bad contention detected",
		"held lock freed", "lock held at task exit time", "lock held when returning to user space",
		"suspicious RCU usage", "Nested lock was not taken", "nested lock was not taken", "Invalid wait context",
		"invalid wait context", "irq lock inversion", "possible reason: unannotated irqs",
	} {
		if has(t, p) {
			return true
		}
	}
	return bytes.Contains(t, []byte("-unsafe lock order detected")) ||
		bytes.Contains(t, []byte("still has locks held!"))
}

// isCorruption recognises what a file system says that has found itself damaged, unless
// that is what a failed read or write left.
func isCorruption(t []byte) bool {
	name, rest, ok := bytes.Cut(t[:min(len(t), 64)], []byte(" "))
	if !ok {
		return false
	}
	bad := false
	switch string(name) {
	case "EXT2-fs", "EXT3-fs", "EXT4-fs", "NTFS-fs", "UDF-fs":
		bad = has(rest, "error")
	case "XFS":
		bad = containsAny(t, "orruption", "Internal error", "Corrupt ")
	case "BTRFS", "BTRFS:":
		bad = containsAny(rest, "critical", "error", "rror (") &&
			containsAny(t, "corrupt", "transid verify failed", "checksum verify failed", "Transaction aborted")
	case "F2FS-fs":
		bad = containsAny(t, "orrupted", "nconsistent", "Mismatch", "mismatch")
	case "FAT-fs":
		bad = containsAny(t, "error, ")
	case "SQUASHFS", "EROFS", "EROFS:", "erofs:", "gfs2:", "JBD2:", "NILFS", "REISERFS", "ocfs2:":
		bad = containsAny(t, "orrupt", "SQUASHFS error: Unable to read", "fatal: ", "REISERFS error")
	}
	return bad && !containsAny(t, "I/O error", "IO error", "IO failure", "-EIO", "error -5", "error 5", "rror -30",
		"borted journal", "ournal has aborted", "unable to read", "nable to read", "while reading", "while writing",
		"Remounting filesystem read-only", "errno=-5", "reading directory", " errs: ")
}

func containsAny(b []byte, words ...string) bool {
	for _, w := range words {
		if bytes.Contains(b, []byte(w)) {
			return true
		}
	}
	return false
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
