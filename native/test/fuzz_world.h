/* What stands around a thread that a fuzzer tells what to do: clients and backends on this machine, and a kernel that
 * fails on demand. The calls of the thread come here by --wrap: whatever address it dials, it reaches a backend of
 * ours or nobody, it binds nothing, and one turn of its loop is all it runs. */
#ifndef FAIRLEAD_FUZZ_WORLD_H
#define FAIRLEAD_FUZZ_WORLD_H

#include "../src/thread.h"

enum {
	WORLD_PEERS = 32, /* clients and backends of an input, together */
};

/* How a peer leaves. */
enum leave {
	LEAVE_SHUT,
	LEAVE_RESET,
	LEAVE_CLOSE,
	LEAVE_URGENT, /* it does not: a byte out of band */
};

/* For one input. */
void world_begin(struct thread *thread);
void world_end(void);

/* A socket that listens on a free port of 127.0.0.1, or on an abstract path. */
int world_listener(int is_unix);

/* Where a socket for datagrams is bound. */
enum where {
	AT_ONE,    /* 127.0.0.1 */
	AT_EVERY,  /* of IPv4 */
	AT_EITHER, /* every one of IPv4 and IPv6 */
	WHERES,
};

/* A socket for datagrams on a free port, as open_listeners makes it. */
int world_datagrams(enum where where);

/* Connects to a listener, or does not: there are enough. `from` is the address it comes from, and goes to where the
 * listener has several, of datagrams. */
void world_client(int listener, uint32_t from);

/* obey_record, with the failures that were asked for. */
int world_obey(const struct record *record);

/* Lets the thread turn once, `ms` after its last turn, and backends accept. */
void world_turn(uint32_t ms);

/* Of the peers by number, clients and backends as they came; what is nobody does nothing. */
void world_send(uint32_t peer, uint32_t bytes);
void world_read(uint32_t peer);
void world_leave(uint32_t peer, enum leave how);

/* So many datagrams of as many bytes; several in one piece where `segment`, the bytes of one, is not 0. */
struct burst {
	uint32_t times;
	uint32_t bytes;
	uint32_t segment;
};

/* A client's. */
void world_ask(uint32_t peer, struct burst burst);

/* Backends answer each datagram that has come to them so. */
void world_answer(struct burst burst);

/* One of the backends is away, or there again. */
void world_vanish(void);

/* The next turn's epoll_wait fails; the allocation after `count` others of the thread does, and so do the `times`
 * calls that send and receive after as many, as the number `how` says. */
void world_fail_epoll(void);
void world_fail_memory(uint32_t count);
void world_fail_calls(uint32_t count, uint32_t times, uint32_t how);

/* Nothing fails any more. */
void world_calm(void);

#endif
