#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spawn.h"

/* Where a child that shares our memory stands until it executes its program. */
static char stack[64 << 10] __attribute__((aligned(64)));

/* Keepers that are our own children, since our parent cannot have them. */
static pid_t keepers[256];
static size_t nkeepers;

/* The next text of a buffer, or NULL. */
static char *next_text(char **at, const char *end)
{
	char *text = *at, *nul = text < end ? memchr(text, 0, end - text) : NULL;

	if (!nul)
		return NULL;
	*at = nul + 1;
	return text;
}

/* n texts as an array that ends with NULL. */
static char **texts(char **at, const char *end, size_t n)
{
	char **v = calloc(n + 1, sizeof *v);
	size_t i;

	for (i = 0; v && i < n; i++) {
		v[i] = next_text(at, end);
		if (!v[i]) {
			free(v);
			return NULL;
		}
	}
	return v;
}

static int start_read(struct request *r, struct start *s)
{
	char *at = r->bufs[0], *end = at + r->lens[0];
	const size_t nargs = r->head.args[0], nenv = r->head.args[1], ngroups = r->head.args[4];

	memset(s, 0, sizeof *s);
	s->flags = r->head.flags;
	s->uid = r->head.args[2];
	s->gid = r->head.args[3];
	s->ngroups = ngroups;
	s->groups = (gid_t *)at;
	if (ngroups > r->lens[0] / sizeof *s->groups || nargs > r->lens[0] || nenv > r->lens[0])
		return -1;
	at += ngroups * sizeof *s->groups;
	s->dir = next_text(&at, end);
	s->name = next_text(&at, end);
	if (!s->dir || !s->name)
		return -1;
	s->argv = texts(&at, end, nargs);
	s->envp = texts(&at, end, nenv);
	return s->argv && s->envp ? 0 : -1;
}

/* Executes the program, which is looked for in PATH of its environment when its
 * name has no slash. */
static void execute_name(const char *name, char **argv, char **envp)
{
	static char path[8192];
	const char *dirs = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	int error = ENOENT;
	size_t i;

	if (strchr(name, '/')) {
		execve(name, argv, envp);
		return;
	}
	for (i = 0; envp[i]; i++)
		if (strncmp(envp[i], "PATH=", 5) == 0)
			dirs = envp[i] + 5;
	while (*name) {
		size_t n = strcspn(dirs, ":");

		if (n + strlen(name) + 2 <= sizeof path) {
			memcpy(path, dirs, n);
			strcpy(path + n, n ? "/" : "");
			strcat(path, name);
			execve(path, argv, envp);
			if (errno == EACCES)
				error = EACCES;
			else if (errno != ENOENT && errno != ENOTDIR)
				return;
		}
		if (dirs[n] == 0)
			break;
		dirs += n + 1;
	}
	errno = error;
}

/* The null device under its usual name, or -1 where that is something else. */
static int real_null(void)
{
	struct stat st;

	if (stat("/dev/null", &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		return -1;
	return open("/dev/null", O_RDONLY | O_CLOEXEC | O_NOCTTY);
}

/* Makes fds[0..2] descriptors 0 to 2. */
static int place_files(struct start *s)
{
	int i, fd;

	/* A test may have closed those of ours. */
	for (i = 0; i < 3; i++)
		if (s->fds[i] >= 0 && s->fds[i] < 3) {
			fd = fcntl(s->fds[i], F_DUPFD_CLOEXEC, 3);
			if (fd < 0)
				return -1;
			s->fds[i] = fd;
		}
	if (s->flags & SPAWN_NULL) {
		fd = real_null();
		if (fd == 0) /* and now it is there */
			fd = fcntl(fd, F_SETFD, 0);
		else
			fd = dup2(fd < 0 ? s->fds[0] : fd, 0);
		if (fd < 0)
			return -1;
	} else if (dup2(s->fds[0], 0) < 0) {
		return -1;
	}
	return dup2(s->fds[1], 1) < 0 || dup2(s->fds[2], 2) < 0 ? -1 : 0;
}

/* The calls, since the library's functions are for all threads. */
static int become_user(struct start *s)
{
	if (syscall(SYS_setgroups, s->ngroups, s->groups) < 0)
		return -1;
	if (syscall(SYS_setresgid, s->gid, s->gid, s->gid) < 0)
		return -1;
	return syscall(SYS_setresuid, s->uid, s->uid, s->uid);
}

int execute(struct start *s, int report)
{
	struct report r = { .kind = REPORT_EXEC };

	if (s->flags & SPAWN_SETSID)
		syscall(SYS_setsid);
	if (place_files(s) < 0)
		goto fail;
	if ((s->flags & SPAWN_TERMINAL) && ioctl(0, TIOCSCTTY, 0) < 0)
		goto fail;
	r.kind = REPORT_USER;
	if ((s->flags & SPAWN_USER) && become_user(s) < 0)
		goto fail;
	r.kind = REPORT_CWD;
	if (s->dir[0] && chdir(s->dir) < 0)
		goto fail;
	r.kind = REPORT_EXEC;
	execute_name(s->name, s->argv, s->envp);
fail:
	r.value = errno;
	if (report < 0)
		s->failure = r;
	else if (write(report, &r, sizeof r) < 0)
		_exit(126);
	_exit(127);
}

static int execute_shared(void *s) { return execute(s, -1); }

void reap_keepers(void)
{
	size_t i, left = 0;

	for (i = 0; i < nkeepers; i++)
		if (waitpid(keepers[i], NULL, WNOHANG | __WCLONE) == 0)
			keepers[left++] = keepers[i];
	nkeepers = left;
}

/* The first process of a PID namespace has no siblings: the command becomes a
 * child of ours, with a keeper. A wait of a test finds no keeper, since that sends
 * no signal at its end. */
static pid_t spawn_child(struct start *s, int *pidfd)
{
	pid_t pid;

	reap_keepers();
	if (nkeepers == sizeof keepers / sizeof keepers[0]) {
		errno = EAGAIN;
		return -1;
	}
	pid = syscall(SYS_clone, CLONE_PIDFD, NULL, pidfd, NULL, 0);
	if (pid == 0)
		keep(s);
	if (pid > 0)
		keepers[nkeepers++] = pid;
	s->failure.kind = REPORT_KEPT;
	return pid;
}

pid_t fork_sibling(int *pidfd)
{
	pid_t pid = syscall(SYS_clone, CLONE_PARENT | CLONE_PIDFD | SIGCHLD, NULL, pidfd, NULL, 0);

	if (pid == 0)
		nkeepers = 0; /* not the copy's */
	return pid;
}

int spawn(struct request *r, const int *fds, struct spawned *to)
{
	const int shared = CLONE_VM | CLONE_VFORK | CLONE_PARENT | CLONE_PIDFD | SIGCHLD;
	struct start s;
	int error = EINVAL;

	to->pid = -1;
	to->pidfd = -1;
	to->failure = (struct report){ 0 };
	if (start_read(r, &s) == 0) {
		memcpy(s.fds, fds, sizeof s.fds);
		if (s.flags & SPAWN_AT_ONCE) {
			to->pid = clone(execute_shared, stack + sizeof stack, shared, &s, &to->pidfd, NULL, NULL);
		} else {
			to->pid = fork_sibling(&to->pidfd);
			if (to->pid == 0 && (s.flags & SPAWN_KEEPER))
				keep(&s);
			if (to->pid == 0)
				execute(&s, fds[3]);
		}
		if (to->pid < 0 && errno == EINVAL && fds[3] >= 0)
			to->pid = spawn_child(&s, &to->pidfd);
		else if (to->pid < 0 && errno == EINVAL)
			s.failure.kind = REPORT_KEPT;
		error = errno;
		to->failure.kind = s.failure.kind;
		to->failure.value = s.failure.value;
	}
	free(s.argv);
	free(s.envp);
	errno = error;
	return to->pid < 0 ? -1 : 0;
}
