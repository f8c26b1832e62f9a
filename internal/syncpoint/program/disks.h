// What QEMU and the servers of disks say to each other, read along to know how many requests are
// not answered. Included by syncpoint.c.

// The connections to the servers of disks, whose protocol is NBD: headers, and data behind some. QEMU
// uses one only while it has the lock of all.
static struct disk {
	int fd;
	bool begun; // the handshake is over
	struct stream {
		unsigned char head[28];
		size_t n;    // bytes of it that are there
		size_t data; // bytes to come
		bool last;   // the answer ends with them
	} out, in;
} disks[64];

static const unsigned char ask[] = {0x25, 0x60, 0x95, 0x13}, simple[] = {0x67, 0x44, 0x66, 0x98},
			   structured[] = {0x66, 0x8e, 0x33, 0xef};

static size_t number(const unsigned char *at)
{
	return (size_t)at[0] << 24 | (size_t)at[1] << 16 | (size_t)at[2] << 8 | at[3];
}

static void odd(void)
{
	errno = EPROTO;
	gone("disk");
}

// asked takes the header of a request.
static void asked(struct stream *s)
{
	enum { write = 1, disconnect = 2 };
	int kind = s->head[6] << 8 | s->head[7];

	if (memcmp(s->head, ask, sizeof ask) != 0)
		odd();
	if (kind == write)
		s->data = number(s->head + 24);
	if (kind != disconnect)
		requests++;
}

// answered takes the header of an answer, and its end.
static void answered(struct stream *s)
{
	s->last = true;
	if (memcmp(s->head, structured, sizeof structured) == 0) {
		s->last = s->head[5] & 1;
		s->data = number(s->head + 16);
	}
	if (s->data == 0 && s->last)
		requests--;
}

// follow reads along: n bytes of a stream, which is that of answers or of requests.
static void follow(struct stream *s, const unsigned char *b, size_t n, bool answers)
{
	while (n > 0) {
		size_t size = sizeof s->head, some;

		if (s->data > 0) {
			some = n < s->data ? n : s->data;
			s->data -= some;
			if (answers && s->data == 0 && s->last)
				requests--;
		} else {
			if (answers) {
				size = sizeof ask;
				if (s->n >= size && memcmp(s->head, simple, size) == 0)
					size = 16;
				else if (s->n >= size && memcmp(s->head, structured, size) == 0)
					size = 20;
				else if (s->n >= size)
					odd();
			}
			some = n < size - s->n ? n : size - s->n;
			memcpy(s->head + s->n, b, some);
			s->n += some;
			if (s->n == size && size > sizeof ask) {
				s->n = 0;
				if (answers)
					answered(s);
				else
					asked(s);
			}
		}
		b += some;
		n -= some;
	}
}

// disk_of returns the disk whose connection a socket is, NULL for another socket: disks have servers
// with names.
static struct disk *disk_of(int fd)
{
	struct sockaddr_un peer;
	socklen_t size = sizeof peer;

	for (int i = 0; i < n_disks; i++)
		if (disks[i].fd == fd)
			return &disks[i];
	if (getpeername(fd, (struct sockaddr *)&peer, &size) != 0 || peer.sun_family != AF_UNIX ||
		size <= offsetof(struct sockaddr_un, sun_path) || peer.sun_path[0] == 0)
		return NULL;
	if (n_disks == sizeof disks / sizeof *disks) {
		errno = EMFILE;
		gone("disk");
	}
	disks[n_disks].fd = fd;
	return &disks[n_disks++];
}

// passed reads along what was sent or received by a socket.
static void passed(int fd, const struct msghdr *m, ssize_t n, bool answers)
{
	int saved = errno;
	struct disk *d = n > 0 ? disk_of(fd) : NULL;

	if (d != NULL && !d->begun && !answers)
		d->begun = m->msg_iov[0].iov_len >= sizeof ask && memcmp(m->msg_iov[0].iov_base, ask, sizeof ask) == 0;
	for (size_t i = 0; d != NULL && d->begun && n > 0; i++) {
		size_t some = (size_t)n < m->msg_iov[i].iov_len ? (size_t)n : m->msg_iov[i].iov_len;

		follow(answers ? &d->in : &d->out, m->msg_iov[i].iov_base, some, answers);
		n -= some;
	}
	errno = saved;
}

static ssize_t receive_of_qemu(int fd, struct msghdr *m, int flags)
{
	ssize_t n = recvmsg(fd, m, flags);

	if ((flags & MSG_PEEK) == 0)
		passed(fd, m, n, true);
	return n;
}

// settled ends QEMU if a request is under way where none can be: its end would be by the host's time.
static void settled(void)
{
	if (requests != 0) {
		errno = EBUSY;
		gone("disk");
	}
}
