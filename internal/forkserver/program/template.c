/*
 * Templates: copies of a QEMU with its machine in it.
 *
 * A copy of a process has only the thread that has made it. QEMU has more: its main loop, one
 * that frees what others have let go of, one for its monitor, one for each vCPU. While the
 * machine stands still they all wait in system calls. The main loop, which comes here by ppoll,
 * interrupts the others (threads.c). What is copied then is a template: a process with the main
 * loop alone, which waits for requests. For each, it copies itself once more, and there the other
 * threads are made anew: each gets the stack and the thread-local memory of the one that was
 * copied, and its identity for the C library, and goes on as if nothing had been.
 *
 * The copy shares all memory with the template until it is written: that of the guest, the
 * devices, and the guest code that QEMU has translated. What it must not share are files: all
 * sockets are replaced (the request says by what), counters for events are made anew. A QEMU
 * that has other files that could be written is not copied.
 *
 * The protocol is described in ../template.go.
 */
#define _GNU_SOURCE
#include "forkserver.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_DESCRIPTORS = 256 };

static int sock = -1; /* on which the process is asked for a template */
static int copied;    /* it goes on from one */

int is_copy(void)
{
	return copied;
}

/* copy_process is fork for a process with threads: it leaves alone what the C library knows of them. */
static long copy_process(int *id, int *pidfd)
{
	*pidfd = -1;
	return syscall(SYS_clone, CLONE_PARENT | CLONE_PIDFD | CLONE_CHILD_SETTID | SIGCHLD, 0, pidfd, id, 0);
}

/* A descriptor that a copy must not share with the template. */
struct descriptor {
	int number, flags, is_counter, is_listener, replaced;
	uint64_t count;
	char name[108], peer[108]; /* of a unix socket with a path */
};

static struct descriptor descriptors[MAX_DESCRIPTORS];
static int descriptor_count;

static void copy_path(char *to, const struct sockaddr_un *a, socklen_t length)
{
	size_t n = length > offsetof(struct sockaddr_un, sun_path) ? length - offsetof(struct sockaddr_un, sun_path) : 0;
	memset(to, 0, sizeof a->sun_path);
	if (a->sun_family == AF_UNIX && n > 0 && a->sun_path[0])
		memcpy(to, a->sun_path, n < sizeof a->sun_path ? n : sizeof a->sun_path - 1);
}

static uint64_t counter_value(int fd)
{
	char path[64], text[512], *p;
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	int info = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = info < 0 ? 0 : read(info, text, sizeof text - 1);
	if (info >= 0)
		close(info);
	text[n > 0 ? n : 0] = 0;
	p = strstr(text, "eventfd-count:");
	return p ? strtoull(p + sizeof "eventfd-count:" - 1, NULL, 16) : 0;
}

enum { FORBIDDEN = -1, KEEP, LET_GO, REPLACE };

/* What the template is told of the guest's memory. */
struct memory {
	uintptr_t at; /* 0: nothing has to be let go of */
	size_t length;
	struct stat file;
};

/* look describes a descriptor. It returns what is to be done with it. */
static int look(struct descriptor *d, int number, const struct memory *m)
{
	char path[64], to[64];
	struct stat st;
	memset(d, 0, sizeof *d);
	d->number = number;
	d->flags = fcntl(number, F_GETFL);
	if (d->flags < 0 || fstat(number, &st) < 0)
		return FORBIDDEN;
	if (S_ISSOCK(st.st_mode)) {
		struct sockaddr_un a;
		socklen_t n = sizeof a, size = sizeof d->is_listener;
		if (getsockname(number, (struct sockaddr *)&a, &n) == 0)
			copy_path(d->name, &a, n);
		n = sizeof a;
		if (getpeername(number, (struct sockaddr *)&a, &n) == 0)
			copy_path(d->peer, &a, n);
		getsockopt(number, SOL_SOCKET, SO_ACCEPTCONN, &d->is_listener, &size);
		return REPLACE;
	}
	if (st.st_dev == m->file.st_dev && st.st_ino == m->file.st_ino)
		return m->at ? LET_GO : KEEP;
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
		return (d->flags & O_ACCMODE) == O_RDONLY ? KEEP : FORBIDDEN;
	if (S_ISFIFO(st.st_mode))
		return number == 2 ? REPLACE : FORBIDDEN; /* where it prints errors */
	snprintf(path, sizeof path, "/proc/self/fd/%d", number);
	ssize_t n = readlink(path, to, sizeof to - 1);
	to[n > 0 ? n : 0] = 0;
	if (!strcmp(to, "anon_inode:[eventfd]")) {
		d->is_counter = 1;
		d->count = counter_value(number);
		return REPLACE;
	}
	if (!strcmp(to, "anon_inode:[signalfd]") || !strcmp(to, "/dev/null") || !strcmp(to, "/dev/urandom"))
		return KEEP;
	return FORBIDDEN;
}

/* Descriptors of the process that a template must not hold. */
static int let_go[MAX_DESCRIPTORS];
static int let_go_count;

/* look_at_all describes all descriptors but two. It returns -1 where there can be no template. */
static int look_at_all(int door, const struct memory *m)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	int result = 0;
	descriptor_count = let_go_count = 0;
	if (!d)
		return -1;
	while (result == 0 && (e = readdir(d))) {
		int number = atoi(e->d_name), what;
		if (e->d_name[0] == '.' || number == dirfd(d) || number == sock || number == door)
			continue;
		if (descriptor_count == MAX_DESCRIPTORS || let_go_count == MAX_DESCRIPTORS)
			result = -1;
		else if ((what = look(&descriptors[descriptor_count], number, m)) == FORBIDDEN)
			result = -1;
		else if (what != KEEP)
			let_go[let_go_count++] = number;
		if (result == 0 && what == REPLACE)
			descriptor_count++;
	}
	closedir(d);
	return result;
}

static struct request request;

/* next_word returns the word of the request behind one, NULL at its end. */
static char *next_word(char *word)
{
	word += strlen(word) + 1;
	return word < request.text + request.length ? word : NULL;
}

static int is_meant(const struct descriptor *d, const char *word)
{
	switch (word[0]) {
	case 'n':
		return d->number == atoi(word + 1);
	case 'l':
		return d->is_listener && !strcmp(d->name, word + 1);
	case 'a':
		return !d->is_listener && d->name[0] && !strcmp(d->name, word + 1);
	case 'p':
		return d->peer[0] && !strcmp(d->peer, word + 1);
	}
	return 0;
}

static void must_hold(int condition)
{
	if (!condition)
		_exit(127);
}

static void replace(struct descriptor *d, int file)
{
	must_hold(dup3(file, d->number, O_CLOEXEC) >= 0 && fcntl(d->number, F_SETFL, d->flags) == 0);
	d->replaced = 1;
}

/* map_memory maps a file where a word says: "ADDRESS LENGTH", in hexadecimal. */
static void map_memory(const char *word, int file)
{
	char *end;
	uintptr_t at = strtoull(word, &end, 16);
	size_t length = strtoull(end, NULL, 16);
	must_hold(at && length &&
		mmap((void *)at, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, file, 0) == (void *)at);
	madvise((void *)at, length, MADV_MERGEABLE);
	madvise((void *)at, length, MADV_DONTDUMP);
}

/*
 * become_machine makes a copy of the template the process that was asked for. The request is the
 * directory, how many words are arguments for process lists and these, then a word for each file.
 */
static void become_machine(pid_t server, int threads, int door)
{
	static char *title[4096];
	int title_count = 0;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	must_hold(getppid() == server);
	for (int i = 0; i < request.file_count; i++) { /* out of the way of the numbers of a copy of this one */
		int file = fcntl(request.files[i], F_DUPFD_CLOEXEC, 2 * MAX_DESCRIPTORS);
		must_hold(file >= 0);
		close(request.files[i]);
		request.files[i] = file;
	}
	must_hold(request.length > 0 && chdir(request.text) == 0);
	char *word = next_word(request.text);
	must_hold(word != NULL);
	int count = atoi(word);
	for (int i = 0; i < count; i++) {
		must_hold((word = next_word(word)) != NULL);
		if (title_count < (int)(sizeof title / sizeof *title))
			title[title_count++] = word;
	}
	set_title(title_count, title);
	close(door);
	sock = -1;
	for (int i = 0; i < request.file_count; i++) {
		must_hold((word = next_word(word)) != NULL);
		if (word[0] == 'm') {
			map_memory(word + 1, request.files[i]);
		} else if (word[0] == 's') {
			sock = request.files[i]; /* for templates of this one */
			continue;
		} else {
			int found = 0;
			for (int j = 0; j < descriptor_count && !found; j++)
				if ((found = !descriptors[j].replaced && is_meant(&descriptors[j], word)))
					replace(&descriptors[j], request.files[i]);
			must_hold(found);
		}
		close(request.files[i]);
	}
	for (int i = 0; i < descriptor_count; i++) {
		struct descriptor *d = &descriptors[i];
		if (d->is_counter) {
			int fd = eventfd(d->count, EFD_CLOEXEC);
			must_hold(fd >= 0);
			replace(d, fd);
			close(fd);
		}
		must_hold(d->replaced);
	}
	copied = 1;
	must_hold(make_threads(threads) == 0);
}

/* stand is the life of a template. It returns in each copy. */
static void stand(int door, int threads, const struct memory *m)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), *id = thread_id();
	pid_t server = getppid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	must_hold(null >= 0 && id && getppid() == server);
	if (m->at)
		must_hold(mmap((void *)m->at, m->length, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == (void *)m->at);
	set_title(1, &(char *){ "provium-template" });
	for (int i = 0; i < let_go_count; i++)
		must_hold(dup3(null, let_go[i], O_CLOEXEC) >= 0);
	close(null);
	close(sock);
	for (;;) {
		int pidfd;
		if (!receive(door, &request))
			_exit(0);
		long pid = request.files_lost ? -1 : copy_process(id, &pidfd);
		int error = request.files_lost ? EMFILE : errno;
		if (pid == 0) {
			become_machine(server, threads, door);
			return;
		}
		for (int i = 0; i < request.file_count; i++)
			close(request.files[i]);
		if (pid < 0) {
			report(door, REFUSED, 0, error, -1);
			continue;
		}
		report(door, STARTED, pid, 0, pidfd);
		close(pidfd);
	}
}

/*
 * make_template makes the template that a request asks for, which comes with the template's end of
 * a connection. Its text is about the guest's memory: the number of its file, and, in hexadecimal,
 * where it is mapped and how long it is if the template has to let go of that, else zeros.
 */
static void make_template(void)
{
	struct memory m = { 0 };
	int threads = -1, pidfd = -1, error = EBUSY, *id = thread_id(), file = -1;
	long pid = -1;
	if (!receive(sock, &request)) {
		close(sock);
		sock = -1;
		return;
	}
	int door = request.file_count == 1 ? request.files[0] : -1;
	if (door < 0 || !id || sscanf(request.text, "%d %lx %zx", &file, &m.at, &m.length) != 3 ||
	    fstat(file, &m.file) < 0 || look_at_all(door, &m) < 0)
		error = EINVAL;
	else
		threads = hold();
	if (threads >= 0) {
		pid = copy_process(id, &pidfd);
		error = errno;
		if (pid == 0) {
			stand(door, threads, &m);
			return;
		}
		wake(threads);
	}
	for (int i = 0; i < request.file_count; i++)
		close(request.files[i]);
	if (pid < 0)
		report(sock, REFUSED, 0, error, -1);
	else
		report(sock, STARTED, pid, 0, pidfd);
	if (pidfd >= 0)
		close(pidfd);
	if (pid < 0 && error == EBUSY) { /* a thread that did not come may come at any time */
		close(sock);
		sock = -1;
	}
}

typedef int poll_function(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);

int poll_hold(void *polled, unsigned long n, const void *limit, const void *mask)
{
	static poll_function *next_ppoll;
	struct pollfd all[n + 1];
	if (!next_ppoll)
		next_ppoll = (poll_function *)dlsym(RTLD_NEXT, "ppoll");
	if (sock < 0 || syscall(SYS_gettid) != getpid())
		return next_ppoll(polled, n, limit, mask);
	memcpy(all, polled, n * sizeof *all);
	all[n] = (struct pollfd){ .fd = sock, .events = POLLIN };
	int result = next_ppoll(all, n + 1, limit, mask);
	memcpy(polled, all, n * sizeof *all);
	if (result <= 0 || !all[n].revents)
		return result;
	if (result == 1) /* nothing else is about to happen */
		make_template();
	return result - 1;
}

void serve_holds(int number)
{
	listen_for_holds();
	sock = number;
}

/* QEMU asks that no copy has the memory of the guest and translated code. Ours need both. */
int madvise(void *at, size_t length, int advice)
{
	if (advice == MADV_DONTFORK)
		return 0;
	return syscall(SYS_madvise, at, length, advice);
}

/*
 * QEMU's sandbox forbids copies, in the form of clone without the flags of a thread. It forbids
 * other programs as before, which is what matters.
 */
int seccomp_rule_add_array(void *filter, unsigned action, int call, unsigned n, const void *conditions)
{
	static int (*next)(void *, unsigned, int, unsigned, const void *);
	if (!next)
		next = (int (*)(void *, unsigned, int, unsigned, const void *))dlsym(RTLD_NEXT, "seccomp_rule_add_array");
	if (call == SYS_clone)
		return 0;
	return next ? next(filter, action, call, n, conditions) : -ENOSYS;
}
