/* Requests and answers in memory that is shared with the agent; see protocol.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shared.h"

#define ROOM (SHARED_SIZE - offsetof(struct shared, bytes))

static struct shared *shared; /* NULL without one */

void shared_drop(void)
{
	if (shared)
		munmap(shared, SHARED_SIZE);
	shared = NULL;
}

void shared_map(int fd)
{
	struct stat st;
	void *p;

	shared_drop();
	if (fstat(fd, &st) < 0 || st.st_size != SHARED_SIZE)
		return;
	p = mmap(NULL, SHARED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED)
		shared = p;
}

static uint32_t turn(void) { return __atomic_load_n(&shared->turn, __ATOMIC_SEQ_CST); }

static int change(uint32_t from, uint32_t to)
{
	return __atomic_compare_exchange_n(&shared->turn, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

int shared_offer(void)
{
	if (shared)
		__atomic_store_n(&shared->turn, TURN_READY, __ATOMIC_SEQ_CST);
	return shared != NULL;
}

int shared_withdraw(void) { return change(TURN_READY, TURN_SOCKET); }

int shared_await(void)
{
	const struct timespec limit = { .tv_nsec = 20000000 };
	int tries = 100; /* a test's seccomp filter may answer for the kernel */
	uint32_t t;

	while (turn() == TURN_READY) {
		long r = syscall(SYS_futex, &shared->turn, FUTEX_WAIT, TURN_READY, &limit, NULL, 0);

		if (((r < 0 && errno != EAGAIN && errno != EINTR) || --tries == 0) && change(TURN_READY, TURN_SOCKET))
			return 0;
	}
	t = turn();
	return t == TURN_REQUEST || t == TURN_LATE; /* it may be late already when it is taken */
}

struct request *shared_request(void)
{
	struct request *r = request_take(shared->bytes, ROOM);

	if (r && (r->head.kind != KIND_CALL || (r->head.flags & FLAG_ASYNC))) {
		request_free(r);
		return NULL;
	}
	return r;
}

int shared_answer(const struct answer *a, struct request *r)
{
	char *at = shared->bytes + sizeof *a;
	size_t i;

	if (a->total <= ROOM - sizeof *a && turn() == TURN_REQUEST) {
		memcpy(shared->bytes, a, sizeof *a);
		for (i = 0; i < r->head.nbufs; i++) {
			memcpy(at, r->bufs[i], r->lens[i]);
			at += r->lens[i];
		}
		if (change(TURN_REQUEST, TURN_READY)) {
			syscall(SYS_futex, &shared->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
			return 1;
		}
	}
	__atomic_store_n(&shared->turn, TURN_SOCKET, __ATOMIC_SEQ_CST);
	return 0;
}
