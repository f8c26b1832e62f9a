// The keeper: what this program is when it was started under KEEPER_NAME, see
// keeper.go. It starts one program and ends with it, and then nothing that the
// program has left behind runs any more.
//
//	KEEPER_NAME PATH ARGV0 [ARG...]
//
// SIGTERM has it end all at once, SIGINT and SIGHUP are passed on to the program.
//
// It is a constructor, so that no Go runtime starts: a keeper costs about what
// the exec of a small program costs, and it must be single-threaded.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "keeper.h"

#define MAX_PID (1 << 22) // of Linux
#define MAX_PROCESSES (1 << 16)

// END_LIMIT is how many milliseconds the keeper tries to end what is left: it may
// not be allowed to (a program that changed its user), and must not stay itself.
#define END_LIMIT 5000

static struct { pid_t pid, parent; } processes[MAX_PROCESSES];
static unsigned char ours[MAX_PID / 8]; // by pid: a descendant

static int is_ours(pid_t pid) { return pid > 0 && pid < MAX_PID && ours[pid / 8] >> pid % 8 & 1; }

static void set_ours(pid_t pid) {
	if (pid > 0 && pid < MAX_PID)
		ours[pid / 8] |= 1 << pid % 8;
}

// parent_of returns the parent of a process, 0 when it is gone.
static pid_t parent_of(pid_t pid) {
	char path[32], text[512];
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	char *end = strrchr(text, ')'); // of the name, which may contain any
	int parent = 0;
	if (end == NULL || sscanf(end + 1, " %*c %d", &parent) != 1)
		return 0;
	return parent;
}

// find_descendants marks in ours all processes below the keeper. It returns how
// many entries of processes it has filled.
static int find_descendants(void) {
	int n = 0;
	DIR *d = opendir("/proc");
	if (d == NULL)
		return 0;
	for (struct dirent *e; (e = readdir(d)) != NULL && n < MAX_PROCESSES;) {
		char *end;
		long pid = strtol(e->d_name, &end, 10);
		if (pid <= 0 || *end != 0)
			continue;
		pid_t parent = parent_of(pid);
		if (parent != 0) {
			processes[n].pid = pid;
			processes[n++].parent = parent;
		}
	}
	closedir(d);
	memset(ours, 0, sizeof ours);
	set_ours(getpid());
	for (int more = 1; more;) {
		more = 0;
		for (int i = 0; i < n; i++) {
			if (is_ours(processes[i].parent) && !is_ours(processes[i].pid)) {
				set_ours(processes[i].pid);
				more = 1;
			}
		}
	}
	return n;
}

// kill_descendant kills a process that was found below the keeper. The number may
// belong to another one by now, so it is looked at again while a pidfd holds it.
static void kill_descendant(pid_t pid) {
	int fd = syscall(SYS_pidfd_open, pid, 0);
	if (fd >= 0) {
		if (is_ours(parent_of(pid)))
			syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
		close(fd);
	} else if (errno == ENOSYS) {
		kill(pid, SIGKILL);
	}
}

// end_descendants kills all that is left below the keeper, and reaps it: what lost
// its parent has become the keeper's child.
static void end_descendants(void) {
	const struct timespec pause = {0, 1000000};
	for (int ms = 0; ms < END_LIMIT; ms++) {
		for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG)) != 0;) {
			if (pid < 0 && errno == ECHILD)
				return;
		}
		int n = find_descendants();
		for (int i = 0; i < n; i++) {
			if (is_ours(processes[i].pid) && processes[i].pid != getpid())
				kill_descendant(processes[i].pid);
		}
		nanosleep(&pause, NULL);
	}
}

// end_as ends the keeper as the program ended.
static void end_as(int status) {
	if (WIFEXITED(status))
		_exit(WEXITSTATUS(status));
	int number = WTERMSIG(status);
	const struct rlimit no_core = {0, 0};
	setrlimit(RLIMIT_CORE, &no_core);
	signal(number, SIG_DFL);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, number);
	kill(getpid(), number);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	_exit(128 + number);
}

static void run_program(char **argv, pid_t keeper, const sigset_t *mask) {
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != keeper)
		_exit(127);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execv(argv[1], argv + 2);
	dprintf(2, "exec %s: %s\n", argv[1], strerror(errno));
	_exit(127);
}

static void close_all(void) {
	if (syscall(SYS_close_range, 0, UINT_MAX, 0) == 0)
		return;
	long max = sysconf(_SC_OPEN_MAX);
	for (int fd = 0; fd < (max > 0 && max < 65536 ? max : 65536); fd++)
		close(fd);
}

static void keep(char **argv) {
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_NAME, KEEPER_NAME);
	sigset_t all, before;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid_t keeper = getpid();
	pid_t program = fork();
	if (program == 0)
		run_program(argv, keeper, &before);
	if (program < 0) {
		dprintf(2, "fork: %s\n", strerror(errno));
		_exit(127);
	}
	// Who waits for the end of the program's output must not wait for the keeper.
	close_all();
	if (chdir("/") != 0) {
		// It holds a directory; that is all.
	}
	sigset_t awaited;
	sigemptyset(&awaited);
	sigaddset(&awaited, SIGCHLD);
	sigaddset(&awaited, SIGTERM); // our parent is gone, or wants this to end
	sigaddset(&awaited, SIGINT);
	sigaddset(&awaited, SIGHUP);
	int status = SIGKILL;
	for (int over = 0; !over;) {
		int number = sigwaitinfo(&awaited, NULL);
		if (number == SIGTERM) {
			kill(-program, SIGKILL);
			break;
		}
		if (number == SIGINT || number == SIGHUP)
			kill(program, number); // it was not reaped yet
		if (number != SIGCHLD)
			continue;
		siginfo_t info = {0};
		while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0) {
			// The program's group can be killed as long as the program is not reaped: then its
			// number may be another one's. That works even where processes cannot be listed.
			if (info.si_pid == program)
				kill(-program, SIGKILL);
			int s;
			waitpid(info.si_pid, &s, 0);
			if (info.si_pid == program) {
				status = s;
				over = 1;
			}
			info.si_pid = 0;
		}
	}
	end_descendants();
	end_as(status);
}

__attribute__((constructor)) static void keeper(int argc, char **argv) {
	if (argc >= 3 && strcmp(argv[0], KEEPER_NAME) == 0)
		keep(argv);
}
