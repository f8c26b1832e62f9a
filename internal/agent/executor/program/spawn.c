#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "spawn.h"

/* The texts of a buffer as an array that ends with NULL. */
static char **texts(char *buf, size_t len)
{
	size_t n = 0, i;
	char **v;

	if (len > 0 && buf[len - 1] != 0)
		return NULL;
	for (i = 0; i < len; i++)
		n += buf[i] == 0;
	v = calloc(n + 1, sizeof *v);
	for (i = 0, n = 0; v && i < len; i += strlen(buf + i) + 1)
		v[n++] = buf + i;
	return v;
}

static void execute(const char *name, char **argv, char **envp)
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

static void child(struct request *r, const int *fds, char **argv, char **envp, int report)
{
	int i, error;

	setsid();
	for (i = 0; i < SPAWN_FDS; i++)
		if (fds[i] < 0 || dup2(fds[i], i) < 0)
			goto fail;
	if (r->bufs[3][0] && chdir(r->bufs[3]) < 0)
		goto fail;
	execute(r->bufs[0], argv, envp);
fail:
	error = errno;
	if (write(report, &error, sizeof error) < 0)
		_exit(126);
	_exit(127);
}

int spawn(struct request *r, const int *fds, int *pidfd)
{
	char **argv, **envp;
	int report[2], error = 0;
	long pid;
	ssize_t n;

	if (r->lens[0] == 0 || r->bufs[0][r->lens[0] - 1] || r->lens[3] == 0 || r->bufs[3][r->lens[3] - 1]) {
		errno = EINVAL;
		return -1;
	}
	argv = texts(r->bufs[1], r->lens[1]);
	envp = texts(r->bufs[2], r->lens[2]);
	if (!argv || !envp || pipe2(report, O_CLOEXEC) < 0) {
		error = argv && envp ? errno : EINVAL;
		free(argv);
		free(envp);
		errno = error;
		return -1;
	}
	pid = syscall(SYS_clone, CLONE_PARENT | CLONE_PIDFD | SIGCHLD, NULL, pidfd, NULL, 0);
	if (pid == 0)
		child(r, fds, argv, envp, report[1]);
	if (pid < 0) {
		error = errno;
		*pidfd = -1;
	}
	close(report[1]);
	if (pid > 0) {
		do
			n = read(report[0], &error, sizeof error);
		while (n < 0 && errno == EINTR);
		if (n != sizeof error)
			error = 0;
	}
	close(report[0]);
	free(argv);
	free(envp);
	if (!error)
		return 0;
	errno = error;
	return -1;
}
