/* The sessions of one thread's part of a listening: found by their client, evicted when they are too many.
 *
 *      table      hash of the client ─► session        flat, probed in line, at most half full
 *      lists      never answered: oldest ⇄ ... ⇄ newest      evicted first, but for an eighth of the most:
 *                 answered:       oldest ⇄ ... ⇄ newest      room for those whose first answer is on its way
 */
#ifndef FAIRLEAD_SESSIONS_H
#define FAIRLEAD_SESSIONS_H

#include "listening.h"

#include <netinet/in.h>
#include <stdint.h>

struct session;

/* Whose a datagram is, and where it was sent to. */
struct caller {
	uint8_t ip[16]; /* as records have them */
	uint8_t local_ip[16];
	uint32_t family;
	uint16_t port;
	uint32_t bind;
	uint32_t interface; /* it came in by; 0 when the listener has one address */
	struct sockaddr_in6 from; /* as the kernel gave it; IPv4 where the listener has that */
};

struct entry {
	uint32_t hash;
	uint32_t slot; /* and 1; 0 is nobody */
};

struct line {
	struct session *oldest;
	struct session *newest;
};

struct sessions {
	struct entry *entries;
	uint32_t capacity; /* a power of two, or 0 */
	uint32_t keyed;    /* of the open ones, those in the table */
	uint32_t open;     /* not over yet */
	uint32_t strangers; /* of the open ones, those never answered */
	uint64_t secret;   /* so that nobody can choose clients that meet in one place */
	struct line unanswered;
	struct line answered;
	int shots[2]; /* sockets that fire and forget, for IPv4 and IPv6; -1 before there is one */
};

/* NULL without memory. */
struct sessions *sessions_new(void);

/* On the thread, when all of them are over; NULL is fine. */
void sessions_free(struct sessions *sessions);

/* Hash of a client; `by_ip` leaves its port out. */
uint32_t sessions_hash(const struct sessions *sessions, const struct caller *caller, int by_ip);

/* The session of a client; NULL when it has none. */
struct session *sessions_find(struct thread *thread, const struct sessions *sessions, const struct caller *caller,
			      uint32_t hash, int by_ip);

/* Adds one to the lists, and to the table unless nobody is to find it. 0, or -ENOMEM and nothing is done. */
int sessions_add(struct sessions *sessions, struct session *session, int keyed);

/* Nobody finds it any more. Twice is fine. */
void sessions_detach(struct sessions *sessions, struct session *session);

/* Takes it out of table and lists. */
void sessions_remove(struct sessions *sessions, struct session *session);

/* It was heard of: it is the newest of its list. */
void sessions_touch(struct sessions *sessions, struct session *session);

/* It was answered for the first time. */
void sessions_answered(struct sessions *sessions, struct session *session);

/* Whom to evict where there may be `most`; NULL when there is nobody. */
struct session *sessions_oldest(const struct sessions *sessions, uint32_t most);

#endif
