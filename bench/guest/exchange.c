/*
 * exchange: two programs that only answer each other, the floor for a system call that
 * another process makes.
 *
 *   exchange socket|eventfd|futex COUNT [BYTES]
 *
 * BYTES go to the other program and come back with each exchange: over the socket, or in
 * memory that both share and that each copies from and to memory of its own. COUNT
 * exchanges are made; the nanoseconds that one took are printed.
 *
 * Built with gcc -static -O2; it is no part of the product.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 96, MOST = 1 << 20 };

static struct shared {
	uint32_t turn; /* 0: ours, 1: the other's */
	char bytes[HEAD + MOST];
} *shared;

static char own[HEAD + MOST];
static size_t size;
static int sockets[2], events[2];

static int fail(const char *what)
{
	perror(what);
	exit(1);
}

static void receive(int fd)
{
	size_t have = 0;

	while (have < HEAD + size) {
		ssize_t n = recv(fd, own + have, HEAD + size - have, 0);

		if (n <= 0)
			_exit(0);
		have += n;
	}
}

static void transmit(int fd)
{
	size_t have = 0;

	while (have < HEAD + size) {
		ssize_t n = send(fd, own + have, HEAD + size - have, MSG_NOSIGNAL);

		if (n <= 0)
			_exit(0);
		have += n;
	}
}

static void await_event(int fd)
{
	uint64_t n;

	if (read(fd, &n, sizeof n) != sizeof n)
		fail("read");
}

static void raise_event(int fd)
{
	uint64_t n = 1;

	if (write(fd, &n, sizeof n) != sizeof n)
		fail("write");
}

/* With a limit, as one has to wait that does not trust the other. */
static void await_turn(uint32_t turn)
{
	struct timespec limit = { .tv_sec = 1 };

	while (__atomic_load_n(&shared->turn, __ATOMIC_ACQUIRE) != turn)
		if (syscall(SYS_futex, &shared->turn, FUTEX_WAIT, !turn, &limit, NULL, 0) < 0 && errno == ETIMEDOUT &&
		    getppid() == 1)
			_exit(0);
}

static void give_turn(uint32_t turn)
{
	__atomic_store_n(&shared->turn, turn, __ATOMIC_RELEASE);
	syscall(SYS_futex, &shared->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void take(void) { memcpy(own, shared->bytes, HEAD + size); }
static void give(void) { memcpy(shared->bytes, own, HEAD + size); }

static void by_socket(int child)
{
	if (child) {
		receive(sockets[1]);
		transmit(sockets[1]);
	} else {
		transmit(sockets[0]);
		receive(sockets[0]);
	}
}

static void by_events(int child)
{
	if (child) {
		await_event(events[1]);
		take();
		give();
		raise_event(events[0]);
	} else {
		give();
		raise_event(events[1]);
		await_event(events[0]);
		take();
	}
}

static void by_futex(int child)
{
	if (child) {
		await_turn(1);
		take();
		give();
		give_turn(0);
	} else {
		give();
		give_turn(1);
		await_turn(0);
		take();
	}
}

int main(int argc, char **argv)
{
	void (*exchange)(int child) = by_futex;
	long count = argc > 2 ? atol(argv[2]) : 0, i;
	struct timespec a, b;
	pid_t pid;

	if (count <= 0) {
		fprintf(stderr, "usage: exchange socket|eventfd|futex COUNT [BYTES]\n");
		return 2;
	}
	if (strcmp(argv[1], "socket") == 0)
		exchange = by_socket;
	else if (strcmp(argv[1], "eventfd") == 0)
		exchange = by_events;
	size = argc > 3 ? atol(argv[3]) : 0;
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (size > MOST || shared == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) < 0 ||
	    (events[0] = eventfd(0, 0)) < 0 || (events[1] = eventfd(0, 0)) < 0)
		fail("set up");
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (pid == 0)
		for (;;)
			exchange(1);
	for (i = 0; i < 100; i++)
		exchange(0);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (i = 0; i < count; i++)
		exchange(0);
	clock_gettime(CLOCK_MONOTONIC, &b);
	kill(pid, SIGKILL);
	printf("%ld\n", ((b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec) / count);
	return 0;
}
