/*
 * dd with direct I/O, for the built-in userland. Busybox's own reads into memory
 * that the kernel refuses for direct I/O to disks, and then goes on through the
 * page cache without a word: a test would not meet the disk's faults. Operands
 * that are not understood here are left to busybox, which knows the command as
 * `de` (payload.mk).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dd.h"

#define BUSYBOX "/bin/busybox"
#define ALIGN 4096

static struct {
	const char *in, *out;
	int64_t bs, count, skip, seek; /* count is -1 without a limit */
	int in_flags, out_flags;       /* for open */
	int fullblock, skip_bytes, count_bytes, seek_bytes;
	int notrunc, noerror, pad, fsync, fdatasync, quiet;
} o = { .bs = 512, .count = -1 };

/* A number with a unit, or -1. */
static int64_t number(const char *text)
{
	static const struct {
		const char *suffix;
		int64_t factor;
	} units[] = { { "", 1 }, { "c", 1 }, { "w", 2 }, { "b", 512 }, { "k", 1 << 10 }, { "K", 1 << 10 },
		      { "kB", 1000 }, { "M", 1 << 20 }, { "MB", 1000000 }, { "G", 1 << 30 }, { "GB", 1000000000 } };
	char *end;
	long long n;

	if (*text < '0' || *text > '9')
		return -1;
	errno = 0;
	n = strtoll(text, &end, 10);
	for (size_t i = 0; !errno && i < sizeof(units) / sizeof(*units); i++)
		if (strcmp(end, units[i].suffix) == 0 && n <= INT64_MAX / units[i].factor)
			return n * units[i].factor;
	return -1;
}

/* Reads a list of flags; 0 when one is not known. */
static int flags(char *list, int input, int conversion)
{
	for (char *f = strtok(list, ","); f; f = strtok(NULL, ",")) {
		if (conversion && strcmp(f, "notrunc") == 0)
			o.notrunc = 1;
		else if (conversion && strcmp(f, "noerror") == 0)
			o.noerror = 1;
		else if (conversion && strcmp(f, "sync") == 0)
			o.pad = 1;
		else if (conversion && strcmp(f, "fsync") == 0)
			o.fsync = 1;
		else if (conversion && strcmp(f, "fdatasync") == 0)
			o.fdatasync = 1;
		else if (conversion)
			return 0;
		else if (strcmp(f, "direct") == 0)
			*(input ? &o.in_flags : &o.out_flags) |= O_DIRECT;
		else if (input && strcmp(f, "fullblock") == 0)
			o.fullblock = 1;
		else if (input && strcmp(f, "skip_bytes") == 0)
			o.skip_bytes = 1;
		else if (input && strcmp(f, "count_bytes") == 0)
			o.count_bytes = 1;
		else if (!input && strcmp(f, "seek_bytes") == 0)
			o.seek_bytes = 1;
		else if (!input && strcmp(f, "append") == 0)
			o.out_flags |= O_APPEND;
		else
			return 0;
	}
	return 1;
}

/* Reads one operand; 0 when it is not for us. */
static int operand(char *text)
{
	char *value = strchr(text, '=');
	const char *key = text;

	if (!value)
		return 0;
	*value++ = 0;
	if (strcmp(key, "if") == 0)
		return (o.in = value) != NULL;
	if (strcmp(key, "of") == 0)
		return (o.out = value) != NULL;
	if (strcmp(key, "bs") == 0)
		return (o.bs = number(value)) > 0 && o.bs <= 1 << 30;
	if (strcmp(key, "count") == 0)
		return (o.count = number(value)) >= 0;
	if (strcmp(key, "skip") == 0)
		return (o.skip = number(value)) >= 0;
	if (strcmp(key, "seek") == 0)
		return (o.seek = number(value)) >= 0;
	if (strcmp(key, "iflag") == 0)
		return flags(value, 1, 0);
	if (strcmp(key, "oflag") == 0)
		return flags(value, 0, 0);
	if (strcmp(key, "conv") == 0)
		return flags(value, 0, 1);
	if (strcmp(key, "status") == 0)
		return (o.quiet = strcmp(value, "none") == 0) || strcmp(value, "noxfer") == 0;
	return 0;
}

static int complain(const char *what, const char *name)
{
	fprintf(stderr, "dd: %s '%s': %s\n", what, name, strerror(errno));
	return 1;
}

static int64_t read_block(int fd, char *buf)
{
	int64_t n = 0;

	do {
		ssize_t k = read(fd, buf + n, o.bs - n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return n ? n : -1;
		if (k == 0)
			break;
		n += k;
	} while (o.fullblock && n < o.bs);
	return n;
}

static int write_block(int fd, const char *buf, int64_t n)
{
	/* The end of a file need not be a whole sector. */
	if (n % 512 && o.out_flags & O_DIRECT)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_DIRECT);
	while (n > 0) {
		ssize_t k = write(fd, buf, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return -1;
		buf += k;
		n -= k;
	}
	return 0;
}

static int copy(int in, int out, char *buf, const char *from, const char *to)
{
	uint64_t in_full = 0, in_part = 0, out_full = 0, out_part = 0;
	int64_t left = o.count_bytes || o.count < 0 ? o.count : o.count * o.bs;
	int failed = 0;

	while (left) {
		int64_t n = read_block(in, buf);

		if (n < 0) {
			failed = complain("error reading", from);
			if (!o.noerror)
				break;
			lseek(in, o.bs, SEEK_CUR);
			if (left > 0)
				left -= left < o.bs ? left : o.bs;
			if (!o.pad)
				continue;
			memset(buf, 0, o.bs);
			n = o.bs;
			in_part++;
		} else if (n == 0) {
			break;
		} else {
			if (n == o.bs)
				in_full++;
			else
				in_part++;
			if (left > 0) {
				if (o.count_bytes && n > left)
					n = left;
				left -= o.count_bytes ? n : o.bs;
			}
			if (o.pad && n < o.bs) {
				memset(buf + n, 0, o.bs - n);
				n = o.bs;
			}
		}
		if (write_block(out, buf, n) < 0) {
			failed = complain("error writing", to);
			break;
		}
		if (n == o.bs)
			out_full++;
		else
			out_part++;
	}
	if ((o.fsync && fsync(out) < 0) || (o.fdatasync && fdatasync(out) < 0))
		failed = complain("error writing", to);
	if (!o.quiet)
		fprintf(stderr, "%llu+%llu records in\n%llu+%llu records out\n", (unsigned long long)in_full,
			(unsigned long long)in_part, (unsigned long long)out_full, (unsigned long long)out_part);
	return failed;
}

/* Moves to where the copy begins. What cannot seek is read up to there. */
static int go_to(int fd, int64_t at, char *buf)
{
	if (at == 0 || lseek(fd, at, SEEK_CUR) >= 0)
		return 0;
	while (at > 0) {
		ssize_t k = read(fd, buf, at < o.bs ? at : o.bs);

		if (k <= 0)
			return -1;
		at -= k;
	}
	return 0;
}

int dd(int argc, char **argv, char **envp)
{
	int ours = 1, in = 0, out = 1, failed;
	const char *from = "standard input", *to = "standard output";
	int64_t skip, seek;
	void *buf;

	for (int i = 1; ours && i < argc; i++) {
		char *text = strdup(argv[i]);

		ours = text && operand(text);
	}
	if (!ours) {
		argv[0] = "de";
		execve(BUSYBOX, argv, envp);
		return complain("cannot execute", BUSYBOX);
	}
	skip = o.skip_bytes ? o.skip : o.skip * o.bs;
	seek = o.seek_bytes ? o.seek : o.seek * o.bs;
	if (posix_memalign(&buf, ALIGN, (o.bs + ALIGN - 1) / ALIGN * ALIGN)) {
		errno = ENOMEM;
		return complain("no memory for", "bs");
	}
	if (o.in && (in = open(from = o.in, O_RDONLY | o.in_flags)) < 0)
		return complain("can't open", from);
	if (o.out) {
		int mode = O_WRONLY | O_CREAT | o.out_flags;

		if (!o.notrunc && !seek)
			mode |= O_TRUNC;
		if ((out = open(to = o.out, mode, 0666)) < 0)
			return complain("can't open", to);
		if (!o.notrunc && seek && ftruncate(out, seek) < 0 && errno != EINVAL)
			return complain("can't truncate", to);
	}
	if (go_to(in, skip, buf) < 0)
		return complain("can't skip in", from);
	if (seek && lseek(out, seek, SEEK_CUR) < 0)
		return complain("can't seek in", to);
	failed = copy(in, out, buf, from, to);
	if (close(out) < 0)
		failed = complain("error closing", to);
	return failed;
}
