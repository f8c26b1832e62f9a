#ifndef SHARED_H
#define SHARED_H

#include "request.h"

/* Takes the memory that comes with a request as fd, in place of any that was there. */
void shared_map(int fd);
/* Forgets the memory, which is another process's. */
void shared_drop(void);
/* Offers to take the next request from the memory; 0 where there is none. */
int shared_offer(void);
/* Takes the offer back; 0 where it is too late for that. */
int shared_withdraw(void);
/* Waits for a request for some time; 0 when the socket should be looked at. */
int shared_await(void);
/* The request, or NULL if it makes no sense. */
struct request *shared_request(void);
/* Answers the request; 0 when the answer must go over the socket. */
int shared_answer(const struct answer *a, struct request *r);

#endif
