/* Stands in for QEMU: its first argument says what it does. File 3 is where it answers. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

void *g_malloc(size_t);
void *g_realloc(void *, size_t);
void g_free(void *);

/* The library serves programs that have it. */
void qemu_init(void) {}

/*
 * read_kernel does what QEMU does with a kernel, of which newer ones read the whole, and
 * answers with all of it but the setup.
 */
static int read_kernel(FILE *out, const char *path, int whole)
{
	FILE *f = fopen(path, "rb");
	fseek(f, 0, SEEK_END);
	long size = ftell(f);
	unsigned char header[0x1f2];
	fseek(f, 0, SEEK_SET);
	if (fread(header, 1, sizeof header, f) != sizeof header)
		return 1;
	long setup = (header[0x1f1] + 1) * 512, skipped = whole ? 0 : setup, n = size - skipped;
	char *first = g_malloc(setup), *kernel = g_malloc(n);
	fseek(f, 0, SEEK_SET);
	if (fread(first, 1, setup, f) != (size_t)setup || fseek(f, skipped, SEEK_SET) ||
	    fread(kernel, 1, n, f) != (size_t)n)
		return 2;
	if (fgetc(f) != EOF)
		return 3;
	fclose(f);
	kernel = g_realloc(kernel, n + 64);
	kernel[n] = 1; /* it is writable, and so is what follows */
	char *rest = kernel + setup - skipped;
	rest[0] = 'X';
	fwrite(rest, 1, size - setup, out);
	fflush(out);
	pause();
	g_free(kernel);
	return 0;
}

/*
 * count has a thread that counts in its own memory, in memory of the process, and in a file that is
 * mapped, each time that the main loop says so. File 3 is a socket, on which the main loop is told:
 * '+' counts, '=' is answered with the counts and the thread's number for the C library, 'b' has the
 * thread be busy, 's' sleeps.
 */
enum { COUNTED = 1 << 16 };
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t asked = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
static int wanted, counted;
static volatile int busy;
static __thread int own = 100;
static int own_seen;
static uint32_t *mapped;
static int counter; /* an eventfd */

static void *count_thread(void *unused)
{
	pthread_mutex_lock(&mutex);
	for (;;) {
		while (counted == wanted)
			pthread_cond_wait(&asked, &mutex);
		while (busy)
			;
		uint64_t one = 1;
		if (write(counter, &one, sizeof one) != sizeof one)
			_exit(8);
		counted++;
		mapped[counted]++;
		own_seen = ++own;
		pthread_cond_signal(&done);
	}
	return unused;
}

static int count(const char *path)
{
	pthread_t thread;
	struct pollfd p = { .fd = 3, .events = POLLIN };
	int file = open(path, O_RDWR);
	mapped = mmap(NULL, COUNTED, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	counter = eventfd(0, EFD_NONBLOCK);
	if (mapped == MAP_FAILED || counter < 0 || pthread_create(&thread, NULL, count_thread, NULL))
		return 4;
	for (;;) {
		char c, answer[200];
		uint64_t events = 0;
		if (ppoll(&p, 1, NULL, NULL) <= 0)
			continue;
		if (read(3, &c, 1) != 1)
			return 0;
		switch (c) {
		case '+':
			pthread_mutex_lock(&mutex);
			wanted++;
			pthread_cond_signal(&asked);
			while (counted < wanted)
				pthread_cond_wait(&done, &mutex);
			pthread_mutex_unlock(&mutex);
			break;
		case 'b':
			busy = 1;
			pthread_mutex_lock(&mutex);
			wanted++;
			pthread_cond_signal(&asked);
			pthread_mutex_unlock(&mutex);
			break;
		}
		if (c == '=' && read(counter, &events, sizeof events) < 0)
			events = 0;
		/* Its end would be waited for by the thread's number. */
		int joined = pthread_tryjoin_np(thread, NULL);
		snprintf(answer, sizeof answer, "%d %u %d %d %d %lx", counted, mapped[counted ? counted : 1], own_seen,
			(int)events, joined, (unsigned long)mapped);
		if (write(3, answer, strlen(answer)) < 0)
			return 5;
	}
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "count"))
		return count(argv[2]);
	FILE *out = fdopen(3, "w");
	const char *what = argc > 1 ? argv[1] : "";
	if (!strcmp(what, "-L")) { /* of the wrapper script */
		argv += 2;
		argc -= 2;
		what = argv[1];
		fprintf(out, "wrapped ");
	}
	if (!strcmp(what, "say")) {
		char dir[4096];
		fprintf(out, "%s %s %d", getcwd(dir, sizeof dir), getenv("WORD"), getppid());
		for (int i = 2; i < argc; i++)
			fprintf(out, " <%s>", argv[i]);
		fflush(out);
		if (getenv("LD_PRELOAD") || getenv("PROVIUM_FORK_SERVER"))
			return 9;
		pause();
	}
	if (!strcmp(what, "fail")) {
		fprintf(stderr, "it failed\n");
		return 3;
	}
	if (!strcmp(what, "leave")) {
		pid_t child = fork();
		if (child == 0)
			pause();
		fprintf(out, "%d", child);
	}
	if (!strcmp(what, "abort"))
		abort();
	if (!strcmp(what, "-kernel"))
		return read_kernel(out, argv[2], argc > 3);
	return 0;
}
