/* Decodes one request from standard input, for fuzzing. */
#include <stdio.h>
#include <stdlib.h>

#include "../request.h"

static void receive(void *p, size_t n)
{
	if (n > 0 && fread(p, 1, n, stdin) != n)
		exit(0);
}

int main(void)
{
	struct head head;
	struct request *r;
	size_t i, k, sum = 0;

	receive(&head, sizeof head);
	r = request_read(&head, receive);
	if (!r)
		return 0;
	for (i = 0; i < r->head.nbufs; i++)
		for (k = 0; k < r->lens[i]; k++)
			sum += (unsigned char)r->bufs[i][k];
	request_free(r);
	return sum == (size_t)-1;
}
