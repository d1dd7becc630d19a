/* Sockets that listen. For the main thread. */
#ifndef FAIRLEAD_OPEN_H
#define FAIRLEAD_OPEN_H

#include "address.h"

/* What is asked of a listening socket; 0 leaves the system's way. Clients inherit all but the last two. */
struct open_options {
	int backlog;
	int keep_alive_s;
	int user_timeout_ms;
	int transparent; /* addresses of other machines too (IP_TRANSPARENT) */
	int freebind;    /* addresses this machine does not have yet (IP_FREEBIND) */
	int fast_open;   /* clients whose first bytes come with their SYN, in the queue at once (TCP_FASTOPEN) */
	int defer_accept_s; /* clients are told of when they have sent something (TCP_DEFER_ACCEPT) */
	/* Of sockets for datagrams (UDP), for which only `transparent` and `freebind` of the above mean something: */
	int datagrams;
	int receive_buffer; /* bytes (SO_RCVBUF) */
	int by_address;     /* all datagrams of an address come to one of the sockets */
};

/* Opens `count` sockets on `address`, each with a queue of its own between which the kernel spreads clients; of a
 * path they are descriptors of one socket. Port 0 becomes one that is free, in `address` too. `::` takes IPv4 as
 * well. Returns 0, or -errno with nothing left open and `call` naming the system call. */
int open_listeners(struct address *address, int count, const struct open_options *options, int *fds,
		   const char **call);

/* Tries on a socket of its own what dials are asked for. 0 or -errno, `refused` naming the option that could not be
 * set: "mark" or "transparent". */
int open_probe(int mark, int transparent, const char **refused);

#endif
