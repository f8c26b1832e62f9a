package kernelreport

import "strings"

// isHelper reports whether a function is never to blame: it checks, reports, locks, copies or
// allocates on behalf of its caller.
func isHelper(name string) bool {
	if helpers[name] {
		return true
	}
	for _, p := range helperPrefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	for _, p := range helperParts {
		if strings.Contains(name, p) {
			return true
		}
	}
	for _, s := range helperSuffixes {
		if strings.HasSuffix(name, s) {
			return true
		}
	}
	return false
}

// helpers are whole names.
var helpers = setOf(`
	down complete kfree kvfree vfree iput iput_final ihold copyin copyout get_taint put_device
	lock_page unlock_page dput fast_dput finish_wait ida_free drop_nlink vpanic oops_end oops_begin
	die die_addr __die show_regs page_fault_oops no_context fixup_exception
	asm_exc_page_fault asm_exc_general_protection asm_exc_invalid_op exc_page_fault exc_invalid_op
	exc_general_protection handle_bug bust_spinlocks kernelmode_fixup_or_oops
	math_error __bug_table bug_handler brk_handler do_debug_exception el1_dbg el1h_64_dbg
	el1_brk64 call_break_hook entry_from_kernel
	task_blocks_on_rt_mutex print_circular_bug check_noncircular check_prev_add validate_chain print_deadlock_bug
	print_bad_irq_dependency check_irq_usage register_lock_class debug_check_no_locks_freed debug_check_no_locks_held
	unwind_backtrace dump_backtrace die_kernel_fault __do_kernel_fault do_page_fault_oops do_trap_break
	handle_exception read_word_at_a_time timer_is_static_object work_is_static_object
`)

// helperPrefixes are beginnings of names.
var helperPrefixes = strings.Fields(`
	mutex_ __mutex_ rt_mutex_ refcount_ kref_ rb_ __rb_ klist_ crc0 crc1 crc2 crc3 crc4 crc5 crc6 crc7 crc8 crc9
	asm_exc_ exc_
`)

// helperSuffixes are ends of names.
var helperSuffixes = strings.Fields(`_trap readb readw readl readq writeb writew writel writeq`)

// helperParts are parts of names.
var helperParts = strings.Fields(`
	__sanitizer __asan kasan hwasan __msan kmsan kcsan_setup_watchpoint kcsan_report check_memory_region
	check_heap_object check_object print_address_description print_report kfence_ __tsan

	panic invalid_op report_bug fixup_bug print_usage_bug do_error do_trap program_check
	show_stack dump_stack walk_stack dump_backtrace warn_slowpath warn_alloc warn_bogus __warn assertfail
	__fortify_report fortify_panic print_tainted stack_trace_save stack_trace_consume arch_stack_walk
	do_kernel_fault do_translation_fault do_mem_abort el1_abort el1h_64_sync __phys_addr

	alloc_page kmalloc kzalloc kcalloc vmalloc vzalloc kvmalloc krealloc malloc kmem_cache allocate_slab
	__alloc_frozen_pages_noprof folio_alloc folio_unlock filemap_alloc_folio __filemap_get_folio
	find_or_create_page do_read_cache_folio read_cache_page pagecache_get_page grab_cache_page_write_begin slab_
	xas_start xas_load xas_find find_lock_entries truncate_inode_pages_range mark_buffer_dirty

	debug_object __might_fault might_fault might_sleep __might_resched print_unlock imbalance_bug lockdep
	bh_enable bh_disable perf_trace lock_acquire lock_release lock_class mark_lock held_locks
	spin_rq spin_lock spin_trylock spin_unlock read_lock read_trylock read_unlock write_lock write_trylock
	write_unlock down_read down_write down_trylock up_read up_write owner_on_cpu osq_lock osq_unlock
	trace_hardirq trace_softirq seqprop_assert ref_tracker

	atomic_dec atomic_inc atomic_read atomic_set atomic_or atomic_xor atomic_and atomic_add atomic_sub atomic_fetch
	atomic_xchg atomic_cmpxchg atomic_try atomic64_ set_bit clear_bit change_bit test_bit __wake_up
	read_once_ write_once_ logic_in logic_out

	memcpy memcmp memset memchr memmove memdup strcmp strncmp strcpy strlcpy strncpy strscpy strlen strstr
	strnstr strnlen strchr strdup strndup string pointer snprintf scnprintf kasprintf kvasprintf printk va_format
	copy_to_user copy_from_user copy_to_iter copy_from_iter copy_page_to_iter copy_page_from_iter
	copy_folio_to_iter put_user get_user hex_dump crc_itu_t extract_user_to_sg extract_iter_to_sg
	list_add list_del list_replace list_move list_splice _indirect_thunk_
	dev_info dev_notice dev_warn dev_err dev_alert dev_crit dev_emerg

	del_timer timer_delete lock_timer_base __mod_timer sk_stop_timer_sync
	flush_work cancel_work try_to_grab_pending drain_workqueue destroy_workqueue queue_work insert_work
	queue_delayed_work wait_for_completion kthread_stop cleanup_srcu_struct rhashtable_lookup
	kobject_ add_uevent_var get_device_parent device_add device_del device_unregister device_destroy device_release
	devres_release_all hwrng_unregister i2c_del_adapter __unregister_client device_for_each_child sysfs_remove
	device_remove_file tty_unregister_device rollback_registered unregister_netdev kfree_skb
	dummy_urb_enqueue usb_kill_urb usb_kill_anchored_urbs usb_control_msg usb_hcd_submit_urb usb_submit_urb
`)
