/*
 * Taking over the state of another process, as far as that can be done from
 * outside: an executor whose main thread is busy with a call cannot fork, and
 * commands must start all the same. A fresh executor of the agent does it in its
 * place. Filters of seccomp, keyrings and descriptors stay behind.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "spawn.h"

enum { MAX_GROUPS = 4096, LIMITS = 16, LAST_SIGNAL = 64 };

/* Lines of /proc/PID/status, in the order of the numbers that are read from them. */
enum { UMASK, UID, GID, INHERITABLE, PERMITTED, EFFECTIVE, BOUNDING, AMBIENT, BLOCKED, IGNORED, NO_NEW_PRIVS, LINES };

static const struct {
	const char *name;
	int base;
} lines[LINES] = {
	[UMASK] = { "\nUmask:", 8 },       [UID] = { "\nUid:", 10 },
	[GID] = { "\nGid:", 10 },          [INHERITABLE] = { "\nCapInh:", 16 },
	[PERMITTED] = { "\nCapPrm:", 16 }, [EFFECTIVE] = { "\nCapEff:", 16 },
	[BOUNDING] = { "\nCapBnd:", 16 },  [AMBIENT] = { "\nCapAmb:", 16 },
	[BLOCKED] = { "\nSigBlk:", 16 },   [IGNORED] = { "\nSigIgn:", 16 },
	[NO_NEW_PRIVS] = { "\nNoNewPrivs:", 10 },
};

struct status {
	uint64_t number[LINES][4]; /* real, effective, saved and for files where there are several */
	gid_t groups[MAX_GROUPS];
	size_t ngroups;
};

/* Appends a text to one of the given size. */
static void join(char *to, size_t size, const char *more)
{
	strncat(to, more, size - strlen(to) - 1);
}

static void name_of(char *to, size_t size, pid_t pid, const char *what)
{
	char digits[16], *d = digits + sizeof digits;

	*--d = 0;
	do
		*--d = '0' + pid % 10;
	while ((pid /= 10) > 0);
	*to = 0;
	join(to, size, d);
	join(to, size, "/");
	join(to, size, what);
}

static int open_of(int proc, pid_t pid, const char *what, int flags)
{
	char path[64];

	name_of(path, sizeof path, pid, what);
	return openat(proc, path, flags | O_CLOEXEC);
}

static int read_status(int proc, pid_t pid, struct status *s)
{
	static char text[64 << 10];
	int fd = open_of(proc, pid, "status", O_RDONLY);
	size_t have = 0, i, k;
	ssize_t n = 0;
	char *at, *end;

	if (fd < 0)
		return -1;
	while (have < sizeof text - 1 && (n = read(fd, text + have, sizeof text - 1 - have)) > 0)
		have += n;
	close(fd);
	if (n < 0)
		return -1;
	text[have] = 0;
	memset(s, 0, sizeof *s);
	for (i = 0; i < LINES; i++) {
		at = strstr(text, lines[i].name);
		if (!at) {
			errno = EPROTO; /* a kernel before 4.10 */
			return -1;
		}
		at += strlen(lines[i].name);
		for (k = 0; k < (i == UID || i == GID ? 4 : 1); k++)
			s->number[i][k] = strtoull(at, &at, lines[i].base);
	}
	at = strstr(text, "\nGroups:");
	for (at = at ? at + 8 : text + have; s->ngroups < MAX_GROUPS && *at != '\n'; at = end) {
		s->groups[s->ngroups] = strtoul(at, &end, 10);
		if (end == at)
			break;
		s->ngroups++;
		while (*end == ' ')
			end++;
	}
	return 0;
}

/* Returns a descriptor of a namespace that is not ours, -1 where it is, or where the
 * kernel has none of its kind, and -2 after a failure. */
static int foreign_namespace(int proc, pid_t pid, const char *name)
{
	char path[32] = "ns/";
	struct stat theirs, ours;
	int fd, own;

	join(path, sizeof path, name);
	own = open_of(proc, syscall(SYS_getpid), path, O_RDONLY);
	if (own < 0)
		return errno == ENOENT ? -1 : -2;
	/* One in which nothing lives yet cannot be entered. */
	fd = open_of(proc, pid, path, O_RDONLY);
	if (fd >= 0 && fstat(fd, &theirs) == 0 && fstat(own, &ours) == 0 && theirs.st_ino == ours.st_ino) {
		close(fd);
		fd = -1;
	} else if (fd < 0) {
		fd = -2;
	}
	close(own);
	return fd;
}

static int enter(int fd)
{
	int ret = fd == -2 ? -1 : fd >= 0 ? setns(fd, 0) : 0;

	if (fd >= 0)
		close(fd);
	return ret;
}

/* Limits, priority and processors; where that is not permitted they stay ours. */
static void take_limits(pid_t pid)
{
	cpu_set_t cpus;
	int i, nice;

	for (i = 0; i < LIMITS; i++) {
		struct rlimit64 limit;

		if (prlimit64(pid, i, NULL, &limit) == 0)
			prlimit64(0, i, &limit, NULL);
	}
	errno = 0;
	nice = getpriority(PRIO_PROCESS, pid);
	if (errno == 0)
		setpriority(PRIO_PROCESS, 0, nice);
	if (sched_getaffinity(pid, sizeof cpus, &cpus) == 0)
		sched_setaffinity(0, sizeof cpus, &cpus);
}

static int set_capabilities(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ effective, permitted, inheritable },
		{ effective >> 32, permitted >> 32, inheritable >> 32 },
	};

	return syscall(SYS_capset, &head, data);
}

static uint64_t permitted_now(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { 0 } };

	return syscall(SYS_capget, &head, data) < 0 ? 0 : data[0].permitted | (uint64_t)data[1].permitted << 32;
}

/* The user namespace comes before the capabilities, which are those in it. */
static int take_credentials(const struct status *s, int user_namespace)
{
	uint64_t all;
	int i;

	for (i = 0; i < 64; i++)
		if (!(s->number[BOUNDING][0] >> i & 1) && prctl(PR_CAPBSET_READ, i) == 1)
			prctl(PR_CAPBSET_DROP, i);
	prctl(PR_SET_KEEPCAPS, 1);
	if (syscall(SYS_setgroups, s->ngroups, s->groups) < 0 ||
	    syscall(SYS_setresgid, s->number[GID][0], s->number[GID][1], s->number[GID][2]) < 0 ||
	    syscall(SYS_setresuid, s->number[UID][0], s->number[UID][1], s->number[UID][2]) < 0)
		return -1;
	all = permitted_now();
	if (set_capabilities(all, all, 0) < 0 || enter(user_namespace) < 0)
		return -1;
	all = permitted_now();
	if (set_capabilities(s->number[EFFECTIVE][0] & all, s->number[PERMITTED][0] & all,
	                     s->number[INHERITABLE][0] & all) < 0)
		return -1;
	for (i = 0; i < 64; i++)
		if (s->number[AMBIENT][0] >> i & 1)
			prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0);
	prctl(PR_SET_KEEPCAPS, 0);
	return s->number[NO_NEW_PRIVS][0] ? prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) : 0;
}

static void take_signals(const struct status *s)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	int sig;

	for (sig = 1; sig <= LAST_SIGNAL; sig++)
		if (s->number[IGNORED][0] >> (sig - 1) & 1)
			sigaction(sig, &ignore, NULL);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &s->number[BLOCKED][0], NULL, sizeof s->number[BLOCKED][0]);
}

int adopt(int proc, pid_t pid)
{
	static const char *const kinds[] = { "cgroup", "ipc", "uts", "net", "pid_for_children", "mnt" };
	static struct status s;
	int user, root, cwd, error = 0;
	size_t i;

	user = foreign_namespace(proc, pid, "user");
	root = open_of(proc, pid, "root", O_PATH | O_DIRECTORY);
	cwd = open_of(proc, pid, "cwd", O_PATH | O_DIRECTORY);
	if (user == -2 || root < 0 || cwd < 0 || read_status(proc, pid, &s) < 0)
		error = errno;
	if (!error)
		take_limits(pid);
	for (i = 0; !error && i < sizeof kinds / sizeof kinds[0]; i++)
		if (enter(foreign_namespace(proc, pid, kinds[i])) < 0)
			error = errno;
	if (!error && (fchdir(root) < 0 || chroot(".") < 0 || fchdir(cwd) < 0))
		error = errno;
	if (!error && take_credentials(&s, user) < 0)
		error = errno;
	close(root);
	close(cwd);
	if (error) {
		errno = error;
		return -1;
	}
	umask(s.number[UMASK][0]);
	take_signals(&s);
	return 0;
}
