/* A UDP session: the datagrams of one client, and those of the backend that answers them. */
#ifndef FAIRLEAD_SESSION_H
#define FAIRLEAD_SESSION_H

#include "flow.h"
#include "sessions.h"

#define SESSION_SLOT 0x80000000u /* a bit of the slots of sessions, and of their keys in epoll */

/* A datagram of the client that waits for a decision, or was sent and not answered yet. */
struct waiting {
	struct waiting *next;
	uint32_t length;
	uint8_t bytes[];
};

struct session {
	struct flow flow; /* first */
	struct session *older;
	struct session *newer;
	struct listener *listener; /* answers leave by it */
	struct waiting *waiting;
	struct sockaddr_in6 peer; /* the client, as the kernel gave it */
	uint32_t interface;       /* it came in by; 0 when the listener has one address */
	uint32_t hash;
	int fd; /* towards the backend; -1 when there is none */
	uint32_t waiting_bytes;
	uint32_t shown; /* TypeScript wants no more of the first datagram */
	uint8_t waiting_count;
	uint8_t keyed;    /* in the table: the client's next datagram is its */
	uint8_t spent;    /* it takes no more datagrams of the client */
	uint8_t gathers;  /* UDP_GRO is set towards the backend */
	uint8_t headed;   /* TypeScript was shown the first one */
	int64_t heard_at;    /* ns; of the client last, */
	int64_t answered_at; /* and of the backend; of the dial before that */
	int64_t kept_at;     /* when what waits was sent last */
	double requests;
	double responses;
	double requests_counted; /* of the requests, those counted under a row */
};

/* A datagram, or several of the same sender in one piece: `segment` bytes each, the last one maybe less. */
struct datagram {
	const uint8_t *bytes;
	uint32_t length;
	uint32_t segment; /* 0: it is one */
};

static inline uint32_t datagram_pieces(struct datagram datagram)
{
	return datagram.segment ? (datagram.length + datagram.segment - 1) / datagram.segment : 1;
}

/* Takes the first one off; nothing is left when the length is 0 after that. */
static inline struct datagram datagram_cut(struct datagram *left)
{
	struct datagram first = { left->bytes, left->length, 0 };

	if (left->segment)
		first.length = least(left->segment, left->length);
	left->bytes += first.length;
	left->length -= first.length;
	return first;
}

/* A datagram of a stranger: TypeScript is asked, unless there is no room. */
void session_begin(struct thread *thread, struct listener *listener, const struct caller *caller, uint32_t hash,
		   struct datagram datagram);

/* A datagram of its client. */
void session_request(struct thread *thread, struct session *session, struct datagram datagram);

/* Epoll has seen something on the socket to the backend. */
void session_event(struct thread *thread, struct session *session);

#endif
