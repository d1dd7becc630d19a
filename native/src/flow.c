#include "flow.h"

#include "option.h"
#include "relay.h"
#include "thread.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WATCH_NOTHING, WATCH_READ, WATCH_BOTH };

enum {
	FIRST_BYTES = 2048,
	TUNE_NS = 1000000000, /* a backend that lives so long gets keep-alive */
	SHORTEST_KEEP_ALIVE_S = 5,
};

static const uint32_t reading = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET;

static int64_t after(int64_t start, int64_t ms)
{
	return ms > 0 ? start + ms * 1000000 : INT64_MAX;
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t latest(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static double ms_between(int64_t from, int64_t to)
{
	return (double)(to - from) / 1e6;
}

static const struct spec *spec_of(const struct flow *flow)
{
	return &flow->share->listening->spec;
}

/* The wheel counts in whole ms and is never early. */
static void look_at(struct thread *thread, struct flow *flow, int64_t at)
{
	wheel_set(&thread->wheel, &flow->timer, at == INT64_MAX ? WHEEL_NEVER : at / 1000000 + 1);
}

static void look_sooner(struct thread *thread, struct flow *flow, int64_t at)
{
	if (at != INT64_MAX)
		wheel_sooner(&thread->wheel, &flow->timer, at / 1000000 + 1);
}

/* --- its end ------------------------------------------------------------------------------------------------ */

static void measure(struct side *side, struct path *path)
{
	struct tcp_info info;
	socklen_t length = sizeof(info);

	if (side->fd < 0 || !side->tcp || getsockopt(side->fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
		return;
	path->rtt_us = info.tcpi_rtt;
	path->retransmits = info.tcpi_total_retrans;
}

static void close_side(struct side *side, int reset)
{
	static const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

	if (side->fd < 0)
		return;
	/* Closing a socket that does not linger resets it (tcp(7), SO_LINGER of 0). Unix sockets know no reset. */
	if (reset && side->tcp)
		setsockopt(side->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(side->fd);
	side->fd = -1;
	side->watch = WATCH_NOTHING;
}

static void unlink_flow(struct flow *flow)
{
	*flow->before = flow->next;
	if (flow->next)
		flow->next->before = flow->before;
}

/* Nothing is left to say of it. */
static void forget(struct thread *thread, struct flow *flow)
{
	struct share *share = flow->share;

	wheel_clear(&thread->wheel, &flow->timer);
	unlink_flow(flow);
	share->count--;
	flow->state = FLOW_FREE;
	thread_free_flow(thread, flow);
	thread_share_done(thread, share);
}

/* No flow in a list is forgotten; whoever takes it off comes here again. */
static void forget_if_free(struct thread *thread, struct flow *flow)
{
	if (flow->state == FLOW_CLOSED && !flow->owed && !flow->unsaid && !flow->ready && !flow->queued)
		forget(thread, flow);
}

static void close_all(struct thread *thread, struct flow *flow, int reset)
{
	close_side(&flow->client, reset);
	close_side(&flow->backend, reset);
	relay_release(thread, &flow->up);
	relay_release(thread, &flow->down);
}

void flow_end(struct thread *thread, struct flow *flow, uint32_t reason, int reset)
{
	if (flow->state == FLOW_CLOSED)
		return;
	if (spec_of(flow)->measure) {
		measure(&flow->client, &flow->client_path);
		measure(&flow->backend, &flow->backend_path);
	}
	close_all(thread, flow, reset);
	wheel_clear(&thread->wheel, &flow->timer);
	flow->state = FLOW_CLOSED;
	flow->reason = reason;
	flow->over_at = thread->now;
	if (flow->owed)
		return; /* The answer may hold a slot, which the end pays back. */
	flow->unsaid |= 1 << SAYS_ENDED;
	thread_unsaid(thread, flow);
}

/* --- what is said ------------------------------------------------------------------------------------------- */

static int say_headed(struct thread *thread, struct flow *flow)
{
	uint32_t length = flow->up.held_to - flow->up.held_from;
	struct said_headed *said = thread_say(thread, SAYS_HEADED, sizeof(*said) + length, 1);

	if (!said)
		return 0;
	said->who = flow->who;
	said->ended = flow->client.ended;
	said->length = length;
	if (length)
		memcpy(said->bytes, flow->up.held + flow->up.held_from, length);
	return 1;
}

static int say_dial_failed(struct thread *thread, struct flow *flow)
{
	struct said_dial_failed *said = thread_say(thread, SAYS_DIAL_FAILED, sizeof(*said), 1);

	if (!said)
		return 0;
	*said = (struct said_dial_failed){ .who = flow->who, .row = flow->failed_row, .note = flow->note,
					   .error = flow->error, .ms = flow->dial_ms };
	return 1;
}

static int say_reached(struct thread *thread, struct flow *flow, uint32_t kind, double ms)
{
	struct said_reached *said = thread_say(thread, kind, sizeof(*said), 0);

	if (!said)
		return 0;
	*said = (struct said_reached){ .who = flow->who, .row = flow->row, .ms = ms };
	return 1;
}

static int say_ended(struct thread *thread, struct flow *flow)
{
	struct said_ended *said = thread_say(thread, SAYS_ENDED, sizeof(*said), 0);

	if (!said)
		return 0;
	*said = (struct said_ended){
		.who = flow->who,
		.reason = flow->reason,
		.row = flow->row,
		.note = flow->note,
		.rx = flow->rx,
		.tx = flow->tx,
		.waited_ms = flow->dialled_at < 0 ? -1 : ms_between(flow->accepted_at, flow->dialled_at),
		.connect_ms = flow->connect_ms,
		.first_byte_ms = flow->first_byte_ms,
		.duration_ms = ms_between(flow->accepted_at, flow->over_at),
		.client = flow->client_path,
		.backend = flow->backend_path,
	};
	return 1;
}

/* Says one kind of thing if it is to be said. */
static int say(struct thread *thread, struct flow *flow, uint32_t kind)
{
	int said = 1;

	if (!(flow->unsaid & 1 << kind))
		return 1;
	switch (kind) {
	case SAYS_HEADED:
		said = say_headed(thread, flow);
		break;
	case SAYS_DIAL_FAILED:
		said = say_dial_failed(thread, flow);
		break;
	case SAYS_CONNECTED:
		said = say_reached(thread, flow, kind, flow->connect_ms);
		break;
	case SAYS_FIRST_BYTE:
		said = say_reached(thread, flow, kind, flow->first_byte_ms);
		break;
	case SAYS_ENDED:
		said = say_ended(thread, flow);
		break;
	}
	if (said)
		flow->unsaid &= ~(1 << kind);
	return said;
}

int flow_say(struct thread *thread, struct flow *flow)
{
	for (uint32_t kind = SAYS_HEADED; kind <= SAYS_ENDED; kind++)
		if (!say(thread, flow, kind))
			return 0;
	forget_if_free(thread, flow);
	return 1;
}

/* A question goes out; the flow stays until it is answered. */
static void ask(struct thread *thread, struct flow *flow, uint32_t kind)
{
	flow->state = FLOW_ASKED;
	flow->owed = 1;
	flow->unsaid |= 1 << kind;
	thread_unsaid(thread, flow);
}

/* --- arriving ----------------------------------------------------------------------------------------------- */

static void fill_who(struct flow *flow, const struct listener *listener, const struct address *peer)
{
	struct address local = listener->local;
	struct who *who = &flow->who;
	uint16_t port;

	who->listening = flow->share->listening->id;
	who->bind = listener->bind;
	who->fd = flow->client.fd;
	who->family = address_parts(peer, who->ip, &who->port);
	if (!listener->fixed) {
		local.length = sizeof(local.un);
		getsockname(flow->client.fd, &local.any, &local.length);
	}
	address_parts(&local, who->local_ip, &port);
	who->local_port = port;
}

void flow_arrive(struct thread *thread, struct listener *listener, int fd, const struct address *peer)
{
	struct share *share = listener->share;
	struct flow *flow = thread_new_flow(thread);
	struct who *said;

	if (!flow) {
		thread_trouble(thread, TROUBLE_ACCEPT, ENOMEM, listener);
		close(fd);
		return;
	}
	flow->share = share;
	flow->next = share->flows;
	flow->before = &share->flows;
	if (flow->next)
		flow->next->before = &flow->next;
	share->flows = flow;
	share->count++;
	flow->state = FLOW_ASKED;
	flow->owed = 1;
	flow->client.fd = fd;
	flow->client.tcp = peer->any.sa_family != AF_UNIX;
	flow->client.tuned = 2; /* inherited from the listener */
	flow->client.writable = 1;
	flow->accepted_at = flow->asked_at = thread->now;
	fill_who(flow, listener, peer);
	look_at(thread, flow, after(flow->asked_at, spec_of(flow)->undecided_ms));
	said = thread_say(thread, SAYS_ARRIVED, sizeof(*said), 1);
	*said = flow->who;
}

/* --- answers ------------------------------------------------------------------------------------------------ */

/* What comes with every answer. 0 when the flow is over already, or is now: then there is nothing to do for it. */
static int take_answer(struct thread *thread, struct flow *flow)
{
	flow->owed = 0;
	flow->known = 1;
	if (flow->state == FLOW_CLOSED) {
		flow->unsaid |= 1 << SAYS_ENDED;
		thread_unsaid(thread, flow);
		return 0;
	}
	if (flow->share->stopping) {
		flow_end(thread, flow, flow->share->reason, 0);
		return 0;
	}
	return 1;
}

void flow_later(struct thread *thread, struct flow *flow)
{
	flow->known = 1;
	if (flow->state == FLOW_CLOSED)
		return;
	flow->state = FLOW_LATER;
	wheel_clear(&thread->wheel, &flow->timer);
}

void flow_refuse(struct thread *thread, struct flow *flow, uint32_t reason)
{
	if (flow->known) {
		if (take_answer(thread, flow))
			flow_end(thread, flow, reason, 0);
		return;
	}
	/* Whoever is turned away at the door has no end. */
	flow->owed = 0;
	flow->unsaid = 0;
	if (flow->state != FLOW_CLOSED)
		close_all(thread, flow, 0);
	flow->state = FLOW_CLOSED;
	forget_if_free(thread, flow);
}

/* Has epoll watch the client. Edges: what was there before is told too. */
static int watch_client(struct thread *thread, struct flow *flow, int watch)
{
	struct side *client = &flow->client;
	uint32_t events = reading | (watch == WATCH_BOTH ? EPOLLOUT : 0);
	int op = client->watch == WATCH_NOTHING ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
	int error;

	if (client->watch >= watch)
		return 0;
	error = thread_watch(thread, op, client->fd, events, flow->who.slot << 1, flow->who.life);
	if (!error)
		client->watch = watch;
	return error;
}

static void read_head(struct thread *thread, struct flow *flow);

void flow_wait(struct thread *thread, struct flow *flow, const struct told_wait *told)
{
	uint32_t have = flow->up.held_to;
	uint32_t need = told->at_least > have + 1 ? told->at_least : have + 1;
	int64_t undecided_at, header_at;

	if (!take_answer(thread, flow))
		return;
	/* Once a dial has been tried, nothing more is read for the desk. */
	if (need > told->at_most || told->at_most > FLOW_HEAD_MOST || flow->dialled_at >= 0) {
		flow_end(thread, flow, REASON_BAD_HEADER, 0);
		return;
	}
	if (flow->client.ended) {
		flow_end(thread, flow, REASON_CLIENT_CLOSED, 0);
		return;
	}
	flow->state = FLOW_WAITING;
	flow->need = need;
	flow->most = told->at_most;
	undecided_at = after(flow->asked_at, spec_of(flow)->undecided_ms);
	header_at = after(thread->now, told->ms);
	flow->limit = header_at <= undecided_at ? REASON_HEADER_TIMEOUT : REASON_UNDECIDED;
	look_at(thread, flow, least(undecided_at, header_at));
	if (watch_client(thread, flow, WATCH_READ) < 0)
		flow_end(thread, flow, REASON_PLANE_FAILED, 1);
	else if (flow->client.readable)
		read_head(thread, flow);
}

/* Room for `most` bytes when `need` are wanted; memory grows with what has really come. */
static int make_room(struct stream *up, uint32_t need, uint32_t most)
{
	uint32_t wanted = latest(latest(need, FIRST_BYTES), 2 * (int64_t)up->held_to);
	uint8_t *roomier = realloc(up->held, least(wanted, most));

	if (roomier)
		up->held = roomier;
	return roomier ? (int)least(wanted, most) : -ENOMEM;
}

static void read_head(struct thread *thread, struct flow *flow)
{
	struct stream *up = &flow->up;
	struct side *client = &flow->client;

	while (up->held_to < flow->need) {
		int room = make_room(up, flow->need, flow->most);
		ssize_t got;

		if (room < 0) {
			flow_end(thread, flow, REASON_PLANE_FAILED, 1);
			return;
		}
		got = recv(client->fd, up->held + up->held_to, room - up->held_to, MSG_DONTWAIT);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN) {
			client->readable = 0;
			return;
		}
		if (got < 0) {
			flow_end(thread, flow, REASON_CLIENT_RESET, 1);
			return;
		}
		if (got == 0) {
			client->ended = 1;
			break;
		}
		up->held_to += got;
		flow->tx += got;
		client->moved_at = thread->now;
	}
	wheel_clear(&thread->wheel, &flow->timer);
	ask(thread, flow, SAYS_HEADED);
	look_at(thread, flow, after(flow->asked_at, spec_of(flow)->undecided_ms));
}

/* --- dialling ----------------------------------------------------------------------------------------------- */

static void dial_failed(struct thread *thread, struct flow *flow, int error)
{
	close_side(&flow->backend, 0);
	flow->backend = (struct side){ .fd = -1 };
	/* The next dial says anew what goes ahead. */
	relay_behind(&flow->up, flow->ahead);
	flow->ahead = 0;
	flow->failed_row = flow->row;
	flow->row = NO_ROW;
	flow->error = error;
	flow->dial_ms = ms_between(flow->dialled_at, thread->now);
	flow->asked_at = thread->now;
	flow->doom = 0; /* It was for holding the row. */
	ask(thread, flow, SAYS_DIAL_FAILED);
	look_at(thread, flow, after(flow->asked_at, spec_of(flow)->undecided_ms));
}

/* Where a connection to a backend comes from, when the configuration says so. */
static int choose_source(struct flow *flow, int fd, int family)
{
	const struct spec *spec = spec_of(flow);
	struct address source = spec->source;
	int error = 0;

	if (spec->transparent) {
		error = address_of_ip(&source, flow->who.family, flow->who.ip, 0);
		if (!error && source.any.sa_family != family)
			error = -EAFNOSUPPORT;
		if (!error)
			error = family == AF_INET6 ? option_set(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
						   : option_set(fd, IPPROTO_IP, IP_TRANSPARENT, 1);
	}
	if (error || source.length == 0 || source.any.sa_family != family)
		return error;
	/* Without this the kernel picks a port when it binds, before it knows the backend, and 28,000 flows to all
	 * backends together use up what each backend could have (ip(7)). */
	option_set(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	return bind(fd, &source.any, source.length) < 0 ? -errno : 0;
}

static int open_backend(struct flow *flow, const struct address *address)
{
	const struct spec *spec = spec_of(flow);
	int family = address->any.sa_family;
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (family != AF_UNIX) {
		error = option_set_if(fd, SOL_SOCKET, SO_MARK, spec->mark);
		if (!error)
			error = choose_source(flow, fd, family);
		if (!error)
			error = option_set_if(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, spec->user_timeout_ms);
		/* What the client has sent goes out with the answer to SYN+ACK: a packet less (tcp(7), TCP_QUICKACK). */
		if (relay_blocked(&flow->up))
			option_set(fd, IPPROTO_TCP, TCP_QUICKACK, 0);
	}
	if (!error)
		return fd;
	close(fd);
	return error;
}

static void connected(struct thread *thread, struct flow *flow);

static void start_dial(struct thread *thread, struct flow *flow, const struct address *address)
{
	struct side *backend = &flow->backend;
	int fd = open_backend(flow, address);
	uint32_t key = flow->who.slot << 1 | 1;
	int error, at_once;

	if (fd < 0) {
		dial_failed(thread, flow, -fd);
		return;
	}
	*backend = (struct side){ .fd = fd, .tcp = address->any.sa_family != AF_UNIX, .watch = WATCH_BOTH };
	at_once = connect(fd, &address->any, address->length) == 0;
	if (!at_once && errno != EINPROGRESS) {
		dial_failed(thread, flow, errno);
		return;
	}
	error = thread_watch(thread, EPOLL_CTL_ADD, fd, reading | EPOLLOUT, key, flow->who.life);
	if (error)
		dial_failed(thread, flow, -error);
	else if (at_once)
		connected(thread, flow);
}

void flow_dial(struct thread *thread, struct flow *flow, const struct told_dial *told)
{
	struct address address;
	int error;

	flow->who.flow = told->flow.flow;
	flow->row = told->row;
	flow->note = told->note;
	if (!take_answer(thread, flow))
		return;
	flow->state = FLOW_DIALLING;
	flow->dialled_at = thread->now;
	look_at(thread, flow, after(thread->now, told->timeout_ms));
	flow->row_counters = share_row(flow->share, told->row);
	error = told->family == FAMILY_UNIX ? address_of_path(&address, told->rest, told->path_bytes)
					    : address_of_ip(&address, told->family, told->ip, told->port);
	if (!flow->row_counters)
		error = -EINVAL;
	if (!error)
		error = relay_ahead(&flow->up, told->rest + told->path_bytes, told->ahead_bytes);
	if (!error)
		flow->ahead = told->ahead_bytes;
	if (!error && !flow->client.ended && flow->up.held == NULL) {
		int sipped = relay_sip(thread, flow);

		if (sipped < 0) {
			/* Without memory what was read is lost. */
			flow_end(thread, flow, sipped == -ENOMEM ? REASON_PLANE_FAILED : REASON_CLIENT_RESET, 1);
			return;
		}
	}
	if (error)
		dial_failed(thread, flow, -error);
	else
		start_dial(thread, flow, &address);
}

/* --- relaying ----------------------------------------------------------------------------------------------- */

/* After `from` has sent its last byte and it has been passed on. 1 when the flow is over by it. */
static int pass_end_on(struct thread *thread, struct flow *flow, struct side *from, struct side *to)
{
	int client = from == &flow->client;

	if (to->shut)
		return 0;
	/* The other way has been passed on too; that its end was read would not do, as bytes may wait before it. */
	if (from->shut) {
		flow_end(thread, flow, flow->closed, 0);
		return 1;
	}
	shutdown(to->fd, SHUT_WR);
	to->shut = 1;
	flow->half_at = thread->now;
	flow->closed = client ? REASON_CLIENT_CLOSED : REASON_BACKEND_CLOSED;
	look_sooner(thread, flow, after(thread->now, spec_of(flow)->half_close_ms));
	return 0;
}

static void broke(struct thread *thread, struct flow *flow, const struct side *side)
{
	flow_end(thread, flow, side == &flow->client ? REASON_CLIENT_RESET : REASON_BACKEND_RESET, 1);
}

/* Moves one direction on. 1 when the flow is over by it. */
static int move(struct thread *thread, struct flow *flow, int up)
{
	struct side *from = up ? &flow->client : &flow->backend;
	struct side *to = up ? &flow->backend : &flow->client;

	switch (relay_move(thread, flow, up)) {
	case RELAY_WAITS:
		/* A client is watched for room only once it has been blocked. */
		if (up || flow->client.writable || watch_client(thread, flow, WATCH_BOTH) == 0)
			return 0;
		break;
	case RELAY_MORE:
		thread_tick(thread);
		thread_ready(thread, flow);
		return 0;
	case RELAY_ENDED:
		return pass_end_on(thread, flow, from, to);
	case RELAY_FROM_BROKE:
		broke(thread, flow, from);
		return 1;
	case RELAY_TO_BROKE:
		broke(thread, flow, to);
		return 1;
	case RELAY_NO_MEMORY:
		break;
	}
	flow_end(thread, flow, REASON_PLANE_FAILED, 1);
	return 1;
}

static void move_both(struct thread *thread, struct flow *flow, int up_first)
{
	if (!move(thread, flow, up_first))
		move(thread, flow, !up_first);
}

static int64_t client_due(const struct flow *flow)
{
	return after(flow->client.moved_at, spec_of(flow)->client_idle_ms);
}

/* A backend is not idle while we do not read it because its client is blocked. */
static int64_t backend_due(const struct flow *flow)
{
	if (relay_blocked(&flow->down))
		return INT64_MAX;
	return after(flow->backend.moved_at, spec_of(flow)->backend_idle_ms);
}

static int64_t half_due(const struct flow *flow)
{
	int64_t moved_at = latest(flow->client.moved_at, flow->backend.moved_at);

	return flow->half_at < 0 ? INT64_MAX : after(latest(flow->half_at, moved_at), spec_of(flow)->half_close_ms);
}

static int64_t next_due(const struct flow *flow)
{
	return least(least(client_due(flow), backend_due(flow)), half_due(flow));
}

static uint32_t overdue(const struct flow *flow, int64_t due)
{
	if (due == half_due(flow))
		return REASON_HALF_CLOSE_TIMEOUT;
	/* Of two that were last heard of at once, the one that takes nothing is to blame. */
	if (due == backend_due(flow) && (due != client_due(flow) || relay_blocked(&flow->up)))
		return REASON_BACKEND_IDLE;
	return REASON_CLIENT_IDLE;
}

/* Clients have it from the listener. Most flows are over before the kernel would have asked for the first time, so
 * only those that live on are worth the calls. */
static void keep_alive(struct flow *flow)
{
	int fd = flow->backend.fd, seconds = spec_of(flow)->keep_alive_s;

	flow->tune_at = INT64_MAX;
	option_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	option_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, seconds);
	option_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, seconds);
}

static void plan_keep_alive(struct thread *thread, struct flow *flow)
{
	int seconds = spec_of(flow)->keep_alive_s;

	flow->tune_at = seconds > 0 && flow->backend.tcp ? thread->now + TUNE_NS : INT64_MAX;
	if (flow->tune_at < INT64_MAX && seconds < SHORTEST_KEEP_ALIVE_S)
		keep_alive(flow);
}

static void connected(struct thread *thread, struct flow *flow)
{
	struct row *row = flow->row_counters;
	double first[2] = { row->connects + 1, row->tx + flow->tx };

	flow->state = FLOW_RELAYING;
	flow->connect_ms = ms_between(flow->dialled_at, thread->now);
	__atomic_store(&row->connects, &first[0], __ATOMIC_RELAXED);
	__atomic_store(&row->tx, &first[1], __ATOMIC_RELAXED);
	flow->client.moved_at = flow->backend.moved_at = thread->now;
	flow->backend.writable = 1;
	if (spec_of(flow)->report) {
		flow->unsaid |= 1 << SAYS_CONNECTED;
		thread_unsaid(thread, flow);
	}
	plan_keep_alive(thread, flow);
	look_at(thread, flow, least(next_due(flow), flow->tune_at));
	if (watch_client(thread, flow, WATCH_READ) < 0)
		flow_end(thread, flow, REASON_PLANE_FAILED, 1);
	else
		move_both(thread, flow, 1);
}

/* --- events ------------------------------------------------------------------------------------------------- */

static int error_of(int fd)
{
	int error = 0;
	socklen_t length = sizeof(error);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
	return error;
}

static void dialled(struct thread *thread, struct flow *flow, uint32_t events)
{
	int error = events & (EPOLLERR | EPOLLHUP) ? error_of(flow->backend.fd) : 0;

	if (error)
		dial_failed(thread, flow, error);
	else if (events & EPOLLOUT)
		connected(thread, flow);
}

static void note_edges(struct side *side, uint32_t events)
{
	/* After an error both calls tell what it was. */
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		side->readable = 1;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		side->writable = 1;
	/* A reset stands behind what had come before it, and no other edge tells of it. */
	if (events & (EPOLLPRI | EPOLLERR))
		side->urgent = 1;
	if (side->tcp && events & EPOLLRDHUP && !(events & EPOLLERR))
		side->hung_up = 1;
}

void flow_event(struct thread *thread, struct flow *flow, int backend, uint32_t events)
{
	struct side *side = backend ? &flow->backend : &flow->client;

	note_edges(side, events);
	if (flow->state == FLOW_WAITING && !backend)
		read_head(thread, flow);
	else if (flow->state == FLOW_DIALLING && backend)
		dialled(thread, flow, events);
	else if (flow->state == FLOW_RELAYING && events & EPOLLERR && side->ended && error_of(side->fd))
		broke(thread, flow, side);
	else if (flow->state == FLOW_RELAYING)
		move_both(thread, flow, !backend);
}

static void watch_time(struct thread *thread, struct flow *flow)
{
	int64_t due = next_due(flow);

	if (due <= thread->now) {
		flow_end(thread, flow, overdue(flow, due), 0);
		return;
	}
	if (flow->tune_at <= thread->now)
		keep_alive(flow);
	/* A backend whose client is blocked is not due at any time, until the client takes bytes again. */
	if (relay_blocked(&flow->down))
		due = least(due, after(thread->now, spec_of(flow)->backend_idle_ms));
	look_at(thread, flow, least(due, flow->tune_at));
}

void flow_due(struct thread *thread, struct flow *flow)
{
	switch ((enum state)flow->state) {
	case FLOW_ASKED:
		flow_end(thread, flow, REASON_UNDECIDED, 0);
		break;
	case FLOW_WAITING:
		flow_end(thread, flow, flow->limit, 0);
		break;
	case FLOW_DIALLING:
		dial_failed(thread, flow, ETIMEDOUT);
		break;
	case FLOW_RELAYING:
		watch_time(thread, flow);
		break;
	case FLOW_FREE:
	case FLOW_LATER:
	case FLOW_CLOSED:
		break;
	}
}

void flow_go_on(struct thread *thread, struct flow *flow)
{
	if (flow->state == FLOW_CLOSED) {
		/* Its end may have been said while it was in the list. */
		thread_unsaid(thread, flow);
		return;
	}
	if (flow->doom && flow->state != FLOW_ASKED && flow->state != FLOW_LATER)
		flow_end(thread, flow, flow->doom, 0);
	else if (flow->state == FLOW_RELAYING)
		move_both(thread, flow, 0);
}

void flow_doom(struct thread *thread, struct share *share, int32_t row, uint32_t reason)
{
	for (struct flow *flow = share->flows; flow; flow = flow->next) {
		if (flow->state == FLOW_CLOSED || (row != NO_ROW && flow->row != row))
			continue;
		flow->doom = reason;
		thread_ready(thread, flow);
	}
}
