/*
 * What agent and executor send each other: packed, in native byte order, both
 * being of one build and on one machine. executor.go has the other side.
 */
#ifndef PROTOCOL_H
#define PROTOCOL_H

#include <stdint.h>

enum { KIND_CALL = 1, KIND_READ_MEM, KIND_SEND_FD, KIND_SPAWN, KIND_BATCH, KIND_CANCEL };
enum { FLAG_ASYNC = 1 };

enum {
	MAX_BUFS = 256,
	MAX_NESTED = 4096,
	MAX_ARGS = 6,
	SPAWN_FDS = 3,
	MAX_BUF = 1 << 20,            /* bytes of a call's buffer */
	MAX_READ_MEM = 4 << 20,       /* bytes */
	MAX_TEXTS = (4 << 20) + 4096, /* bytes of each of KIND_SPAWN: a request and the default environment */
	MAX_BATCH = 1 << 16,
};

/*
 * A request: head, lens[nbufs], ptrs[nptrs], nested[nnested], and the buffers'
 * bytes. KIND_READ_MEM has one length and no bytes. KIND_CANCEL interrupts the
 * asynchronous call whose request had the id args[0].
 */
struct head {
	uint64_t id;
	uint32_t kind;
	uint32_t flags;
	int64_t nr;
	long args[MAX_ARGS];
	uint32_t nbufs;
	uint32_t nptrs;
	uint32_t nnested;
	uint32_t unused;
};

struct ptr {
	uint32_t slot; /* argument that gets the address of */
	uint32_t buf;  /* this buffer */
};

struct nested {
	uint32_t parent; /* buffer that gets, at offset, the address of */
	uint32_t child;
	uint64_t offset;
};

/*
 * The calls of a KIND_BATCH, args[0] of them, are in a file in memory that comes
 * with the request, and so are their results: if one is lethal, those of the
 * ones before are there.
 */
struct batch {
	uint32_t stop; /* the agent wants no further call */
	uint32_t done; /* calls that have returned */
	struct batch_call {
		int64_t nr;
		long args[MAX_ARGS];
		int64_t ret;
		int32_t error;
		uint32_t unused;
	} calls[];
};

/* An answer: this and the buffers' bytes. A descriptor may come with it. */
struct answer {
	uint64_t id;
	int64_t ret;
	uint64_t total; /* bytes that follow */
	int32_t error;
	uint32_t unused;
};

#endif
