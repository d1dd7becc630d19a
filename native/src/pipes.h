/* Pipes for splice(2), kept for the next flow that needs one. */
#ifndef FAIRLEAD_PIPES_H
#define FAIRLEAD_PIPES_H

#include <stdint.h>

enum {
	PIPES_MOST = 256, /* open at once */
	PIPES_KEPT = 32,  /* of which as many are kept while nobody uses them */
};

struct pipe {
	struct pipe *next;
	int read;  /* both non-blocking */
	int write;
	int bytes; /* what it holds at most */
};

struct pipes {
	struct pipe *free;
	int open;
	int kept;
	int ceiling;
	int64_t again;  /* ns; the system gave none, and is not asked before */
	unsigned taken; /* so often, ever */
};

/* No pipes yet. A descriptor of a pipe is below `ceiling`, so that pipes do not take what clients need. */
void pipes_init(struct pipes *pipes, int ceiling);

/* An empty pipe, or NULL when PIPES_MOST are in use or the system gives none. It is asked again when one is closed, or a
 * second after it gave none. `now` is in ns. */
struct pipe *pipes_take(struct pipes *pipes, int64_t now);

/* Gives a pipe back. One that is not `empty` is closed, since what is in it belongs to a flow that is over. */
void pipes_give(struct pipes *pipes, struct pipe *pipe, int empty);

/* Closes those that nobody uses. */
void pipes_close(struct pipes *pipes);

#endif
