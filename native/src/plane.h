/* The threads, and what belongs to all of them. The functions here are for the main thread. */
#ifndef FAIRLEAD_PLANE_H
#define FAIRLEAD_PLANE_H

#include "listening.h"
#include "thread.h"

struct plane {
	int threads;
	int ceiling; /* descriptors for pipes are below this */
	struct thread *thread[LISTENING_THREADS];
	_Atomic(struct listening *) listenings[LISTENING_MOST];
	_Atomic uint32_t *signalled; /* 1 from a wake of TypeScript until it reads */
	void (*wake)(void *context);
	void *context;
};

/* Starts `threads` threads (1 to LISTENING_THREADS). `memory` has, zeroed: 64 bytes of which the first four are `signalled`, then
 * a ring up and a ring down of `ring` bytes for each thread. It stays until plane_stop has returned. `wake` is
 * called from any thread when TypeScript is to read. Returns 0 or -errno, nothing left then. */
int plane_start(struct plane **plane, int threads, void *memory, size_t ring, int ceiling,
		void (*wake)(void *context), void *context);

/* Ends the threads and every flow without a word. */
void plane_stop(struct plane *plane);

/* A listening without listeners; NULL when there are too many. */
struct listening *plane_listening(struct plane *plane, const struct spec *spec);

/* No thread knows it any more: each has said SAYS_STOPPED. */
void plane_forget(struct plane *plane, struct listening *listening);

/* The listening of an id, from any thread; NULL when there is none. */
struct listening *plane_find(struct plane *plane, uint32_t id);

/* TypeScript shall read. From any thread; does nothing while an earlier call has not been heeded. */
void plane_signal(struct plane *plane);

/* Ends the sleep of a thread. */
void plane_rouse(struct plane *plane, int thread);

#endif
