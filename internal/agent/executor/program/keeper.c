/*
 * A keeper is a process between the agent and a command. It is there for two
 * reasons: it adopts what the command leaves behind, where the caller wants to end
 * that too (PR_SET_CHILD_SUBREAPER); and it tells the agent how the command ended
 * where the agent cannot be its parent. It does nothing but wait, and no signal
 * that can be blocked ends it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spawn.h"

enum { REPORT, STARTED, FIRST_UNUSED }; /* its descriptors */

static void tell(int kind, int value)
{
	struct report r = { kind, value };

	if (write(REPORT, &r, sizeof r) < 0)
		_exit(1); /* the agent is gone */
}

/* Descriptors of a test must not stay open because of us. */
static void close_rest(void)
{
	int fd;

	if (syscall(SYS_close_range, FIRST_UNUSED, ~0U, 0) == 0)
		return;
	for (fd = FIRST_UNUSED; fd < 4096; fd++)
		close(fd);
}

void keep(struct start *s)
{
	sigset_t all, old;
	struct report r;
	int p[2], status;
	ssize_t n;
	pid_t pid, w;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	if (s->flags & SPAWN_KEEPER)
		prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid = -1;
	if (pipe2(p, O_CLOEXEC) == 0)
		pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
	if (pid == 0) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		execute(s, p[1]);
	}
	if (pid < 0) {
		r = (struct report){ REPORT_EXEC, errno };
		if (write(s->fds[3], &r, sizeof r) < 0)
			_exit(1);
		_exit(127);
	}
	/* Above both, so that neither takes the other's place. */
	s->fds[3] = fcntl(s->fds[3], F_DUPFD, FIRST_UNUSED);
	p[0] = fcntl(p[0], F_DUPFD, FIRST_UNUSED);
	if (s->fds[3] < 0 || p[0] < 0 || dup2(s->fds[3], REPORT) < 0 || dup2(p[0], STARTED) < 0)
		_exit(1);
	close_rest();
	n = read(STARTED, &r, sizeof r);
	close(STARTED);
	if (n == sizeof r) {
		waitpid(pid, NULL, 0);
		tell(r.kind, r.value);
		_exit(127);
	}
	tell(REPORT_STARTED, pid);
	do
		w = waitpid(-1, &status, 0);
	while (w >= 0 && w != pid);
	if (w == pid)
		tell(REPORT_ENDED, status);
	_exit(0);
}
