#include "session.h"

#include "access.h"
#include "backend.h"
#include "datagrams.h"
#include "option.h"
#include "thread.h"

#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	WAITING_COUNT = 8,           /* datagrams that wait, */
	WAITING_BYTES = 64 * 1024,   /* and their bytes; */
	REMEMBERED_BYTES = 4 * 1024, /* of those that were sent and may be sent again */
	REMEMBERED_NS = 1000000000,  /* nobody says that a port is closed later than that */
	UNDECIDED = 1024,            /* sessions of a share that wait for a decision */
	EVICTION_TRIES = 8,
	ANSWERS = 64,                /* datagrams of one backend a turn takes, */
	ANSWERS_AT_ONCE = 4,         /* by one call: a question has one answer mostly */
	GLIMPSE_BYTES = 64,
	RESPONSES_BEFORE_GRO = 16,
	QUEUED_SURELY = 16,          /* answers that find room in the queue of any socket, */
	QUEUED_BYTES = 16 * 1024,    /* if they are no more than so many bytes */
};

static struct session *of(struct flow *flow)
{
	return (struct session *)flow;
}

static const struct datagram_spec *datagrams_of(const struct session *session)
{
	return &spec_of(&session->flow)->datagrams;
}

static struct sessions *all(const struct session *session)
{
	return session->flow.share->sessions;
}

/* --- what waits --------------------------------------------------------------------------------------------- */

/* Keeps a datagram behind those that wait. 0 when they are too many. */
static int keep_one(struct session *session, struct datagram one)
{
	struct waiting **last = &session->waiting, *waiting = NULL;

	if (session->waiting_count < WAITING_COUNT && session->waiting_bytes + one.length <= WAITING_BYTES)
		waiting = malloc(sizeof(*waiting) + one.length);
	if (!waiting)
		return 0;
	waiting->next = NULL;
	waiting->length = one.length;
	memcpy(waiting->bytes, one.bytes, one.length);
	while (*last)
		last = &(*last)->next;
	*last = waiting;
	session->waiting_count++;
	session->waiting_bytes += one.length;
	return 1;
}

static struct datagram as_datagram(const struct waiting *waiting)
{
	return (struct datagram){ waiting->bytes, waiting->length, 0 };
}

static void drop_first(struct session *session)
{
	struct waiting *first = session->waiting;

	session->waiting = first->next;
	session->waiting_count--;
	session->waiting_bytes -= first->length;
	free(first);
}

static void drop_waiting(struct session *session)
{
	while (session->waiting)
		drop_first(session);
}

/* Keeps the last of it and of what waits already, as many bytes as there is room for. */
static void keep_last(struct session *session, struct datagram datagram, uint32_t most)
{
	while (datagram_pieces(datagram) > WAITING_COUNT)
		datagram_cut(&datagram);
	do {
		struct datagram one = datagram_cut(&datagram);

		if (one.length > most)
			continue;
		while (session->waiting_count == WAITING_COUNT || session->waiting_bytes + one.length > most)
			drop_first(session);
		keep_one(session, one);
	} while (datagram.length > 0);
}

/* Keeps what is sent until something is answered, for the next backend if this one proves to be unreachable. Not all
 * that there is room for: it costs memory, and one-way talk is never answered. */
static void remember(struct thread *thread, struct session *session, struct datagram datagram)
{
	if (!datagrams_of(session)->tell_unreachable)
		return;
	if (thread->now - session->kept_at > REMEMBERED_NS)
		drop_waiting(session);
	session->kept_at = thread->now;
	keep_last(session, datagram, REMEMBERED_BYTES);
}

/* --- times -------------------------------------------------------------------------------------------------- */

static int64_t client_due(const struct session *session)
{
	return after(session->heard_at, spec_of(&session->flow)->client_idle_ms);
}

static int64_t backend_due(const struct session *session)
{
	return after(session->answered_at, spec_of(&session->flow)->backend_idle_ms);
}

static void watch_time(struct thread *thread, struct session *session)
{
	int64_t due = least(client_due(session), backend_due(session));

	if (due > thread->now)
		flow_look_at(thread, &session->flow, due);
	else if (session->spent)
		flow_end(thread, &session->flow, REASON_MAX_REQUESTS, 0);
	else
		flow_end(thread, &session->flow,
			 due == client_due(session) ? REASON_CLIENT_IDLE : REASON_BACKEND_IDLE, 0);
}

/* --- to the backend ----------------------------------------------------------------------------------------- */

static void close_backend(struct session *session)
{
	if (session->fd < 0)
		return;
	if (session->responses > QUEUED_SURELY || session->flow.rx > QUEUED_BYTES)
		flow_count(&session->flow.share->drops.queue, option_drops(session->fd));
	close(session->fd);
	session->fd = -1;
	session->gathers = 0;
}

/* Nobody is there: datagrams without an answer are for the next backend. */
static void lose_backend(struct thread *thread, struct session *session, int error)
{
	close_backend(session);
	if (session->flow.connect_ms >= 0 && thread->now - session->kept_at > REMEMBERED_NS)
		drop_waiting(session);
	flow_dial_failed(thread, &session->flow, error);
}

/* Linux tells a connected socket of closed ports by itself, of hosts and networks that are away only when asked to
 * (IP_RECVERR in ip(7)). */
static void hear_of_hosts(int fd, int family)
{
	if (family == AF_INET6)
		option_set(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
	else
		option_set(fd, IPPROTO_IP, IP_RECVERR, 1);
}

/* What was told is kept until it is read, and takes room that answers need. */
static void forget_told(int fd)
{
	while (recv(fd, NULL, 0, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0)
		;
}

static int is_unreachable(int error)
{
	switch (error) {
	case ECONNREFUSED:
	case ENOPROTOOPT:
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ENETUNREACH:
	case ENONET:
	case EACCES: /* "administratively prohibited" of ICMPv6 */
		return 1;
	default:
		return 0;
	}
}

static int pass_on(struct session *session, struct datagram datagram);

static int pass_on_pieces(struct session *session, struct datagram datagram)
{
	int error;

	do
		error = pass_on(session, datagram_cut(&datagram));
	while (datagram.length > 0 && !error);
	return error;
}

/* 0, or -errno when the backend is gone; whatever else goes wrong is the datagram's. A call may tell what became of an
 * earlier datagram instead of sending this one (udp(7), "Error handling"): then it is made once more. */
static int pass_on(struct session *session, struct datagram datagram)
{
	int error = 0;

	for (int again = 0; again < 2; again++) {
		error = datagrams_send(session->fd, datagram);
		if (!error)
			return 0;
		if (is_unreachable(-error) && datagrams_of(session)->tell_unreachable)
			return error;
		if (error != -EAGAIN)
			forget_told(session->fd);
		if (error != -EINTR && error != -EMSGSIZE && !is_unreachable(-error))
			break;
	}
	if (datagram.segment && datagrams_cannot_cut(-error))
		return pass_on_pieces(session, datagram);
	flow_count(&session->flow.share->drops.send, datagram_pieces(datagram));
	return 0;
}

/* It is passed on, or waits to be. */
static void count_request(struct session *session, struct datagram datagram)
{
	session->requests += datagram_pieces(datagram);
	flow_sent(&session->flow, datagram.length);
}

/* Counts under the row what has not been yet. */
static void settle_requests(struct session *session)
{
	struct row *row = session->flow.row_counters;

	if (session->flow.state != FLOW_RELAYING)
		return;
	flow_count(&row->requests, session->requests - session->requests_counted);
	session->requests_counted = session->requests;
}

static void keep(struct session *session, struct datagram datagram)
{
	do {
		struct datagram one = datagram_cut(&datagram);

		if (keep_one(session, one))
			count_request(session, one);
		else
			flow_count(&session->flow.share->drops.undecided, 1);
	} while (datagram.length > 0);
}

void session_request(struct thread *thread, struct session *session, struct datagram datagram)
{
	uint32_t most = datagrams_of(session)->max_requests;
	int relaying = session->flow.state == FLOW_RELAYING, error;

	session->heard_at = thread->now;
	sessions_touch(all(session), session);
	if (relaying)
		count_request(session, datagram);
	else
		keep(session, datagram);
	settle_requests(session);
	if (most > 0 && session->requests >= most) {
		session->spent = 1;
		sessions_detach(all(session), session);
	}
	if (!relaying)
		return;
	remember(thread, session, datagram);
	error = pass_on(session, datagram);
	if (!error)
		return;
	/* It has not gone anywhere. */
	if ((datagram.segment ? datagram.segment : datagram.length) > REMEMBERED_BYTES)
		keep_last(session, datagram, WAITING_BYTES);
	lose_backend(thread, session, -error);
}

/* --- arriving ----------------------------------------------------------------------------------------------- */

static const struct kind kind;

/* Whether a stranger is let in; counts it where not. */
static int admit(struct thread *thread, struct share *share, const struct caller *caller)
{
	const struct spec *spec = &share->listening->spec;
	double *drops = NULL;

	if (share->shut || share->stopping)
		drops = &share->drops.draining;
	else if (spec->access && !access_allows(spec->access, caller->family, caller->ip))
		drops = &share->drops.access;
	else if (share->owed >= UNDECIDED || !thread_can_say(thread, sizeof(struct who)))
		drops = &share->drops.undecided;
	if (drops)
		flow_count(drops, 1);
	return drops == NULL;
}

/* Who was told `later` has its end only with the answer, so it is not evicted. */
static int evict(struct thread *thread, struct session *session)
{
	if (!session || session->flow.state == FLOW_LATER)
		return 0;
	flow_end(thread, &session->flow, REASON_EVICTED, 0);
	return 1;
}

/* Evicts where there are too many, several when the most has become less; 0 when nobody could be. Who is not to be
 * evicted goes to the end of its list, and those behind it are tried. */
static int make_room(struct thread *thread, struct share *share)
{
	struct sessions *sessions = share->sessions;
	uint32_t most = __atomic_load_n(&share->listening->spec.datagrams.max_sessions, __ATOMIC_RELAXED);
	int evicted = 0;

	for (int i = 0; i < EVICTION_TRIES && sessions->open >= most; i++) {
		struct session *oldest = sessions_oldest(sessions, most);

		if (evict(thread, oldest))
			evicted = 1;
		else
			sessions_touch(sessions, oldest);
	}
	return evicted || sessions->open < most || evict(thread, sessions->answered.oldest) ||
	       evict(thread, sessions->unanswered.oldest);
}

void session_begin(struct thread *thread, struct listener *listener, const struct caller *caller, uint32_t hash,
		   struct datagram datagram)
{
	struct share *share = listener->share;
	struct session *session;
	struct who *who;
	uint32_t slot;

	if (!admit(thread, share, caller))
		return;
	session = make_room(thread, share) ? slab_take(&thread->sessions, &slot) : NULL;
	if (!session) {
		flow_count(&share->drops.undecided, 1);
		return;
	}
	*session = (struct session){ .flow.who.slot = SESSION_SLOT | slot, .fd = -1 };
	session->hash = hash;
	session->listener = listener;
	session->peer = caller->from;
	session->interface = caller->interface;
	if (sessions_add(share->sessions, session, share->listening->spec.datagrams.max_requests != 1) < 0) {
		flow_count(&share->drops.undecided, 1);
		slab_give(&thread->sessions, session, slot);
		return;
	}
	flow_begin(thread, &session->flow, &kind, share);
	who = &session->flow.who;
	who->bind = caller->bind;
	who->fd = -1;
	who->family = caller->family;
	who->port = caller->port;
	who->local_port = listener->local_port;
	memcpy(who->ip, caller->ip, sizeof(who->ip));
	memcpy(who->local_ip, caller->local_ip, sizeof(who->local_ip));
	session_request(thread, session, datagram);
	flow_arrived(thread, &session->flow);
}

/* --- answers of TypeScript ---------------------------------------------------------------------------------- */

/* A socket of the share that belongs to no session: nothing is read from it. */
static int shot_socket(const struct thread *thread, struct session *session, const struct address *address)
{
	int *shot = &all(session)->shots[address->any.sa_family == AF_INET6];

	if (*shot >= 0)
		return *shot;
	*shot = backend_open(thread, &session->flow, address, SOCK_DGRAM);
	if (*shot >= 0) {
		option_roomy(*shot);
		option_may_be_cut(*shot);
	}
	return *shot;
}

static void fire(struct thread *thread, struct session *session, const struct address *address)
{
	int fd = shot_socket(thread, session, address);

	if (fd < 0) {
		lose_backend(thread, session, -fd);
		return;
	}
	flow_connected(thread, &session->flow);
	settle_requests(session);
	if (session->waiting)
		datagrams_shoot(thread, session->flow.share, fd, address, as_datagram(session->waiting));
	flow_end(thread, &session->flow, REASON_MAX_REQUESTS, 0);
}

static int open_backend(struct thread *thread, struct session *session, const struct address *address)
{
	const struct who *who = &session->flow.who;
	int fd = backend_open(thread, &session->flow, address, SOCK_DGRAM);

	if (fd < 0)
		return fd;
	session->fd = fd;
	option_may_be_cut(fd);
	if (datagrams_of(session)->tell_unreachable)
		hear_of_hosts(fd, address->any.sa_family);
	/* Every local port towards that address is taken: TCP has another word for it (EADDRNOTAVAIL). */
	if (connect(fd, &address->any, address->length) < 0)
		return errno == EAGAIN ? -EADDRNOTAVAIL : -errno;
	return thread_watch(thread, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, who->slot, who->life);
}

static void send_waiting(struct thread *thread, struct session *session)
{
	int error = 0;

	for (struct waiting *each = session->waiting; each && !error; each = each->next)
		error = pass_on(session, as_datagram(each));
	if (error)
		lose_backend(thread, session, -error);
	else if (!datagrams_of(session)->tell_unreachable)
		drop_waiting(session);
}

static void dial(struct thread *thread, struct flow *flow, const struct told_dial *told)
{
	struct session *session = of(flow);
	struct address address;
	int error = flow->row_counters ? address_of_ip(&address, told->family, told->ip, told->port) : -EINVAL;

	if (!error && datagrams_of(session)->max_requests == 1 && !spec_of(flow)->transparent) {
		fire(thread, session, &address);
		return;
	}
	if (!error)
		error = open_backend(thread, session, &address);
	if (error) {
		lose_backend(thread, session, -error);
		return;
	}
	flow_connected(thread, flow);
	settle_requests(session);
	/* Neither side was silent while we made the other wait. */
	session->heard_at = session->answered_at = session->kept_at = thread->now;
	watch_time(thread, session);
	if (flow->state == FLOW_RELAYING)
		send_waiting(thread, session);
	if (flow->state == FLOW_RELAYING && datagrams_of(session)->max_requests == 1)
		flow_end(thread, flow, REASON_MAX_REQUESTS, 0);
}

/* The first datagram is all there is to be shown. */
static void wait(struct thread *thread, struct flow *flow, const struct told_wait *told)
{
	of(flow)->shown = told->at_most;
	if (of(flow)->headed || !of(flow)->waiting) {
		flow_end(thread, flow, REASON_BAD_HEADER, 0);
		return;
	}
	of(flow)->headed = 1;
	flow_ask(thread, flow, SAYS_HEADED);
}

static struct head head(struct flow *flow)
{
	const struct waiting *first = of(flow)->waiting;

	return first ? (struct head){ first->bytes, least(first->length, of(flow)->shown), 0 } : (struct head){ 0 };
}

/* --- from the backend --------------------------------------------------------------------------------------- */

static void glimpse(struct thread *thread, struct session *session, struct datagram datagram)
{
	struct datagram first = datagram_cut(&datagram);
	uint32_t shown = least(first.length, GLIMPSE_BYTES);
	struct said_glimpsed *said = thread_say(thread, SAYS_GLIMPSED, sizeof(*said) + shown, 0);

	if (!said)
		return; /* The next one is shown. */
	said->who = session->flow.who;
	said->row = session->flow.row;
	said->length = shown;
	memcpy(said->bytes, first.bytes, shown);
}

/* Passes on what was received first. 1 when the session is over by it. */
static int respond(struct thread *thread, struct session *session)
{
	const struct datagram_spec *spec = datagrams_of(session);
	struct datagram datagram = datagrams_first(thread);
	double left = spec->max_responses ? spec->max_responses - session->responses : INFINITY;
	uint32_t pieces = datagram_pieces(datagram);

	if (pieces > left) {
		pieces = left;
		datagram.length = pieces * datagram.segment;
	}
	if (session->responses < spec->glimpses)
		glimpse(thread, session, datagram);
	if (session->responses == 0)
		sessions_answered(all(session), session);
	drop_waiting(session);
	session->responses += pieces;
	session->answered_at = thread->now;
	flow_received(thread, &session->flow, datagram.length);
	flow_count(&session->flow.row_counters->responses, pieces);
	sessions_touch(all(session), session);
	datagrams_answer(thread, session, datagram);
	if (pieces < left)
		return 0;
	flow_end(thread, &session->flow, REASON_MAX_RESPONSES, 0);
	return 1;
}

/* A backend that says much may say it in pieces that the kernel puts together. Most never get so far. */
static void gather(struct session *session)
{
	if (session->gathers || session->responses < RESPONSES_BEFORE_GRO)
		return;
	session->gathers = 1;
	option_set(session->fd, SOL_UDP, UDP_GRO, 1);
}

void session_event(struct thread *thread, struct session *session)
{
	struct flow *flow = &session->flow;
	int left = ANSWERS;

	/* The listener of one that is to be ended may be closed. */
	if (flow->state != FLOW_RELAYING || flow->doom)
		return;
	while (left > 0) {
		int count = datagrams_from_backend(thread, session->fd, ANSWERS_AT_ONCE);

		if (count == -EAGAIN)
			return;
		if (count < 0) {
			if (is_unreachable(-count) && datagrams_of(session)->tell_unreachable) {
				lose_backend(thread, session, -count);
				return;
			}
			/* It tells of a datagram of ours; what has come is behind it. */
			forget_told(session->fd);
			left--;
			continue;
		}
		for (int i = 0; i < count; i++)
			if (respond(thread, session))
				return;
		gather(session);
		if (count < ANSWERS_AT_ONCE)
			return;
		left -= count;
	}
	thread_ready(thread, flow);
}

/* --- the rest ----------------------------------------------------------------------------------------------- */

static void due(struct thread *thread, struct flow *flow)
{
	if (flow->state == FLOW_RELAYING)
		watch_time(thread, of(flow));
}

static void go_on(struct thread *thread, struct flow *flow)
{
	session_event(thread, of(flow));
}

static void tell_datagrams(const struct flow *flow, double *requests, double *responses)
{
	const struct session *session = (const struct session *)flow;

	*requests = session->requests;
	*responses = session->responses;
}

static void close_session(struct thread *thread, struct flow *flow, int reset)
{
	struct session *session = of(flow);

	(void)thread;
	(void)reset;
	close_backend(session);
	drop_waiting(session);
	sessions_remove(all(session), session);
}

static void give(struct thread *thread, struct flow *flow)
{
	slab_give(&thread->sessions, flow, flow->who.slot & ~SESSION_SLOT);
}

static const struct kind kind = {
	.dial = dial,
	.wait = wait,
	.due = due,
	.go_on = go_on,
	.head = head,
	.datagrams = tell_datagrams,
	.close = close_session,
	.give = give,
};
