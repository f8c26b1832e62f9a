/*
 * The agent must not depend on a disk: tests let disks fail, and a page of a
 * program that cannot be read again kills it. So a program that stands on one
 * continues from a copy in memory: a memfd, or a file in /run where the kernel
 * does not execute memfds (vm.memfd_noexec, IMA). One that is in memory, as in an
 * initramfs, needs no second copy.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/magic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "start.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif

/* Of the linker script (embed.sh). A program without the agent has none. */
extern char agent_entry[] __attribute__((weak));
extern char program_end[] __attribute__((weak));

/* enter-*.S: frees the memory of this program and jumps to the agent. */
__attribute__((weak, noreturn)) void enter_agent(void *stack);

int open_self(void)
{
	const char *path = (const char *)getauxval(AT_EXECFN);
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	/* PID 1 may be there before /proc is. */
	if (fd < 0 && path && path[0] == '/')
		fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd;
}

static int in_memory(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

/* Copies the whole file; what follows the program in it may be a signature. */
static int copy(int to, int from)
{
	off_t at = 0;
	ssize_t n;

	do
		n = sendfile(to, from, &at, 1 << 30);
	while (n > 0 || (n < 0 && errno == EINTR));
	return n < 0 ? -1 : 0;
}

static void execute(int fd, char **argv, char **envp)
{
	syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH);
}

/* Returns only if that fails, with errno. */
static void run_from_memfd(int self, char **argv, char **envp)
{
	int fd = memfd_create("provium-agent", MFD_CLOEXEC | MFD_EXEC), error;

	if (fd < 0 && errno == EINVAL) /* a kernel before 6.3 */
		fd = memfd_create("provium-agent", MFD_CLOEXEC);
	if (fd < 0)
		return;
	if (copy(fd, self) == 0)
		execute(fd, argv, envp);
	error = errno;
	close(fd);
	errno = error;
}

/* Likewise. The file has lost its name when the program runs. */
static void run_from_run(int self, char **argv, char **envp)
{
	char path[] = "/run/provium-agent.XXXXXX";
	int out = mkostemp(path, O_CLOEXEC), fd, error;

	if (out < 0)
		return;
	if (!in_memory(out)) {
		errno = EXDEV;
		goto fail;
	}
	if (copy(out, self) < 0 || fchmod(out, 0700) < 0)
		goto fail;
	/* What is open for writing is not executed. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	close(out);
	out = fd;
	unlink(path);
	if (fd >= 0)
		execute(fd, argv, envp);
fail:
	error = errno;
	unlink(path);
	if (out >= 0)
		close(out);
	errno = error;
}

void continue_in_memory(int self, char **argv, char **envp)
{
	int memfd, run;

	if (in_memory(self))
		return;
	run_from_memfd(self, argv, envp);
	memfd = errno;
	run_from_run(self, argv, envp);
	run = errno;
	fprintf(stderr, "provium-agent: cannot run from memory: memfd: %s; file in /run: %s\n"
		"provium-agent: it runs from its file instead, and dies when the disk under that fails\n",
		strerror(memfd), run == EXDEV ? "/run is not in memory" : strerror(run));
}

void lock_program(void)
{
	const ElfW(Phdr) *p = (const void *)getauxval(AT_PHDR);
	unsigned long n = getauxval(AT_PHNUM);
	int self = open_self();

	for (; agent_entry && self >= 0 && !in_memory(self) && n > 0; n--, p++)
		if (p->p_type == PT_LOAD && (char *)p->p_vaddr < program_end)
			mlock((void *)p->p_vaddr, p->p_memsz);
	if (self >= 0)
		close(self);
}

int start_agent(char **argv, char **envp)
{
	int self;

	if (!agent_entry) {
		fprintf(stderr, "provium-agent: it was built without the agent\n");
		return 1;
	}
	/* Before there is a /proc, PID 1 has seen to it. */
	self = open_self();
	if (self >= 0) {
		continue_in_memory(self, argv, envp);
		close(self);
	}
	fflush(NULL);
	enter_agent((long *)argv - 1); /* where the kernel has put argc */
}
