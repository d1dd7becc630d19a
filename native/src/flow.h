/* One client and its backend, from accept to the one record of its end.
 *
 *      asked ─► waiting ─► later ─► dialling ─► relaying ─► closed ─► (said)
 *        └─────────┴─────────┴── any of the earlier may be skipped, and dialling repeated
 *
 * While a question about a flow is out, the flow stays: an answer never meets another flow in its place.
 */
#ifndef FAIRLEAD_FLOW_H
#define FAIRLEAD_FLOW_H

#include "listening.h"
#include "pipes.h"
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

/* One socket of a flow. Readable and writable are what is known since the last edge. */
struct side {
	int64_t moved_at; /* ns; when a byte was last read from it or written to it */
	int fd;           /* -1 when there is none */
	uint8_t tcp;
	uint8_t readable;
	uint8_t writable;
	uint8_t hung_up; /* the end is in the receive queue, behind what is there */
	uint8_t ended;   /* the other end has sent its last byte, and we have read it */
	uint8_t shut;    /* we have sent our last byte */
	uint8_t urgent;  /* out-of-band data or an error follows, so that a short read does not mean "empty" */
	uint8_t watch;   /* what epoll watches; see flow.c */
	uint8_t tuned;   /* writes so far, up to 2: TCP_NODELAY is set then */
};

/* One direction: bytes read from one side and not taken by the other yet. */
struct stream {
	uint8_t *held;
	uint32_t held_from;
	uint32_t held_to;
	struct pipe *pipe; /* while it is spliced */
	uint32_t piped;    /* bytes in it */
	uint8_t full;      /* reads in a row that filled the buffer */
	uint8_t calm;      /* splices in a row that brought little */
	uint8_t copies;    /* splicing did not work here */
};

struct flow {
	struct timer timer; /* first: the wheel knows a flow by it */
	struct flow *next;  /* of its share; `before` points to what points here */
	struct flow **before;
	struct flow *next_ready;
	struct flow *next_unsaid;
	struct share *share;
	struct row *row_counters;
	struct who who;
	struct side client;
	struct side backend;
	struct stream up;   /* client to backend */
	struct stream down;
	int64_t accepted_at; /* ns, as all of these */
	int64_t asked_at;
	int64_t dialled_at;  /* -1 before */
	int64_t half_at;     /* -1 before one side has ended */
	int64_t tune_at;     /* when keep-alive is set on the backend; INT64_MAX when it is */
	int64_t over_at;
	double connect_ms;
	double first_byte_ms;
	double rx;
	double tx;
	int32_t row;        /* whose slot it holds, or NO_ROW */
	int32_t failed_row; /* of the dial that failed last */
	uint32_t note;
	uint32_t need;  /* first bytes: ask at so many, */
	uint32_t most;  /* and hold no more than these */
	uint32_t ahead; /* of what is held, what the dial under way has put in front */
	int32_t error;  /* of the last dial */
	double dial_ms;
	struct path client_path;
	struct path backend_path;
	uint8_t state;
	uint8_t reason;
	uint8_t closed;   /* who ended first, as a reason */
	uint8_t limit;    /* the reason when waiting has lasted too long */
	uint8_t doom;     /* the reason it is to be ended for by the next turn; 0 for none */
	uint8_t owed;     /* an answer of TypeScript */
	uint8_t known;    /* TypeScript has answered its arrival with something else than a refusal */
	uint8_t ready;    /* in the list of those that go on next turn */
	uint8_t unsaid;   /* what is to be said; bits of 1 << SAYS_... */
	uint8_t queued;   /* in the list of those that have something to say */
};

/* A client has come in: TypeScript is asked. The caller has seen that the ring has room. `fd` is the flow's, or
 * closed when there is no memory for one. */
void flow_arrive(struct thread *thread, struct listener *listener, int fd, const struct address *peer);

/* What TypeScript has answered; `rest` has the bytes that follow the record. A flow that is over only notes whose
 * slot it holds. */
void flow_dial(struct thread *thread, struct flow *flow, const struct told_dial *told);
void flow_wait(struct thread *thread, struct flow *flow, const struct told_wait *told);
void flow_later(struct thread *thread, struct flow *flow);
void flow_refuse(struct thread *thread, struct flow *flow, uint32_t reason);

/* Epoll has seen `events` on one of the sockets. */
void flow_event(struct thread *thread, struct flow *flow, int backend, uint32_t events);

/* Its time may have come. */
void flow_due(struct thread *thread, struct flow *flow);

/* Goes on where a turn was too short, or ends when it is doomed. */
void flow_go_on(struct thread *thread, struct flow *flow);

/* Ends every flow of the share that holds `row`, or every one when that is NO_ROW, in turns. */
void flow_doom(struct thread *thread, struct share *share, int32_t row, uint32_t reason);

/* Closes the sockets at once and says why. With `reset`, sockets that are still open are reset; what the kernel
 * has taken is delivered otherwise. */
void flow_end(struct thread *thread, struct flow *flow, uint32_t reason, int reset);

/* Writes what is to be said of it into the ring. 0 when there was no room for all of it. */
int flow_say(struct thread *thread, struct flow *flow);

#endif
