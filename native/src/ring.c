#include "ring.h"

#include <errno.h>

static uint32_t whole(uint32_t bytes)
{
	return (bytes + 7) & ~7u;
}

int ring_init(struct ring *ring, void *memory, size_t bytes)
{
	size_t size = bytes - RING_HEAD;

	if (bytes < RING_HEAD + 1024 || (size & (size - 1)) || size > 1u << 30)
		return -EINVAL;
	ring->written = (_Atomic uint32_t *)((uint8_t *)memory + RING_WRITTEN);
	ring->read = (_Atomic uint32_t *)((uint8_t *)memory + RING_READ);
	ring->data = (uint8_t *)memory + RING_HEAD;
	ring->size = size;
	ring->own = 0;
	return 0;
}

static struct record *at(const struct ring *ring, uint32_t position)
{
	return (struct record *)(ring->data + (position & (ring->size - 1)));
}

struct record *ring_reserve(struct ring *ring, uint32_t kind, uint32_t payload)
{
	uint32_t bytes, rest, free;
	struct record *record;

	if (payload > ring->size / 4)
		return NULL;
	bytes = whole(sizeof(struct record) + payload);
	rest = ring->size - (ring->own & (ring->size - 1));
	free = ring->size - (ring->own - atomic_load_explicit(ring->read, memory_order_acquire));
	if (bytes > rest) {
		if (rest + bytes > free)
			return NULL;
		record = at(ring, ring->own);
		record->bytes = rest;
		record->kind = RING_FILLER;
		ring->own += rest;
	} else if (bytes > free) {
		return NULL;
	}
	record = at(ring, ring->own);
	record->bytes = bytes;
	record->kind = kind;
	ring->own += bytes;
	return record;
}

void ring_publish(struct ring *ring)
{
	/* Sequentially consistent: the writer looks next whether the reader sleeps, and the reader looks whether
	 * something is written after it has said that it will. One of the two must see the other. */
	atomic_store(ring->written, ring->own);
}

/* The other side may change it while it is looked at, so what was checked is what is used. */
static uint32_t once(const uint32_t *word)
{
	return *(const volatile uint32_t *)word;
}

int ring_next(struct ring *ring, const struct record **next)
{
	for (;;) {
		uint32_t ready = atomic_load_explicit(ring->written, memory_order_acquire) - ring->own;
		uint32_t rest = ring->size - (ring->own & (ring->size - 1));
		const struct record *record = at(ring, ring->own);
		uint32_t bytes;

		if (ready == 0)
			return 0;
		if (ready > ring->size || ready < sizeof(*record))
			return RING_DAMAGED;
		bytes = once(&record->bytes);
		if (bytes < sizeof(*record) || bytes % 8 || bytes > ready || bytes > rest)
			return RING_DAMAGED;
		if (once(&record->kind) != RING_FILLER) {
			ring->own += bytes;
			*next = record;
			return 1;
		}
		/* A filler ends where the data ends and is not all of it: so there is no second one, however fast
		 * `written` moves. */
		if (bytes != rest || rest == ring->size)
			return RING_DAMAGED;
		ring->own += bytes;
	}
}

void ring_release(struct ring *ring)
{
	atomic_store_explicit(ring->read, ring->own, memory_order_release);
}

int ring_waiting(const struct ring *ring)
{
	return atomic_load(ring->written) != ring->own;
}

uint32_t ring_used(const struct ring *ring)
{
	return ring->own - atomic_load_explicit(ring->read, memory_order_acquire);
}
