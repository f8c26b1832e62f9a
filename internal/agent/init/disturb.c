/*
 * A disturber takes the processor from whatever has it, at moments that follow from a
 * seed, and holds it for a while. The scheduler then often goes on with another process:
 * each seed has the guest's processes meet in another order.
 *
 * Now and then it has a process wait for all others for a while, by its niceness, so that
 * others get ahead of it by far more than an interruption.
 *
 * It does so about each millisecond while the guest is busy, and ever more rarely while
 * it is not, since an idle guest would take longer for each of its moments.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "disturb.h"

enum {
	PAUSE = 1000 * 1000, /* the mean one of a busy guest, in nanoseconds */
	LONGEST = 1000 * 1000 * 1000,
	LOOK = 32, /* acts between two looks at how busy the guest is */
	SPIN = 20 * 1000,
	REORDER = 6 /* acts between two processes whose niceness is drawn */
};

/* xorshift64*, whose state is never 0 */
static uint64_t draw(uint64_t *state, uint64_t below)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (*state * 0x2545f4914f6cdd1dULL >> 32) % below;
}

/* idle_time returns how long the guest has had nothing to do, in units of USER_HZ, 0 where that is unknown. */
static uint64_t idle_time(int stat)
{
	char text[128];
	ssize_t n = pread(stat, text, sizeof text - 1, 0);
	unsigned long long idle;

	if (n <= 0)
		return 0;
	text[n] = 0;
	return sscanf(text, "cpu %*u %*u %*u %llu", &idle) == 1 ? idle : 0;
}

/* is_common reports whether a process belongs neither to the kernel nor to us. */
static int is_common(const char *pid)
{
	char path[32], text[16] = "";
	int fd;

	snprintf(path, sizeof path, "/proc/%.10s/exe", pid);
	if (readlink(path, text, sizeof text) <= 0)
		return 0;
	snprintf(path, sizeof path, "/proc/%.10s/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof text - 1) <= 0)
		text[0] = 0;
	close(fd);
	return strncmp(text, "provium", 7) != 0;
}

/* reorder draws one of the youngest processes, and whether it waits for all others. */
static void reorder(uint64_t *state)
{
	enum { YOUNGEST = 4 };
	int pids[YOUNGEST] = { 0 }, n = 0;
	DIR *d = opendir("/proc");
	struct dirent *e;

	if (d == NULL)
		return;
	while ((e = readdir(d)) != NULL) /* in the order of their numbers */
		if (e->d_name[0] >= '2' && e->d_name[0] <= '9' ? is_common(e->d_name) :
			e->d_name[0] == '1' && e->d_name[1] != 0 && is_common(e->d_name))
			pids[n++ % YOUNGEST] = atoi(e->d_name);
	closedir(d);
	if (n > 0)
		setpriority(PRIO_PROCESS, pids[draw(state, n < YOUNGEST ? n : YOUNGEST)], draw(state, 2) ? 19 : 0);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int disturb(const char *seed)
{
	struct sched_param first = { .sched_priority = 1 };
	int stat = open("/proc/stat", O_RDONLY | O_CLOEXEC);
	uint64_t state = strtoull(seed, NULL, 10) * 2 + 1, pause = PAUSE, began = now(), idled = idle_time(stat);
	uint64_t unit = 1000000000 / sysconf(_SC_CLK_TCK);
	unsigned i;
	sigset_t all;

	if (sched_setscheduler(0, SCHED_FIFO, &first) != 0)
		return 1;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	for (i = 1;; i++) {
		uint64_t ns = 1000 + draw(&state, 2 * pause);
		struct timespec t = { ns / 1000000000, ns % 1000000000 };
		volatile unsigned spins = draw(&state, SPIN);

		nanosleep(&t, NULL);
		while (spins > 0)
			spins--;
		if (i % REORDER == 0)
			reorder(&state);
		if (i % LOOK == 0 || pause > PAUSE) {
			uint64_t at = now(), idle = idle_time(stat);

			if ((idle - idled) * unit < (at - began) / 2)
				pause = PAUSE;
			else if (pause < LONGEST)
				pause *= 2;
			began = at;
			idled = idle;
		}
	}
}
