#ifndef REQUEST_H
#define REQUEST_H

#include <stddef.h>

#include "protocol.h"

/* A request with its buffers in place, all in one piece of memory. */
struct request {
	struct head head;
	uint64_t lens[MAX_BUFS];
	char *bufs[MAX_BUFS];
	char *memory;
};

/* Reads what follows the head; NULL when that makes no sense. */
struct request *request_read(const struct head *head, void (*receive)(void *, size_t));
/* Reads a request, its head too, from n bytes, each of them once. */
struct request *request_take(const void *bytes, size_t n);
void request_free(struct request *r);

#endif
