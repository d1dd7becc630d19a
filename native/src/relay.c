#include "relay.h"

#include "option.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	SIP_BYTES = 16 * 1024, /* held while a backend is dialled; the rest waits in the kernel */
	TURN_BYTES = 256 * 1024, /* what a turn moves of one direction; others wait meanwhile */
	FULL_BEFORE_SPLICE = 2, /* reads in a row that filled the buffer before a flow is spliced */
	CALM_BYTES = 32 * 1024,
	CALM_BEFORE_COPY = 8,   /* splices in a row that brought less than that before it is copied again */
};

/* The functions of the C library are cancellation points: in a process with threads that costs each call two atomic
 * operations, and nobody cancels these threads. */
static ssize_t quick_recv(int fd, void *bytes, size_t length)
{
	return syscall(SYS_recvfrom, fd, bytes, length, MSG_DONTWAIT, NULL, NULL);
}

static ssize_t quick_send(int fd, const void *bytes, size_t length, int flags)
{
	return syscall(SYS_sendto, fd, bytes, length, flags, NULL, 0);
}

static void read_from(struct thread *thread, struct connection *connection, struct side *from, double bytes)
{
	from->moved_at = thread->now;
	if (from == &connection->client)
		flow_sent(&connection->flow, bytes);
	else
		flow_received(thread, &connection->flow, bytes);
}

/* Nagle's algorithm holds small bytes back while others are on their way, so the first write needs no option and
 * many a backend is never written to twice. The listener has it set for clients. */
static void hurry(struct side *to)
{
	if (to->tuned == 1)
		option_set(to->fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (to->tuned < 2)
		to->tuned++;
}

static ssize_t push(struct side *to, const uint8_t *bytes, size_t length, int last)
{
	/* The last bytes wait for the end that is sent right after them, in the same segment. */
	int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (last && to->tcp ? MSG_MORE : 0);
	ssize_t sent;

	if (to->tcp)
		hurry(to);
	sent = quick_send(to->fd, bytes, length, flags);
	return sent < 0 && errno == EINTR ? 0 : sent;
}

/* Keeps what the other side has not taken. */
static int hold(struct stream *stream, const uint8_t *bytes, size_t length)
{
	stream->held = malloc(length);
	if (!stream->held)
		return -ENOMEM;
	memcpy(stream->held, bytes, length);
	stream->held_from = 0;
	stream->held_to = length;
	return 0;
}

static void drop_held(struct stream *stream)
{
	free(stream->held);
	stream->held = NULL;
	stream->held_from = stream->held_to = 0;
}

/* Sends what is held. 1 when all of it has gone, 0 when the socket takes no more, -1 when it broke. */
static int flush_held(struct thread *thread, struct stream *stream, struct side *to, int last)
{
	while (stream->held_from < stream->held_to) {
		size_t length = stream->held_to - stream->held_from;
		ssize_t sent = push(to, stream->held + stream->held_from, length, last);

		if (sent < 0 && errno == EAGAIN) {
			to->writable = 0;
			return 0;
		}
		if (sent < 0)
			return -1;
		stream->held_from += sent;
		if (sent > 0)
			to->moved_at = thread->now;
	}
	drop_held(stream);
	return 1;
}

/* Copies what is in the pipe into memory: splicing does not work towards this side. */
static int empty_pipe(struct stream *stream)
{
	uint8_t *held = malloc(stream->piped);
	uint32_t length = 0;

	if (!held)
		return -ENOMEM;
	while (length < stream->piped) {
		ssize_t got = read(stream->pipe->read, held + length, stream->piped - length);

		if (got <= 0) {
			free(held);
			return -EIO; /* The kernel would have lost bytes. */
		}
		length += got;
	}
	stream->held = held;
	stream->held_from = 0;
	stream->held_to = length;
	stream->piped = 0;
	return 0;
}

static void give_pipe(struct thread *thread, struct stream *stream)
{
	pipes_give(&thread->pipes, stream->pipe, stream->piped == 0);
	stream->pipe = NULL;
	stream->piped = 0;
}

/* Splicing is refused by this kind of socket, or for lack of memory: the flow is copied from now on. */
static int copy_instead(struct thread *thread, struct stream *stream)
{
	int error = stream->piped > 0 ? empty_pipe(stream) : 0;

	if (error)
		return error;
	give_pipe(thread, stream);
	stream->copies = 1;
	return 0;
}

/* Sends what is in the pipe. Like flush_held, and -2 without memory. */
static int flush_pipe(struct thread *thread, struct stream *stream, struct side *to)
{
	while (stream->piped > 0) {
		ssize_t moved = splice(stream->pipe->read, NULL, to->fd, NULL, stream->piped,
				       SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

		if (moved > 0) {
			stream->piped -= moved;
			to->moved_at = thread->now;
			continue;
		}
		if (moved < 0 && errno == EINTR)
			continue;
		if (moved < 0 && errno == EAGAIN) {
			to->writable = 0;
			return 0;
		}
		if (moved < 0 && errno != EINVAL && errno != ENOMEM && errno != ENOBUFS)
			return -1;
		return copy_instead(thread, stream) < 0 ? -2 : 1;
	}
	/* A pipe is a flow's only while bytes are in it: few serve very many. */
	give_pipe(thread, stream);
	return 1;
}

static enum relayed broke(int result)
{
	return result == -2 ? RELAY_NO_MEMORY : RELAY_TO_BROKE;
}

/* One read into the thread's buffer and one write out of it. 1 to go on, 0 to wait, else what is told. */
static int copy(struct thread *thread, struct connection *connection, struct stream *stream, struct side *from,
		struct side *to)
{
	ssize_t got = quick_recv(from->fd, thread->buffer, RELAY_BUFFER);
	ssize_t sent;

	if (got < 0 && errno == EINTR)
		return 1;
	if (got < 0 && errno == EAGAIN) {
		from->readable = 0;
		return 0;
	}
	if (got < 0)
		return -RELAY_FROM_BROKE;
	if (got == 0) {
		from->ended = 1;
		return 1;
	}
	read_from(thread, connection, from, got);
	if (got < RELAY_BUFFER) {
		/* A read that did not fill the buffer has emptied the queue: the end is next, if it has come. */
		if (!from->urgent && from->hung_up)
			from->ended = 1;
		else if (!from->urgent && from->tcp)
			from->readable = 0;
		if (stream->full < FULL_BEFORE_SPLICE)
			stream->full = 0;
	} else if (stream->full < FULL_BEFORE_SPLICE) {
		stream->full++;
	}
	sent = push(to, thread->buffer, got, from->ended);
	if (sent < 0 && errno != EAGAIN)
		return -RELAY_TO_BROKE;
	if (sent > 0)
		to->moved_at = thread->now;
	if (sent == got)
		return 1;
	/* 0 is an interrupted call: then nobody is blocked. */
	to->writable = sent == 0;
	if (sent < 0)
		sent = 0;
	return hold(stream, thread->buffer + sent, got - sent) < 0 ? -RELAY_NO_MEMORY : 1;
}

/* One splice into a pipe and as many out of it as the other side takes. Like copy. */
static int pass(struct thread *thread, struct connection *connection, struct stream *stream, struct side *from,
		struct side *to)
{
	ssize_t got;
	int flushed;

	stream->pipe = pipes_take(&thread->pipes, thread->now);
	if (!stream->pipe)
		return copy(thread, connection, stream, from, to);
	got = splice(from->fd, NULL, stream->pipe->write, NULL, stream->pipe->bytes,
		     SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (got <= 0) {
		int error = got < 0 ? errno : 0;

		give_pipe(thread, stream);
		if (error == EINVAL || error == ENOMEM || error == ENOBUFS)
			stream->copies = 1;
		else if (error && error != EAGAIN && error != EINTR)
			return -RELAY_FROM_BROKE; /* A socket tells its error once: a read would take it for an end. */
		/* EAGAIN may mean that the pipe is full as well as that the socket is empty. This pipe was empty,
		 * but a read says it for sure, and what the end means too. */
		return copy(thread, connection, stream, from, to);
	}
	read_from(thread, connection, from, got);
	stream->piped = got;
	if (to->tcp && to->tuned < 2) {
		to->tuned = 1;
		hurry(to);
	}
	stream->calm = got < CALM_BYTES ? stream->calm + 1 : 0;
	if (stream->calm == CALM_BEFORE_COPY)
		stream->full = stream->calm = 0;
	flushed = flush_pipe(thread, stream, to);
	return flushed < 0 ? -(int)broke(flushed) : 1;
}

static int splices(const struct stream *stream)
{
	return stream->full == FULL_BEFORE_SPLICE && !stream->copies;
}

enum relayed relay_move(struct thread *thread, struct connection *connection, int up)
{
	struct stream *stream = up ? &connection->up : &connection->down;
	struct side *from = up ? &connection->client : &connection->backend;
	struct side *to = up ? &connection->backend : &connection->client;
	double before = connection->flow.rx + connection->flow.tx;

	for (;;) {
		int result = 1;

		if (relay_blocked(stream)) {
			if (!to->writable)
				return RELAY_WAITS;
			if (stream->piped > 0)
				result = flush_pipe(thread, stream, to);
			if (result > 0 && stream->held)
				result = flush_held(thread, stream, to, from->ended);
			if (result < 0)
				return broke(result);
			if (result == 0)
				return RELAY_WAITS;
			/* Nobody read it while the other side was blocked, so its silence says nothing. */
			if (from == &connection->backend)
				from->moved_at = thread->now;
		}
		if (from->ended)
			return RELAY_ENDED;
		if (!from->readable)
			return RELAY_WAITS;
		if (connection->flow.rx + connection->flow.tx - before >= TURN_BYTES)
			return RELAY_MORE;
		result = splices(stream) ? pass(thread, connection, stream, from, to)
					 : copy(thread, connection, stream, from, to);
		if (result < 0)
			return -result;
	}
}

int relay_sip(struct thread *thread, struct connection *connection)
{
	struct side *client = &connection->client;
	ssize_t got = quick_recv(client->fd, thread->buffer, SIP_BYTES);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (got == 0) {
		client->ended = 1;
		return 0;
	}
	read_from(thread, connection, client, got);
	return hold(&connection->up, thread->buffer, got);
}

int relay_ahead(struct stream *stream, const uint8_t *bytes, uint32_t length)
{
	uint32_t held = stream->held_to - stream->held_from;
	uint8_t *both;

	if (length == 0)
		return 0;
	both = malloc((size_t)length + held);
	if (!both)
		return -ENOMEM;
	memcpy(both, bytes, length);
	if (held)
		memcpy(both + length, stream->held + stream->held_from, held);
	free(stream->held);
	stream->held = both;
	stream->held_from = 0;
	stream->held_to = length + held;
	return 0;
}

void relay_behind(struct stream *stream, uint32_t length)
{
	stream->held_from += length;
	if (stream->held_from == stream->held_to)
		drop_held(stream);
}

void relay_release(struct thread *thread, struct stream *stream)
{
	drop_held(stream);
	if (stream->pipe)
		give_pipe(thread, stream);
}
