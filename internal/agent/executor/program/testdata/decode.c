/*
 * Decodes requests, for fuzzing. On standard input is, for each, whether it is to be taken as one that is in memory
 * (one byte), how long it is (four bytes), and its bytes. On standard output comes what came of it (one byte);
 * fuzz_test.go has the same numbers. Each is decoded by a process of its own, since a request that is cut short ends
 * the executor, and a fault that the compiler's checks find, too.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../request.h"

enum { ACCEPTED, REFUSED = 42, CUT_SHORT };

static char input[1 << 20];
static size_t length, at;

/* To look for leaks takes nine tenths of the time: that is done for the first requests, and then now and then. */
enum { LEAKS_FIRST = 64, LEAKS_EVERY = 64 };

static unsigned long number;

static void end(int result)
{
	if (number < LEAKS_FIRST || number % LEAKS_EVERY == 0)
		exit(result);
	_exit(result);
}

static void receive(void *p, size_t n)
{
	if (n > length - at)
		end(CUT_SHORT);
	memcpy(p, input + at, n);
	at += n;
}

/* Behind the bytes is nothing that may be read: the compiler's checks see to that. */
static struct request *from_memory(void)
{
	char *bytes = malloc(length ? length : 1);
	struct request *r;

	memcpy(bytes, input, length);
	r = request_take(bytes, length);
	free(bytes);
	return r;
}

static struct request *from_link(void)
{
	struct head head;

	receive(&head, sizeof head);
	return request_read(&head, receive);
}

static int decode(int in_memory)
{
	struct request *r = in_memory ? from_memory() : from_link();
	size_t i, k, sum = 0;

	if (!r)
		return REFUSED;
	for (i = 0; i < r->head.nbufs; i++)
		for (k = 0; k < r->lens[i]; k++)
			sum += (unsigned char)r->bufs[i][k];
	request_free(r);
	return sum == (size_t)-1 ? REFUSED : ACCEPTED; /* the bytes were really read */
}

int main(void)
{
	unsigned char in_memory, result;
	uint32_t n;
	int status;

	while (fread(&in_memory, 1, 1, stdin) == 1) {
		if (fread(&n, 1, sizeof n, stdin) != sizeof n || n > sizeof input || fread(input, 1, n, stdin) != n)
			return 1;
		length = n;
		pid_t child = fork();
		if (child < 0)
			return 1;
		if (child == 0)
			end(decode(in_memory));
		if (waitpid(child, &status, 0) != child)
			return 1;
		number++;
		result = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
		if (write(1, &result, 1) != 1)
			return 1;
	}
	return 0;
}
