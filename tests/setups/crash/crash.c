// A kernel module that fails in the way that is written to /proc/crash.
#include <linux/delay.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/proc_fs.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

static noinline void crash_null(void)
{
	*(volatile int *)8 = 1;
}

static noinline void crash_warn(void)
{
	WARN(1, "crash: on purpose");
}

static noinline void crash_list(void)
{
	struct list_head entry = { .next = LIST_POISON1, .prev = LIST_POISON2 };

	list_del(&entry);
}

static noinline void crash_hang(void)
{
	set_current_state(TASK_UNINTERRUPTIBLE);
	schedule_timeout(3 * HZ);
	barrier(); /* no tail call: the function is in the trace */
}

static noinline void crash_spin(void)
{
	unsigned long end = jiffies + 4 * HZ;

	preempt_disable();
	while (time_before(jiffies, end))
		cpu_relax();
	preempt_enable();
	barrier();
}

/* An exception without a table of handlers: a triple fault. */
static noinline void crash_triple(void)
{
	struct { u16 limit; u64 base; } __packed none = { 0, 0 };

	asm volatile("lidt %0; int3" :: "m"(none));
}

static noinline void crash_deaf(void)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}

static ssize_t crash_write(struct file *f, const char __user *from, size_t n, loff_t *at)
{
	char what[16] = "";

	if (copy_from_user(what, from, min(n, sizeof(what) - 1)))
		return -EFAULT;
	if (!strncmp(what, "null", 4))
		crash_null();
	else if (!strncmp(what, "warn", 4))
		crash_warn();
	else if (!strncmp(what, "list", 4))
		crash_list();
	else if (!strncmp(what, "hang", 4))
		crash_hang();
	else if (!strncmp(what, "spin", 4))
		crash_spin();
	else if (!strncmp(what, "triple", 6))
		crash_triple();
	else if (!strncmp(what, "deaf", 4))
		crash_deaf();
	return n;
}

static const struct proc_ops crash_ops = { .proc_write = crash_write };

static int __init crash_init(void)
{
	return proc_create("crash", 0200, NULL, &crash_ops) ? 0 : -ENOMEM;
}

static void __exit crash_exit(void)
{
	remove_proc_entry("crash", NULL);
}

module_init(crash_init);
module_exit(crash_exit);
MODULE_LICENSE("GPL");
