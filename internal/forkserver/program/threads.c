/*
 * The threads of a process that is copied.
 *
 * Each is interrupted by a signal, whose handler keeps where it was called (setjmp) and waits. In a
 * copy, the handlers go on, each in a new thread on the same stack. A thread must be in a system
 * call that fails or is repeated when it is interrupted: others may hold locks, such as that of the
 * heap, of which nothing here takes memory meanwhile.
 */
#define _GNU_SOURCE
#include "forkserver.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { MAX_THREADS = 512 };
enum { ATTEMPTS = 50, PAUSE_NS = 1000000, ARRIVAL_PAUSES = 200 };

/* A thread that was interrupted. */
struct held {
	jmp_buf at;
	uintptr_t stack; /* what lies below is free */
	uintptr_t local; /* its thread-local memory */
	int *id;         /* where the C library keeps its number */
	char name[16];
	int waits; /* it was in a system call that begins anew, or fails by EINTR */
};

static struct held held[MAX_THREADS];
static int held_count, arrived, resumed, gate;

static void nap(void)
{
	struct timespec t = { .tv_nsec = PAUSE_NS };
	nanosleep(&t, NULL);
}

/* thread_id returns where the C library keeps the number of this thread, NULL if that is not found. */
int *thread_id(void)
{
	enum { FROM = 0x200, TO = 0x400 }; /* of glibc 2.36: 0x2d0 */
	int id = syscall(SYS_gettid), *p = (int *)pthread_self(), *found = NULL;
	for (int i = FROM / (int)sizeof id; i < TO / (int)sizeof id; i++) {
		if (p[i] != id)
			continue;
		if (found)
			return NULL;
		found = p + i;
	}
	return found;
}

#ifdef __x86_64__

/* in_call reports whether a thread was interrupted in a system call. */
static int in_call(const ucontext_t *c)
{
	const unsigned char *at = (const unsigned char *)c->uc_mcontext.gregs[REG_RIP];
	const unsigned char before[] = { 0x0f, 0x05 };
	if (!memcmp(at, before, sizeof before)) /* the kernel has prepared to repeat it */
		return 1;
	return !memcmp(at - sizeof before, before, sizeof before) && c->uc_mcontext.gregs[REG_RAX] == -EINTR;
}

/* go_on is what a new thread does first, in place of one that was held. */
static void go_on(struct held *h)
{
	prctl(PR_SET_NAME, h->name);
	_longjmp(h->at, 1);
}

/* make_thread makes a thread that goes on where a held one stands. */
static long make_thread(struct held *h)
{
	unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
		CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
	long result;
	register int *child_id __asm__("r10") = h->id;
	register uintptr_t local __asm__("r8") = h->local;
	register struct held *thread __asm__("r12") = h;
	register void (*function)(struct held *) __asm__("r13") = go_on;
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r12, %%rdi\n\t"
			 "call *%%r13\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(result)
			 : "a"(SYS_clone), "D"(flags), "S"(h->stack), "d"(h->id), "r"(child_id), "r"(local), "r"(thread),
			   "r"(function)
			 : "rcx", "r11", "memory");
	return result;
}

#else /* nobody has tried */

static int in_call(const ucontext_t *c)
{
	return c == NULL;
}

static long make_thread(struct held *h)
{
	return h ? -1 : 0;
}

#endif

static void hold_thread(int signal, siginfo_t *info, void *context)
{
	int error = errno, number = __atomic_fetch_add(&held_count, 1, __ATOMIC_SEQ_CST);
	(void)signal;
	if (info->si_code != SI_TKILL || number >= MAX_THREADS)
		abort(); /* a real fault */
	struct held *h = &held[number];
	h->id = thread_id();
	h->local = (uintptr_t)pthread_self();
	h->stack = ((uintptr_t)__builtin_frame_address(0) - (16 << 10)) & ~(uintptr_t)63;
	h->waits = in_call(context);
	prctl(PR_GET_NAME, h->name);
	if (_setjmp(h->at) == 0) {
		__atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST);
		while (!__atomic_load_n(&gate, __ATOMIC_SEQ_CST))
			syscall(SYS_futex, &gate, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	}
	__atomic_fetch_add(&resumed, 1, __ATOMIC_SEQ_CST);
	errno = error;
}

/* wake lets the held threads go on, and waits for that. */
void wake(int count)
{
	__atomic_store_n(&gate, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &gate, FUTEX_WAKE_PRIVATE, MAX_THREADS, NULL, NULL, 0);
	while (__atomic_load_n(&resumed, __ATOMIC_SEQ_CST) < count)
		sched_yield();
}

/*
 * other_threads lists the threads of the process but this one. It returns -1 for too many. It takes no
 * memory of the heap, whose lock a thread that was stopped may hold.
 */
static int other_threads(int *ids)
{
	static char entries[32 << 10] __attribute__((aligned(8)));
	int d = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC), self = syscall(SYS_gettid), n = 0;
	long length;
	if (d < 0)
		return -1;
	while (n >= 0 && (length = syscall(SYS_getdents64, d, entries, sizeof entries)) > 0)
		for (long at = 0; n >= 0 && at < length; at += ((struct dirent64 *)(entries + at))->d_reclen) {
			int id = atoi(((struct dirent64 *)(entries + at))->d_name);
			if (id <= 0 || id == self)
				continue;
			if (n == MAX_THREADS)
				n = -1;
			else
				ids[n++] = id;
		}
	close(d);
	return n;
}

/*
 * hold stops all other threads where they wait. It returns how many, or -1: then they all go
 * on. One that does not come is not waited for for long; its handler finds the gate open.
 */
int hold(void)
{
	static int before[MAX_THREADS], after[MAX_THREADS];
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		int n = other_threads(before), sent = 0, good = 1;
		if (n < 0)
			return -1;
		held_count = arrived = resumed = gate = 0;
		for (int i = 0; i < n; i++)
			if (syscall(SYS_tgkill, getpid(), before[i], HOLD_SIGNAL) == 0)
				sent++;
		for (int i = 0; __atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < sent; i++) {
			if (i == ARRIVAL_PAUSES) {
				wake(__atomic_load_n(&arrived, __ATOMIC_SEQ_CST));
				return -1;
			}
			if (i < ARRIVAL_PAUSES / 2)
				sched_yield();
			else
				nap();
		}
		int m = other_threads(after);
		good = sent == n && m == n && !memcmp(before, after, n * sizeof *before);
		for (int i = 0; i < sent; i++)
			good = good && held[i].waits && held[i].id;
		if (good)
			return n;
		wake(sent);
		nap();
	}
	return -1;
}

int make_threads(int count)
{
	resumed = 0;
	gate = 1;
	for (int i = 0; i < count; i++)
		if (make_thread(&held[i]) < 0)
			return -1;
	while (__atomic_load_n(&resumed, __ATOMIC_SEQ_CST) < count)
		sched_yield();
	return 0;
}

void listen_for_holds(void)
{
	struct sigaction a = { .sa_sigaction = hold_thread, .sa_flags = SA_SIGINFO | SA_RESTART };
	sigfillset(&a.sa_mask);
	sigaction(HOLD_SIGNAL, &a, NULL);
}
