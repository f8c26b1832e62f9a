#ifndef SPAWN_H
#define SPAWN_H

#include "request.h"

/*
 * Starts a program with our credentials and namespaces as a child of our
 * parent, the agent, which reaps it. The request's buffers are its name (looked
 * for in PATH of its environment when it has no slash), its arguments, its
 * environment, and its directory ("" is ours): texts that end with a NUL. The
 * result is 0, or -1 with errno; there is a pidfd, which is the caller's, as soon
 * as there is a child.
 */
int spawn(struct request *r, const int *fds, int *pidfd);

#endif
