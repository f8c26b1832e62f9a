/* Decoding of requests: everything is checked before it is used. */
#include <stdlib.h>
#include <string.h>

#include "request.h"

/* Buffers of a page or more begin at one, as direct I/O and mappings want;
 * small ones are aligned as those of malloc. Behind each is some room, so that
 * an empty one has an address of its own. */
static size_t place(size_t at, size_t len)
{
	size_t align = len >= 4096 ? 4096 : 16;

	return (at + align - 1) & ~(align - 1);
}

/* The most bytes that one buffer of a request may have. */
static size_t max_len(uint32_t kind)
{
	switch (kind) {
	case KIND_READ_MEM:
		return MAX_READ_MEM;
	case KIND_SPAWN:
		return MAX_TEXTS;
	}
	return MAX_BUF;
}

static int read_tables(struct request *r, void (*receive)(void *, size_t))
{
	struct head *h = &r->head;
	static struct ptr ptrs[MAX_ARGS];
	static struct nested nested[MAX_NESTED];
	static char tables[sizeof r->lens + sizeof ptrs + sizeof nested];
	const size_t nlens = h->nbufs * sizeof r->lens[0], nptrs = h->nptrs * sizeof ptrs[0];
	const size_t nnested = h->nnested * sizeof nested[0];
	size_t i, size = 0;

	if (nlens + nptrs + nnested == 0)
		return 0;
	/* One read: each is a system call. */
	receive(tables, nlens + nptrs + nnested);
	memcpy(r->lens, tables, nlens);
	memcpy(ptrs, tables + nlens, nptrs);
	memcpy(nested, tables + nlens + nptrs, nnested);
	for (i = 0; i < h->nbufs; i++) {
		if (r->lens[i] > max_len(h->kind))
			return -1;
		size = place(size, r->lens[i]) + r->lens[i] + 16;
	}
	if (size > 0 && posix_memalign((void **)&r->memory, 4096, size) != 0)
		return -1;
	for (i = 0, size = 0; i < h->nbufs; i++) {
		size = place(size, r->lens[i]);
		r->bufs[i] = r->memory + size;
		size += r->lens[i] + 16;
		if (h->kind == KIND_READ_MEM)
			memset(r->bufs[i], 0, r->lens[i]);
		else
			receive(r->bufs[i], r->lens[i]);
	}
	for (i = 0; i < h->nptrs; i++) {
		if (ptrs[i].slot >= MAX_ARGS || ptrs[i].buf >= h->nbufs)
			return -1;
		h->args[ptrs[i].slot] = (long)r->bufs[ptrs[i].buf];
	}
	for (i = 0; i < h->nnested; i++) {
		struct nested *n = &nested[i];
		uint64_t address;

		if (n->parent >= h->nbufs || n->child >= h->nbufs)
			return -1;
		if (r->lens[n->parent] < sizeof address || n->offset > r->lens[n->parent] - sizeof address)
			return -1;
		if (n->child_offset > r->lens[n->child])
			return -1;
		address = (uint64_t)r->bufs[n->child] + n->child_offset;
		memcpy(r->bufs[n->parent] + n->offset, &address, sizeof address);
	}
	return 0;
}

struct request *request_read(const struct head *head, void (*receive)(void *, size_t))
{
	struct request *r;

	if (head->kind < KIND_CALL || head->kind > KIND_FOLLOW || head->nbufs > MAX_BUFS ||
	    head->nptrs > MAX_ARGS || head->nnested > MAX_NESTED)
		return NULL;
	if (head->kind == KIND_READ_MEM && head->nbufs != 1)
		return NULL;
	if (head->kind == KIND_SPAWN && head->nbufs != 1)
		return NULL;
	if (head->kind == KIND_BATCH && (head->nbufs != 0 || head->args[0] < 1 || head->args[0] > MAX_BATCH))
		return NULL;
	/* The arrays are left as they are, so that a small call touches no more
	 * pages than it needs. */
	r = malloc(sizeof *r);
	if (!r)
		return NULL;
	r->head = *head;
	r->memory = NULL;
	if (read_tables(r, receive) < 0) {
		request_free(r);
		return NULL;
	}
	return r;
}

static const char *taken; /* what request_take has not read yet */
static size_t left;
static int short_of; /* there was less than that */

static void take(void *p, size_t n)
{
	if (n > left) {
		short_of = 1;
		memset(p, 0, n);
		return;
	}
	memcpy(p, taken, n);
	taken += n;
	left -= n;
}

struct request *request_take(const void *bytes, size_t n)
{
	struct request *r;
	struct head head;

	taken = bytes;
	left = n;
	short_of = 0;
	take(&head, sizeof head);
	r = short_of ? NULL : request_read(&head, take);
	if (r && short_of) {
		request_free(r);
		return NULL;
	}
	return r;
}

void request_free(struct request *r)
{
	if (!r)
		return;
	free(r->memory);
	free(r);
}
