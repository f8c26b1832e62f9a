/*
 * Decodes one request from standard input, for fuzzing. The status says what came
 * of it; fuzz_test.go has the same numbers.
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

int main(void)
{
	struct head head;
	struct request *r;
	size_t i, k, sum = 0;

	receive(&head, sizeof head);
	r = request_read(&head, receive);
	if (!r)
		return REFUSED;
	for (i = 0; i < r->head.nbufs; i++)
		for (k = 0; k < r->lens[i]; k++)
			sum += (unsigned char)r->bufs[i][k];
	request_free(r);
	return sum == (size_t)-1 ? REFUSED : ACCEPTED; /* the bytes were really read */
}
