package kernelreport

import "strings"

// interrupts are the functions by which the clock's interrupt enters the kernel, and what
// arm64 prints in their place. What was interrupted comes behind them.
var interrupts = []string{"apic_timer_interrupt", "Exception stack", "el1h_64_irq", "el1_irq", "irq_svc"}

// representative returns a strategy for stalls. A processor that loops is met anywhere in the
// loop, so that the innermost function differs each time; the one that a system call, a work
// queue, a timer or a file's operations have called does not. With from, the stack begins
// behind the interrupt that has found the stall.
func representative(from string) func(*trace) string {
	return func(t *trace) string {
		frames := t.stalled(from != "")
		if len(frames) == 0 {
			return ""
		}
		previous := frames[0]
		for _, name := range frames {
			if strings.Contains(name, "smp_call_function") {
				return "smp_call_function"
			}
			if isDispatcher(name) {
				return previous
			}
			previous = name
		}
		return frames[0]
	}
}

// stalled returns the functions of the stack that stalls, without helpers.
func (t *trace) stalled(interrupted bool) []string {
	start := 1
	if interrupted {
		start = t.begin(interrupts...)
	}
	var all []string
	begun := interrupted && start > 1 // a stack ends where the next one begins
	counted := false
	for i := start; i < len(t.texts); i++ {
		text := t.texts[i]
		if isStackStart(text) || isSecondary(text) {
			if begun && len(all) > 0 && (!interrupted || !counted || len(all) > 1) {
				break
			}
			begun = true
			continue
		}
		frames, counter := framesOf(nil, text)
		if counter {
			if counted && len(all) > 0 {
				continue
			}
			counted = true
		}
		if !counter && !begun {
			// riscv64 prints no line between registers and stack.
			if !counted || !strings.HasPrefix(strings.TrimLeft(text, " "), "[<") {
				continue
			}
			begun = true
		}
		for _, name := range frames {
			if !t.skips(name) {
				all = append(all, canonical(name))
			}
		}
	}
	if len(all) == 0 && interrupted {
		return t.stalled(false)
	}
	return all
}

// isDispatcher reports whether a function only calls what it was told to.
func isDispatcher(name string) bool {
	if dispatchers[name] {
		return true
	}
	for _, part := range dispatching {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// dispatchers are whole names.
var dispatchers = setOf(`
	proc_reg_write proc_reg_read proc_reg_unlocked_ioctl kernfs_fop_write_iter kernfs_fop_read_iter sysfs_kf_write
	dev_attr_store kobj_attr_store full_proxy_write full_proxy_read
	kthread call_read_iter call_write_iter call_mmap
	sock_sendmsg sock_recvmsg sock_release __sock_release setsockopt listen sock_mmap accept
	sock_do_ioctl sock_ioctl compat_sock_ioctl nfnetlink_rcv_msg rtnetlink_rcv_msg netlink_dump
	page_fault sys_socketpair sys_connect sys_ioctl sys_listen sys_accept4 sys_setsockopt sys_accept
	socketpair connect ioctl
`)

// dispatching are parts of names.
var dispatching = strings.Fields(`
	process_one_work do_syscall_ do_fast_syscall_ sysenter_dispatch tracesys_phase2 el0_svc_handler invoke_syscall
	ret_fast_syscall netif_receive_skb do_softirq call_timer_fn _run_timers run_timer_softirq hrtimer_run
	run_ksoftirqd smpboot_thread_fn start_secondary cpu_startup_entry ret_from_fork
	vfs_write vfs_read vfs_iter_read vfs_iter_write do_iter_read do_iter_write new_sync_read new_sync_write
	vfs_ioctl ksys_ioctl compat_ioctl compat_sys_ioctl blkdev_driver_ioctl blkdev_ioctl do_iter_readv_writev
	mmap_region do_mmap do_dentry_open vfs_open
	kernel_setsockopt sock_common_setsockopt kernel_listen sk_common_release kernel_accept
	__do_fault do_page_fault __fput task_work_run exit_to_usermode tasklet_action tasklet_hi_action
	handle_softirqs x64_sys_call do_el0_svc
`)

func setOf(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}
