/*
 * A ticker has a deterministic guest on a bridge meet its host at times that the host
 * chooses, so that all guests of the bridge are at the same time when frames change hands.
 *
 * The host sends the time of the next tick on CLOCK_MONOTONIC, and what passes between ticks
 * from then on, both in nanoseconds and of 8 bytes. At each tick the ticker sends its time,
 * and passes a sync point. A tick whose time is over comes at once, and counts for the last
 * of those that should have been.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tick.h"

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* meet is a sync point: an instruction that does nothing (internal/syncpoint). */
static void meet(void)
{
#ifdef __x86_64__
	__asm__ volatile(".byte 0x66, 0x0f, 0x1f, 0x84, 0x00, 'P', 'V', 'S', 'k'" ::: "memory");
#endif
}

int tick(void)
{
	struct sched_param first = { .sched_priority = 2 }; /* before a disturber */
	struct {
		uint64_t next, period;
	} plan = { 0, 0 };
	struct pollfd port = { .fd = 0, .events = POLLIN };
	sigset_t all;

	if (sched_setscheduler(0, SCHED_FIFO, &first) != 0)
		return 1;
	mlockall(MCL_CURRENT | MCL_FUTURE); /* else it only waits for its pages */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	for (;;) {
		struct timespec wait = { 0, 0 };
		uint64_t at = now();
		int ready;

		if (plan.period > 0 && at < plan.next) {
			wait.tv_sec = (plan.next - at) / 1000000000;
			wait.tv_nsec = (plan.next - at) % 1000000000;
		}
		ready = ppoll(&port, 1, plan.period > 0 ? &wait : NULL, NULL);
		if (ready > 0) {
			ssize_t n = read(0, &plan, sizeof plan);

			if (n != sizeof plan && !(n < 0 && (errno == EAGAIN || errno == EINTR)))
				return 1;
			continue;
		}
		at = now();
		if (at < plan.next)
			continue;
		if (plan.next == 0)
			plan.next = at;
		plan.next += (at - plan.next) / plan.period * plan.period;
		if (write(0, &plan.next, sizeof plan.next) != sizeof plan.next)
			return 1;
		plan.next += plan.period;
		meet();
	}
}
