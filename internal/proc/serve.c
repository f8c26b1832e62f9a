// The start of a program as root of its own namespace of users, see serve.go. Under SERVE_NAME this program is in that
// namespace, and becomes another one:
//
//	SERVE_NAME PATH ARGV0 [ARG...]
//
// Such a program leaves its supplementary groups, and ends where it cannot. Nobody can in a namespace that a user has
// made, so it is told that it has none: what it may do is what its user may do, groups included.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "serve.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

static void serve(char **argv) {
#ifdef ARCH
	static struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getgroups, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0), // the answer is 0
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
	// Where the kernel refuses it, a user without further groups does without.
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
#endif
	extern char **environ;
	execve(argv[1], argv + 2, environ);
	dprintf(2, "%s: %s\n", argv[1], strerror(errno));
	_exit(127);
}

__attribute__((constructor)) static void serving(int argc, char **argv) {
	if (argc >= 3 && strcmp(argv[0], SERVE_NAME) == 0)
		serve(argv);
}
