// The confinement of a program that reads what others wrote, see confine.go. Under
// CONFINE_NAME this program gives up what it may do, and becomes another one:
//
//	CONFINE_NAME UID GID PATH ARGV0 [ARG...]
//
// A UID of -1 leaves user and groups as they are. LISTEN_PID is set to the process id
// where LISTEN_FDS is set, as sd_listen_fds(3) wants it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#define X32_BIT 0x40000000
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

static void fail(const char *what) {
	dprintf(2, "confinement: %s: %s\n", what, strerror(errno));
	_exit(127);
}

#ifdef ARCH

// Refused system calls fail with EPERM. They are those that reach beyond the files
// and sockets that the program has been given: other programs and processes, users,
// priorities, namespaces, mounts, the kernel itself.
static const int refused[] = {
	SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp, SYS_pidfd_open, SYS_pidfd_getfd,
	SYS_pidfd_send_signal, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_tkill,
	SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setfsuid,
	SYS_setfsgid, SYS_setgroups, SYS_capset, SYS_setsid, SYS_setpgid,
	SYS_setpriority, SYS_sched_setparam, SYS_sched_setscheduler, SYS_sched_setattr, SYS_sched_setaffinity,
	SYS_ioprio_set, SYS_mbind, SYS_set_mempolicy, SYS_migrate_pages, SYS_move_pages, SYS_setrlimit,
	SYS_unshare, SYS_setns, SYS_chroot, SYS_pivot_root, SYS_mount, SYS_umount2, SYS_open_tree, SYS_move_mount,
	SYS_fsopen, SYS_fsmount, SYS_fsconfig, SYS_fspick, SYS_swapon, SYS_swapoff, SYS_quotactl, SYS_acct,
	SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_keyctl, SYS_add_key, SYS_request_key, SYS_syslog,
	SYS_kexec_load, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_reboot, SYS_sethostname,
	SYS_setdomainname, SYS_settimeofday, SYS_clock_settime, SYS_adjtimex, SYS_clock_adjtime, SYS_personality,
	SYS_mknodat, SYS_open_by_handle_at, SYS_name_to_handle_at, SYS_fanotify_init, SYS_lookup_dcookie,
#ifdef __x86_64__
	SYS_fork, SYS_vfork, SYS_mknod, SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_kexec_file_load, SYS_uselib,
	SYS_ustat, SYS_sysfs, SYS__sysctl,
#endif
};

// missing ones fail with ENOSYS, for which there is a substitute: what clone3 is asked
// for cannot be looked at, and io_uring makes calls that no filter sees.
static const int missing[] = {SYS_clone3, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register};

#define MAX_FILTER 512
static struct sock_filter filter[MAX_FILTER];
static int length;

static void add(unsigned code, unsigned char jt, unsigned char jf, unsigned k) {
	if (length == MAX_FILTER) {
		errno = E2BIG;
		fail("filter");
	}
	filter[length++] = (struct sock_filter){code, jt, jf, k};
}

static void load(size_t offset) { add(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset); }
static void unless(unsigned value, unsigned char skip) { add(BPF_JMP | BPF_JEQ | BPF_K, 0, skip, value); }
static void answer(unsigned action) { add(BPF_RET | BPF_K, 0, 0, action); }

#define NUMBER offsetof(struct seccomp_data, nr)
#define LOW(i) (offsetof(struct seccomp_data, args) + 8 * (i)) // of an argument, little-endian
#define HIGH(i) (LOW(i) + 4)
#define REFUSE (SECCOMP_RET_ERRNO | EPERM)
#define ABSENT (SECCOMP_RET_ERRNO | ENOSYS)

// make_filter writes the filter. One execve passes it: the one that has the secret in
// its sixth argument, which the kernel ignores and the new program never learns. A script
// must be able to become the program that it is about.
static void make_filter(int script, unsigned secret_high, unsigned secret_low) {
	load(offsetof(struct seccomp_data, arch));
	add(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ARCH);
	answer(SECCOMP_RET_KILL_PROCESS);
	load(NUMBER);
#ifdef X32_BIT
	add(BPF_JMP | BPF_JGE | BPF_K, 0, 1, X32_BIT);
	answer(ABSENT);
#endif
	for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
		unless(missing[i], 1);
		answer(ABSENT);
	}
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		unless(refused[i], 1);
		answer(REFUSE);
	}
	// Threads are allowed, processes are not.
	unless(SYS_clone, 4);
	load(LOW(0));
	add(BPF_JMP | BPF_JSET | BPF_K, 1, 0, CLONE_THREAD);
	answer(REFUSE);
	answer(SECCOMP_RET_ALLOW);
	// Nothing is left to connect to but sockets of this machine's file system.
	unless(SYS_socket, 4);
	load(LOW(0));
	add(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, AF_UNIX);
	answer(REFUSE);
	answer(SECCOMP_RET_ALLOW);
	// A signal may go to the program itself, as abort(3) needs it.
	const int signals[] = {SYS_kill, SYS_tgkill};
	for (int i = 0; i < 2; i++) {
		unless(signals[i], 4);
		load(LOW(0));
		add(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, getpid());
		answer(REFUSE);
		answer(SECCOMP_RET_ALLOW);
	}
	// Limits of other processes can end them.
	unless(SYS_prlimit64, 5);
	load(LOW(0));
	add(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 0); // the program itself
	add(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, getpid());
	answer(REFUSE);
	answer(SECCOMP_RET_ALLOW);
	unless(SYS_execveat, 1);
	answer(REFUSE);
	if (!script) {
		unless(SYS_execve, 6);
		load(HIGH(5));
		unless(secret_high, 3);
		load(LOW(5));
		unless(secret_low, 1);
		answer(SECCOMP_RET_ALLOW);
		answer(REFUSE);
	}
	answer(SECCOMP_RET_ALLOW);
}

// is_script reports whether a program is run by another one.
static int is_script(const char *path) {
	char begin[2] = {0, 0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, begin, sizeof begin) != sizeof begin)
			begin[0] = 0;
		close(fd);
	}
	return begin[0] == '#' && begin[1] == '!';
}

#endif

// bound_capabilities keeps programs from having capabilities after an exec. A process that
// may not call it has none to lose.
static void bound_capabilities(void) {
	for (int cap = 0; cap < 64; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

// drop_capabilities leaves the process without capabilities.
static void drop_capabilities(void) {
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
	if (syscall(SYS_capset, &header, none) != 0)
		fail("capabilities");
}

static void become(long uid, long gid) {
	gid_t group = gid;
	if (setgroups(1, &group) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
		fail("user");
}

static void confine(char **argv) {
	// Who has changed its user gets no signal at its parent's end any more.
	int death = 0;
	prctl(PR_GET_PDEATHSIG, &death);
	pid_t parent = getppid();
	bound_capabilities(); // what a change of the user takes is needed for it
	if (strtol(argv[1], NULL, 10) != -1)
		become(strtol(argv[1], NULL, 10), strtol(argv[2], NULL, 10));
	if (death != 0) {
		prctl(PR_SET_PDEATHSIG, death);
		if (getppid() != parent)
			_exit(127);
	}
	drop_capabilities();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		fail("no_new_privs");
	if (getenv("LISTEN_FDS") != NULL) {
		char pid[16];
		snprintf(pid, sizeof pid, "%d", (int)getpid());
		setenv("LISTEN_PID", pid, 1);
	}
	unsigned secret[2] = {0, 0};
#ifdef ARCH
	if (getrandom(secret, sizeof secret, 0) != sizeof secret)
		fail("random number");
	make_filter(is_script(argv[3]), secret[0], secret[1]);
	const struct sock_fprog program = {length, filter};
	// A container may refuse it: the program is still without capabilities then.
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0 && errno != EINVAL && errno != EPERM)
		fail("filter");
#endif
	unsigned long key = (unsigned long)secret[0] << 32 | secret[1];
	memset(secret, 0, sizeof secret);
	memset(filter, 0, sizeof filter);
	extern char **environ;
	syscall(SYS_execve, argv[3], argv + 4, environ, 0, 0, key);
	fail(argv[3]);
}

__attribute__((constructor)) static void confinement(int argc, char **argv) {
	if (argc >= 5 && strcmp(argv[0], CONFINE_NAME) == 0)
		confine(argv);
}
