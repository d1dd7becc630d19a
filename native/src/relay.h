/* Moving bytes between the two sockets of a connection. */
#ifndef FAIRLEAD_RELAY_H
#define FAIRLEAD_RELAY_H

#include "connection.h"

enum {
	RELAY_BUFFER = 128 * 1024, /* the most one read can bring */
};

enum relayed {
	RELAY_WAITS,  /* for one of the sockets */
	RELAY_MORE,   /* there is more to do than one turn may */
	RELAY_ENDED,  /* all has been read and sent, and nothing will follow */
	RELAY_FROM_BROKE,
	RELAY_TO_BROKE,
	RELAY_NO_MEMORY,
};

/* Moves what there is, a bounded amount. `up` is the direction to the backend. Counts, and notes when either side
 * moved. */
enum relayed relay_move(struct thread *thread, struct connection *connection, int up);

/* Reads what a client has sent already into `up.held`; nothing is fine. Returns 0, or -errno when the socket broke
 * or memory is missing. */
int relay_sip(struct thread *thread, struct connection *connection);

/* Puts `bytes` in front of what is held. Returns 0 or -ENOMEM. */
int relay_ahead(struct stream *stream, const uint8_t *bytes, uint32_t length);

/* Takes the first `length` bytes of what is held away. */
void relay_behind(struct stream *stream, uint32_t length);

/* True while bytes wait for the side they go to. */
static inline int relay_blocked(const struct stream *stream)
{
	return stream->piped > 0 || stream->held_to > stream->held_from;
}

/* Lets go of memory and pipe. */
void relay_release(struct thread *thread, struct stream *stream);

#endif
