/* What the parts of the library share. */
#include <sys/types.h>

enum { MAX_FILES = 32, MAX_REQUEST = 100 << 10 };
enum { STARTED = 1, ENDED, REFUSED };

/* A request that was received. */
struct request {
	char text[MAX_REQUEST + 1];
	ssize_t length;
	int files[MAX_FILES];
	int file_count;
	int files_lost; /* some of them: there were too many open */
};

/* receive returns 0 at the end of the connection. */
int receive(int sock, struct request *r);

/* report ends the process if nobody is there. */
void report(int sock, int kind, int pid, int status, int pidfd);

/* set_title sets what process lists show as the arguments. */
void set_title(int argc, char **argv);

/* serve_holds prepares the process, which calls main now, for requests on the socket to make templates of it. */
void serve_holds(int sock);

/* poll_hold is called for the main loop; it returns what ppoll would. */
int poll_hold(void *polled, unsigned long n, const void *limit, const void *mask);

/* is_copy reports whether the process goes on from a template. */
int is_copy(void);

/* The signal with which threads are stopped. QEMU blocks it in none of its own. */
enum { HOLD_SIGNAL = 8 /* SIGFPE */ };

/* listen_for_holds prepares the process for hold. */
void listen_for_holds(void);

/*
 * hold stops all other threads where they wait, and returns how many. It returns -1 if there is one that does
 * not wait: then they all go on. wake lets that many go on; make_threads makes them anew in a copy of the process, and
 * returns -1 if it cannot.
 */
int hold(void);
void wake(int count);
int make_threads(int count);

/* thread_id returns where the C library keeps the number of this thread, NULL if that is not found. */
int *thread_id(void);
