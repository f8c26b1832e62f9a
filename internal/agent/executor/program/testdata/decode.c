/*
 * Decodes one request from standard input, for fuzzing; with an argument, as one that
 * is in memory. The status says what came of it; fuzz_test.go has the same numbers.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../request.h"

enum { ACCEPTED, REFUSED = 42, CUT_SHORT };

static void receive(void *p, size_t n)
{
	if (n > 0 && fread(p, 1, n, stdin) != n)
		exit(CUT_SHORT);
}

/* Behind the bytes is nothing that may be read: the compiler's checks see to that. */
static struct request *from_memory(void)
{
	char *bytes = malloc(1 << 20);
	size_t n = fread(bytes, 1, 1 << 20, stdin);
	struct request *r;

	bytes = realloc(bytes, n ? n : 1);
	r = request_take(bytes, n);
	free(bytes);
	return r;
}

static struct request *from_link(void)
{
	struct head head;

	receive(&head, sizeof head);
	return request_read(&head, receive);
}

int main(int argc, char **argv)
{
	struct request *r = argc > 1 ? from_memory() : from_link();
	size_t i, k, sum = 0;

	(void)argv;
	if (!r)
		return REFUSED;
	for (i = 0; i < r->head.nbufs; i++)
		for (k = 0; k < r->lens[i]; k++)
			sum += (unsigned char)r->bufs[i][k];
	request_free(r);
	return sum == (size_t)-1 ? REFUSED : ACCEPTED; /* the bytes were really read */
}
