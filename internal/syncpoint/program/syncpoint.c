// A QEMU plugin that stops the guest's CPU at sync points, until the host lets it go on.
//
// A sync point is an instruction that does nothing: 66 0f 1f 84 00, then 'P', 'V', 'S' and a
// letter that says which kind of point it is. The letter goes to the host by the socket whose
// number is the plugin's argument fd=N; the CPU goes on when the host answers with one byte. If
// that is `bytes`, the host has sent some to the guest's ports, whose sockets are port=N, and the CPU
// goes on when the guest has them; if it is `stopping`, when QEMU waits for it to stop. Before any of
// these, the host may have sent frames, each announced by `frame` and the number of its interface,
// whose sockets are nic=N in their order; each is answered. A host that is gone ends QEMU: a guest
// that goes on by itself would be another run.
//
// A guest's frames must not be late since its host is, so the socket of an interface never is full
// for QEMU: it waits for the host instead.
//
// A disk is done before the CPU goes on: where it has made a request, which is sent to the disk's
// server at once, it waits until all have been answered, and until QEMU's main thread has handed the
// answers to the guest. The server answers in the order of the requests, as no time passes.
//
// What QEMU's main thread does must happen while the CPU stands, or not matter to it. So the
// plugin has to know when that thread has nothing to do: it puts itself between QEMU and the
// functions of libc by which that thread sleeps.
//
// API is the version of QEMU's plugin interface, whose few prototypes are declared here, so that
// the build needs no header of QEMU.
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info {
	const char *target_name;
	struct {
		int min, cur;
	} version;
	bool system_emulation;
	struct {
		int smp_vcpus, max_vcpus;
	} system;
};

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
	void (*cb)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
	void (*cb)(unsigned int cpu, void *data), int flags, void *data);
#if API >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t size);
#else
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
#endif

EXPORT int qemu_plugin_version = API;

static const unsigned char magic[] = {0x66, 0x0f, 0x1f, 0x84, 0x00, 'P', 'V', 'S'};
enum { size = sizeof magic + 1 };

// What the host answers, and what the plugin says beside the letters of points.
enum { go = 0, bytes = 1, stopping = 2, frame = 3, loaded = 'L', full = 'f', taken = 'T', refused = 'R' };

static int host = -1;

// The sockets of ports and of network interfaces.
static struct {
	int fd[64], n;
} ports, nics;

static void gone(const char *what)
{
	fprintf(stderr, "provium sync points: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void say(unsigned char c)
{
	ssize_t n;

	while ((n = write(host, &c, 1)) < 0 && errno == EINTR)
		;
	if (n != 1)
		gone("write to the host");
}

// What is known of QEMU's threads.
static struct {
	pthread_t main, cpu;
	bool has_cpu;
	int state; // /proc file `stat` of the main thread

	pthread_mutex_t lock;
	pthread_cond_t changed;
	atomic_bool asleep;  // the main thread waits until there is something to do
	atomic_bool pausing; // it waits for another thread
	unsigned slept;      // how often it has begun to
	atomic_bool polls;   // it is in ppoll
	atomic_bool halting; // the CPU has halted, perhaps, and has not counted all its instructions
} threads = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static atomic_int requests; // to disks: those that are not answered

static void sleeps(void)
{
	pthread_mutex_lock(&threads.lock);
	threads.asleep = true;
	threads.slept++;
	pthread_cond_broadcast(&threads.changed);
	pthread_mutex_unlock(&threads.lock);
}

static void wakes(void)
{
	int saved = errno;

	pthread_mutex_lock(&threads.lock);
	while (threads.halting)
		pthread_cond_wait(&threads.changed, &threads.lock);
	threads.asleep = false;
	pthread_mutex_unlock(&threads.lock);
	errno = saved;
}

static int poll_of_qemu(struct pollfd *fds, nfds_t n, const struct timespec *limit, const sigset_t *mask)
{
	bool may_sleep = limit == NULL || limit->tv_sec > 0 || limit->tv_nsec > 0;
	int ready;

	if (!may_sleep || !pthread_equal(pthread_self(), threads.main))
		return ppoll(fds, n, limit, mask);
	sleeps();
	threads.polls = true;
	ready = ppoll(fds, n, limit, mask);
	threads.polls = false;
	wakes();
	return ready;
}

static int wait_of_qemu(pthread_cond_t *cond, pthread_mutex_t *lock)
{
	int err;

	if (!pthread_equal(pthread_self(), threads.main))
		return pthread_cond_wait(cond, lock);
	threads.pausing = true;
	sleeps();
	err = pthread_cond_wait(cond, lock);
	threads.pausing = false;
	wakes();
	return err;
}

// await waits for a change of what is known, for at most 10 ms, and reports whether there was one.
// The caller holds threads.lock.
static bool await(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 10 * 1000 * 1000;
	if (until.tv_nsec >= 1000 * 1000 * 1000) {
		until.tv_nsec -= 1000 * 1000 * 1000;
		until.tv_sec++;
	}
	return pthread_cond_timedwait(&threads.changed, &threads.lock, &until) == 0;
}

// is_waiting reports whether the kernel says that the main thread waits for something.
static bool is_waiting(void)
{
	char text[64];
	ssize_t n = pread(threads.state, text, sizeof text - 1, 0);
	const char *state;

	if (n <= 0)
		gone("state of the main thread");
	text[n] = 0;
	state = strrchr(text, ')');
	return state != NULL && state[1] == ' ' && state[2] == 'S';
}

// How many locks this thread has. The main thread needs one of them to do anything.
static __thread int locks;

static int n_disks;
// Whether the CPU has woken the main thread, and how often that must have begun to sleep until it has
// done what it was woken for.
static bool woken;
static unsigned due;

// await_disks returns when all requests to disks have been answered, and the main thread has done all that follows,
// and what else the CPU has woken it for: QEMU answers some requests by itself, such as a flush of what was flushed.
// A main thread that waits for this very CPU is let go on: the guest has ended itself.
static void await_disks(void)
{
	pthread_mutex_lock(&threads.lock);
	while (!(threads.asleep && threads.pausing)) {
		unsigned before = threads.slept;
		bool rests = false;

		if (threads.asleep && requests == 0 && (int)(before - due) >= 0) {
			pthread_mutex_unlock(&threads.lock);
			for (int i = 0; i < 1000 && !rests && threads.asleep; i++) {
				rests = threads.polls && is_waiting() && threads.polls;
				if (!rests)
					sched_yield();
			}
			pthread_mutex_lock(&threads.lock);
			if (rests && threads.asleep && before == threads.slept)
				break;
		}
		if (!rests)
			await();
	}
	woken = false;
	pthread_mutex_unlock(&threads.lock);
}

// The main thread is woken by what it reads.
static ssize_t write_of_qemu(int fd, const void *b, size_t n)
{
	if (n_disks > 0 && locks > 0 && n == sizeof(uint64_t) && threads.has_cpu &&
		pthread_equal(pthread_self(), threads.cpu)) {
		pthread_mutex_lock(&threads.lock);
		due = threads.slept + 1;
		woken = true;
		pthread_mutex_unlock(&threads.lock);
	}
	return write(fd, b, n);
}

// The first lock that the CPU's thread takes after a halt is that of all QEMU: it has counted its instructions.
static int lock_of_qemu(pthread_mutex_t *lock)
{
	if (threads.halting && pthread_equal(pthread_self(), threads.cpu)) {
		pthread_mutex_lock(&threads.lock);
		threads.halting = false;
		pthread_cond_broadcast(&threads.changed);
		pthread_mutex_unlock(&threads.lock);
	}
	locks++;
	return pthread_mutex_lock(lock);
}

static int try_of_qemu(pthread_mutex_t *lock)
{
	int err = pthread_mutex_trylock(lock);

	if (err == 0)
		locks++;
	return err;
}

static int unlock_of_qemu(pthread_mutex_t *lock)
{
	int err = pthread_mutex_unlock(lock);

	if (--locks == 0 && (requests > 0 || woken) && threads.has_cpu && pthread_equal(pthread_self(), threads.cpu))
		await_disks();
	return err;
}

#include "disks.h"

static ssize_t send_of_qemu(int fd, const struct msghdr *m, int flags)
{
	for (;;) {
		ssize_t n = sendmsg(fd, m, flags);
		struct pollfd room = {.fd = fd, .events = POLLOUT};
		bool is_nic = false;

		passed(fd, m, n, false);
		if (n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
			return n;
		for (int i = 0; i < nics.n; i++)
			is_nic = is_nic || nics.fd[i] == fd;
		if (!is_nic) {
			errno = EAGAIN;
			return n;
		}
		poll(&room, 1, -1);
	}
}

// unread returns how many bytes of the host are in sockets.
static int unread(const int *fd, int n)
{
	int all = 0;

	for (int i = 0; i < n; i++) {
		int left = 0;

		if (ioctl(fd[i], FIONREAD, &left) < 0)
			gone("socket of the guest");
		all += left;
	}
	return all;
}

// take returns when the guest has what the host has sent to its ports, and the main thread has done
// all that follows from it.
static void take(void)
{
	int idle = 0;

	pthread_mutex_lock(&threads.lock);
	for (;;) {
		unsigned before = threads.slept;

		if (unread(ports.fd, ports.n) == 0 && threads.asleep)
			break;
		if (await() || before != threads.slept || !threads.asleep || !is_waiting())
			continue;
		// It sleeps though there is something for it: the guest has no room.
		if (++idle > 100) {
			say(full);
			idle = 0;
		}
	}
	pthread_mutex_unlock(&threads.lock);
}

// take_frame returns when the main thread has taken a frame, or does not read from that interface
// since the guest has no room for more: then the frame is dropped. What the host has sent has woken
// a main thread that waits for it.
static void take_frame(int fd)
{
	static char dropped[128 << 10];
	unsigned char answer = taken;

	pthread_mutex_lock(&threads.lock);
	while (unread(&fd, 1) != 0 || !threads.asleep) {
		if (threads.polls && is_waiting() && threads.polls && unread(&fd, 1) != 0) {
			while (recv(fd, dropped, sizeof dropped, MSG_DONTWAIT) > 0)
				;
			answer = refused;
			break;
		}
		await();
	}
	pthread_mutex_unlock(&threads.lock);
	say(answer);
}

static unsigned char heard(void)
{
	unsigned char c;
	ssize_t n;

	while ((n = read(host, &c, 1)) < 0 && errno == EINTR)
		;
	if (n != 1)
		gone("the host is gone");
	return c;
}

static void stop(unsigned int cpu, void *kind)
{
	unsigned char answer;

	(void)cpu;
	settled();
	say((unsigned char)(uintptr_t)kind);
	while ((answer = heard()) == frame) {
		unsigned char nic = heard();

		if (nic >= nics.n) {
			errno = EINVAL;
			gone("interface of a frame");
		}
		take_frame(nics.fd[nic]);
	}
	if (answer == bytes)
		take();
	if (answer == stopping) {
		pthread_mutex_lock(&threads.lock);
		while (!threads.pausing || !threads.asleep)
			pthread_cond_wait(&threads.changed, &threads.lock);
		pthread_mutex_unlock(&threads.lock);
	}
}

// insn_data copies the bytes of an instruction, which has n of them.
static bool insn_data(const struct qemu_plugin_insn *insn, unsigned char *to, size_t n)
{
#if API >= 3
	return qemu_plugin_insn_data(insn, to, n) == n;
#else
	memcpy(to, qemu_plugin_insn_data(insn), n);
	return true;
#endif
}

// QEMU's main thread skips the time of a CPU that has halted. The CPU counts as halted a moment
// before its last instructions are counted: in between, the main thread would skip too much. So the
// CPU halts while the main thread sleeps, and that does not wake before all is counted. A main
// thread that waits for this very CPU is let go on.
static void halt(unsigned int cpu, void *unused)
{
	(void)cpu;
	(void)unused;
	pthread_mutex_lock(&threads.lock);
	while (!threads.asleep)
		if (!await() && !threads.asleep && is_waiting())
			break;
	threads.halting = true;
	pthread_mutex_unlock(&threads.lock);
}

// halts reports whether an instruction is hlt, or mwait, which QEMU carries out as that.
static bool halts(const struct qemu_plugin_insn *insn)
{
	static const unsigned char hlt[] = {0xf4}, mwait[] = {0x0f, 0x01, 0xc9};
	size_t n = qemu_plugin_insn_size(insn);
	unsigned char code[sizeof mwait];

	if ((n != sizeof hlt && n != sizeof mwait) || !insn_data(insn, code, n))
		return false;
	return n == sizeof hlt ? code[0] == hlt[0] : memcmp(code, mwait, n) == 0;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb);

	(void)id;
	if (!threads.has_cpu) {
		threads.cpu = pthread_self();
		threads.has_cpu = true;
	}
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		unsigned char code[size];

		if (halts(insn))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, halt, 0, NULL);
		else if (qemu_plugin_insn_size(insn) == size && insn_data(insn, code, size) &&
			memcmp(code, magic, sizeof magic) == 0)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, stop, 0, (void *)(uintptr_t)code[size - 1]);
	}
}

// Functions of libc that QEMU is to call by way of the plugin.
static struct {
	const char *name;
	void *ours;
	bool found;
} calls[] = {
	{"ppoll", (void *)poll_of_qemu, false},
	{"pthread_cond_wait", (void *)wait_of_qemu, false},
	{"pthread_mutex_lock", (void *)lock_of_qemu, false},
	{"pthread_mutex_trylock", (void *)try_of_qemu, false},
	{"pthread_mutex_unlock", (void *)unlock_of_qemu, false},
	{"recvmsg", (void *)receive_of_qemu, false},
	{"write", (void *)write_of_qemu, false},
	{"sendmsg", (void *)send_of_qemu, false},
};

static bool redirect(Elf64_Addr base, const Elf64_Rela *rela, size_t size, const Elf64_Sym *symbols, const char *names)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	for (size_t i = 0; i < size / sizeof *rela; i++) {
		const char *name = names + symbols[ELF64_R_SYM(rela[i].r_info)].st_name;
		void **slot = (void **)(base + rela[i].r_offset);
		void *start = (void *)((uintptr_t)slot / page * page);

		if (ELF64_R_TYPE(rela[i].r_info) != R_X86_64_JUMP_SLOT && ELF64_R_TYPE(rela[i].r_info) != R_X86_64_GLOB_DAT)
			continue;
		for (size_t c = 0; c < sizeof calls / sizeof *calls; c++) {
			if (strcmp(name, calls[c].name) != 0)
				continue;
			if (mprotect(start, page, PROT_READ | PROT_WRITE) != 0)
				return false;
			*slot = calls[c].ours;
			if (mprotect(start, page, PROT_READ) != 0)
				return false;
			calls[c].found = true;
		}
	}
	return true;
}

// at returns where the dynamic section points to: some versions of libc have added the base to that.
static const void *at(Elf64_Addr base, Elf64_Addr to)
{
	return (const void *)(to < base ? base + to : to);
}

// intercept puts the calls in the table of the main program, which comes first.
static int intercept(struct dl_phdr_info *info, size_t unused, void *unused_too)
{
	const Elf64_Dyn *d = NULL;
	const Elf64_Rela *rela[2] = {NULL, NULL};
	size_t size[2] = {0, 0};
	const Elf64_Sym *symbols = NULL;
	const char *names = NULL;

	(void)unused;
	(void)unused_too;
	for (size_t i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
			d = (const Elf64_Dyn *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
	for (; d != NULL && d->d_tag != DT_NULL; d++) {
		switch (d->d_tag) {
		case DT_JMPREL:
			rela[0] = at(info->dlpi_addr, d->d_un.d_ptr);
			break;
		case DT_PLTRELSZ:
			size[0] = d->d_un.d_val;
			break;
		case DT_RELA:
			rela[1] = at(info->dlpi_addr, d->d_un.d_ptr);
			break;
		case DT_RELASZ:
			size[1] = d->d_un.d_val;
			break;
		case DT_SYMTAB:
			symbols = at(info->dlpi_addr, d->d_un.d_ptr);
			break;
		case DT_STRTAB:
			names = at(info->dlpi_addr, d->d_un.d_ptr);
			break;
		}
	}
	for (int i = 0; i < 2; i++)
		if (symbols != NULL && names != NULL && !redirect(info->dlpi_addr, rela[i], size[i], symbols, names))
			break;
	return 1;
}

// is_between reports whether the plugin is between QEMU and libc now.
static bool is_between(void)
{
	dl_iterate_phdr(intercept, NULL);
	for (size_t c = 0; c < sizeof calls / sizeof *calls; c++)
		if (!calls[c].found) {
			fprintf(stderr, "provium sync points: this QEMU does not call %s where others do\n", calls[c].name);
			return false;
		}
	return true;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
	char path[64];

	for (int i = 0; i < argc; i++) {
		int fd;

		if (sscanf(argv[i], "fd=%d", &fd) == 1)
			host = fd;
		else if (sscanf(argv[i], "port=%d", &fd) == 1 && ports.n < (int)(sizeof ports.fd / sizeof *ports.fd))
			ports.fd[ports.n++] = fd;
		else if (sscanf(argv[i], "nic=%d", &fd) == 1 && nics.n < (int)(sizeof nics.fd / sizeof *nics.fd))
			nics.fd[nics.n++] = fd;
		else
			host = -1, argc = 0;
	}
	if (host < 0 || ports.n == 0) {
		fprintf(stderr, "provium sync points: expected fd=N,port=N[,port=N]...[,nic=N]...\n");
		return 1;
	}
	if (!info->system_emulation || strcmp(info->target_name, "x86_64") != 0 || info->system.smp_vcpus != 1) {
		fprintf(stderr, "provium sync points: expected a system of x86_64 with one CPU\n");
		return 1;
	}
	threads.main = pthread_self();
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)getpid());
	threads.state = open(path, O_RDONLY | O_CLOEXEC);
	if (threads.state < 0) {
		fprintf(stderr, "provium sync points: %s: %s\n", path, strerror(errno));
		return 1;
	}
	if (!is_between())
		return 1;
	say(loaded);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
