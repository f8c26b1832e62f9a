package kernelreport

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
	KindKMSAN      Kind = "KMSAN"
	KindUBSAN      Kind = "UBSAN"
	KindLockdep    Kind = "lockdep"
	KindHungTask   Kind = "hung task"
	KindSoftLockup Kind = "soft lockup"
	KindHardLockup Kind = "hard lockup"
	KindRCUStall   Kind = "RCU stall"
	// KindLeak is memory, or a reference, that was never given back: kmemleak,
	// "unregister_netdevice: waiting", "VFS: Busy inodes".
	KindLeak Kind = "leak"
	// KindFilesystem is a file system that has found itself damaged, unless a disk failed.
	KindFilesystem Kind = "file system corruption"
	// KindWarning is a report of WARN(), after which the kernel goes on.
	KindWarning Kind = "WARNING"
	// KindReboot is a reboot that no reboot call, sysrq or panic preceded.
	KindReboot Kind = "unexpected reboot"
	// KindPattern is a line that one of [Rules.Extra] matches.
	KindPattern Kind = "pattern"
	// KindOOM is a process that the kernel killed for its memory. It fails nothing.
	KindOOM Kind = "out of memory"
)

// IsStall reports whether a report of the kind says that something in the guest stands still.
func (k Kind) IsStall() bool {
	return k == KindHungTask || k == KindSoftLockup || k == KindHardLockup || k == KindRCUStall
}

// IsNote reports whether a report of the kind is worth a note and fails nothing.
func (k Kind) IsNote() bool { return k == KindOOM }
