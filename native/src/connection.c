#include "connection.h"

#include "backend.h"
#include "option.h"
#include "relay.h"
#include "thread.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
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

static struct connection *of(struct flow *flow)
{
	return (struct connection *)flow;
}

/* --- its end ------------------------------------------------------------------------------------------------ */

static void measure_side(const struct side *side, struct path *path)
{
	struct tcp_info info;
	socklen_t length = sizeof(info);

	if (side->fd < 0 || !side->tcp || getsockopt(side->fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
		return;
	path->rtt_us = info.tcpi_rtt;
	path->retransmits = info.tcpi_total_retrans;
}

static void measure(struct flow *flow)
{
	measure_side(&of(flow)->client, &flow->client_path);
	measure_side(&of(flow)->backend, &flow->backend_path);
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

static void leave(struct flow *flow, int reset)
{
	close_side(&of(flow)->backend, reset);
}

static void close_all(struct thread *thread, struct flow *flow, int reset)
{
	struct connection *connection = of(flow);

	close_side(&connection->client, reset);
	close_side(&connection->backend, reset);
	relay_release(thread, &connection->up);
	relay_release(thread, &connection->down);
}

static void give(struct thread *thread, struct flow *flow)
{
	slab_give(&thread->connections, flow, flow->who.slot);
}

static const struct kind kind;

/* --- arriving ----------------------------------------------------------------------------------------------- */

static void fill_who(struct connection *connection, const struct listener *listener, const struct address *peer)
{
	struct address local = listener->local;
	struct who *who = &connection->flow.who;
	uint16_t port;

	who->bind = listener->bind;
	who->fd = connection->client.fd;
	who->family = address_parts(peer, who->ip, &who->port);
	if (!listener->fixed) {
		local.length = sizeof(local.un);
		getsockname(connection->client.fd, &local.any, &local.length);
	}
	address_parts(&local, who->local_ip, &port);
	who->local_port = port;
}

void connection_arrive(struct thread *thread, struct listener *listener, int fd, const struct address *peer)
{
	uint32_t slot;
	struct connection *connection = slab_take(&thread->connections, &slot);

	if (!connection) {
		thread_trouble(thread, TROUBLE_ACCEPT, ENOMEM, listener);
		close(fd);
		return;
	}
	*connection = (struct connection){
		.flow.who.slot = slot,
		/* It inherits TCP_NODELAY from the listener. */
		.client = { .fd = fd, .tcp = peer->any.sa_family != AF_UNIX, .tuned = 2, .writable = 1 },
		.backend.fd = -1,
		.half_at = -1,
		.tune_at = INT64_MAX,
	};
	flow_begin(thread, &connection->flow, &kind, listener->share);
	fill_who(connection, listener, peer);
	flow_arrived(thread, &connection->flow);
}

/* --- first bytes -------------------------------------------------------------------------------------------- */

/* Edges: what was there before is told too. */
static int watch_side(struct thread *thread, int op, const struct connection *connection, const struct side *side,
		      uint32_t events)
{
	const struct who *who = &connection->flow.who;

	return thread_watch(thread, op, side->fd, events, who->slot << 1 | (side == &connection->backend), who->life);
}

/* Has epoll watch the client. */
static int watch_client(struct thread *thread, struct connection *connection, int watch)
{
	struct side *client = &connection->client;
	uint32_t events = reading | (watch == WATCH_BOTH ? EPOLLOUT : 0);
	int op = client->watch == WATCH_NOTHING ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
	int error;

	if (client->watch >= watch)
		return 0;
	error = watch_side(thread, op, connection, client, events);
	if (!error)
		client->watch = watch;
	return error;
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

static void read_head(struct thread *thread, struct connection *connection)
{
	struct stream *up = &connection->up;
	struct side *client = &connection->client;

	while (up->held_to < connection->need) {
		int room = make_room(up, connection->need, connection->most);
		ssize_t got;

		if (room < 0) {
			flow_end(thread, &connection->flow, REASON_PLANE_FAILED, 1);
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
			flow_end(thread, &connection->flow, REASON_CLIENT_RESET, 1);
			return;
		}
		if (got == 0) {
			client->ended = 1;
			break;
		}
		up->held_to += got;
		connection->flow.tx += got;
		client->moved_at = thread->now;
	}
	flow_ask(thread, &connection->flow, SAYS_HEADED);
}

static void wait(struct thread *thread, struct flow *flow, const struct told_wait *told)
{
	struct connection *connection = of(flow);
	uint32_t have = connection->up.held_to;
	uint32_t need = told->at_least > have + 1 ? told->at_least : have + 1;
	int64_t undecided_at, header_at;

	/* Once a dial has been tried, nothing more is read for the desk. */
	if (need > told->at_most || told->at_most > FLOW_HEAD_MOST || connection->flow.dialled_at >= 0) {
		flow_end(thread, &connection->flow, REASON_BAD_HEADER, 0);
		return;
	}
	if (connection->client.ended) {
		flow_end(thread, &connection->flow, REASON_CLIENT_CLOSED, 0);
		return;
	}
	connection->flow.state = FLOW_WAITING;
	connection->need = need;
	connection->most = told->at_most;
	undecided_at = after(connection->flow.asked_at, spec_of(&connection->flow)->undecided_ms);
	header_at = after(thread->now, told->ms);
	connection->limit = header_at <= undecided_at ? REASON_HEADER_TIMEOUT : REASON_UNDECIDED;
	flow_look_at(thread, &connection->flow, least(undecided_at, header_at));
	if (watch_client(thread, connection, WATCH_READ) < 0)
		flow_end(thread, &connection->flow, REASON_PLANE_FAILED, 1);
	else if (connection->client.readable)
		read_head(thread, connection);
}

/* --- dialling ----------------------------------------------------------------------------------------------- */

static void dial_failed(struct thread *thread, struct connection *connection, int error)
{
	close_side(&connection->backend, 0);
	connection->backend = (struct side){ .fd = -1 };
	/* The next dial says anew what goes ahead. */
	relay_behind(&connection->up, connection->ahead);
	connection->ahead = 0;
	flow_dial_failed(thread, &connection->flow, error);
}

static void connected(struct thread *thread, struct connection *connection);

static void start_dial(struct thread *thread, struct connection *connection, const struct address *address)
{
	struct side *backend = &connection->backend;
	int fd = backend_open(thread, &connection->flow, address, SOCK_STREAM);
	int error, at_once;

	if (fd < 0) {
		dial_failed(thread, connection, -fd);
		return;
	}
	/* What the client has sent goes out with the answer to SYN+ACK: a packet less (tcp(7), TCP_QUICKACK). */
	if (relay_blocked(&connection->up) && address->any.sa_family != AF_UNIX)
		option_set(fd, IPPROTO_TCP, TCP_QUICKACK, 0);
	*backend = (struct side){ .fd = fd, .tcp = address->any.sa_family != AF_UNIX, .watch = WATCH_BOTH };
	at_once = connect(fd, &address->any, address->length) == 0;
	if (!at_once && errno != EINPROGRESS) {
		dial_failed(thread, connection, errno);
		return;
	}
	error = watch_side(thread, EPOLL_CTL_ADD, connection, backend, reading | EPOLLOUT);
	if (error)
		dial_failed(thread, connection, -error);
	else if (at_once)
		connected(thread, connection);
}

static void dial(struct thread *thread, struct flow *flow, const struct told_dial *told)
{
	struct connection *connection = of(flow);
	struct address address;
	int error = flow->row_counters ? backend_address(&address, told) : -EINVAL;

	if (!error)
		error = relay_ahead(&connection->up, told->rest + told->path_bytes, told->ahead_bytes);
	if (!error)
		connection->ahead = told->ahead_bytes;
	if (!error && !connection->client.ended && connection->up.held == NULL) {
		int sipped = relay_sip(thread, connection);

		if (sipped < 0) {
			/* Without memory what was read is lost. */
			flow_end(thread, flow, sipped == -ENOMEM ? REASON_PLANE_FAILED : REASON_CLIENT_RESET, 1);
			return;
		}
	}
	if (error)
		dial_failed(thread, connection, -error);
	else
		start_dial(thread, connection, &address);
}

/* --- relaying ----------------------------------------------------------------------------------------------- */

/* After `from` has sent its last byte and it has been passed on. 1 when the flow is over by it. */
static int pass_end_on(struct thread *thread, struct connection *connection, struct side *from, struct side *to)
{
	int client = from == &connection->client;

	if (to->shut)
		return 0;
	/* The other way has been passed on too; that its end was read would not do, as bytes may wait before it. */
	if (from->shut) {
		flow_end(thread, &connection->flow, connection->closed, 0);
		return 1;
	}
	shutdown(to->fd, SHUT_WR);
	to->shut = 1;
	connection->half_at = thread->now;
	connection->closed = client ? REASON_CLIENT_CLOSED : REASON_BACKEND_CLOSED;
	flow_look_sooner(thread, &connection->flow, after(thread->now, spec_of(&connection->flow)->half_close_ms));
	return 0;
}

static void broke(struct thread *thread, struct connection *connection, const struct side *side)
{
	uint32_t reason = side == &connection->client ? REASON_CLIENT_RESET : REASON_BACKEND_RESET;

	flow_end(thread, &connection->flow, reason, 1);
}

/* Moves one direction on. 1 when the flow is over by it. */
static int move(struct thread *thread, struct connection *connection, int up)
{
	struct side *from = up ? &connection->client : &connection->backend;
	struct side *to = up ? &connection->backend : &connection->client;

	switch (relay_move(thread, connection, up)) {
	case RELAY_WAITS:
		/* A client is watched for room only once it has been blocked. */
		if (up || connection->client.writable || watch_client(thread, connection, WATCH_BOTH) == 0)
			return 0;
		break;
	case RELAY_MORE:
		thread_tick(thread);
		thread_ready(thread, &connection->flow);
		return 0;
	case RELAY_ENDED:
		return pass_end_on(thread, connection, from, to);
	case RELAY_FROM_BROKE:
		broke(thread, connection, from);
		return 1;
	case RELAY_TO_BROKE:
		broke(thread, connection, to);
		return 1;
	case RELAY_NO_MEMORY:
		break;
	}
	flow_end(thread, &connection->flow, REASON_PLANE_FAILED, 1);
	return 1;
}

static void move_both(struct thread *thread, struct connection *connection, int up_first)
{
	if (!move(thread, connection, up_first))
		move(thread, connection, !up_first);
}

static int64_t client_due(const struct connection *connection)
{
	return after(connection->client.moved_at, spec_of(&connection->flow)->client_idle_ms);
}

/* A backend is not idle while we do not read it because its client is blocked. */
static int64_t backend_due(const struct connection *connection)
{
	if (relay_blocked(&connection->down))
		return INT64_MAX;
	return after(connection->backend.moved_at, spec_of(&connection->flow)->backend_idle_ms);
}

static int64_t half_due(const struct connection *connection)
{
	int64_t moved_at = latest(connection->client.moved_at, connection->backend.moved_at);

	if (connection->half_at < 0)
		return INT64_MAX;
	return after(latest(connection->half_at, moved_at), spec_of(&connection->flow)->half_close_ms);
}

static int64_t next_due(const struct connection *connection)
{
	return least(least(client_due(connection), backend_due(connection)), half_due(connection));
}

static uint32_t overdue(const struct connection *connection, int64_t due)
{
	if (due == half_due(connection))
		return REASON_HALF_CLOSE_TIMEOUT;
	/* Of two that were last heard of at once, the one that takes nothing is to blame. */
	if (due == backend_due(connection) && (due != client_due(connection) || relay_blocked(&connection->up)))
		return REASON_BACKEND_IDLE;
	return REASON_CLIENT_IDLE;
}

/* Clients have it from the listener. Most flows are over before the kernel would have asked for the first time, so
 * only those that live on are worth the calls. */
static void keep_alive(struct connection *connection)
{
	int fd = connection->backend.fd, seconds = spec_of(&connection->flow)->keep_alive_s;

	connection->tune_at = INT64_MAX;
	option_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	option_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, seconds);
	option_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, seconds);
}

static void plan_keep_alive(struct thread *thread, struct connection *connection)
{
	int seconds = spec_of(&connection->flow)->keep_alive_s;

	connection->tune_at = seconds > 0 && connection->backend.tcp ? thread->now + TUNE_NS : INT64_MAX;
	if (connection->tune_at < INT64_MAX && seconds < SHORTEST_KEEP_ALIVE_S)
		keep_alive(connection);
}

static void connected(struct thread *thread, struct connection *connection)
{
	flow_connected(thread, &connection->flow);
	connection->client.moved_at = connection->backend.moved_at = thread->now;
	connection->backend.writable = 1;
	plan_keep_alive(thread, connection);
	flow_look_at(thread, &connection->flow, least(next_due(connection), connection->tune_at));
	if (watch_client(thread, connection, WATCH_READ) < 0)
		flow_end(thread, &connection->flow, REASON_PLANE_FAILED, 1);
	else
		move_both(thread, connection, 1);
}

/* --- events ------------------------------------------------------------------------------------------------- */

static int error_of(int fd)
{
	int error = 0;
	socklen_t length = sizeof(error);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
	return error;
}

static void dialled(struct thread *thread, struct connection *connection, uint32_t events)
{
	int error = events & (EPOLLERR | EPOLLHUP) ? error_of(connection->backend.fd) : 0;

	if (error)
		dial_failed(thread, connection, error);
	else if (events & EPOLLOUT)
		connected(thread, connection);
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

void connection_event(struct thread *thread, struct connection *connection, int backend, uint32_t events)
{
	struct side *side = backend ? &connection->backend : &connection->client;

	note_edges(side, events);
	if (connection->flow.state == FLOW_WAITING && !backend)
		read_head(thread, connection);
	else if (connection->flow.state == FLOW_DIALLING && backend)
		dialled(thread, connection, events);
	else if (connection->flow.state == FLOW_RELAYING && events & EPOLLERR && side->ended && error_of(side->fd))
		broke(thread, connection, side);
	else if (connection->flow.state == FLOW_RELAYING)
		move_both(thread, connection, !backend);
}

static void watch_time(struct thread *thread, struct connection *connection)
{
	int64_t due = next_due(connection);

	if (due <= thread->now) {
		flow_end(thread, &connection->flow, overdue(connection, due), 0);
		return;
	}
	if (connection->tune_at <= thread->now)
		keep_alive(connection);
	/* A backend whose client is blocked is not due at any time, until the client takes bytes again. */
	if (relay_blocked(&connection->down))
		due = least(due, after(thread->now, spec_of(&connection->flow)->backend_idle_ms));
	flow_look_at(thread, &connection->flow, least(due, connection->tune_at));
}

static void due(struct thread *thread, struct flow *flow)
{
	if (flow->state == FLOW_WAITING)
		flow_end(thread, flow, of(flow)->limit, 0);
	else if (flow->state == FLOW_DIALLING)
		dial_failed(thread, of(flow), ETIMEDOUT);
	else if (flow->state == FLOW_RELAYING)
		watch_time(thread, of(flow));
}

static void go_on(struct thread *thread, struct flow *flow)
{
	if (flow->state == FLOW_RELAYING)
		move_both(thread, of(flow), 0);
}

static struct head head(struct flow *flow)
{
	const struct stream *up = &of(flow)->up;

	return (struct head){ up->held ? up->held + up->held_from : NULL, up->held_to - up->held_from,
			      of(flow)->client.ended };
}

static const struct kind kind = {
	.dial = dial,
	.wait = wait,
	.due = due,
	.go_on = go_on,
	.head = head,
	.measure = measure,
	.leave = leave,
	.close = close_all,
	.give = give,
};
