#include "fuzz_world.h"

#include "../src/obey.h"

#include "fuzz_target.h"

#include <errno.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	PLENTY = 1 << 20, /* of room in a socket: one step may send half of it */
	NO_FAILURE = -1,
	LARGE = 4 << 20,   /* what only the two halves of a batch have */
	LOOPBACKS = 8,     /* addresses of clients of datagrams */
	ANSWERED_MOST = 64, /* datagrams a backend answers at once */
	SENT_MOST = 256,   /* and its answers then */
};

/* What becomes of a dial: the last bits of its port say, or the first byte of its path. */
enum dial { ANSWERED, ANSWERED_TOO, REFUSED, UNREACHABLE, UNANSWERED, DIALS };

int __real_socket(int family, int type, int protocol);
int __real_bind(int fd, const struct sockaddr *address, socklen_t length);
int __real_connect(int fd, const struct sockaddr *address, socklen_t length);
int __real_epoll_wait(int epoll, struct epoll_event *events, int most, int ms);
int __real_clock_gettime(clockid_t clock, struct timespec *time);
long __real_syscall(long number, ...);
void __real_datagrams_shoot(struct thread *thread, struct share *share, int fd, const struct address *to,
			    struct datagram one);
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void __real_free(void *memory);
int __wrap_socket(int family, int type, int protocol);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_epoll_wait(int epoll, struct epoll_event *events, int most, int ms);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
long __wrap_syscall(long number, ...);
void __wrap_datagrams_shoot(struct thread *thread, struct share *share, int fd, const struct address *to,
			    struct datagram one);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
void __wrap_free(void *memory);

/* The kernel's listeners stay from input to input: backends, and one whose queue is full. */
static int backends[2] = { -1, -1 };
static struct address at[2], deaf, nobody;

/* The same for datagrams: two backends of which the second comes and goes, one that reads nothing, and a port where
 * nobody is. */
static int answering[2], reading_nothing;
static struct address answering_at[2], reading_nothing_at, nobody_at;
static int is_away;

static struct thread *thread;
static int peers[WORLD_PEERS];
static uint32_t peer_count;
static int64_t later_ns;
static int fail_epoll, fail_memory = NO_FAILURE, fail_calls = NO_FAILURE, calls_failing, call_error;
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

/* Fresh memory of a batch would cost more than the rest of an input. */
static struct large {
	void *memory;
	int taken;
} larges[2];

static void *take_large(size_t count)
{
	for (int i = 0; i < 2; i++) {
		if (larges[i].taken)
			continue;
		if (!larges[i].memory)
			larges[i].memory = __real_malloc(count);
		larges[i].taken = larges[i].memory != NULL;
		return larges[i].memory;
	}
	return NULL;
}

void *__wrap_malloc(size_t count)
{
	if (refuse_memory())
		return NULL;
	return count >= LARGE ? take_large(count) : __real_malloc(count);
}

void __wrap_free(void *memory)
{
	for (int i = 0; i < 2; i++)
		if (memory && memory == larges[i].memory) {
			must(larges[i].taken);
			larges[i].taken = 0;
			return;
		}
	__real_free(memory);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return refuse_memory() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return refuse_memory() ? NULL : __real_realloc(old, size);
}

/* How many arguments a call has. */
static int arguments_of(long number)
{
	switch (number) {
	case SYS_sendmsg:
		return 3;
	case SYS_sendmmsg:
		return 4;
	case SYS_recvmmsg:
		return 5;
	default:
		must(number == SYS_sendto || number == SYS_recvfrom);
		return 6;
	}
}

/* These are made by their numbers. */
long __wrap_syscall(long number, ...)
{
	long arguments[6] = { 0 };
	va_list list;

	va_start(list, number);
	for (int i = 0; i < arguments_of(number); i++)
		arguments[i] = va_arg(list, long);
	va_end(list);
	if (running && fail_calls >= 0 && fail_calls-- == 0) {
		fail_calls += --calls_failing > 0;
		errno = call_error;
		return -1;
	}
	return __real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
			      arguments[5]);
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

static int is_of_datagrams(int fd)
{
	int type = 0;
	socklen_t length = sizeof(type);

	getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length);
	return type == SOCK_DGRAM;
}

/* Where datagrams go; NULL is nowhere. */
static const struct address *backend_of(enum dial fate)
{
	switch (fate) {
	case UNREACHABLE:
		return NULL;
	case REFUSED:
		return &nobody_at;
	case UNANSWERED:
		return &reading_nothing_at;
	default:
		return &answering_at[fate == ANSWERED_TOO];
	}
}

void __wrap_datagrams_shoot(struct thread *whose, struct share *share, int fd, const struct address *to,
			    struct datagram one)
{
	static const struct address nowhere = { .length = sizeof(nowhere.in), .in = { .sin_family = AF_INET } };
	const struct address *backend = backend_of(fate(&to->any, to->length));

	must(one.length <= DATAGRAM_BYTES && is_of_datagrams(fd));
	__real_datagrams_shoot(whose, share, fd, backend ? backend : &nowhere, one);
}

static int connect_datagrams(int fd, const struct sockaddr *address, socklen_t length)
{
	const struct address *backend = backend_of(fate(address, length));

	must(address->sa_family != AF_UNIX);
	errno = ENETUNREACH;
	return backend ? __real_connect(fd, &backend->any, backend->length) : -1;
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length)
{
	int is_unix = address->sa_family == AF_UNIX;

	if (is_of_datagrams(fd))
		return connect_datagrams(fd, address, length);
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

/* A socket for datagrams that keeps its port when it is connected and not connected again, unlike one that the
 * kernel chose for it. */
static int opened_to_stay(struct address *where)
{
	for (;;) {
		int fd = __real_socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

		must(fd >= 0);
		*where = (struct address){ .length = sizeof(where->in), .in = { .sin_family = AF_INET } };
		where->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		must(__real_bind(fd, &where->any, where->length) == 0);
		must(getsockname(fd, &where->any, &where->length) == 0);
		close(fd);
		fd = __real_socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		must(fd >= 0);
		set(fd, SO_RCVBUF, PLENTY);
		set(fd, SO_SNDBUF, PLENTY);
		if (__real_bind(fd, &where->any, where->length) == 0)
			return fd;
		close(fd);
	}
}

/* Who is connected to somebody else has no port for us: that is refused. */
static void go_away(int fd)
{
	struct address other = { .length = sizeof(other.in), .in = { .sin_family = AF_INET, .sin_port = htons(9) } };

	other.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	must(__real_connect(fd, &other.any, other.length) == 0);
}

static void come_back(int fd)
{
	struct sockaddr nobody_else = { .sa_family = AF_UNSPEC };

	must(__real_connect(fd, &nobody_else, sizeof(nobody_else)) == 0);
}

static void open_datagram_backends(void)
{
	go_away(opened_to_stay(&nobody_at));
	reading_nothing = opened_to_stay(&reading_nothing_at);
	/* The kernel changes its own code for the first socket that asks for this, and for the last. */
	setsockopt(reading_nothing, SOL_UDP, UDP_GRO, &(int){ 1 }, sizeof(int));
	for (int i = 0; i < 2; i++)
		answering[i] = opened_to_stay(&answering_at[i]);
}

static void open_backends(void)
{
	open_datagram_backends();
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

int world_datagrams(enum where where)
{
	struct address at = { .length = sizeof(at.in), .in = { .sin_family = AF_INET } };
	int fd = -1, on = 1;

	if (where == AT_EITHER)
		fd = __real_socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0) {
		at = (struct address){ .length = sizeof(at.in6), .in6 = { .sin6_family = AF_INET6 } };
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){ 0 }, sizeof(int));
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
	} else {
		fd = __real_socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		at.in.sin_addr.s_addr = htonl(where == AT_ONE ? INADDR_LOOPBACK : INADDR_ANY);
		if (where != AT_ONE)
			setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
	}
	must(fd >= 0 && __real_bind(fd, &at.any, at.length) == 0);
	set(fd, SO_RCVBUF, PLENTY);
	setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on));
	return fd;
}

/* To a listener that has every address one of them is chosen. */
static int open_asking(const struct address *listener, uint32_t from)
{
	int is_ipv6 = listener->any.sa_family == AF_INET6 && from & 0x80;
	struct address to = { .length = sizeof(to.in), .in = { .sin_family = AF_INET } }, mine = to;
	int fd = __real_socket(is_ipv6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	must(fd >= 0);
	mine.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK + from % LOOPBACKS);
	to.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK + from / LOOPBACKS % 2);
	to.in.sin_port = listener->in.sin_port; /* in the same place of both */
	if (is_ipv6) {
		to = *listener;
		to.in6.sin6_addr = in6addr_loopback;
	} else if (listener->any.sa_family == AF_INET && !address_is_any(listener)) {
		to = *listener;
	}
	set(fd, SO_SNDBUF, PLENTY);
	if ((is_ipv6 || __real_bind(fd, &mine.any, mine.length) == 0) && __real_connect(fd, &to.any, to.length) == 0)
		return fd;
	close(fd);
	return -1;
}

void world_client(int listener, uint32_t from)
{
	struct address where = { .length = sizeof(where.un) };
	int fd;

	if (peer_count == WORLD_PEERS || getsockname(listener, &where.any, &where.length) < 0)
		return;
	fd = is_of_datagrams(listener) ? open_asking(&where, from) : dial(&where);
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

/* --- datagrams ---------------------------------------------------------------------------------------------- */

/* To `to`, or to whom the socket is connected. The kernel cuts up to 64. */
static void send_burst(int fd, struct burst burst, const struct address *to)
{
	uint16_t segment = burst.segment;
	uint8_t control[CMSG_SPACE(sizeof(segment))] __attribute__((aligned(8))) = { 0 };
	struct iovec part = { bytes, burst.bytes };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (to) {
		message.msg_name = (void *)&to->any;
		message.msg_namelen = to->length;
	}
	if (segment && burst.bytes > segment) {
		struct cmsghdr *cut;

		message.msg_control = control;
		message.msg_controllen = sizeof(control);
		cut = CMSG_FIRSTHDR(&message);
		*cut = (struct cmsghdr){ CMSG_LEN(sizeof(segment)), SOL_UDP, UDP_SEGMENT };
		memcpy(CMSG_DATA(cut), &segment, sizeof(segment));
		if (part.iov_len > 60u * segment)
			part.iov_len = 60u * segment;
	}
	for (uint32_t i = 0; i < burst.times; i++)
		(void)!sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void world_ask(uint32_t peer, struct burst burst)
{
	if (peer < peer_count && peers[peer] >= 0 && is_of_datagrams(peers[peer]))
		send_burst(peers[peer], burst, NULL);
}

void world_answer(struct burst burst)
{
	uint32_t sent = 0;

	for (int i = 0; i < 2; i++)
		for (int asked = 0; asked < ANSWERED_MOST && sent < SENT_MOST; asked++, sent += burst.times) {
			struct address from = { .length = sizeof(from.in) };

			if (recvfrom(answering[i], bytes, sizeof(bytes), MSG_DONTWAIT, &from.any, &from.length) < 0)
				break;
			send_burst(answering[i], burst, &from);
		}
}

void world_vanish(void)
{
	is_away = !is_away;
	(is_away ? go_away : come_back)(answering[1]);
}

static void forget_datagrams(void)
{
	if (is_away)
		world_vanish();
	for (int i = 0; i < 2; i++)
		while (recv(answering[i], bytes, sizeof(bytes), MSG_DONTWAIT) >= 0 || errno != EAGAIN)
			;
	while (recv(reading_nothing, bytes, sizeof(bytes), MSG_DONTWAIT) >= 0 || errno != EAGAIN)
		;
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

void world_fail_calls(uint32_t count, uint32_t times, uint32_t how)
{
	static const int errors[] = { EAGAIN, ECONNREFUSED, ENOBUFS, EINTR, EIO, EMSGSIZE, EHOSTUNREACH, EPERM };

	fail_calls = (int)(count % 32);
	calls_failing = 1 + (int)(times % 8);
	call_error = errors[how % (sizeof(errors) / sizeof(*errors))];
}

void world_calm(void)
{
	fail_calls = NO_FAILURE;
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
	forget_datagrams();
	later_ns = 0;
	world_calm();
}
