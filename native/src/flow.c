#include "flow.h"

#include "thread.h"

#include <stdlib.h>
#include <string.h>

/* --- times -------------------------------------------------------------------------------------------------- */

/* The wheel counts in whole ms and is never early. */
void flow_look_at(struct thread *thread, struct flow *flow, int64_t at)
{
	wheel_set(&thread->wheel, &flow->timer, at == INT64_MAX ? WHEEL_NEVER : at / 1000000 + 1);
}

void flow_look_sooner(struct thread *thread, struct flow *flow, int64_t at)
{
	if (at != INT64_MAX)
		wheel_sooner(&thread->wheel, &flow->timer, at / 1000000 + 1);
}

static void await_answer(struct thread *thread, struct flow *flow)
{
	flow_look_at(thread, flow, after(flow->asked_at, spec_of(flow)->undecided_ms));
}

/* --- counting ----------------------------------------------------------------------------------------------- */

void flow_sent(struct flow *flow, double bytes)
{
	flow->tx += bytes;
	/* First bytes are counted for a backend when there is one. */
	if (flow->state != FLOW_RELAYING)
		return;
	flow_count(&flow->row_counters->tx, bytes);
	flow->tx_counted += bytes;
}

void flow_received(struct thread *thread, struct flow *flow, double bytes)
{
	flow->rx += bytes;
	flow_count(&flow->row_counters->rx, bytes);
	if (flow->first_byte_ms >= 0)
		return;
	flow->first_byte_ms = ms_between(flow->dialled_at, thread->now) - flow->connect_ms;
	if (spec_of(flow)->report) {
		flow->unsaid |= 1 << SAYS_FIRST_BYTE;
		thread_unsaid(thread, flow);
	}
}

/* --- its end ------------------------------------------------------------------------------------------------ */

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
	flow->kind->give(thread, flow);
	share_done(thread, share);
}

/* No flow in a list is forgotten; whoever takes it off comes here again. */
static void forget_if_free(struct thread *thread, struct flow *flow)
{
	if (flow->state == FLOW_CLOSED && !flow->owed && !flow->unsaid && !flow->ready && !flow->queued)
		forget(thread, flow);
}

/* --- what is said ------------------------------------------------------------------------------------------- */

static int say_headed(struct thread *thread, struct flow *flow)
{
	struct head head = flow->kind->head(flow);
	struct said_headed *said = thread_say(thread, SAYS_HEADED, sizeof(*said) + head.length, 1);

	if (!said)
		return 0;
	said->who = flow->who;
	said->ended = head.ended;
	said->length = head.length;
	if (head.length)
		memcpy(said->bytes, head.bytes, head.length);
	return 1;
}

static int say_dial_failed(struct thread *thread, struct flow *flow)
{
	struct said_dial_failed *said = thread_say(thread, SAYS_DIAL_FAILED, sizeof(*said), 1);

	if (!said)
		return 0;
	*said = (struct said_dial_failed){ .who = flow->who, .row = flow->failed_row, .note = flow->note,
					   .error = flow->error, .lost = flow->lost, .ms = flow->dial_ms };
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
	if (flow->kind->datagrams)
		flow->kind->datagrams(flow, &said->requests, &said->responses);
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

static int say_all(struct thread *thread, struct flow *flow)
{
	for (uint32_t kind = SAYS_HEADED; kind <= SAYS_ENDED; kind++)
		if (!say(thread, flow, kind))
			return 0;
	return 1;
}

int flow_say(struct thread *thread, struct flow *flow)
{
	if (!say_all(thread, flow))
		return 0;
	forget_if_free(thread, flow);
	return 1;
}

/* A client that sees the end may come again by another thread at once: TypeScript can read of the end by then. */
static void say_end(struct thread *thread, struct flow *flow)
{
	flow->unsaid |= 1 << SAYS_ENDED;
	if (say_all(thread, flow))
		ring_publish(&thread->up);
	thread_unsaid(thread, flow);
}

void flow_end(struct thread *thread, struct flow *flow, uint32_t reason, int reset)
{
	if (flow->state == FLOW_CLOSED)
		return;
	if (spec_of(flow)->measure && flow->kind->measure)
		flow->kind->measure(flow);
	flow->reason = reason;
	flow->over_at = thread->now;
	if (flow->kind->leave)
		flow->kind->leave(flow, reset);
	/* The answer may hold a slot, which the end pays back. */
	if (!flow->owed)
		say_end(thread, flow);
	flow->kind->close(thread, flow, reset);
	wheel_clear(&thread->wheel, &flow->timer);
	flow->state = FLOW_CLOSED;
}

/* --- questions ---------------------------------------------------------------------------------------------- */

void flow_begin(struct thread *thread, struct flow *flow, const struct kind *kind, struct share *share)
{
	/* 0 is the life of what is no flow. */
	if (++thread->lives == 0)
		thread->lives = 1;
	flow->kind = kind;
	flow->who.life = thread->lives;
	flow->who.listening = share->listening->id;
	flow->row = NO_ROW;
	flow->dialled_at = -1;
	flow->connect_ms = flow->first_byte_ms = -1;
	flow->client_path = flow->backend_path = (struct path){ NOT_MEASURED, NOT_MEASURED };
	flow->share = share;
	flow->next = share->flows;
	flow->before = &share->flows;
	if (flow->next)
		flow->next->before = &flow->next;
	share->flows = flow;
	share->count++;
	share->owed++;
	flow->state = FLOW_ASKED;
	flow->owed = 1;
	flow->accepted_at = flow->asked_at = thread->now;
	await_answer(thread, flow);
}

void flow_arrived(struct thread *thread, struct flow *flow)
{
	struct who *said = thread_say(thread, SAYS_ARRIVED, sizeof(*said), 1);

	*said = flow->who;
}

/* The flow stays until it is answered. */
void flow_ask(struct thread *thread, struct flow *flow, uint32_t kind)
{
	flow->state = FLOW_ASKED;
	flow->owed = 1;
	flow->share->owed++;
	flow->unsaid |= 1 << kind;
	thread_unsaid(thread, flow);
	await_answer(thread, flow);
}

void flow_dial_failed(struct thread *thread, struct flow *flow, int error)
{
	flow->failed_row = flow->row;
	flow->row = NO_ROW;
	flow->error = error;
	flow->dial_ms = ms_between(flow->dialled_at, thread->now);
	flow->lost = flow->connect_ms >= 0;
	flow->connect_ms = -1;
	flow->asked_at = thread->now;
	flow->doom = 0; /* It was for holding the row. */
	flow->unsaid &= ~(1 << SAYS_CONNECTED | 1 << SAYS_FIRST_BYTE); /* of a backend it does not hold any more */
	flow_ask(thread, flow, SAYS_DIAL_FAILED);
}

void flow_connected(struct thread *thread, struct flow *flow)
{
	struct row *row = flow->row_counters;

	flow->state = FLOW_RELAYING;
	flow->connect_ms = ms_between(flow->dialled_at, thread->now);
	flow_count(&row->connects, 1);
	flow_count(&row->tx, flow->tx - flow->tx_counted);
	flow->tx_counted = flow->tx;
	if (spec_of(flow)->report) {
		flow->unsaid |= 1 << SAYS_CONNECTED;
		thread_unsaid(thread, flow);
	}
}

/* --- answers ------------------------------------------------------------------------------------------------ */

/* What comes with every answer. 0 when the flow is over already, or is now: then there is nothing to do for it. */
static int take_answer(struct thread *thread, struct flow *flow)
{
	flow->owed = 0;
	flow->share->owed--;
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

void flow_dial(struct thread *thread, struct flow *flow, const struct told_dial *told)
{
	flow->row = told->row;
	flow->note = told->note;
	if (!take_answer(thread, flow))
		return;
	flow->state = FLOW_DIALLING;
	flow->dialled_at = thread->now;
	flow->first_byte_ms = -1; /* This one may be quicker. */
	flow->row_counters = share_row(flow->share, told->row);
	flow_look_at(thread, flow, after(thread->now, told->timeout_ms));
	flow->kind->dial(thread, flow, told);
}

void flow_wait(struct thread *thread, struct flow *flow, const struct told_wait *told)
{
	if (take_answer(thread, flow))
		flow->kind->wait(thread, flow, told);
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
	flow->share->owed--;
	flow->unsaid = 0;
	if (flow->state != FLOW_CLOSED)
		flow->kind->close(thread, flow, 0);
	flow->state = FLOW_CLOSED;
	forget_if_free(thread, flow);
}

/* --- turns -------------------------------------------------------------------------------------------------- */

void flow_due(struct thread *thread, struct flow *flow)
{
	if (flow->state == FLOW_ASKED)
		flow_end(thread, flow, REASON_UNDECIDED, 0);
	else
		flow->kind->due(thread, flow);
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
	else
		flow->kind->go_on(thread, flow);
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
