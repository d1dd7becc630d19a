/* What the threads and TypeScript say to each other: payloads of the rings' records. The other side of this file
 * is src/plane/native/records.ts; RECORDS_VERSION changes with any of it. Little-endian, as both machines are. */
#ifndef FAIRLEAD_RECORDS_H
#define FAIRLEAD_RECORDS_H

#include <stdint.h>

enum { RECORDS_VERSION = 3 };

/* Kinds of what a thread says. */
enum {
	SAYS_ARRIVED = 1,
	SAYS_HEADED,
	SAYS_DIAL_FAILED,
	SAYS_CONNECTED,
	SAYS_FIRST_BYTE,
	SAYS_ENDED,
	SAYS_DRAINED,
	SAYS_STOPPED,
	SAYS_TROUBLE,
	SAYS_GLIMPSED, /* to be heard before the end of its session */
};

/* Kinds of what a thread is told. */
enum {
	TOLD_LISTEN = 1,
	TOLD_DIAL,
	TOLD_WAIT,
	TOLD_LATER,
	TOLD_REFUSE,
	TOLD_DROP,
	TOLD_DRAIN,
	TOLD_STOP,
};

/* Families of addresses. */
enum {
	FAMILY_UNIX = 1,
	FAMILY_IPV4 = 4,
	FAMILY_IPV6 = 6,
};

/* Why a flow is over: the plane's own reasons out of src/core/reasons.ts, refusals first, counted from 0. Others
 * are passed on as the numbers they are. */
enum {
	REASON_BAD_HEADER = 8,
	REASON_HEADER_TIMEOUT = 9,
	REASON_UNDECIDED = 11,
	REASON_CLIENT_CLOSED = 15,
	REASON_BACKEND_CLOSED = 16,
	REASON_CLIENT_RESET = 17,
	REASON_BACKEND_RESET = 18,
	REASON_CLIENT_IDLE = 19,
	REASON_BACKEND_IDLE = 20,
	REASON_HALF_CLOSE_TIMEOUT = 21,
	REASON_MAX_REQUESTS = 24,
	REASON_MAX_RESPONSES = 25,
	REASON_EVICTED = 26,
	REASON_PLANE_FAILED = 32,
};

/* What went wrong with a thread rather than with a flow. */
enum {
	TROUBLE_ACCEPT = 1,
	TROUBLE_LOOP,
	TROUBLE_LISTEN,
};

enum { NO_ROW = -1 };

/* In the errno of a failed dial: it was bind that failed. */
enum { ERROR_SOURCE = 1 << 16 };

/* Which flow a record is about, and who its client is. */
struct who {
	uint32_t listening;
	uint32_t slot; /* answers give slot and life back */
	uint32_t life;
	uint32_t bind;
	double flow; /* the number TypeScript gave it with its first answer; 0 before */
	int32_t fd;
	uint16_t port;
	uint16_t local_port;
	uint32_t family;
	uint32_t unused;
	uint8_t ip[16]; /* an IPv4 address in the first four */
	uint8_t local_ip[16];
};

struct said_headed {
	struct who who;
	uint32_t ended;
	uint32_t length;
	uint8_t bytes[];
};

struct said_dial_failed {
	struct who who;
	uint32_t row;
	uint32_t note;
	int32_t error; /* errno, perhaps with ERROR_SOURCE */
	uint32_t lost; /* it had been reached: a session has to move */
	double ms;
};

/* For SAYS_CONNECTED and SAYS_FIRST_BYTE. */
struct said_reached {
	struct who who;
	uint32_t row;
	uint32_t unused;
	double ms;
};

/* The beginning of a datagram of the backend. */
struct said_glimpsed {
	struct who who;
	uint32_t row;
	uint32_t length;
	uint8_t bytes[];
};

/* What the kernel knows of one connection (TCP_INFO); NOT_MEASURED without one. */
struct path {
	uint32_t rtt_us;
	uint32_t retransmits;
};

#define NOT_MEASURED UINT32_MAX

struct said_ended {
	struct who who;
	uint32_t reason;
	int32_t row; /* NO_ROW when it holds none */
	uint32_t note;
	uint32_t unused;
	double rx;
	double tx;
	double waited_ms; /* the times are -1 where it never came so far */
	double connect_ms;
	double first_byte_ms;
	double duration_ms;
	struct path client;
	struct path backend;
	double requests; /* datagrams; 0 of a connection */
	double responses;
};

/* For SAYS_DRAINED and SAYS_STOPPED. */
struct said_done {
	uint32_t listening;
	uint32_t unused;
};

struct said_trouble {
	uint32_t what;
	int32_t error;
	uint32_t listening;
	uint32_t bind;
};

/* Begins every answer about a flow. */
struct told_flow {
	uint32_t slot;
	uint32_t life;
	double flow;
};

struct told_dial {
	struct told_flow flow;
	uint32_t row;
	uint32_t note;
	uint32_t timeout_ms; /* 0 is the kernel's limit */
	uint32_t family;
	uint32_t port;
	uint32_t path_bytes;
	uint32_t ahead_bytes;
	uint32_t scope; /* of an IPv6 address: the number of its interface, or 0 */
	uint8_t ip[16];
	uint8_t rest[]; /* the path, then what is sent ahead */
};

struct told_wait {
	struct told_flow flow;
	uint32_t at_least;
	uint32_t at_most;
	uint32_t ms;
	uint32_t unused;
};

struct told_refuse {
	struct told_flow flow;
	uint32_t reason;
	uint32_t unused;
};

struct told_listen {
	uint32_t listening;
	uint32_t bind;
	int32_t fd;     /* the thread owns it from now on */
	uint32_t shared; /* other threads take clients from the same socket */
};

struct told_drop {
	uint32_t listening;
	uint32_t row;
	uint32_t reason;
	uint32_t unused;
};

/* For TOLD_DRAIN (no reason) and TOLD_STOP. */
struct told_close {
	uint32_t listening;
	uint32_t reason;
};

#endif
