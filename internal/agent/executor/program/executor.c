/*
 * The process in which a test's system calls happen.
 *
 * It is a plain C program because a call must find what a C program has: one
 * thread whose credentials, namespaces and signal mask are the process's, no
 * runtime that interrupts it, and death when the call is lethal. The agent
 * sends requests over descriptor 3, a stream socket, and reads answers; see
 * protocol.h. Calls are made on the main thread, one after the other; those
 * marked as asynchronous on a thread of their own, which is gone before the
 * next call on the main thread is made.
 *
 * Commands and workers are its forks (spawn.c). They are children of the agent.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "executor.h"
#include "protocol.h"
#include "request.h"
#include "shared.h"
#include "spawn.h"

/* Out of the way of the descriptors that calls make. */
#define LINK_FD 1000

static int link_fd;
static pthread_mutex_t sending = PTHREAD_MUTEX_INITIALIZER;

/* An asynchronous call. Its thread has no memory of its own, so that a fork on the
 * main thread finds the library's lists of memory whole. */
struct call {
	struct call *next;
	struct request *req; /* in use by the thread until it is joined */
	uint64_t id;
	pthread_t thread;
	pid_t tid; /* set by the thread */
	int done; /* the call has returned; the thread answers and ends */
};

static struct call *calls;

/* A call was made: nobody knows which descriptors there are. */
static int touched;

static void on_signal(int sig)
{
	(void)sig; /* the call it interrupts returns EINTR */
}

/* A link that is gone ends this process: nobody is left to work for. */
static void receive(void *p, size_t n)
{
	while (n > 0) {
		ssize_t k = recv(link_fd, p, n, 0);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			_exit(0);
		p = (char *)p + k;
		n -= k;
	}
}

static void send_all(struct iovec *v, size_t n, const int *fd)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct msghdr m = { .msg_iov = v, .msg_iovlen = n };

	if (fd) {
		memset(control, 0, sizeof control);
		m.msg_control = control;
		m.msg_controllen = sizeof control;
		CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fd, sizeof(int));
	}
	while (m.msg_iovlen > 0) {
		ssize_t k = sendmsg(link_fd, &m, MSG_NOSIGNAL);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0 && fd && errno == EBADF) {
			/* The header said that a descriptor comes. */
			fd = NULL;
			m.msg_control = NULL;
			m.msg_controllen = 0;
			((struct answer *)v[0].iov_base)->ret = -1;
			((struct answer *)v[0].iov_base)->error = EBADF;
			continue;
		}
		if (k < 0)
			_exit(0);
		m.msg_control = NULL;
		m.msg_controllen = 0;
		while (m.msg_iovlen > 0 && (size_t)k >= m.msg_iov->iov_len) {
			k -= m.msg_iov->iov_len;
			m.msg_iov++;
			m.msg_iovlen--;
		}
		if (m.msg_iovlen > 0) {
			m.msg_iov->iov_base = (char *)m.msg_iov->iov_base + k;
			m.msg_iov->iov_len -= k;
		}
	}
}

#ifdef COVERAGE
/* An executor is killed when it is done with: what it has counted goes out before
 * each answer. */
extern void __gcov_dump(void), __gcov_reset(void);
#define count_out() (__gcov_dump(), __gcov_reset())
#else
#define count_out() ((void)0)
#endif

/* The lock keeps answers whole, and signals of a test away from its holder. */
static void answer_report(struct request *r, long ret, int error, int kind, const int *fd)
{
	struct answer a = { .id = r ? r->head.id : 0, .ret = ret, .error = error, .kind = kind };
	struct iovec v[1 + MAX_BUFS];
	size_t i, n = 1;

	for (i = 0; r && i < r->head.nbufs; i++) {
		if (r->lens[i] == 0)
			continue;
		v[n].iov_base = r->bufs[i];
		v[n++].iov_len = r->lens[i];
		a.total += r->lens[i];
	}
	v[0].iov_base = &a;
	v[0].iov_len = sizeof a;
	pthread_mutex_lock(&sending);
	count_out();
	if (n > 1 || fd || send(link_fd, &a, sizeof a, MSG_NOSIGNAL) != sizeof a)
		send_all(v, n, fd);
	pthread_mutex_unlock(&sending);
}

static void answer(struct request *r, long ret, int error, const int *fd)
{
	answer_report(r, ret, error, 0, fd);
}

/* The answer to a request in shared memory; 0 when it has gone over the socket. */
static int answer_shared(struct request *r, long ret, int error)
{
	struct answer a = { .id = r->head.id, .ret = ret, .error = error };
	size_t i;

	for (i = 0; i < r->head.nbufs; i++)
		a.total += r->lens[i];
	count_out();
	if (shared_answer(&a, r))
		return 1;
	answer(r, ret, error, NULL);
	return 0;
}

static long make_call(long nr, const long *a, int *error)
{
	long ret;

	errno = 0;
	ret = syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	*error = ret == -1 ? errno : 0;
	return ret;
}

static void *call_thread(void *p)
{
	struct call *c = p;
	int error;
	long ret;

	c->tid = syscall(SYS_gettid);
	ret = make_call(c->req->head.nr, c->req->head.args, &error);
	/* Before the answer: the next call must find it, and wait for this thread. */
	__atomic_store_n(&c->done, 1, __ATOMIC_RELEASE);
	answer(c->req, ret, error, NULL);
	return NULL;
}

/* Waits until the kernel has a joined thread no more. It lets go of the thread's memory,
 * for which pthread_join waits, some time before, and until then the process counts as one
 * with threads: it could not unshare a user namespace, for one. */
static void await_end(pid_t tid)
{
	const struct timespec step = {.tv_nsec = 20000};
	int steps = 5000; /* a test's seccomp filter may answer for the kernel */

	while (steps-- > 0 && syscall(SYS_tgkill, getpid(), tid, 0) == 0)
		nanosleep(&step, NULL);
}

/* Waits for the threads whose calls have returned. */
static void join_done(void)
{
	struct call **at = &calls;

	while (*at) {
		struct call *c = *at;

		if (!__atomic_load_n(&c->done, __ATOMIC_ACQUIRE)) {
			at = &c->next;
			continue;
		}
		pthread_join(c->thread, NULL);
		await_end(c->tid);
		*at = c->next;
		request_free(c->req);
		free(c);
	}
}

static void start_call(struct request *r)
{
	struct call *c = calloc(1, sizeof *c);
	pthread_attr_t attr;
	int error = c ? 0 : ENOMEM;

	if (!error) {
		c->req = r;
		c->id = r->head.id;
		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, 64 << 10);
		error = pthread_create(&c->thread, &attr, call_thread, c);
		pthread_attr_destroy(&attr);
	}
	if (error) {
		answer(r, -1, error, NULL);
		request_free(r);
		free(c);
		return;
	}
	c->next = calls;
	calls = c;
}

/* Has a call return EINTR, if it is one that waits. A signal that comes before
 * the call or after it does nothing. */
static void cancel_call(uint64_t id)
{
	struct call *c;

	for (c = calls; c; c = c->next)
		if (c->id == id && !__atomic_load_n(&c->done, __ATOMIC_ACQUIRE))
			pthread_kill(c->thread, SIGBUS);
}

#define X32 0x40000000 /* the bit of that way of calling */

/* Newer architectures have only clone. */
#ifndef SYS_fork
#define SYS_fork (-1)
#endif
#ifndef SYS_vfork
#define SYS_vfork (-1)
#endif

static int forks(long nr)
{
	if (nr < 0)
		return 0;
	nr &= ~X32;
	return nr == SYS_fork || nr == SYS_vfork || nr == SYS_clone || nr == SYS_clone3;
}

/* The other side of a fork that a test has asked for: it waits to be killed,
 * and does not outlive us. The child of a vfork must not keep us waiting. */
static void be_child(long nr)
{
	if (SYS_vfork >= 0 && nr == SYS_vfork)
		_exit(0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(link_fd);
	for (;;)
		pause();
}

/* A call on the main thread. */
static long main_call(long nr, const long *args, int *error)
{
	pid_t self;
	long ret;

	if (!forks(nr))
		return make_call(nr, args, error);
	self = syscall(SYS_getpid);
	ret = make_call(nr, args, error);
	if (syscall(SYS_getpid) != self)
		be_child(nr);
	return ret;
}

/* A call that makes a file with exactly the mode it says. Threads share the umask,
 * which is another one for the time of the call. */
static long exact_call(long nr, const long *args, int *error)
{
	mode_t mask = umask(0);
	long ret = main_call(nr, args, error);

	umask(mask);
	return ret;
}

/* Makes the calls in the file, one after the other. */
static int batch(int fd, size_t count)
{
	size_t size = sizeof(struct batch) + count * sizeof(struct batch_call), i;
	struct stat st;
	struct batch *b;

	if (fstat(fd, &st) < 0)
		return errno;
	if (st.st_size < 0 || (size_t)st.st_size < size)
		return EINVAL;
	b = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (b == MAP_FAILED)
		return errno;
	for (i = 0; i < count && !__atomic_load_n(&b->stop, __ATOMIC_RELAXED); i++) {
		struct batch_call *c = &b->calls[i];
		int error;

		c->ret = main_call(c->nr, c->args, &error);
		c->error = error;
		__atomic_store_n(&b->done, i + 1, __ATOMIC_RELEASE);
	}
	munmap(b, size);
	return 0;
}

/* Closes a descriptor that an exec would close. */
static void close_if_marked(int fd, int spared)
{
	int flags = fd == spared ? -1 : fcntl(fd, F_GETFD);

	if (flags >= 0 && (flags & FD_CLOEXEC))
		close(fd);
}

/* Closes what an exec would close, but for one descriptor. */
static void close_marked(int spared)
{
	static char entries[8 << 10] __attribute__((aligned(8)));
	int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
	long n, at;
	int fd;

	for (fd = 0; dir < 0 && fd < 4096; fd++)
		close_if_marked(fd, spared);
	while (dir >= 0 && (n = syscall(SYS_getdents64, dir, entries, sizeof entries)) > 0)
		for (at = 0; at < n; at += ((struct dirent64 *)(entries + at))->d_reclen)
			if (((struct dirent64 *)(entries + at))->d_name[0] != '.')
				close_if_marked(atoi(((struct dirent64 *)(entries + at))->d_name), spared);
	if (dir >= 0)
		close(dir);
}

/* What is left to do for a copy of this process: it serves another link, and has
 * none of the threads. */
static void become_worker(int link)
{
	struct call *c;
	int at;

	pthread_mutex_init(&sending, NULL); /* a thread may have held it */
	shared_drop();
	while ((c = calls)) {
		calls = c->next;
		request_free(c->req);
		free(c);
	}
	if (touched)
		close_marked(link);
	else
		close(link_fd);
	/* Lower where a test has set a limit. */
	for (at = LINK_FD; (link_fd = fcntl(link, F_DUPFD_CLOEXEC, at)) < 0; at /= 2)
		if (at == 0)
			_exit(1);
}

static int follow(int root)
{
	return fchdir(root) < 0 || chroot(".") < 0 || chdir("/") < 0 ? errno : 0;
}

/* Makes the call of a request on the main thread. */
static long serve_call(struct request *r, int *error)
{
	touched = 1;
	join_done();
	return (r->head.flags & FLAG_NO_UMASK ? exact_call : main_call)(r->head.nr, r->head.args, error);
}

/* Requests that are not about a call of a test. */
static void serve_birth(struct request *r, const int *fds)
{
	struct spawned s;
	pid_t pid;
	int fd = -1, error;

	join_done();
	switch (r->head.kind) {
	case KIND_SPAWN:
		error = spawn(r, fds, &s) < 0 ? errno : s.failure.value;
		r->head.nbufs = 0;
		/* Also of a child that could not execute its program: it is to be
		 * reaped. */
		answer_report(r, s.pid, error, s.failure.kind, s.pidfd < 0 ? NULL : &s.pidfd);
		if (s.pidfd >= 0)
			close(s.pidfd);
		break;
	case KIND_FORK:
		pid = fork_sibling(&fd);
		error = pid < 0 ? errno : 0;
		if (pid == 0)
			become_worker(fds[0]);
		else
			answer(r, pid, error, pid < 0 || fd < 0 ? NULL : &fd);
		if (pid > 0 && fd >= 0)
			close(fd);
		break;
	case KIND_ADOPT:
		error = adopt(fds[0], r->head.args[0]) < 0 ? errno : 0;
		answer(r, error ? -1 : 0, error, NULL);
		break;
	case KIND_FOLLOW:
		error = follow(fds[0]);
		answer(r, error ? -1 : 0, error, NULL);
		break;
	}
}

static void serve(struct request *r, int *fds)
{
	struct iovec local, remote;
	long ret;
	int error = 0, fd;

	switch (r->head.kind) {
	case KIND_CALL:
		if (r->head.flags & FLAG_ASYNC) {
			touched = 1;
			start_call(r);
			return;
		}
		if (fds[0] >= 0) {
			/* The call must not find a descriptor of ours. */
			shared_map(fds[0]);
			close(fds[0]);
			fds[0] = -1;
		}
		ret = serve_call(r, &error);
		answer(r, ret, error, NULL);
		break;
	case KIND_BATCH:
		touched = 1;
		join_done();
		error = batch(fds[0], r->head.args[0]);
		answer(r, error ? -1 : 0, error, NULL);
		break;
	case KIND_CANCEL:
		cancel_call(r->head.args[0]);
		answer(r, 0, 0, NULL);
		break;
	case KIND_READ_MEM:
		/* The request has one buffer of the wanted length. */
		local.iov_base = r->bufs[0];
		remote.iov_base = (void *)r->head.args[0];
		local.iov_len = remote.iov_len = r->lens[0];
		ret = r->lens[0] ? process_vm_readv(getpid(), &local, 1, &remote, 1, 0) : 0;
		error = ret < 0 ? errno : (size_t)ret < r->lens[0] ? EFAULT : 0;
		answer(r, error ? -1 : ret, error, NULL);
		break;
	case KIND_SEND_FD:
		fd = r->head.args[0];
		if (fd < 0 || fd == link_fd || fcntl(fd, F_GETFD) < 0)
			answer(r, -1, EBADF, NULL);
		else
			answer(r, fd, 0, &fd);
		break;
	default:
		serve_birth(r, fds);
	}
	request_free(r);
}

/* Receives the head of a request, and what comes with it; 0 at the end of the link. */
static int receive_head(struct head *head, int *fds)
{
	size_t have = 0;

	while (have < sizeof *head) {
		char control[CMSG_SPACE(SPAWN_FDS * sizeof *fds)];
		struct iovec v = { (char *)head + have, sizeof *head - have };
		struct msghdr m = {
			.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control,
		};
		ssize_t k = recvmsg(link_fd, &m, MSG_CMSG_CLOEXEC);
		struct cmsghdr *c;

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return 0;
		for (c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
			if (c->cmsg_type == SCM_RIGHTS && c->cmsg_len <= CMSG_LEN(SPAWN_FDS * sizeof *fds))
				memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
		have += k;
	}
	return 1;
}

/* Serves requests in shared memory, which was offered, while they come at once; -1 for one
 * that makes no sense. */
static int serve_shared(void)
{
	char byte;
	/* What was sent before the offer ends no wait. */
	int waiting = recv(link_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;

	while (!(waiting && shared_withdraw()) && shared_await()) {
		struct request *r = shared_request();
		int error = 0, again;
		long ret;

		if (!r)
			return -1;
		reap_keepers();
		ret = serve_call(r, &error);
		again = answer_shared(r, ret, error);
		request_free(r);
		if (!again)
			break;
	}
	return 0;
}

/* The agent gives up on us. */
static int refuse(void)
{
	answer(NULL, -1, EINVAL, NULL); /* id 0 */
	return 2;
}

int run_executor(void)
{
	static const int ignored[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU };
	struct sigaction act;
	size_t k;

	/* The agent ignores these, and commands must not. */
	memset(&act, 0, sizeof act);
	for (k = 0; k < sizeof ignored / sizeof ignored[0]; k++)
		sigaction(ignored[k], &act, NULL);
	/* No restart: who signals a thread wants its call to return. */
	act.sa_handler = on_signal;
	sigaction(SIGBUS, &act, NULL);
	sigaction(SIGPIPE, &act, NULL);
	link_fd = fcntl(3, F_DUPFD_CLOEXEC, LINK_FD);
	if (link_fd < 0)
		return 1;
	close(3);
	for (;;) {
		struct head head;
		int fds[SPAWN_FDS] = { -1, -1, -1, -1 };
		struct request *r;
		size_t i;

		if (!receive_head(&head, fds))
			return 0;
		reap_keepers();
		r = request_read(&head, receive);
		if (!r)
			return refuse();
		serve(r, fds);
		for (i = 0; i < SPAWN_FDS; i++)
			if (fds[i] >= 0)
				close(fds[i]);
		if (head.kind == KIND_CALL && (head.flags & FLAG_SHARED) && shared_offer() && serve_shared() < 0)
			return refuse();
	}
}
