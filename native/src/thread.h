/* One relay thread: an epoll instance, the flows that live and die on it, and the two rings to TypeScript.
 *
 *      TypeScript ══ down ══► obey ─┐                     a turn of the loop
 *                            events ┼─► flows ─► say ══ up ══► TypeScript
 *                            timers ┘
 */
#ifndef FAIRLEAD_THREAD_H
#define FAIRLEAD_THREAD_H

#include "connection.h"
#include "datagrams.h"
#include "listening.h"
#include "pipes.h"
#include "ring.h"
#include "slab.h"
#include "wheel.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
	THREAD_EVENTS = 256,
	RING_ASLEEP = 68, /* in the memory of the ring down: 1 while the thread wants to be woken */
};

struct plane;

struct thread {
	struct plane *plane;
	int index;
	int epoll;
	int wake; /* eventfd */
	pthread_t id;
	_Atomic int quit;
	int64_t looked_at; /* ns; when what was told was looked at last */
	int64_t now; /* ns of CLOCK_MONOTONIC; see thread_tick */
	struct ring up;
	struct ring down;
	_Atomic uint32_t *asleep;
	int urgent;         /* something TypeScript is waited for was said this turn */
	int64_t unheard_at; /* ns; since when something not urgent has been said; 0 when nothing was */
	struct wheel wheel;
	struct pipes pipes;
	int64_t pipes_at;     /* ns; when somebody was last seen to use one */
	unsigned pipes_taken; /* by then */
	uint8_t *buffer; /* RELAY_BUFFER bytes, for what is read and written at once */
	struct slab connections;
	struct slab sessions; /* their slots have SESSION_SLOT as well */
	struct batch *batch;  /* of datagrams; NULL before there is a listener of them */
	uint32_t lives; /* flows that began */
	struct flow *ready, **ready_end;
	struct flow *unsaid, **unsaid_end;
	struct listener **listeners;
	uint32_t listener_room;
	uint32_t listener_free; /* no key before it is free */
	struct listener *paused;
	struct listener *closing;
	struct share *undone;
};

/* Makes a thread that waits to be run. `up` and `down` are zeroed memory for rings of `bytes` each. 0 or -errno,
 * everything given back then. */
int thread_init(struct thread *thread, struct plane *plane, int index, void *up, void *down, size_t bytes);

/* Runs until `quit`; what the loop cannot mend ends the flows of this thread and begins it anew. For pthreads. */
void *thread_run(void *thread);

/* Closes everything; the thread is not running. */
void thread_destroy(struct thread *thread);

/* Asks for the time. A turn does it after waiting, now and then, and when a flow has moved much: what is noted of a
 * flow in between is late by what a few events take. */
void thread_tick(struct thread *thread);

/* Room to say something; NULL when TypeScript has to read first. `urgent`: an answer is waited for. */
void *thread_say(struct thread *thread, uint32_t kind, uint32_t bytes, int urgent);

/* True when a record of this size can be said. */
int thread_can_say(struct thread *thread, uint32_t bytes);

/* Says what went wrong; without room it is not said. */
void thread_trouble(struct thread *thread, uint32_t what, int error, const struct listener *listener);

/* The flow that lives in a slot; NULL when it is another's or nobody's. */
struct flow *thread_flow(struct thread *thread, uint32_t slot, uint32_t life);

/* Has flow_go_on called in the next turn. */
void thread_ready(struct thread *thread, struct flow *flow);

/* Has flow_say called again when there is room. */
void thread_unsaid(struct thread *thread, struct flow *flow);

/* Watches a descriptor: `key` and `life` come back with its events. 0 or -errno. */
int thread_watch(struct thread *thread, int op, int fd, uint32_t events, uint32_t key, uint32_t life);

static inline int64_t thread_ms(const struct thread *thread)
{
	return thread->now / 1000000;
}

#endif
