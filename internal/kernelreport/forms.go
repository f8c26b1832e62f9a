package kernelreport

import (
	"regexp"
	"strings"
)

// form is how the title of a report is made.
type form struct {
	kind  Kind
	line  *regexp.Regexp // of the first line
	what  string         // with $1 for what line has captured
	where func(*trace) string
	skip  []string
	// access is set if a further line says "Read of size 8".
	access bool
	// next is set if the next line says what has happened.
	next bool
	// bare is set if the title needs no function.
	bare bool
}

// more returns what the lines of the report add to what has happened.
func (f *form) more(body []string) string {
	if f.next && len(body) > 1 {
		return ": " + scrub(strings.TrimSpace(body[1]))
	}
	if !f.access {
		return ""
	}
	for _, t := range body[:min(len(body), 12)] {
		for _, a := range []string{"Read", "Write"} {
			if strings.HasPrefix(t, a+" of size ") || strings.HasPrefix(t, a+" at addr ") {
				return " " + a
			}
		}
	}
	return ""
}

func re(s string) *regexp.Regexp { return regexp.MustCompile(s) }

var freeing = []string{"slab_", "kfree", "vfree", "vunmap", "mempool_free", "cache_free"}

// reports are the forms of all but WARN() and "BUG:". They are tried from the top.
var reports = []form{
	{kind: KindPanic, line: re(`stack-protector: Kernel stack is corrupted in: ([A-Za-z_][\w.]*)\+0x`),
		what: "kernel panic: stack is corrupted", where: inPanic},
	{kind: KindPanic, line: re(`stack-protector: Kernel stack is corrupted`),
		what: "kernel panic: stack is corrupted", where: inTrace, skip: []string{"stack_chk"}},
	{kind: KindPanic, line: re(`corrupted stack end`), what: "kernel panic: corrupted stack end",
		where: representative(""), skip: []string{"schedule", "retint_kernel", "preempt"}},
	{kind: KindPanic, line: re(`not syncing: [kK]ernel stack overflow`),
		what:  "kernel panic: kernel stack overflow",
		where: representative(""), skip: []string{"bad_stack"}},

	{kind: KindKASAN, line: re(`KAS[Aa][Nn]: (?:double-free or invalid-free|double-free|invalid-free)`),
		what: "KASAN: invalid-free", where: inLine, skip: freeing},
	{kind: KindKASAN, line: re(`KAS[Aa][Nn]: ([a-z-]+(?: [a-z-]+)*?)(?: access)? (?:in|on|at) `),
		what:  "KASAN: $1",
		where: inLine, access: true, skip: []string{"kernel_fault", "tag_check", "mem_abort", "^el1_", "^el1h_"}},
	{kind: KindKFENCE, line: re(`KFENCE: ([a-z -]+) in `), what: "KFENCE: $1", where: inLine, skip: freeing},
	{kind: KindKMSAN, line: re(`KMSAN: kernel-usb-infoleak in`), what: "KMSAN: kernel-usb-infoleak",
		where: inLine,
		skip:  []string{"usb_submit_urb", "usb_start_wait_urb", "usb_bulk_msg", "usb_interrupt_msg"}},
	{kind: KindKMSAN, line: re(`KMSAN: ([a-z-]+) in`), what: "KMSAN: $1", where: inLine,
		skip: []string{"alloc_skb", "netlink_ack", "netlink_rcv_skb",
			"_encrypt", "crypto_", "cipher_", "drbg_", "rng_"}},
	{kind: KindKCSAN, line: re(`KCSAN: ([a-z:. -]+) in (.*)`), what: "KCSAN: $1 in $2",
		where: inRace, bare: true},
	{kind: KindUBSAN, line: re(`UBSAN: Undefined behaviour in`), what: "UBSAN: undefined-behaviour",
		where: inTrace,
		skip:  []string{"ubsan", "overflow"}},
	{kind: KindUBSAN, line: re(`UBSAN: ([a-z -]+) in`), what: "UBSAN: $1", where: inTrace,
		skip: []string{"ubsan", "overflow"}},

	{kind: KindOops, line: re(`^PANIC: double fault`), what: "PANIC: double fault", where: inTrace},
	{kind: KindOops, line: re(`^Unable to handle kernel (paging request|NULL pointer dereference|` +
		`access to user memory)`),
		what: "BUG: unable to handle kernel $1", where: inTrace},
	{kind: KindOops, line: re(`^Unable to handle kernel (.*?) at `), what: "BUG: unable to handle kernel $1",
		where: inTrace},
	{kind: KindOops, line: re(`general protection fault`), what: "general protection fault", where: inTrace},
	{kind: KindOops, line: re(`^(?:Oops: )?([a-z][a-z0-9 _]+?)(?: \([a-z -]+\))?: [0-9a-f]{4} `), what: "$1",
		where: inTrace},
	{kind: KindOops, line: re(`^Internal error: (UBSAN: [a-z -]+)`), what: "$1", where: inTrace,
		skip: []string{"ubsan"}},
	{kind: KindOops, line: re(`^Internal error: `), what: "Internal error", where: inTrace},
	{kind: KindOops, line: re(`^Unhandled fault: `), what: "Unhandled fault", where: inTrace},
	{kind: KindOops, line: re(`^Oops`), what: "Oops", where: inTrace},
	{kind: KindGPF, line: re(``), what: "general protection fault", where: inTrace},

	{kind: KindHungTask, line: re(`can't die`), what: "INFO: task can't die", where: hung,
		skip: []string{"schedule"}},
	{kind: KindHungTask, line: re(``), what: "INFO: task hung", where: hung, skip: waiting},
	{kind: KindSoftLockup, line: re(`workqueue lockup`), what: "BUG: workqueue lockup"},
	{kind: KindSoftLockup, line: re(``), what: "BUG: soft lockup", where: representative("")},
	{kind: KindHardLockup, line: re(``), what: "BUG: hard lockup", where: representative("")},
	{kind: KindRCUStall, line: re(``), what: "INFO: rcu detected stall", where: representative("interrupt"),
		skip: []string{"apic_timer_interrupt", "rcu"}},

	{kind: KindLockdep, line: re(`possible circular locking`), what: "possible deadlock",
		where: lockIn("is trying to acquire lock", 2), skip: flushing},
	{kind: KindLockdep, line: re(`possible recursive locking`), what: "possible deadlock",
		where: lockIn("is trying to acquire lock", 1)},
	{kind: KindLockdep, line: re(`irq lock inversion`), what: "possible deadlock",
		where: lockIn("just changed the state of lock", 1)},
	{kind: KindLockdep, line: re(`^INFO: .*-unsafe lock order`), what: "possible deadlock",
		where: lockIn("is trying to acquire", 1)},
	{kind: KindLockdep, line: re(`-unsafe lock order`), what: "possible deadlock",
		where: after("which became ")},
	{kind: KindLockdep, line: re(`inconsistent lock state`), what: "inconsistent lock state",
		where: lockIn(" takes:", 1)},
	{kind: KindLockdep, line: re(`suspicious RCU usage`), what: "WARNING: suspicious RCU usage",
		where: after("stack backtrace:", "Call Trace:", "Call trace:"), skip: []string{"rcu", "kmem", "slab"}},
	{kind: KindLockdep, line: re(`still has locks held`), what: "WARNING: still has locks held",
		where: lockIn("held by", 1)},
	{kind: KindLockdep, line: re(`lock held when returning`),
		what:  "WARNING: lock held when returning to user space",
		where: lockIn("still held", 1)},
	{kind: KindLockdep, line: re(`bad unlock balance`), what: "WARNING: bad unlock balance",
		where: lockIn("trying to release lock", 1)},
	{kind: KindLockdep, line: re(`held lock freed`), what: "WARNING: held lock freed",
		where: lockIn("is freeing memory", 1)},
	{kind: KindLockdep, line: re(`[Nn]ested lock`), what: "WARNING: nested lock was not taken",
		where: lockIn("is trying to lock", 1)},
	{kind: KindLockdep, line: re(`[Ii]nvalid wait context`), what: "WARNING: invalid wait context",
		where: after("stack backtrace:", "Call Trace:", "Call trace:"), skip: []string{"lock_sock", "release_sock"}},
	{kind: KindLockdep, line: re(`non-static key`), what: "INFO: trying to register non-static key",
		where: inTrace, skip: []string{"stack", "lock", "IRQ"}},
	{kind: KindLockdep, line: re(`MAX_LOCK\w+|MAX_STACK\w+`), what: "BUG: $0 too low", bare: true},

	{kind: KindLeak, line: re(`^BUG: memory leak|unreferenced object`), what: "memory leak",
		where: after("backtrace"),
		skip: []string{"kmemleak", "mmap", "kmem", "slab", "alloc", "create_object", "idr_get", "list_lru_init",
			"kasprintf", "kvasprintf", "pcpu_create", "strdup", "strndup", "memdup"}},
	{kind: KindLeak, line: re(`^kmemleak: `), what: "kmemleak: new suspected memory leaks"},
	{kind: KindLeak, line: re(`^unregister_netdevice: `),
		what: "unregister_netdevice: waiting for DEV to become free"},
	{kind: KindLeak, line: re(`^VFS: (Busy inodes after unmount|Close: file count is 0)`), what: "VFS: $1"},
	{kind: KindFilesystem, line: re(`^(\S+) error \(device [^)]*\): (\w+):[0-9]+: `),
		what: "$1 error in $2", bare: true},
	{kind: KindFilesystem, line: re(`^(\w+(?: \w+)?) \((?:device )?[^)]*\): (.*)`), what: "$1: $2",
		where: inLine, bare: true},
	{kind: KindOOM, line: re(`^(?:Memory cgroup )?[Oo]ut of memory.*Kill(?:ed)? process [0-9]+ \(([^)]*)\)`),
		what: "Out of memory: killed $1"},
}

// warnings are the forms of WARN().
var warnings = []form{
	{kind: KindWarning, line: re(`lib/debugobjects\.c`), what: "WARNING: ODEBUG bug", where: inWarning,
		skip: []string{"debug_", "rcu", "hrtimer_", "timer_", "work_", "percpu_", "vunmap", "vfree",
			"__free_", "kobject_"}},
	{kind: KindWarning, line: re(`mm/usercopy\.c`), what: "WARNING: bad usercopy", where: inWarning,
		skip: []string{"usercopy", "__check"}},
	{kind: KindWarning, line: re(`lib/kobject\.c`), what: "WARNING: kobject bug", where: inWarning,
		skip: []string{"kobject_"}},
	{kind: KindWarning, line: re(`fs/proc/generic\.c`), what: "WARNING: proc registration bug",
		where: inWarning,
		skip:  []string{"proc_"}},
	{kind: KindWarning, line: re(`lib/refcount\.c`), what: "WARNING: refcount bug", where: inWarning,
		skip: []string{"refcount", "kobject_"}},
	{kind: KindWarning, line: re(`lib/list_debug\.c`), what: "WARNING: corrupted list", where: inWarning,
		skip: []string{"list_"}},
	{kind: KindWarning, line: re(`kernel/locking/lockdep\.c`), what: "WARNING: locking bug", where: inWarning,
		skip: []string{"lock_sock", "release_sock"}},
	{kind: KindWarning, line: re(`mm/.*\.c.* k?.?malloc`), what: "WARNING: kmalloc bug", where: inWarning,
		skip: []string{"kmalloc", "krealloc", "slab", "kmem"}},
	{kind: KindWarning, line: re(`mm/vmalloc\.c.*__vmalloc_node`), what: "WARNING: zero-size vmalloc",
		where: inWarning},
	{kind: KindWarning, line: re(`usb_submit_urb`), what: "WARNING in usb_submit_urb called", where: inWarning,
		skip: []string{"usb_submit_urb", "usb_start_wait_urb", "usb_bulk_msg", "usb_interrupt_msg"}},
	{kind: KindWarning, line: re(`kernel stack frame pointer .* has bad value`),
		what: "WARNING: kernel stack frame pointer has bad value"},
	{kind: KindWarning, line: re(`kernel stack regs .* has bad ('[^']*' )?value`),
		what: "WARNING: kernel stack regs has bad ${1}value"},
	{kind: KindWarning, line: re(``), what: "WARNING", where: inWarning},
}

// bugs are the forms of "BUG:" and "kernel BUG at".
var bugs = []form{
	{kind: KindBug, line: re(`^kernel BUG at mm/usercopy\.c`), what: "BUG: bad usercopy", where: inTrace,
		skip: []string{"usercopy", "__check"}},
	{kind: KindBug, line: re(`^kernel BUG at lib/list_debug\.c`), what: "BUG: corrupted list", where: inTrace,
		skip: []string{"list_"}},
	{kind: KindBug, line: re(`^[kK]ernel BUG`), what: "kernel BUG", where: inTrace, skip: []string{"^skb_"}},
	{kind: KindBug, line: re(`^rust_kernel: panicked`), what: "Rust panic", where: inTrace, next: true,
		skip: []string{"rust_begin_unwind", "panicking", "rust_helper_BUG"}},
	{kind: KindBug, line: re(`BUG: [Uu]nable to handle (kernel paging request|page fault for|kernel data access)`),
		what: "BUG: unable to handle kernel paging request", where: inTrace},
	{kind: KindBug, line: re(`BUG: (?:[Uu]nable to handle )?[kK]ernel NULL pointer dereference`),
		what: "BUG: unable to handle kernel NULL pointer dereference", where: inTrace},
	{kind: KindBug, line: re(`BUG: (spinlock|rwlock|mutex) (lockup suspected|already unlocked|recursion|` +
		`cpu recursion|bad magic|wrong owner|wrong CPU|trylock failure on UP)`), what: "BUG: $1 $2", where: inTrace,
		skip: []string{"spin_", "_lock", "_unlock", "spin_dump", "spin_bug"}},
	{kind: KindBug, line: re(`BUG: scheduling while atomic`), what: "BUG: scheduling while atomic",
		where: inTrace,
		skip:  []string{"schedule"}},
	{kind: KindBug, line: re(`BUG: Bad rss-counter state`), what: "BUG: Bad rss-counter state"},
	{kind: KindBug, line: re(`BUG: non-zero (\w+) on freeing mm`), what: "BUG: non-zero $1 on freeing mm"},
	{kind: KindBug, line: re(`BUG: Dentry .* still in use .*\[(\w+)`), what: "BUG: Dentry still in use in $1",
		where: inTrace, bare: true,
		skip: []string{"umount_check", "d_walk", "do_one_tree", "shrink_dcache"}},
	{kind: KindBug, line: re(`BUG: Bad page (state|cache)`), what: "BUG: Bad page $1",
		where: after("page last allocated"),
		skip: []string{"free_page", "put_page", "get_page", "update_page", "release_page", "free_unref", "folio",
			"truncate_inode_pages", "page_frag_free", "alloc", "vmap", "page_owner"}},
	{kind: KindBug, line: re(`BUG: Bad page map`), what: "BUG: Bad page map"},
	{kind: KindBug, line: re(`BUG: sleeping function called from invalid context`),
		what: "BUG: sleeping function called from invalid context", where: inTrace},
	{kind: KindBug, line: re(`BUG: using ([a-z_]+)\(\) in preemptible`),
		what:  "BUG: using $1() in preemptible code",
		where: inTrace, skip: []string{"preempt", "debug_", "processor_id", "this_cpu"}},
	{kind: KindBug, line: re(`BUG: workqueue leaked (?:lock|atomic)`),
		what:  "BUG: workqueue leaked lock or atomic",
		where: lastFunction},
	{kind: KindBug, line: re(`stack guard page was hit`), what: "BUG: stack guard page was hit",
		where: representative("")},
	{kind: KindBug, line: re(`^BUG ([\w-]+) \([^)]*\): (.*)`), what: "BUG $1: $2", where: inTrace},
	{kind: KindBug, line: re(`^BUG: ([a-z].*)`), what: "BUG: $1", bare: true},
}

// inPanic returns the function that the panic of the stack protector names.
func inPanic(t *trace) string {
	if _, rest, ok := strings.Cut(t.line, "corrupted in: "); ok {
		if name, ok := symbol(rest); ok {
			return name
		}
	}
	return ""
}

// inRace returns the first function of a race.
func inRace(t *trace) string {
	_, rest, _ := strings.Cut(t.line, " in ")
	first, _, _ := strings.Cut(rest, " / ")
	if name, ok := symbol(first); ok {
		return name
	}
	return plainName(strings.TrimSpace(first))
}

// inWarning returns the function to blame for a WARN(): the program counter, or, of kernels
// that do not print that, a frame; or what the first line names.
func inWarning(t *trace) string {
	if m := named.FindStringSubmatch(t.line); m != nil {
		if name := plainName(m[1]); name != "" && !t.skips(name) {
			return name
		}
	}
	for i := 1; i < len(t.texts); i++ {
		if frames, counter := framesOf(nil, t.texts[i]); counter && len(frames) > 0 {
			return t.first(i)
		}
	}
	return t.first(1)
}

// lastFunction returns what a worker of a workqueue did last.
func lastFunction(t *trace) string {
	for _, text := range t.texts {
		if _, name, ok := strings.Cut(text, "last function: "); ok {
			return plainName(strings.TrimSpace(name))
		}
	}
	return ""
}

// flushing are functions that take the locks of what they wait for.
var flushing = []string{"process_one_work", "flush_workqueue", "drain_workqueue", "destroy_workqueue"}

// waiting are functions in which a task only waits.
var waiting = []string{
	"sched", "_lock", "_slowlock", "down", "rwsem", "completion", "kthread", "wait", "synchronize",
	"context_switch", "__switch_to", "cancel_delayed_work", "rcu_barrier",
}

// hung returns the function to blame for a task that does not go on. What waits for RCU, or
// for the lock of the network, is a victim wherever it does.
func hung(t *trace) string {
	frames := t.stack(t.begin("Call Trace", "Call trace", "Backtrace"))
	for _, name := range frames {
		switch {
		case strings.Contains(name, "rtnl_lock"):
			return name
		case containsAny([]byte(name), "synchronize_rcu", "synchronize_srcu", "synchronize_net", "synchronize_sched"):
			return "synchronize_rcu"
		}
	}
	for _, name := range frames {
		if !t.skips(name) {
			return name
		}
	}
	for _, name := range frames {
		if !isHelper(name) && !strings.Contains(name, "sched") {
			return name
		}
	}
	return ""
}

// begin returns the index of the line behind the first one with one of the words.
func (t *trace) begin(words ...string) int {
	for i, text := range t.texts {
		for _, w := range words {
			if strings.Contains(text, w) {
				return i + 1
			}
		}
	}
	return 1
}

// stack returns the functions of one stack, the innermost first, with the helpers.
func (t *trace) stack(from int) []string {
	var all []string
	for i := from; i < len(t.texts); i++ {
		if len(all) > 0 && (isSecondary(t.texts[i]) || isStackStart(t.texts[i])) {
			break
		}
		all, _ = framesOf(all, t.texts[i])
	}
	return all
}

func isStackStart(text string) bool {
	return strings.HasPrefix(text, "Call Trace") || strings.HasPrefix(text, "Call trace") ||
		strings.HasPrefix(text, "Backtrace:")
}
