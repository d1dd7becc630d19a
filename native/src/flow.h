/* What a connection and a session have in common: their questions to TypeScript, and the one record of their end.
 *
 *      asked ─► waiting ─► later ─► dialling ─► relaying ─► closed ─► (said)
 *        └─────────┴─────────┴── any of the earlier may be skipped, and dialling repeated
 *
 * While a question about a flow is out, the flow stays: an answer never meets another flow in its place.
 */
#ifndef FAIRLEAD_FLOW_H
#define FAIRLEAD_FLOW_H

#include "listening.h"
#include "records.h"
#include "wheel.h"

#include <stdint.h>

enum {
	FLOW_HEAD_MOST = 64 * 1024, /* first bytes that may be waited for; they go through the ring */
};

enum state {
	FLOW_FREE,
	FLOW_ASKED,    /* TypeScript owes an answer */
	FLOW_WAITING,  /* for first bytes */
	FLOW_LATER,    /* unread, until TypeScript says more */
	FLOW_DIALLING,
	FLOW_RELAYING,
	FLOW_CLOSED,   /* over; its end is said when no answer is owed and the ring has room */
};

struct flow;

/* First bytes that TypeScript is shown. */
struct head {
	const uint8_t *bytes;
	uint32_t length;
	uint32_t ended; /* no more will follow */
};

/* What only a connection, or only a session, can do. */
struct kind {
	/* TypeScript has answered; `rest` of what was told has the bytes that follow the record. The flow is open. */
	void (*dial)(struct thread *thread, struct flow *flow, const struct told_dial *told);
	void (*wait)(struct thread *thread, struct flow *flow, const struct told_wait *told);
	/* Its time may have come; an answer is not owed. */
	void (*due)(struct thread *thread, struct flow *flow);
	/* Goes on where a turn was too short. */
	void (*go_on)(struct thread *thread, struct flow *flow);
	struct head (*head)(struct flow *flow);
	/* What it counted besides bytes; these three may be NULL. */
	void (*measure)(struct flow *flow);
	void (*datagrams)(const struct flow *flow, double *requests, double *responses);
	/* Closes the socket of the backend alone: it has room for another flow when the end of this one is said. */
	void (*leave)(struct flow *flow, int reset);
	/* Closes sockets and frees memory. With `reset`, sockets that are still open are reset; what the kernel has
	 * taken is delivered otherwise. */
	void (*close)(struct thread *thread, struct flow *flow, int reset);
	/* It is nobody's any more. */
	void (*give)(struct thread *thread, struct flow *flow);
};

/* The beginning of a connection and of a session. */
struct flow {
	struct timer timer; /* first: the wheel knows a flow by it */
	const struct kind *kind;
	struct flow *next;  /* of its share; `before` points to what points here */
	struct flow **before;
	struct flow *next_ready;
	struct flow *next_unsaid;
	struct share *share;
	struct row *row_counters;
	struct who who;
	int64_t accepted_at; /* ns, as all of these */
	int64_t asked_at;
	int64_t dialled_at;  /* -1 before */
	int64_t over_at;
	double connect_ms;
	double first_byte_ms;
	double rx;
	double tx;
	double tx_counted; /* of these, those counted under a row */
	double dial_ms;
	int32_t row;        /* whose slot it holds, or NO_ROW */
	int32_t failed_row; /* of the dial that failed last */
	uint32_t note;
	int32_t error;      /* of the last dial */
	struct path client_path;
	struct path backend_path;
	uint8_t state;
	uint8_t reason;
	uint8_t doom;     /* the reason it is to be ended for by the next turn; 0 for none */
	uint8_t owed;     /* an answer of TypeScript */
	uint8_t lost;     /* the dial that failed last had succeeded before */
	uint8_t known;    /* TypeScript has answered its arrival with something else than a refusal */
	uint8_t ready;    /* in the list of those that go on next turn */
	uint8_t unsaid;   /* what is to be said; bits of 1 << SAYS_... */
	uint8_t queued;   /* in the list of those that have something to say */
};

static inline const struct spec *spec_of(const struct flow *flow)
{
	return &flow->share->listening->spec;
}

/* Begins one that was just taken from its slab: its client has come in, and TypeScript is asked at once by flow_arrived
 * when `who` is filled. The caller has seen that the ring has room. */
void flow_begin(struct thread *thread, struct flow *flow, const struct kind *kind, struct share *share);
void flow_arrived(struct thread *thread, struct flow *flow);

/* What TypeScript has answered. A flow that is over only notes whose slot it holds. */
void flow_dial(struct thread *thread, struct flow *flow, const struct told_dial *told);
void flow_wait(struct thread *thread, struct flow *flow, const struct told_wait *told);
void flow_later(struct thread *thread, struct flow *flow);
void flow_refuse(struct thread *thread, struct flow *flow, uint32_t reason);

/* Another question goes out: SAYS_HEADED or, by flow_dial_failed, SAYS_DIAL_FAILED, which pays the slot back. A dial may
 * fail after it had succeeded, when a session finds nobody there any more. */
void flow_ask(struct thread *thread, struct flow *flow, uint32_t kind);
void flow_dial_failed(struct thread *thread, struct flow *flow, int error);

/* The dial has succeeded: counts it and says so when that is asked for. */
void flow_connected(struct thread *thread, struct flow *flow);

/* Adds to what TypeScript reads at any time; relaxed stores of 8 bytes are plain moves that do not tear. */
static inline void flow_count(double *cell, double by)
{
	double sum = *cell + by;

	__atomic_store(cell, &sum, __ATOMIC_RELAXED);
}

/* Bytes have come from the client or from the backend. */
void flow_sent(struct flow *flow, double bytes);
void flow_received(struct thread *thread, struct flow *flow, double bytes);

/* Its time may have come. */
void flow_due(struct thread *thread, struct flow *flow);

/* Goes on where a turn was too short, or ends when it is doomed. */
void flow_go_on(struct thread *thread, struct flow *flow);

/* Ends every flow of the share that holds `row`, or every one when that is NO_ROW, in turns. */
void flow_doom(struct thread *thread, struct share *share, int32_t row, uint32_t reason);

/* Closes the sockets at once and says why; see `close` of its kind for `reset`. */
void flow_end(struct thread *thread, struct flow *flow, uint32_t reason, int reset);

/* Writes what is to be said of it into the ring. 0 when there was no room for all of it. */
int flow_say(struct thread *thread, struct flow *flow);

/* --- times -------------------------------------------------------------------------------------------------- */

/* `ms` after `start`, in ns; never when that is 0. */
static inline int64_t after(int64_t start, int64_t ms)
{
	return ms > 0 ? start + ms * 1000000 : INT64_MAX;
}

static inline int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static inline int64_t latest(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static inline double ms_between(int64_t from, int64_t to)
{
	return (double)(to - from) / 1e6;
}

/* Has `due` called at `at` ns, or not at all at INT64_MAX; the second one unless it is called sooner. */
void flow_look_at(struct thread *thread, struct flow *flow, int64_t at);
void flow_look_sooner(struct thread *thread, struct flow *flow, int64_t at);

#endif
