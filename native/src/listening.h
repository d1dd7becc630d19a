/* A server's open listeners, and what each thread has of them. */
#ifndef FAIRLEAD_LISTENING_H
#define FAIRLEAD_LISTENING_H

#include "access.h"
#include "address.h"

#include <stdint.h>

struct flow;
struct sessions;
struct thread;

enum {
	LISTENING_MOST = 1 << 16,  /* at once, in all */
	LISTENING_THREADS = 64,
	LISTENING_BLOCKS = 20,     /* rows are in blocks of 16, 32, 64 and so on */
	LISTENING_FIRST_BLOCK = 16,
};

/* Of sessions; 0 is without limit. See DatagramSpec in src/plane/plane.ts. */
struct datagram_spec {
	int on;
	int by_ip;
	uint32_t max_requests;
	uint32_t max_responses;
	uint32_t max_sessions; /* of one thread; the main thread may change it at any time */
	int tell_unreachable;
	uint32_t glimpses;
};

/* Where and how; times in ms, 0 is without limit. See ListenSpec in src/plane/plane.ts. */
struct spec {
	int64_t client_idle_ms;
	int64_t backend_idle_ms;
	int64_t half_close_ms;
	int64_t undecided_ms;
	int report;   /* say SAYS_CONNECTED and SAYS_FIRST_BYTE */
	int measure;  /* TCP_INFO goes into SAYS_ENDED */
	/* Options of the sockets of backends; those of clients come with the listener. */
	int keep_alive_s;
	int user_timeout_ms;
	int mark;
	int transparent; /* connect from the client's own address */
	struct address source; /* connect from there; length 0 is from anywhere */
	struct datagram_spec datagrams;
	struct access *access; /* of datagrams; NULL is everybody. It is the listening's. */
};

/* What is counted of one backend on one thread: written by the thread alone, read by TypeScript in place. */
struct row {
	double rx;
	double tx;
	double connects;
	double requests; /* datagrams */
	double responses;
	double unused[3]; /* a row is a cache line */
};

/* Datagrams that were dropped, read like rows. See Drops in src/plane/plane.ts. */
struct drops {
	double queue; /* of sockets to backends */
	double access;
	double undecided;
	double draining;
	double send;
};

/* One thread's part of a listening. */
struct share {
	struct listening *listening;
	struct share *next_undone;
	struct flow *flows;    /* of this thread, whose end has not been said */
	int count;             /* of them */
	int owed;              /* of them, those that wait for an answer of TypeScript */
	struct sessions *sessions; /* of datagrams */
	struct drops drops;
	int listeners;         /* open ones */
	int shut;              /* takes no new clients */
	int draining;          /* SAYS_DRAINED follows when the last listener is closed; at once for datagrams */
	int stopping;          /* SAYS_STOPPED follows when the last flow is over */
	int undone;            /* there was no room to say so */
	uint32_t reason;       /* of stopping */
	struct row *_Atomic rows[LISTENING_BLOCKS]; /* given by the main thread before a dial needs them */
};

struct listening {
	uint32_t id;
	struct spec spec;
	struct share shares[LISTENING_THREADS];
};

/* One bound address on one thread. */
struct listener {
	struct listener *next; /* of those that wait before they accept again */
	struct share *share;
	uint32_t bind;
	uint32_t key;         /* in the thread's table */
	int fd;
	int shared;
	int watched;          /* by epoll */
	int fixed;            /* every client came to `local` */
	int64_t again;        /* ns; when accepting is tried again after trouble */
	struct address local;
	uint8_t local_ip[16]; /* as records have it */
	uint16_t local_port;
};

/* The counters of `row` for this thread; NULL when nobody gave room for it. */
struct row *share_row(struct share *share, uint32_t row);

/* Takes over a socket that listens. Returns 0 or -errno, the socket closed then. */
int listener_open(struct thread *thread, struct share *share, uint32_t bind, int fd, int shared);

/* Takes clients, or datagrams: as many as wait and a turn allows. None of one that is not watched. */
void listener_accept(struct thread *thread, struct listener *listener);

/* Takes none until `again` (ns) and until TypeScript can be told; the listener is not watched. */
void listener_pause(struct thread *thread, struct listener *listener, int64_t again);

/* Lets those that paused go on when it is time. */
void listeners_resume(struct thread *thread);

/* Closes all of the share; who is in their queues is taken first, and SAYS_DRAINED follows. Those of datagrams stay
 * open, since answers leave by them, until listeners_shut. */
void listeners_drain(struct thread *thread, struct share *share);

/* Closes those of datagrams; the sessions are to be ended. */
void listeners_shut(struct thread *thread, struct share *share);

/* Goes on with closing, where TypeScript had to read first. */
void listeners_close(struct thread *thread);

/* Says that a share has no listeners, or no flows any more, if that is waited for; the second one where there was
 * no room before. */
void share_done(struct thread *thread, struct share *share);
void shares_done(struct thread *thread);

/* Watches the listener with a new epoll instance. */
int listener_watch(struct thread *thread, struct listener *listener);

/* Watches it no more. Twice is fine. */
void listener_unwatch(struct thread *thread, struct listener *listener);

#endif
