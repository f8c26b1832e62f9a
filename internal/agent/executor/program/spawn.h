#ifndef SPAWN_H
#define SPAWN_H

#include <sys/types.h>

#include "request.h"

/* A command that is to be started, with what a child needs in place. */
struct start {
	uint32_t flags;
	const char *name, *dir;
	char **argv, **envp;
	uid_t uid;
	gid_t gid;
	size_t ngroups;
	const gid_t *groups;
	int fds[SPAWN_FDS];

	struct report failure; /* of a child that shares our memory */
};

/* What came of it: our name of the child, and its pidfd or -1. */
struct spawned {
	pid_t pid;
	int pidfd;
	struct report failure; /* kind 0 for none, or none so far */
};

/*
 * Starts a program as a fork of this process would: with its credentials,
 * namespaces, limits, umask and directory. The child is one of our parent, the
 * agent, which reaps it. protocol.h has the request. The result is 0, or -1 with
 * errno when there is no child; a child that could not execute its program is to
 * be reaped all the same.
 */
int spawn(struct request *r, const int *fds, struct spawned *to);

/* Becomes the command. Where that fails, says so on the report, or in s when that
 * is -1, and ends. */
int execute(struct start *s, int report);

/* Starts the command as a child of this process, a fork, and stays beside it:
 * see keeper.c. */
void keep(struct start *s) __attribute__((noreturn));

/* Reaps the keepers that are children of ours and have ended. */
void reap_keepers(void);

/* Makes this process a child of our parent that goes on as a copy of us, with a
 * link of its own. Returns like fork. */
pid_t fork_sibling(int *pidfd);

/* Takes over what decides how commands start from a process: namespaces,
 * directories, credentials, limits. proc is the root of a procfs. Returns 0, or
 * -1 with errno. */
int adopt(int proc, pid_t pid);

#endif
