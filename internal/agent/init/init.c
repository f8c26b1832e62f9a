/*
 * PID 1 of a guest, under whatever name, until its real init takes over.
 *
 * It starts the agent, which is this program too, and waits for its word on a
 * pipe; see handover.go of package boot for who decides what:
 *
 *   I\0              execute /init
 *   R<dir>\0<init>\0 make <dir> the root and execute <init>; if that is empty, as M
 *   M\0              be the init: reap children, switch off when asked
 *
 * It does no more than must be done by PID 1 itself; mounting, modules and
 * files are the agent's work.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init.h"
#include "start.h"

/* systemd spares processes whose name begins so when it kills the rest. */
#define AGENT_NAME "@provium-agent"
#define AGENT_PIPE 3

static char word[4096];

static void say(const char *what, const char *why)
{
	char line[512] = "provium-agent: ";

	strncat(line, what, 200);
	if (why) {
		strcat(line, ": ");
		strncat(line, why, 200);
	}
	strcat(line, "\n");
	if (write(2, line, strlen(line)) < 0)
		return; /* there is nobody else to tell */
}

/* Descriptors 0 to 2 lead to the console, also where the image lacks it. */
static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	if (fd < 0) {
		mkdir("/dev", 0755);
		mknod("/dev/console", S_IFCHR | 0600, makedev(5, 1));
		fd = open("/dev/console", O_RDWR | O_NOCTTY);
	}
	while (fd >= 0 && fd < 2)
		fd = dup(fd);
	if (fd > 2)
		close(fd);
}

static pid_t fork_agent(int out, char **envp)
{
	const char *name = (const char *)getauxval(AT_EXECFN);
	char started_as[PATH_MAX + 32] = "--init-name=";
	char *argv[] = { AGENT_NAME, "--init-pipe=3", started_as, NULL };
	sigset_t none;
	pid_t pid = fork();
	int self;

	if (pid != 0)
		return pid;
	strncat(started_as, name ? name : "", PATH_MAX);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	self = open_self();
	if (self < 0) {
		say("open the file of this program", strerror(errno));
		_exit(127);
	}
	if (out != AGENT_PIPE)
		dup2(out, AGENT_PIPE);
	else
		fcntl(out, F_SETFD, 0);
	continue_in_memory(self, argv, envp);
	syscall(SYS_execveat, self, "", argv, envp, AT_EMPTY_PATH);
	say("execute the agent", strerror(errno));
	_exit(127);
}

/* The agent's word, or 0 when it died without one. */
static size_t read_word(int in)
{
	size_t have = 0;
	int want = 1;

	while (have < sizeof word) {
		ssize_t n = read(in, word + have, sizeof word - have);
		size_t i, nuls = 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		have += n;
		if (word[0] == 'R')
			want = 2;
		for (i = 0; i < have; i++)
			nuls += word[i] == 0;
		if (nuls >= (size_t)want)
			return have;
	}
	return 0;
}

static void become(char *path, char **argv, char **envp)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	argv[0] = path;
	execve(path, argv, envp);
	say(path, strerror(errno));
}

static void switch_root(const char *dir)
{
	if (chdir(dir) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		say("switch root", strerror(errno));
}

static void leave(int how)
{
	sync();
	reboot(how);
	say("reboot", strerror(errno));
}

static void be_init(pid_t agent, const sigset_t *watched)
{
	reboot(RB_DISABLE_CAD);
	for (;;) {
		int status, sig = sigwaitinfo(watched, NULL);
		pid_t pid;

		switch (sig) {
		case SIGCHLD:
			while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
				/* With 0 it leaves the guest to another agent. */
				if (pid == agent && status != 0)
					say("the agent has ended; this guest cannot be driven any more", NULL);
			break;
		case SIGTERM:
		case SIGINT:
			leave(RB_AUTOBOOT);
			break;
		case SIGUSR1:
			leave(RB_HALT_SYSTEM);
			break;
		case SIGUSR2:
		case SIGPWR:
			leave(RB_POWER_OFF);
			break;
		}
	}
}

int be_pid1(char **argv, char **envp)
{
	sigset_t watched;
	pid_t agent;
	int p[2];

	if (fcntl(2, F_GETFD) < 0)
		open_console();
	/* Signals wait until be_init asks for them, or an init that can. */
	sigfillset(&watched);
	sigprocmask(SIG_SETMASK, &watched, NULL);
	if (pipe2(p, O_CLOEXEC) < 0) {
		say("pipe", strerror(errno));
		return 1;
	}
	lock_program();
	agent = fork_agent(p[1], envp);
	close(p[1]);
	if (agent < 0)
		say("fork", strerror(errno));
	if (read_word(p[0]) == 0) {
		/* /init may be what has executed this program. */
		say("the agent ended before it could serve", NULL);
		word[0] = 'M';
	}
	if (word[0] == 'I')
		become("/init", argv, envp);
	if (word[0] == 'R') {
		char *init = word + strlen(word) + 1;

		switch_root(word + 1);
		if (init[0]) {
			become(init, argv, envp);
			become("/sbin/init", argv, envp);
			become("/bin/init", argv, envp);
			become("/bin/sh", argv, envp);
		}
	}
	close(p[0]);
	be_init(agent, &watched);
	return 1;
}
