/*
 * What agent and executor send each other: packed, in native byte order, both
 * being of one build and on one machine. exchange.go and shared.go have the other side.
 */
#ifndef PROTOCOL_H
#define PROTOCOL_H

#include <stdint.h>

enum {
	KIND_CALL = 1,
	KIND_READ_MEM,
	KIND_SEND_FD,
	KIND_SPAWN,
	KIND_BATCH,
	KIND_CANCEL,
	KIND_FORK,   /* the copy's link comes with it */
	KIND_ADOPT,  /* of the process args[0]; a procfs comes with it */
	KIND_FOLLOW, /* the new root directory comes with it */
};

/* Flags of KIND_CALL. */
enum {
	FLAG_ASYNC = 1,
	FLAG_NO_UMASK = 2, /* the mode of a new file is exact */
	FLAG_SHARED = 4,   /* the next request may come in shared memory; the memory may come with this one */
};

/* Flags of KIND_SPAWN. */
enum {
	SPAWN_SETSID = 1,
	SPAWN_USER = 2,    /* uid, gid and groups are those of the request */
	SPAWN_KEEPER = 4,  /* what the command leaves behind is found by its keeper */
	SPAWN_AT_ONCE = 8, /* its program loads at once: we wait for that */
	SPAWN_NULL = 16,   /* standard input is /dev/null, or the descriptor without one */
	SPAWN_TERMINAL = 32, /* standard input becomes the terminal of the session */
};

enum {
	MAX_BUFS = 256,
	MAX_NESTED = 4096,
	MAX_ARGS = 6,
	SPAWN_FDS = 4, /* standard input and outputs, the report */
	MAX_BUF = 1 << 20,            /* bytes of a call's buffer */
	MAX_READ_MEM = 4 << 20,       /* bytes */
	MAX_TEXTS = 5 << 20,          /* bytes of KIND_SPAWN: a request, the default environment and groups */
	MAX_BATCH = 1 << 16,
};

/*
 * A request: head, lens[nbufs], ptrs[nptrs], nested[nnested], and the buffers'
 * bytes. KIND_READ_MEM has one length and no bytes. KIND_CANCEL interrupts the
 * asynchronous call whose request had the id args[0].
 *
 * KIND_SPAWN has one buffer: args[4] groups, then texts that end with a NUL: the
 * directory ("" is ours), the program, args[0] arguments, args[1] variables. The
 * user is args[2], its group args[3].
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
	uint64_t child_offset; /* the address points into the child, or behind its last byte */
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

/*
 * Memory that agent and executor share, for calls whose answer the agent waits for: a
 * change of processes by way of a socket costs twice as much. bytes has a request as it
 * would go over the socket, or an answer. turn says who may write to it:
 *
 *   TURN_SOCKET   the agent, to no end: the executor takes requests from the socket
 *   TURN_READY    the agent: the executor waits here
 *   TURN_REQUEST  the executor: a request is here. With its answer it is TURN_READY again
 *   TURN_LATE     the executor: the answer took too long, and is to go over the socket
 *
 * The executor waits at turn for a short time only, since it could not see that the
 * agent has ended. What the agent sends over the socket ends its wait: TURN_SOCKET.
 */
enum { TURN_SOCKET, TURN_READY, TURN_REQUEST, TURN_LATE };

struct shared {
	uint32_t turn; /* a futex */
	uint32_t unused;
	char bytes[];
};

/* Room for the buffers of a call that are inside a request of the host, and tables. */
#define SHARED_SIZE (128 << 10)

/*
 * How a command began and ended, beside its pidfd: what did not work, with the
 * errno, or its name in our PID namespace, or its status. REPORT_KEPT stands in an
 * answer only: the child is a keeper, and ours; after a failure, it would have to
 * be one, for which a report is missing.
 */
enum { REPORT_CWD = 1, REPORT_USER, REPORT_EXEC, REPORT_STARTED, REPORT_ENDED, REPORT_KEPT };

struct report {
	int32_t kind;
	int32_t value;
};

/* An answer: this and the buffers' bytes. A descriptor may come with it. */
struct answer {
	uint64_t id;
	int64_t ret;
	uint64_t total; /* bytes that follow */
	int32_t error;
	uint32_t kind; /* of a report whose value is error; 0 for none */
};

#endif
