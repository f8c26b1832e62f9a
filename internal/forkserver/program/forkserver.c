/*
 * A library that makes a program a fork server of itself.
 *
 * It is preloaded into QEMU. Where the program's main function would be called, it waits
 * for requests on a socket, and forks a copy for each, which calls main with the
 * arguments and files of the request. The protocol is described in ../server.go.
 *
 * Other programs that run on the way, e.g. the shell of a wrapper script, are left alone.
 */
#define _GNU_SOURCE
#include "forkserver.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LIBRARY_FILE = 3 };

static const char marker[] = "provium-fork-server";
static const char variable[] = "PROVIUM_FORK_SERVER";

typedef int main_function(int, char **, char **);

static main_function *program_main;

static int sock;

static struct request request;

/* What process lists show as the arguments. */
static char *title, *title_end;

void report(int sock, int kind, int pid, int status, int pidfd)
{
	int32_t r[3] = { kind, pid, status };
	struct iovec iov = { r, sizeof r };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof pidfd)];
	} control = { 0 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (pidfd >= 0) {
		m.msg_control = &control;
		m.msg_controllen = sizeof control.space;
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof pidfd);
		memcpy(CMSG_DATA(c), &pidfd, sizeof pidfd);
	}
	while (sendmsg(sock, &m, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			_exit(0); /* nobody is there */
}

int receive(int sock, struct request *r)
{
	struct iovec iov = { r->text, MAX_REQUEST };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof r->files)];
	} control;
	struct msghdr m;
	do {
		m = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			.msg_controllen = sizeof control.space };
		r->length = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	} while (r->length < 0 && errno == EINTR);
	if (r->length <= 0)
		return 0;
	r->text[r->length] = 0;
	r->files_lost = (m.msg_flags & MSG_CTRUNC) != 0;
	r->file_count = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		r->file_count = (c->cmsg_len - CMSG_LEN(0)) / sizeof *r->files;
		memcpy(r->files, CMSG_DATA(c), r->file_count * sizeof *r->files);
	}
	return 1;
}

void set_title(int argc, char **argv)
{
	char *t = title;
	memset(title, 0, title_end - title);
	for (int i = 0; i < argc && t < title_end - 1; i++) {
		size_t n = strlen(argv[i]), room = title_end - 1 - t;
		if (n > room)
			n = room;
		memcpy(t, argv[i], n);
		t += n + 1;
	}
}

static void *must(void *p)
{
	if (!p)
		_exit(127);
	return p;
}

/*
 * Kernels. QEMU reads all of a Linux kernel, up to QEMU 9 all but its first sectors, into
 * memory of its own, for a boot that a restored guest never makes. The server keeps a copy of
 * the file, and the buffer that QEMU asks for lies in a private mapping of that.
 */
enum { MAX_KERNELS = 4, PAGE = 4096, SLACK = 64 << 10 };

struct kernel {
	struct stat of; /* the file that it is a copy of */
	int copy;       /* -1: not of the kind that is read like this */
	off_t setup;    /* bytes of the first sectors */
};

static struct kernel kernels[MAX_KERNELS];
static int kernel_count, kernel_next;

static struct {
	struct kernel *of;
	char *base; /* the mapping; NULL without one */
	size_t size;
	char *at; /* the buffer in it; NULL until it is asked for */
	size_t length;
} mapped;

static int same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
		a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
		a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* copy_kernel returns a copy of an open kernel that cannot be changed, -1 without one. */
static int copy_kernel(int fd, const struct stat *st, off_t *setup)
{
	enum { SECTORS_AT = 0x1f1, MAGIC_AT = 0x202, HEADER = MAGIC_AT + 4, SECTOR = 512 };
	unsigned char header[HEADER];
	struct stat after;
	if (pread(fd, header, sizeof header, 0) != HEADER || memcmp(header + MAGIC_AT, "HdrS", 4))
		return -1;
	int sectors = header[SECTORS_AT] ? header[SECTORS_AT] : 4;
	*setup = (sectors + 1) * SECTOR;
	if (st->st_size <= *setup)
		return -1;
	int copy = memfd_create("kernel", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (copy < 0)
		return -1;
	off_t at = 0;
	while (at < st->st_size && sendfile(copy, fd, &at, st->st_size - at) > 0)
		;
	if (at == st->st_size && fstat(fd, &after) == 0 && same_file(st, &after) &&
	    fcntl(copy, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) == 0)
		return copy;
	close(copy);
	return -1;
}

/* find_kernel returns the kernel of the request, NULL without one. */
static struct kernel *find_kernel(void)
{
	const char *p = request.text, *end = request.text + request.length;
	while (p < end && strcmp(p, "-kernel"))
		p += strlen(p) + 1;
	p += sizeof "-kernel";
	if (p >= end)
		return NULL;
	int fd = open(p, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0) {
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	struct kernel *k = NULL;
	for (int i = 0; i < kernel_count && !k; i++)
		if (same_file(&kernels[i].of, &st))
			k = &kernels[i];
	if (!k) {
		k = &kernels[kernel_next];
		if (kernel_next < kernel_count && k->copy >= 0)
			close(k->copy);
		kernel_next = (kernel_next + 1) % MAX_KERNELS;
		if (kernel_count < MAX_KERNELS)
			kernel_count++;
		k->of = st;
		k->copy = copy_kernel(fd, &st, &k->setup);
	}
	close(fd);
	return k->copy < 0 ? NULL : k;
}

/* map_kernel makes the mapping, with room behind it. */
static void map_kernel(struct kernel *k)
{
	size_t size = k->of.st_size, whole = (size + SLACK + PAGE - 1) / PAGE * PAGE;
	char *base = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		return;
	if (mmap(base, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, k->copy, 0) == MAP_FAILED)
		_exit(127);
	mapped.of = k;
	mapped.base = base;
	mapped.size = whole;
}

typedef void *malloc_function(size_t), *realloc_function(void *, size_t);
typedef void free_function(void *);
typedef size_t read_function(void *, size_t, size_t, FILE *);

static malloc_function *next_malloc;
static realloc_function *next_realloc;
static free_function *next_free;
static read_function *next_fread;

/* next returns the function of a name that this library has replaced, in any program. */
static void *next(const char *name)
{
	return must(dlsym(RTLD_NEXT, name));
}

void *g_malloc(size_t n)
{
	if (mapped.base && !mapped.at) {
		size_t size = mapped.of->of.st_size, rest = size - mapped.of->setup;
		if (n == size || n == rest) {
			mapped.at = mapped.base + size - n;
			mapped.length = n;
			return mapped.at;
		}
	}
	if (!next_malloc)
		next_malloc = (malloc_function *)next("g_malloc");
	return next_malloc(n);
}

void *g_realloc(void *p, size_t n)
{
	if (!next_realloc)
		next_realloc = (realloc_function *)next("g_realloc");
	if (!p || p != mapped.at)
		return next_realloc(p, n);
	size_t room = mapped.base + mapped.size - mapped.at;
	if (n <= room)
		return p;
	void *other = g_malloc(n);
	memcpy(other, p, room);
	return other;
}

void g_free(void *p)
{
	if (!next_free)
		next_free = (free_function *)next("g_free");
	if (!p || p != mapped.at)
		next_free(p);
}

size_t fread(void *p, size_t size, size_t n, FILE *f)
{
	struct stat st;
	if (p && p == mapped.at && size * n == mapped.length && ftell(f) == mapped.at - mapped.base &&
	    fstat(fileno(f), &st) == 0 && same_file(&st, &mapped.of->of) && fseek(f, 0, SEEK_END) == 0)
		return n; /* it is there */
	if (!next_fread)
		next_fread = (read_function *)next("fread");
	return next_fread(p, size, n, f);
}

/*
 * The heap. QEMU fills some 15 MiB while it makes a machine, most of which is garbage soon
 * after. A fault for each page of that costs a third of the start, so the heap is grown once,
 * with huge pages where there are some. QEMU gives back what is free whenever it has collected
 * its garbage, in another thread, which takes a tenth of the start again. Here that is done
 * once, a while after the start: many guests of tests do not live that long.
 */
enum { HEAP = 16 << 20, HUGE_PAGE = 2 << 20, SMALL = 64 << 10, MAX_SMALL = 1024 };

enum { TRIM_AFTER_MS = 500, TRIM_PAD = 4 << 20 };

static int main_loop_runs, may_trim;

static void grow_heap(void)
{
	static void *all[MAX_SMALL];
	char *before = sbrk(0), *after = before;
	int count = 0;
	mallopt(M_TOP_PAD, HEAP);
	mallopt(M_TRIM_THRESHOLD, 2 * HEAP);
	while (after == before && count < MAX_SMALL) {
		all[count++] = malloc(SMALL); /* from what is left at first */
		after = sbrk(0);
	}
	uintptr_t from = ((uintptr_t)before + PAGE - 1) & -(uintptr_t)PAGE, to = (uintptr_t)after & -(uintptr_t)PAGE;
	uintptr_t huge = ((uintptr_t)before + HUGE_PAGE - 1) & -(uintptr_t)HUGE_PAGE;
	if (huge < to)
		madvise((void *)huge, to - huge, MADV_HUGEPAGE);
	if (from < to)
		madvise((void *)from, to - from, MADV_POPULATE_WRITE);
	while (count)
		free(all[--count]);
}

typedef int trim_function(size_t);

int malloc_trim(size_t pad)
{
	static trim_function *next_trim;
	if (!next_trim)
		next_trim = (trim_function *)next("malloc_trim");
	return __atomic_load_n(&may_trim, __ATOMIC_RELAXED) ? next_trim(pad) : 0;
}

static void *trim_later(void *unused)
{
	struct timespec wait = { .tv_nsec = TRIM_AFTER_MS * 1000000L };
	while (nanosleep(&wait, &wait) < 0 && errno == EINTR)
		;
	if (is_copy()) /* which shares what would be given back */
		return unused;
	__atomic_store_n(&may_trim, 1, __ATOMIC_RELAXED);
	malloc_trim(TRIM_PAD);
	return unused;
}

/* QEMU's main loop begins with ppoll. */
int ppoll(struct pollfd *p, nfds_t n, const struct timespec *limit, const sigset_t *mask)
{
	if (!main_loop_runs) {
		pthread_t thread;
		pthread_attr_t detached;
		sigset_t all, before;
		main_loop_runs = 1;
		sigfillset(&all);
		sigdelset(&all, HOLD_SIGNAL);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		if (pthread_attr_init(&detached) || pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED) ||
		    pthread_create(&thread, &detached, trim_later, NULL))
			may_trim = 1;
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	return poll_hold(p, n, limit, mask);
}

/*
 * become makes a forked copy the process that was asked for. The first arguments are
 * those that a wrapper script has added.
 */
static void become(int first, char **argv, char **envp, pid_t server, struct kernel *kernel)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != server)
		_exit(127);
	for (int i = 0; i < request.file_count; i++) { /* out of the way of the numbers that they get */
		request.files[i] = fcntl(request.files[i], F_DUPFD_CLOEXEC, MAX_FILES);
		if (request.files[i] < 0)
			_exit(127);
	}
	for (int i = 0; i < request.file_count; i++)
		if (dup2(request.files[i], i) < 0)
			_exit(127);
	if (kernel)
		map_kernel(kernel);
	grow_heap();
	close_range(request.file_count, ~0U, 0);
	int last = request.file_count - 1;
	fcntl(last, F_SETFD, FD_CLOEXEC);
	serve_holds(last);

	char *copy = must(malloc(request.length + 1)), *end = copy + request.length;
	memcpy(copy, request.text, request.length + 1);
	if (chdir(copy) < 0)
		_exit(127);
	int argc = 0, count = first;
	for (char *p = copy; p < end; p += strlen(p) + 1)
		count++;
	char **args = must(calloc(count + 1, sizeof *args));
	for (int i = 0; i < first; i++)
		args[argc++] = must(strdup(argv[i]));
	for (char *p = copy + strlen(copy) + 1; p < end; p += strlen(p) + 1)
		args[argc++] = p;
	set_title(argc, args);
	exit(program_main(argc, args, envp));
}

/* What a server was started with, which its copies are started with, too. */
static struct {
	int first; /* arguments that a wrapper script has added */
	char **argv, **envp;
	pid_t self;
} server;

/* serve_request makes a copy, and returns in the server. */
static void serve_request(void)
{
	if (!receive(sock, &request))
		_exit(0);
	if (!request.text[0]) { /* QEMU's sandbox does not let its copies do that */
		pid_t copy = atoi(request.text + 1);
		setpgid(copy, copy);
		return;
	}
	struct kernel *kernel = request.files_lost ? NULL : find_kernel();
	pid_t child = -1;
	int error = EMFILE;
	if (!request.files_lost) {
		child = fork();
		error = errno;
	}
	if (child == 0)
		become(server.first, server.argv, server.envp, server.self, kernel);
	for (int i = 0; i < request.file_count; i++)
		close(request.files[i]);
	if (child < 0) {
		report(sock, REFUSED, 0, error, -1);
		return;
	}
	int pidfd = syscall(SYS_pidfd_open, child, 0);
	if (pidfd < 0) { /* nobody could end it */
		error = errno;
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		report(sock, REFUSED, 0, error, -1);
		return;
	}
	report(sock, STARTED, child, 0, pidfd);
	close(pidfd);
}

/* serve_requests does all that the server was asked for by now. */
static void serve_requests(void)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	while (poll(&p, 1, 0) > 0)
		serve_request();
}

/*
 * reap ends what the copies that have ended left in their process groups. A copy of a template is in the group of that
 * until it is given its own: it must not be taken for something that the template has left.
 */
static void reap(void)
{
	for (;;) {
		siginfo_t info = { 0 };
		int status;
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
			return;
		serve_requests();
		kill(-info.si_pid, SIGKILL);
		if (waitpid(info.si_pid, &status, 0) == info.si_pid)
			report(sock, ENDED, info.si_pid, status, -1);
	}
}

static void serve(int first, char **argv, char **envp)
{
	sigset_t children;
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	sigprocmask(SIG_BLOCK, &children, NULL);
	int signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		_exit(127);
	server.first = first;
	server.argv = argv;
	server.envp = envp;
	server.self = getpid();
	report(sock, STARTED, server.self, 0, -1);
	struct pollfd p[2] = { { .fd = sock, .events = POLLIN }, { .fd = signals, .events = POLLIN } };
	for (;;) {
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents) {
			struct signalfd_siginfo info;
			while (read(signals, &info, sizeof info) > 0)
				;
			reap();
		}
		serve_requests();
	}
}

/*
 * prepare does what QEMU's main function would do first in each copy, where it can be done
 * ahead, in its order: the module of the emulation is loaded, types are registered, and their
 * classes are made. QEMU does nothing of that twice.
 */
static void prepare(const char *name)
{
	enum { MODULE_INIT_QOM = 3 };
	void (*find_directory)(const char *) = dlsym(RTLD_DEFAULT, "qemu_init_exec_dir");
	void (*find_modules)(void) = dlsym(RTLD_DEFAULT, "qemu_init_arch_modules");
	void (*init)(int) = dlsym(RTLD_DEFAULT, "module_call_init");
	void *(*list)(const char *, _Bool) = dlsym(RTLD_DEFAULT, "object_class_get_list");
	void *(*load)(const char *) = dlsym(RTLD_DEFAULT, "module_object_class_by_name");
	if (!find_directory || !init || !list)
		return;
	find_directory(name);
	if (find_modules)
		find_modules();
	init(MODULE_INIT_QOM);
	list("machine", 0);
	if (find_modules && load)
		load("tcg-accel-ops");
}

static int main_or_serve(int argc, char **argv, char **envp)
{
	const char *number = getenv(variable);
	int first = 0;
	while (first < argc && strncmp(argv[first], marker, sizeof marker - 1))
		first++;
	if (!number || first == argc || !dlsym(RTLD_DEFAULT, "qemu_init"))
		return program_main(argc, argv, envp);
	sock = atoi(number);
	fcntl(sock, F_SETFD, FD_CLOEXEC);
	close(LIBRARY_FILE);
	unsetenv(variable);
	unsetenv("LD_PRELOAD");
	title = argv[0];
	title_end = argv[argc - 1] + strlen(argv[argc - 1]) + 1;
	prepare(argv[0]);
	serve(first, argv, envp);
	return 0;
}

typedef int start_function(main_function *, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);

/* The C library's own calls the program's constructors before main. */
int __libc_start_main(main_function *main, int argc, char **argv, void (*init)(void), void (*fini)(void),
	void (*rtld_fini)(void), void *stack_end)
{
	start_function *start = (start_function *)dlsym(RTLD_NEXT, "__libc_start_main");
	program_main = main;
	return start(main_or_serve, argc, argv, init, fini, rtld_fini, stack_end);
}
