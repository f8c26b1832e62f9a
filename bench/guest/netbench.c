/*
 * netbench: traffic between two guests, and how long it took.
 *
 *   netbench tcpsink PORT               take connections, one after the other, for
 *                                       ever; answer the end of each with a byte
 *   netbench tcpsource HOST PORT BYTES  send bytes, print the nanoseconds until the
 *                                       answer
 *   netbench udpsink PORT               print, after half a second of silence, how
 *                                       many datagrams came and the nanoseconds
 *                                       from the first to the last one
 *   netbench udpsource HOST PORT SIZE COUNT MICROSECONDS
 *                                       send datagrams, with a rest behind every 8
 *
 * Built with gcc -static -O2; it is no part of the product.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buf[256 << 10];

static int fail(const char *what)
{
	perror(what);
	exit(1);
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int open_socket(int type, const char *host, const char *port, int listening)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	int fd = socket(AF_INET, type, 0), on = 1;

	if (fd < 0)
		fail("socket");
	if (host && inet_pton(AF_INET, host, &a.sin_addr) != 1)
		fail("address");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (listening ? bind(fd, (void *)&a, sizeof a) : connect(fd, (void *)&a, sizeof a))
		fail("bind or connect");
	return fd;
}

static int tcpsink(const char *port)
{
	int l = open_socket(SOCK_STREAM, NULL, port, 1);

	if (listen(l, 8))
		fail("listen");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int fd = accept(l, NULL, NULL);

		if (fd < 0)
			fail("accept");
		while (read(fd, buf, sizeof buf) > 0)
			;
		if (write(fd, "e", 1) != 1)
			perror("answer");
		close(fd);
	}
}

static int tcpsource(const char *host, const char *port, long long left)
{
	int fd = open_socket(SOCK_STREAM, host, port, 0);
	long long start = now();

	while (left > 0) {
		ssize_t n = write(fd, buf, left < (long long)sizeof buf ? left : (long long)sizeof buf);

		if (n <= 0)
			fail("write");
		left -= n;
	}
	shutdown(fd, SHUT_WR);
	if (read(fd, buf, 1) != 1)
		fail("answer");
	printf("%lld\n", now() - start);
	return 0;
}

static int udpsink(const char *port)
{
	int fd = open_socket(SOCK_DGRAM, NULL, port, 1), size = 8 << 20;
	struct timeval patience = {20, 0}, silence = {0, 500000};
	long long count = 0, first = 0, last = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	puts("ready");
	fflush(stdout);
	while (recv(fd, buf, sizeof buf, 0) >= 0) {
		last = now();
		if (count++ == 0) {
			first = last;
			setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
		}
	}
	printf("%lld %lld\n", count, last - first);
	return 0;
}

static int udpsource(const char *host, const char *port, int size, int count, int rest)
{
	int fd = open_socket(SOCK_DGRAM, host, port, 0);

	for (int i = 0; i < count; i++) {
		if (send(fd, buf, size, 0) != size)
			fail("send");
		if (rest && i % 8 == 7)
			usleep(rest);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "tcpsink"))
		return tcpsink(argv[2]);
	if (argc == 5 && !strcmp(argv[1], "tcpsource"))
		return tcpsource(argv[2], argv[3], atoll(argv[4]));
	if (argc == 3 && !strcmp(argv[1], "udpsink"))
		return udpsink(argv[2]);
	if (argc == 7 && !strcmp(argv[1], "udpsource"))
		return udpsource(argv[2], argv[3], atoi(argv[4]), atoi(argv[5]), atoi(argv[6]));
	fputs("netbench: see its source\n", stderr);
	return 2;
}
