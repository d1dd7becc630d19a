/* A TCP connection end to end, or one over unix sockets: a client and its backend. */
#ifndef FAIRLEAD_CONNECTION_H
#define FAIRLEAD_CONNECTION_H

#include "flow.h"
#include "pipes.h"

/* One socket of it. Readable and writable are what is known since the last edge. */
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
	uint8_t watch;   /* what epoll watches; see connection.c */
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

struct connection {
	struct flow flow; /* first */
	struct side client;
	struct side backend;
	struct stream up; /* client to backend */
	struct stream down;
	int64_t half_at; /* ns; -1 before one side has ended */
	int64_t tune_at; /* when keep-alive is set on the backend; INT64_MAX when it is */
	uint32_t need;   /* first bytes: ask at so many, */
	uint32_t most;   /* and hold no more than these */
	uint32_t ahead;  /* of what is held, what the dial under way has put in front */
	uint8_t closed;  /* who ended first, as a reason */
	uint8_t limit;   /* the reason when waiting has lasted too long */
};

/* A client has come in: TypeScript is asked. The caller has seen that the ring has room. `fd` is the connection's,
 * or closed when there is no memory for one. */
void connection_arrive(struct thread *thread, struct listener *listener, int fd, const struct address *peer);

/* Epoll has seen `events` on one of the sockets. */
void connection_event(struct thread *thread, struct connection *connection, int backend, uint32_t events);

#endif
