#include "fuzz_world.h"

#include "../src/obey.h"

#include "fuzz_target.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum {
	PLENTY = 1 << 20, /* of room in a socket: one step may send half of it */
	NO_FAILURE = -1,
};

/* What becomes of a dial: the last bits of its port say, or the first byte of its path. */
enum dial { ANSWERED, ANSWERED_TOO, REFUSED, UNREACHABLE, UNANSWERED, DIALS };

int __real_socket(int family, int type, int protocol);
int __real_bind(int fd, const struct sockaddr *address, socklen_t length);
int __real_connect(int fd, const struct sockaddr *address, socklen_t length);
int __real_epoll_wait(int epoll, struct epoll_event *events, int most, int ms);
int __real_clock_gettime(clockid_t clock, struct timespec *time);
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
int __wrap_socket(int family, int type, int protocol);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_epoll_wait(int epoll, struct epoll_event *events, int most, int ms);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);

/* The kernel's listeners stay from input to input: backends, and one whose queue is full. */
static int backends[2] = { -1, -1 };
static struct address at[2], deaf, nobody;

static struct thread *thread;
static int peers[WORLD_PEERS];
static uint32_t peer_count;
static int64_t later_ns;
static int fail_epoll, fail_memory = NO_FAILURE;
static int running; /* calls are the thread's, not a sanitizer's or the fuzzer's */
static uint8_t bytes[PLENTY / 2];

/* --- what the thread calls ---------------------------------------------------------------------------------- */

int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
	int result = __real_clock_gettime(clock, time);

	time->tv_sec += later_ns / 1000000000;
	time->tv_nsec += later_ns % 1000000000;
	if (time->tv_nsec >= 1000000000) {
		time->tv_nsec -= 1000000000;
		time->tv_sec++;
	}
	return result;
}

static int refuse_memory(void)
{
	return running && fail_memory >= 0 && fail_memory-- == 0;
}

void *__wrap_malloc(size_t count)
{
	return refuse_memory() ? NULL : __real_malloc(count);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return refuse_memory() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return refuse_memory() ? NULL : __real_realloc(old, size);
}

/* The backends are all IPv4. */
int __wrap_socket(int family, int type, int protocol)
{
	must(family == AF_INET || family == AF_INET6 || family == AF_UNIX);
	return __real_socket(family == AF_INET6 ? AF_INET : family, type, protocol);
}

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	const uint8_t *last = (const uint8_t *)address + length - 1;

	must(fd >= 0 && (address->sa_family == AF_INET || address->sa_family == AF_INET6));
	errno = EADDRNOTAVAIL;
	return *last % 2 ? -1 : 0;
}

static enum dial fate(const struct sockaddr *address, socklen_t length)
{
	const struct address *where = (const struct address *)((const uint8_t *)address - offsetof(struct address, any));

	must(length == where->length);
	switch (address->sa_family) {
	case AF_INET:
		must(length == sizeof(where->in));
		return ntohs(where->in.sin_port) % DIALS;
	case AF_INET6:
		must(length == sizeof(where->in6));
		return ntohs(where->in6.sin6_port) % DIALS;
	default:
		must(address->sa_family == AF_UNIX && length > offsetof(struct sockaddr_un, sun_path));
		must(length <= sizeof(where->un));
		return (uint8_t)where->un.sun_path[0] % UNANSWERED;
	}
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length)
{
	int is_unix = address->sa_family == AF_UNIX;

	switch (fate(address, length)) {
	case UNREACHABLE:
		errno = is_unix ? EAGAIN : ENETUNREACH;
		return -1;
	case REFUSED:
		if (!is_unix)
			return __real_connect(fd, &nobody.any, nobody.length);
		errno = ECONNREFUSED;
		return -1;
	case UNANSWERED:
		return __real_connect(fd, &deaf.any, deaf.length);
	default:
		return __real_connect(fd, &at[is_unix].any, at[is_unix].length);
	}
}

/* Whoever runs the loop is to run one turn of it. */
int __wrap_epoll_wait(int epoll, struct epoll_event *events, int most, int ms)
{
	(void)ms;
	atomic_store(&thread->quit, 1);
	errno = EBADF;
	if (fail_epoll) {
		fail_epoll = 0;
		return -1;
	}
	return __real_epoll_wait(epoll, events, most, 0);
}

/* --- peers -------------------------------------------------------------------------------------------------- */

static void set(int fd, int name, int value)
{
	setsockopt(fd, SOL_SOCKET, name, &value, sizeof(value));
}

static int opened(int is_unix, int backlog, struct address *where)
{
	struct address free = { .length = sizeof(free.in), .in = { .sin_family = AF_INET } };
	int fd = __real_socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	free.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (is_unix) {
		/* The kernel gives an abstract path to who names none. */
		free.length = offsetof(struct sockaddr_un, sun_path);
		free.un.sun_family = AF_UNIX;
	}
	must(fd >= 0);
	set(fd, SO_RCVBUF, PLENTY);
	must(__real_bind(fd, &free.any, free.length) == 0);
	where->length = sizeof(where->un);
	must(getsockname(fd, &where->any, &where->length) == 0);
	must(backlog < 0 || listen(fd, backlog) == 0);
	return fd;
}

static int dial(const struct address *where)
{
	int fd = __real_socket(where->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	must(fd >= 0);
	set(fd, SO_SNDBUF, PLENTY);
	if (__real_connect(fd, &where->any, where->length) < 0 && errno != EINPROGRESS) {
		close(fd);
		return -1;
	}
	return fd;
}

static void open_backends(void)
{
	opened(0, 0, &deaf);
	dial(&deaf);
	opened(0, -1, &nobody);
	for (int is_unix = 0; is_unix < 2; is_unix++)
		backends[is_unix] = opened(is_unix, WORLD_PEERS, &at[is_unix]);
}

static void accept_all(void)
{
	for (int is_unix = 0; is_unix < 2; is_unix++) {
		int fd;

		while ((fd = accept4(backends[is_unix], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
			if (peer_count == WORLD_PEERS) {
				close(fd);
				continue;
			}
			set(fd, SO_SNDBUF, PLENTY);
			peers[peer_count++] = fd;
		}
	}
}

static void let_go(uint32_t peer, int reset)
{
	static const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

	if (peers[peer] < 0)
		return;
	/* A reset leaves no port behind that waits for a minute. */
	if (reset)
		setsockopt(peers[peer], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(peers[peer]);
	peers[peer] = -1;
}

int world_listener(int is_unix)
{
	struct address where;

	return opened(is_unix, WORLD_PEERS, &where);
}

void world_client(int listener)
{
	struct address where = { .length = sizeof(where.un) };
	int fd;

	if (peer_count == WORLD_PEERS || getsockname(listener, &where.any, &where.length) < 0)
		return;
	fd = dial(&where);
	if (fd >= 0)
		peers[peer_count++] = fd;
}

void world_send(uint32_t peer, uint32_t count)
{
	if (peer < peer_count && peers[peer] >= 0)
		(void)!send(peers[peer], bytes, count < sizeof(bytes) ? count : sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void world_read(uint32_t peer)
{
	if (peer < peer_count && peers[peer] >= 0)
		while (recv(peers[peer], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
			;
}

void world_leave(uint32_t peer, enum leave how)
{
	if (peer >= peer_count || peers[peer] < 0)
		return;
	if (how == LEAVE_SHUT)
		shutdown(peers[peer], SHUT_WR);
	else if (how == LEAVE_URGENT)
		send(peers[peer], bytes, 1, MSG_OOB | MSG_NOSIGNAL | MSG_DONTWAIT);
	else
		let_go(peer, how == LEAVE_RESET);
}

/* --- turns -------------------------------------------------------------------------------------------------- */

void world_fail_epoll(void)
{
	fail_epoll = 1;
}

void world_fail_memory(uint32_t count)
{
	fail_memory = (int)(count % 64);
}

void world_calm(void)
{
	fail_epoll = 0;
	fail_memory = NO_FAILURE;
}

int world_obey(const struct record *record)
{
	int result;

	running = 1;
	result = obey_record(thread, record);
	running = 0;
	return result;
}

void world_turn(uint32_t ms)
{
	later_ns += ms * 1000000ll;
	atomic_store(&thread->quit, 0);
	running = 1;
	thread_run(thread);
	running = 0;
	accept_all();
}

void world_begin(struct thread *whose)
{
	if (backends[0] < 0)
		open_backends();
	/* As in Node: a splice to a broken socket sends it. */
	signal(SIGPIPE, SIG_IGN);
	thread = whose;
}

void world_end(void)
{
	accept_all();
	while (peer_count > 0)
		let_go(--peer_count, 1);
	later_ns = 0;
	world_calm();
}
