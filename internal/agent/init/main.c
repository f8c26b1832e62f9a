/*
 * provium-agent: all of Provium that a guest needs, in one static file.
 *
 * The file holds this C program and, at addresses of its own, the agent, a Go
 * program (embed.sh). What a process of it does depends on how it was started:
 *
 *   argv[0] is @provium-executor    makes system calls (../executor/program)
 *   argv[0] is @provium-disturber   interrupts others (disturb.c)
 *   argv[0] is @provium-ticker      meets the host in time (tick.c)
 *   PID 1                           starts the agent, and then an init (init.c)
 *   called dd                       copies bytes (dd.c)
 *   --help                          prints a usage message
 *   --port N                        waits until a signal ends it
 *   everything else                 becomes the agent (start.c)
 *
 * Only the first is not also told by the process ID: an executor may be the
 * first process of a namespace.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../executor/program/executor.h"
#include "dd.h"
#include "disturb.h"
#include "init.h"
#include "start.h"
#include "tick.h"

static const char help[] =
	"Usage: provium-agent [--port N]\n"
	"\n"
	"The part of Provium that runs in a guest. As PID 1, under any name, it prepares\n"
	"the guest and starts its init. Otherwise it serves the test run on the virtio\n"
	"port org.provium.agent, for which it waits.\n"
	"\n"
	"  --port N   serve nothing, and stay alive until a signal\n"
	"  --help     print this text\n";

static int refuse(const char *what, const char *valid)
{
	fprintf(stderr, "provium-agent: `%s`: expected %s\n", what, valid);
	return 2;
}

/* --port N: a process of this program that does nothing. */
static int idle(const char *port)
{
	char *end;

	errno = 0;
	if (port[0] < '0' || port[0] > '9' || strtoul(port, &end, 10) > 0xffffffffUL || *end || errno)
		return refuse(port, "--port N with a number from 0 to 4294967295");
	for (;;)
		pause();
}

int main(int argc, char **argv, char **envp)
{
	const char *name = argc > 0 ? basename(argv[0]) : "";
	int i;

	if (getpid() != 1 && strcmp(name, "dd") == 0)
		return dd(argc, argv, envp);
	prctl(PR_SET_NAME, "provium-agent");
	if (strcmp(name, EXECUTOR_NAME) == 0)
		return run_executor();
	if (strcmp(name, DISTURBER_NAME) == 0)
		return disturb(argc > 1 ? argv[1] : "");
	if (strcmp(name, TICKER_NAME) == 0)
		return tick();
	if (getpid() == 1)
		return be_pid1(argv, envp);
	for (i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return fputs(help, stdout) < 0 || fflush(stdout) < 0;
		if (strcmp(argv[i], "--port") == 0)
			return argv[i + 1] ? idle(argv[i + 1]) : refuse("--port", "--port N");
		if (strncmp(argv[i], "--port=", 7) == 0)
			return idle(argv[i] + 7);
		/* PID 1 passes these to the agent. */
		if (strncmp(argv[i], "--init-", 7) != 0)
			return refuse(argv[i], "--port N or --help");
	}
	return start_agent(argv, envp);
}
