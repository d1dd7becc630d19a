#include "listening.h"

#include "datagrams.h"
#include "records.h"
#include "sessions.h"
#include "thread.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
	ACCEPTS = 32,               /* clients a turn takes from one listener */
	TROUBLE_NS = 100 * 1000000, /* before accepting is tried again when descriptors or memory ran out */
};

struct row *share_row(struct share *share, uint32_t row)
{
	uint32_t group = row / LISTENING_FIRST_BLOCK + 1;
	uint32_t block = 31 - __builtin_clz(group);
	struct row *rows;

	if (row >= 1u << 24 || block >= LISTENING_BLOCKS)
		return NULL;
	rows = atomic_load_explicit(&share->rows[block], memory_order_acquire);
	return rows ? rows + (row - LISTENING_FIRST_BLOCK * ((1u << block) - 1)) : NULL;
}

static int take_key(struct thread *thread, struct listener *listener)
{
	struct listener **roomier;
	uint32_t room = thread->listener_room;

	for (uint32_t key = latest(thread->listener_free, 1); key < room; key++)
		if (!thread->listeners[key]) {
			thread->listeners[key] = listener;
			thread->listener_free = key + 1;
			listener->key = key;
			return 0;
		}
	roomier = realloc(thread->listeners, 2 * (room + 8) * sizeof(*roomier));
	if (!roomier)
		return -ENOMEM;
	thread->listeners = roomier;
	thread->listener_room = 2 * (room + 8);
	for (uint32_t key = room; key < thread->listener_room; key++)
		roomier[key] = NULL;
	listener->key = room ? room : 1;
	thread->listener_free = listener->key + 1;
	thread->listeners[listener->key] = listener;
	return 0;
}

static void listener_free(struct thread *thread, struct listener *listener)
{
	if (listener->key) {
		thread->listeners[listener->key] = NULL;
		thread->listener_free = least(thread->listener_free, listener->key);
	}
	close(listener->fd);
	free(listener);
}

int listener_watch(struct thread *thread, struct listener *listener)
{
	/* Of the threads that share a socket one is woken; sockets in a SO_REUSEPORT group have one each. */
	uint32_t events = EPOLLIN | (listener->shared ? EPOLLEXCLUSIVE : 0);
	int error = thread_watch(thread, EPOLL_CTL_ADD, listener->fd, events, listener->key, 0);

	listener->watched = error == 0;
	return error;
}

/* What datagrams need besides the listener. */
static int prepare_sessions(struct thread *thread, struct share *share)
{
	if (!share->sessions)
		share->sessions = sessions_new();
	return share->sessions ? datagrams_prepare(thread) : -ENOMEM;
}

int listener_open(struct thread *thread, struct share *share, uint32_t bind, int fd, int shared)
{
	struct listener *listener = calloc(1, sizeof(*listener));
	int error;

	if (!listener) {
		close(fd);
		return -ENOMEM;
	}
	*listener = (struct listener){ .share = share, .bind = bind, .fd = fd, .shared = shared };
	listener->local.length = sizeof(listener->local.un);
	getsockname(fd, &listener->local.any, &listener->local.length);
	/* Clients that come to a wildcard have each to be asked where to; a transparent one takes some that were on their
	 * way to others (IP_TRANSPARENT in ip(7)). */
	listener->fixed = !share->listening->spec.transparent && !address_is_any(&listener->local);
	address_parts(&listener->local, listener->local_ip, &listener->local_port);
	error = share->listening->spec.datagrams.on ? prepare_sessions(thread, share) : 0;
	if (!error)
		error = take_key(thread, listener);
	if (!error)
		error = listener_watch(thread, listener);
	if (error) {
		listener_free(thread, listener);
		return error;
	}
	share->listeners++;
	return 0;
}

/* What accept4 says about one client that is gone, rather than about us. */
static int is_clients(int error)
{
	switch (error) {
	case ECONNABORTED:
	case EINTR:
	case EPERM: /* a firewall forbids it */
	/* Errors of the network are handed out by accept (man accept, "Error handling"). */
	case ENETDOWN:
	case EPROTO:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case ENONET:
	case EHOSTUNREACH:
	case EOPNOTSUPP:
	case ENETUNREACH:
		return 1;
	default:
		return 0;
	}
}

enum taken {
	TOOK_ALL,     /* the queue is empty */
	TOOK_SOME,
	TOOK_NO_ROOM, /* TypeScript has to read before it can be told of more */
	TOOK_TROUBLE, /* descriptors or memory ran out */
};

static enum taken take(struct thread *thread, struct listener *listener, int most)
{
	while (most-- > 0) {
		struct address peer;
		int fd;

		if (!thread_can_say(thread, sizeof(struct who)))
			return TOOK_NO_ROOM;
		peer.length = sizeof(peer.un);
		fd = accept4(listener->fd, &peer.any, &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			connection_arrive(thread, listener, fd, &peer);
			continue;
		}
		if (errno == EAGAIN)
			return TOOK_ALL;
		if (is_clients(errno))
			continue;
		thread_trouble(thread, TROUBLE_ACCEPT, errno, listener);
		return TOOK_TROUBLE;
	}
	return TOOK_SOME;
}

void listener_unwatch(struct thread *thread, struct listener *listener)
{
	if (listener->watched)
		thread_watch(thread, EPOLL_CTL_DEL, listener->fd, 0, 0, 0);
	listener->watched = 0;
}

void listener_accept(struct thread *thread, struct listener *listener)
{
	enum taken taken;

	/* An event of the turn in which it was told to close: it is no listener to be paused any more. */
	if (!listener->watched)
		return;
	if (listener->share->sessions) {
		datagrams_receive(thread, listener);
		return;
	}
	taken = take(thread, listener, ACCEPTS);
	if (taken != TOOK_NO_ROOM && taken != TOOK_TROUBLE)
		return;
	/* It stays readable, and epoll would tell so all the time. */
	listener_unwatch(thread, listener);
	listener_pause(thread, listener, taken == TOOK_TROUBLE ? thread->now + TROUBLE_NS : 0);
}

void listener_pause(struct thread *thread, struct listener *listener, int64_t again)
{
	listener->again = again;
	listener->next = thread->paused;
	thread->paused = listener;
}

/* Accepts again when it is time and TypeScript can be told. */
static void resume(struct thread *thread, struct listener *listener)
{
	if (listener->again > thread->now || !thread_can_say(thread, sizeof(struct who)) ||
	    listener_watch(thread, listener) != 0) {
		listener->next = thread->paused;
		thread->paused = listener;
	}
}

void listeners_resume(struct thread *thread)
{
	struct listener *listener = thread->paused;

	thread->paused = NULL;
	while (listener) {
		struct listener *next = listener->next;

		resume(thread, listener);
		listener = next;
	}
}

/* Takes who is in the queue, since closing would reset them, and closes. 1 when done, 0 when it has to be called
 * again because TypeScript must read first. */
static int close_listener(struct thread *thread, struct listener *listener)
{
	struct share *share = listener->share;

	/* Whoever shares the socket goes on taking clients until the last of them closes it. */
	listener_unwatch(thread, listener);
	if (take(thread, listener, INT32_MAX) == TOOK_NO_ROOM)
		return 0;
	listener_free(thread, listener);
	share->listeners--;
	share_done(thread, share);
	return 1;
}

void listeners_close(struct thread *thread)
{
	struct listener *listener = thread->closing;

	thread->closing = NULL;
	while (listener) {
		struct listener *next = listener->next;

		if (!close_listener(thread, listener)) {
			listener->next = thread->closing;
			thread->closing = listener;
		}
		listener = next;
	}
}

static void unpause(struct thread *thread, const struct listener *listener)
{
	for (struct listener **at = &thread->paused; *at; at = &(*at)->next)
		if (*at == listener) {
			*at = listener->next;
			return;
		}
}

/* The listeners of a share, one a call: each is unwatched for good. NULL after the last; `key` begins at 0. */
static struct listener *retire_next(struct thread *thread, const struct share *share, uint32_t *key)
{
	while (++*key < thread->listener_room) {
		struct listener *listener = thread->listeners[*key];

		if (!listener || listener->share != share)
			continue;
		unpause(thread, listener);
		listener_unwatch(thread, listener);
		return listener;
	}
	return NULL;
}

void listeners_drain(struct thread *thread, struct share *share)
{
	struct listener *listener;

	share->draining = share->shut = 1;
	if (share->listening->spec.datagrams.on) {
		share_done(thread, share);
		return;
	}
	for (uint32_t key = 0; (listener = retire_next(thread, share, &key));) {
		listener->again = 0;
		listener->next = thread->closing;
		thread->closing = listener;
	}
	if (share->listeners == 0)
		share_done(thread, share);
}

void listeners_shut(struct thread *thread, struct share *share)
{
	struct listener *listener;

	if (!share->listening->spec.datagrams.on)
		return;
	if (thread->batch)
		datagrams_flush(thread);
	for (uint32_t key = 0; (listener = retire_next(thread, share, &key));) {
		listener_free(thread, listener);
		share->listeners--;
	}
}

/* --- what is waited for ------------------------------------------------------------------------------------- */

/* 1 when it was said, 0 when there was no room. */
static int say_done(struct thread *thread, struct share *share, uint32_t kind)
{
	struct said_done *said = thread_say(thread, kind, sizeof(*said), 1);

	if (said)
		*said = (struct said_done){ .listening = share->listening->id };
	return said != NULL;
}

/* Says what is waited for. 0 when there was no room. */
static int say_share_done(struct thread *thread, struct share *share)
{
	if (share->listeners > 0 && !share->listening->spec.datagrams.on)
		return 1;
	if (share->draining && !say_done(thread, share, SAYS_DRAINED))
		return 0;
	share->draining = 0;
	if (!share->stopping || share->count > 0)
		return 1;
	sessions_free(share->sessions);
	share->sessions = NULL;
	/* The main thread frees the listening when it reads this: it is not touched any more. */
	return say_done(thread, share, SAYS_STOPPED);
}

void share_done(struct thread *thread, struct share *share)
{
	if (share->undone || say_share_done(thread, share))
		return;
	share->undone = 1;
	share->next_undone = thread->undone;
	thread->undone = share;
}

void shares_done(struct thread *thread)
{
	struct share *share = thread->undone;

	thread->undone = NULL;
	while (share) {
		struct share *next = share->next_undone;

		share->undone = 0;
		share_done(thread, share);
		share = next;
	}
}
