/*
 * refbench: what the agent link is compared with, measured inside the guest.
 *
 *   refbench echo NAME          answer every read on the virtio-serial port
 *                               NAME with the same bytes, for ever
 *   refbench pass NAME BYTES    the same for BYTES at a time, which go through
 *                               another process: memory of both, with a futex
 *   refbench sink NAME BYTES [FILE]
 *                               read BYTES from the port (and write them to
 *                               FILE), then write one byte
 *   refbench source NAME BYTES [FILE]
 *                               read one byte, then write BYTES (of FILE) to
 *                               the port
 *   refbench relay NAME BYTES KEPT
 *                               read one byte, then have a child pour BYTES into a
 *                               pipe, take them into new memory, of which KEPT bytes
 *                               stay, and write them to the port
 *   refbench spawn COUNT [PROGRAM ARGUMENT]
 *                               start "/bin/sh -c true", or the program, COUNT
 *                               times, wait for each, print the nanoseconds one
 *                               took
 *   refbench pour BYTES         write pages that begin with numbers from 0
 *                               on, 32 bits each, to standard output
 *   refbench disk DEVICE seqread|seqwrite|randread|randwrite COUNT
 *                               that many direct requests, of 1 MiB one after the
 *                               other or of 4 KiB anywhere; print the nanoseconds
 *                               they took
 *   refbench true               do nothing
 *
 * Built with gcc -static -O2; it is no part of the product.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static char buf[128 << 10] __attribute__((aligned(16)));

static int fail(const char *what)
{
	perror(what);
	exit(1);
}

static int open_port(const char *name)
{
	DIR *d = opendir("/sys/class/virtio-ports");
	struct dirent *e;

	if (!d)
		fail("/sys/class/virtio-ports");
	while ((e = readdir(d))) {
		char path[600], got[256] = "";
		FILE *f;

		snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", e->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fgets(got, sizeof got, f))
			got[strcspn(got, "\n")] = 0;
		fclose(f);
		if (strcmp(got, name) == 0) {
			int fd;

			snprintf(path, sizeof path, "/dev/%s", e->d_name);
			fd = open(path, O_RDWR);
			if (fd < 0)
				fail(path);
			return fd;
		}
	}
	fprintf(stderr, "no port %s\n", name);
	exit(1);
}

static void put(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = write(fd, p, n);

		if (k < 0)
			fail("write");
		p += k;
		n -= k;
	}
}

static ssize_t get(int fd)
{
	ssize_t n = read(fd, buf, sizeof buf);

	if (n < 0)
		fail("read");
	return n;
}

static int disk(const char *device, const char *mode, long count)
{
	int writes = strstr(mode, "write") != NULL, anywhere = strncmp(mode, "rand", 4) == 0;
	size_t size = anywhere ? 4 << 10 : 1 << 20;
	int fd = open(device, (writes ? O_WRONLY : O_RDONLY) | O_DIRECT);
	off_t end;
	char *p;
	struct timespec a, b;
	unsigned long random = 88172645463325252UL;
	long i;

	if (fd < 0 || (end = lseek(fd, 0, SEEK_END)) <= 0)
		fail(device);
	if (posix_memalign((void **)&p, 4096, size) != 0)
		fail("memory");
	memset(p, 'x', size);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (i = 0; i < count; i++) {
		off_t at = i * size % end;

		if (anywhere) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			at = random % (end / size) * size;
		}
		if ((writes ? pwrite(fd, p, size, at) : pread(fd, p, size, at)) != (ssize_t)size)
			fail(mode);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%ld\n", (b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec);
	return 0;
}

static void pour(int fd, long left)
{
	unsigned int next = 0;

	while (left > 0) {
		size_t n = left < (long)sizeof buf ? (size_t)left : sizeof buf, i;

		/* The count stands in each page: to make more of it would be
		 * most of the work. */
		for (i = 0; i < n / sizeof next; i += 1024)
			((unsigned int *)buf)[i] = next++;
		put(fd, buf, n);
		left -= n;
	}
}

/* What must be done to a process's output that is kept and goes to the host. */
static int relay(const char *name, long bytes, long kept)
{
	const long most = 512 << 10;
	int port = open_port(name), p[2];
	char *memory = mmap(NULL, kept, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long have = 0;

	if (memory == MAP_FAILED || pipe(p) < 0)
		fail("set up");
	get(port);
	fcntl(p[0], F_SETPIPE_SZ, most);
	if (fork() == 0) {
		pour(p[1], bytes);
		return 0;
	}
	close(p[1]);
	while (have < bytes) {
		/* Behind what is kept, the same memory is used again. */
		long at = have < kept ? have : have % most, room = have < kept ? kept - have : most - at;
		ssize_t n = read(p[0], memory + at, room < most ? room : most);

		if (n <= 0)
			fail("read");
		put(port, memory + at, n);
		have += n;
	}
	return 0;
}

/* What two processes share: whose turn it is, and the bytes. */
static struct {
	uint32_t turn;
	char bytes[sizeof buf];
} *shared;

static void await_turn(uint32_t turn)
{
	while (__atomic_load_n(&shared->turn, __ATOMIC_ACQUIRE) != turn)
		syscall(SYS_futex, &shared->turn, FUTEX_WAIT, !turn, NULL, NULL, 0);
}

static void give_turn(uint32_t turn)
{
	__atomic_store_n(&shared->turn, turn, __ATOMIC_RELEASE);
	syscall(SYS_futex, &shared->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static int pass(const char *name, size_t size)
{
	int fd = open_port(name);
	pid_t pid;

	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || size == 0 || size > sizeof buf || (pid = fork()) < 0)
		fail("pass");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			await_turn(1);
			memcpy(buf, shared->bytes, size);
			syscall(SYS_getpid);
			memcpy(shared->bytes, buf, size);
			give_turn(0);
		}
	}
	for (;;) {
		size_t have = 0;

		while (have < size) {
			ssize_t n = get(fd);

			if (n <= 0 || have + n > size)
				return 1;
			memcpy(shared->bytes + have, buf, n);
			have += n;
		}
		give_turn(1);
		await_turn(0);
		memcpy(buf, shared->bytes, size);
		put(fd, buf, size);
	}
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "pass") == 0)
		return pass(argv[2], atol(argv[3]));
	if (argc == 5 && strcmp(argv[1], "relay") == 0)
		return relay(argv[2], atol(argv[3]), atol(argv[4]));
	if (argc == 3 && strcmp(argv[1], "echo") == 0) {
		int fd = open_port(argv[2]);
		ssize_t n;

		while ((n = get(fd)) > 0)
			put(fd, buf, n);
		return 0;
	}
	if (argc >= 4 && strcmp(argv[1], "sink") == 0) {
		int fd = open_port(argv[2]);
		int out = argc > 4 ? open(argv[4], O_WRONLY | O_CREAT | O_TRUNC, 0644) : -1;
		long left = atol(argv[3]);
		size_t have = 0;

		while (left > 0) {
			/* A port gives a page at a time; a file takes more at once for less. */
			ssize_t n = read(fd, buf + have, sizeof buf - have);

			if (n < 0)
				fail("read");
			left -= n;
			if (out >= 0)
				have += n;
			if (have == sizeof buf || (have > 0 && left <= 0)) {
				put(out, buf, have);
				have = 0;
			}
		}
		put(fd, "!", 1);
		return 0;
	}
	if (argc >= 4 && strcmp(argv[1], "source") == 0) {
		int fd = open_port(argv[2]);
		int in = argc > 4 ? open(argv[4], O_RDONLY) : -1;
		long left = atol(argv[3]);

		get(fd);
		while (left > 0) {
			long n = left < (long)sizeof buf ? left : (long)sizeof buf;

			if (in >= 0 && (n = get(in)) == 0)
				fail("short file");
			put(fd, buf, n);
			left -= n;
		}
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "true") == 0)
		return 0;
	if (argc == 5 && strcmp(argv[1], "disk") == 0)
		return disk(argv[2], argv[3], atol(argv[4]));
	if (argc == 3 && strcmp(argv[1], "pour") == 0) {
		pour(1, atol(argv[2]));
		return 0;
	}
	if ((argc == 3 || argc == 5) && strcmp(argv[1], "spawn") == 0) {
		char *shell[] = { "/bin/sh", "-c", "true", NULL }, *given[] = { argv[3], argv[4], NULL };
		char **sh = argc == 5 ? given : shell;
		long count = atol(argv[2]), i;
		struct timespec a, b;

		clock_gettime(CLOCK_MONOTONIC, &a);
		for (i = 0; i < count; i++) {
			pid_t pid;

			if (posix_spawn(&pid, sh[0], NULL, NULL, sh, environ) != 0)
				fail("spawn");
			waitpid(pid, NULL, 0);
		}
		clock_gettime(CLOCK_MONOTONIC, &b);
		printf("%ld\n", ((b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec) / count);
		return 0;
	}
	fprintf(stderr, "usage: refbench echo NAME | pass NAME BYTES | sink NAME BYTES [FILE] | source NAME BYTES [FILE] | relay NAME BYTES KEPT | spawn COUNT [PROGRAM ARGUMENT] | pour BYTES | disk DEVICE MODE COUNT | true\n");
	return 2;
}
