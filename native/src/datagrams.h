/* Datagrams in batches: out of the sockets that clients send to, and back to them.
 *
 *      listener ──► in: one recvmmsg ──► session_request of each
 *      session ──► out: room ... post ──► one sendmmsg for all that leave by the same socket
 */
#ifndef FAIRLEAD_DATAGRAMS_H
#define FAIRLEAD_DATAGRAMS_H

#include "session.h"

#include <netinet/udp.h>
#include <sys/socket.h>

/* Headers of a C library may be older than the kernel. */
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
	DATAGRAMS = 64,             /* in a batch */
	DATAGRAM_BYTES = 64 * 1024, /* the longest there is fits */
};

struct batch;

/* Receives what clients have sent, a bounded number. */
void datagrams_receive(struct thread *thread, struct listener *listener);

/* Receives what the backend has sent: at most `most` times. The number, or -errno. The first of what was received is
 * `datagrams_first` until it is posted, then the next one is, or it is left. */
int datagrams_from_backend(struct thread *thread, int fd, int most);
struct datagram datagrams_first(struct thread *thread);

/* Posts the first of what was received, or the beginning of it, to the client of the session. */
void datagrams_answer(struct thread *thread, struct session *session, struct datagram datagram);

/* Sends by a connected socket. 0 or -errno. */
int datagrams_send(int fd, struct datagram datagram);

/* Whether an error may mean that the way there cannot cut what is longer than a segment. */
int datagrams_cannot_cut(int error);

/* Posts one to an address by `fd`, which stays open until datagrams_flush. */
void datagrams_shoot(struct thread *thread, struct share *share, int fd, const struct address *to,
		     struct datagram one);

/* Sends what was posted. */
void datagrams_flush(struct thread *thread);

/* Memory for batches, when the first listener is opened. 0 or -ENOMEM. */
int datagrams_prepare(struct thread *thread);

void datagrams_free(struct thread *thread);

#endif
