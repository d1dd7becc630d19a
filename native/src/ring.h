/* A ring of records between one thread that writes and one that reads, without a lock.
 *
 *      memory   | written | read | record  record  record ....      | filler |
 *               ^ 4 bytes ^ 4    ^ RING_HEAD, data of a power of two, records start at multiples of 8
 *
 *      record   | bytes (u32, header included, a multiple of 8) | kind (u32) | payload ... |
 *
 * `written` and `read` count bytes since the beginning and wrap at 2^32. A record is never split: what is left
 * at the end of the data and too short for one is skipped by a filler. The memory may be shared with JavaScript,
 * so the reader trusts nothing in it.
 */
#ifndef FAIRLEAD_RING_H
#define FAIRLEAD_RING_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
	RING_WRITTEN = 0,  /* offsets in the memory; a cache line each, as each is written by another thread */
	RING_READ = 64,
	RING_HEAD = 128,
	RING_FILLER = 0,   /* kind of a filler */
	RING_DAMAGED = -1, /* what `ring_next` returns when the memory cannot be what a writer left */
};

struct record {
	uint32_t bytes; /* all of it, this header included */
	uint32_t kind;
	uint8_t payload[];
};

struct ring {
	_Atomic uint32_t *written;
	_Atomic uint32_t *read;
	uint8_t *data;
	uint32_t size; /* of the data, a power of two */
	uint32_t own;  /* writer: bytes reserved so far; reader: bytes taken so far */
};

/* Lays a ring over `memory` of RING_HEAD + a power of two bytes (1024 to 2^30), aligned to 8 and zeroed before
 * either end uses it. Each end has a `struct ring` of its own. Returns 0, or -EINVAL for another size. */
int ring_init(struct ring *ring, void *memory, size_t bytes);

/* Room for a record with `payload` bytes, or NULL while there is none, and for more than a quarter of the data
 * always. The reader does not see it before `ring_publish`. */
struct record *ring_reserve(struct ring *ring, uint32_t kind, uint32_t payload);

/* Shows the reader everything reserved so far. */
void ring_publish(struct ring *ring);

/* The next record for the reader: 1 and `*record`, 0 when there is none, or RING_DAMAGED. It stays where it is
 * until `ring_release`. */
int ring_next(struct ring *ring, const struct record **record);

/* Gives the writer the room of everything taken so far. */
void ring_release(struct ring *ring);

/* True while something published has not been taken. For the reader. */
int ring_waiting(const struct ring *ring);

/* Bytes written and not released yet; for the writer. */
uint32_t ring_used(const struct ring *ring);

#endif
