/* What ring.h promises, one end after the other on one thread. */
#include "../src/ring.h"
#include "tap.h"

#include <errno.h>
#include <string.h>

enum {
	HEADER = sizeof(struct record),
	SMALL = 1024,
};

/* Both ends of a ring whose memory has exactly the bytes it needs, so that a sanitizer sees a step outside. */
struct ends {
	uint8_t *memory;
	uint32_t size;
	struct ring writer;
	struct ring reader;
};

static uint8_t *data(const struct ends *ends)
{
	return ends->memory + RING_HEAD;
}

static _Atomic uint32_t *counter(const struct ends *ends, int offset)
{
	return (_Atomic uint32_t *)(ends->memory + offset);
}

/* Ends that have written and read `begun` bytes already. */
static struct ends opened(uint32_t size, uint32_t begun)
{
	struct ends ends = { .memory = calloc(1, RING_HEAD + size), .size = size };

	check(ends.memory);
	check(ring_init(&ends.writer, ends.memory, RING_HEAD + size) == 0);
	check(ring_init(&ends.reader, ends.memory, RING_HEAD + size) == 0);
	atomic_store(counter(&ends, RING_WRITTEN), begun);
	atomic_store(counter(&ends, RING_READ), begun);
	ends.writer.own = begun;
	ends.reader.own = begun;
	return ends;
}

static uint32_t whole(uint32_t payload)
{
	return (HEADER + payload + 7) & ~7u;
}

static void fill(struct record *record, uint32_t payload, uint32_t seed)
{
	for (uint32_t i = 0; i < payload; i++)
		record->payload[i] = (uint8_t)(seed * 31 + i * 7);
}

static int filled(const struct record *record, uint32_t payload, uint32_t seed)
{
	for (uint32_t i = 0; i < payload; i++)
		if (record->payload[i] != (uint8_t)(seed * 31 + i * 7))
			return 0;
	return 1;
}

static int inside(const struct ends *ends, const struct record *record, uint32_t bytes)
{
	uintptr_t from = (uintptr_t)record - (uintptr_t)data(ends);

	return from < ends->size && from % 8 == 0 && bytes <= ends->size - from;
}

static void write_one(struct ends *ends, uint32_t payload, uint32_t seed)
{
	struct record *record = ring_reserve(&ends->writer, seed + 1, payload);

	check(record);
	check(inside(ends, record, whole(payload)));
	fill(record, payload, seed);
}

static const struct record *read_one(struct ends *ends, uint32_t payload, uint32_t seed)
{
	const struct record *record;

	check(ring_next(&ends->reader, &record) == 1);
	check(inside(ends, record, whole(payload)));
	check(record->bytes == whole(payload));
	check(record->kind == seed + 1);
	check(filled(record, payload, seed));
	return record;
}

static void only_sizes_that_are_powers_of_two(void)
{
	static const size_t wrong[] = {
		0, 1, RING_HEAD - 1, RING_HEAD, RING_HEAD + 8, RING_HEAD + 512, RING_HEAD + 1023, RING_HEAD + 1025,
		RING_HEAD + 1032, RING_HEAD + 1536, RING_HEAD + 3072, 1024, 4096, SIZE_MAX,
		RING_HEAD + (size_t)UINT32_MAX + 1, RING_HEAD + ((size_t)UINT32_MAX + 1) * 2,
		RING_HEAD + (size_t)UINT32_MAX + 1 + 1024, RING_HEAD + ((size_t)1 << 31),
	};
	uint64_t *memory = calloc(1, RING_HEAD + SMALL);
	struct ring ring;

	check(memory);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		check(ring_init(&ring, memory, wrong[i]) == -EINVAL);
	for (size_t size = 1024; size <= 1u << 30; size *= 2)
		check(ring_init(&ring, memory, RING_HEAD + size) == 0);
	free(memory);
}

static void every_size_comes_out_as_it_went_in(void)
{
	struct ends ends = opened(4096, 0);

	for (uint32_t payload = 0; whole(payload) <= 1024; payload++) {
		write_one(&ends, payload, payload);
		ring_publish(&ends.writer);
		read_one(&ends, payload, payload);
		ring_release(&ends.reader);
		check(ring_used(&ends.writer) == 0);
	}
	free(ends.memory);
}

static void nothing_above_a_quarter(void)
{
	static const uint32_t wrong[] = {
		SMALL / 4 + 1, SMALL / 2, SMALL, SMALL * 2, INT32_MAX, (uint32_t)INT32_MAX + 1,
		UINT32_MAX - 16, UINT32_MAX - 15, UINT32_MAX - 14, UINT32_MAX - 8, UINT32_MAX - 7, UINT32_MAX - 1, UINT32_MAX,
	};

	for (uint32_t offset = 0; offset < SMALL; offset += 8) {
		struct ends ends = opened(SMALL, offset);

		for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
			check(!ring_reserve(&ends.writer, 1, wrong[i]));
		check(ring_used(&ends.writer) == 0);
		write_one(&ends, SMALL / 4 - HEADER, 5);
		ring_publish(&ends.writer);
		read_one(&ends, SMALL / 4 - HEADER, 5);
		free(ends.memory);
	}
}

static void every_size_at_every_offset(void)
{
	for (uint32_t offset = 0; offset < SMALL; offset += 8) {
		for (uint32_t bytes = HEADER; bytes <= SMALL / 4; bytes += 8) {
			struct ends ends = opened(SMALL, offset);

			for (uint32_t i = 0; i < 2; i++) {
				write_one(&ends, bytes - HEADER, i);
				ring_publish(&ends.writer);
			}
			for (uint32_t i = 0; i < 2; i++)
				read_one(&ends, bytes - HEADER, i);
			check(!ring_waiting(&ends.reader));
			ring_release(&ends.reader);
			check(ring_used(&ends.writer) == 0);
			free(ends.memory);
		}
	}
}

static void nothing_is_seen_before_it_is_published(void)
{
	struct ends ends = opened(SMALL, SMALL - 64);
	const struct record *record;

	for (uint32_t i = 0; i < 4; i++) {
		write_one(&ends, 40, i);
		check(!ring_waiting(&ends.reader));
		check(ring_next(&ends.reader, &record) == 0);
	}
	ring_publish(&ends.writer);
	for (uint32_t i = 0; i < 4; i++) {
		check(ring_waiting(&ends.reader));
		read_one(&ends, 40, i);
	}
	check(!ring_waiting(&ends.reader));
	check(ring_next(&ends.reader, &record) == 0);
	free(ends.memory);
}

static void a_record_stays_until_it_is_released(void)
{
	struct ends ends = opened(SMALL, 8 * 77);
	const struct record *held;
	struct record *record;
	uint32_t count = 0;

	write_one(&ends, 100, 1);
	ring_publish(&ends.writer);
	held = read_one(&ends, 100, 1);
	while ((record = ring_reserve(&ends.writer, 9, 32))) {
		memset(record->payload, 0xee, 32);
		ring_publish(&ends.writer);
		check(++count <= SMALL / whole(32));
	}
	check(held->kind == 2 && held->bytes == whole(100) && filled(held, 100, 1));
	ring_release(&ends.reader);
	check(ring_reserve(&ends.writer, 9, 32));
	free(ends.memory);
}

static void a_full_ring_has_room_again_when_read(void)
{
	struct ends ends = opened(SMALL, 0);
	uint32_t count = SMALL / whole(24);

	for (uint32_t round = 0; round < 100; round++) {
		for (uint32_t i = 0; i < count; i++)
			write_one(&ends, 24, i);
		check(!ring_reserve(&ends.writer, 1, 0));
		check(ring_used(&ends.writer) == SMALL);
		ring_publish(&ends.writer);
		check(!ring_reserve(&ends.writer, 1, 0));
		for (uint32_t i = 0; i < count; i++)
			read_one(&ends, 24, i);
		check(!ring_reserve(&ends.writer, 1, 0));
		ring_release(&ends.reader);
		check(ring_used(&ends.writer) == 0);
	}
	free(ends.memory);
}

/* A queue beside the ring: what is reserved, published, taken and released, in that order. */
struct model {
	struct {
		uint32_t payload, seed, end;
	} records[4096];
	uint32_t reserved, published, taken, released;
	uint32_t position, freed; /* bytes since the beginning */
};

static void model_reserve(struct ends *ends, struct model *model, uint32_t payload)
{
	uint32_t offset = model->position & (ends->size - 1);
	uint32_t bytes = whole(payload);
	uint32_t skipped = bytes > ends->size - offset ? ends->size - offset : 0;
	uint32_t room = ends->size - (model->position - model->freed);
	uint32_t seed = anything() >> 1;
	struct record *record = ring_reserve(&ends->writer, seed + 1, payload);

	check(!record == (skipped + bytes > room));
	if (!record)
		return;
	check(record == (struct record *)(data(ends) + ((model->position + skipped) & (ends->size - 1))));
	fill(record, payload, seed);
	model->position += skipped + bytes;
	model->records[model->reserved % 4096].payload = payload;
	model->records[model->reserved % 4096].seed = seed;
	model->records[model->reserved++ % 4096].end = model->position;
}

static void model_next(struct ends *ends, struct model *model)
{
	const struct record *record;

	check(!ring_waiting(&ends->reader) == (model->taken == model->published));
	if (model->taken == model->published) {
		check(ring_next(&ends->reader, &record) == 0);
		return;
	}
	read_one(ends, model->records[model->taken % 4096].payload, model->records[model->taken % 4096].seed);
	model->taken++;
}

static void model_release(struct ends *ends, struct model *model)
{
	ring_release(&ends->reader);
	model->released = model->taken;
	if (model->taken)
		model->freed = model->records[(model->taken - 1) % 4096].end;
	check(ring_used(&ends->writer) == model->position - model->freed);
}

static void like_a_queue(uint32_t size, uint32_t begun, int steps)
{
	struct ends ends = opened(size, begun);
	struct model *model = calloc(1, sizeof(*model));
	uint32_t bias = 50;

	check(model);
	model->position = begun;
	model->freed = begun;
	for (int i = 0; i < steps; i++) {
		if (i % 500 == 0)
			bias = 10 + chance(80);
		if (chance(100) < bias) {
			model_reserve(&ends, model, chance(chance(2) ? 64 : size / 4 - HEADER + 1));
			if (chance(2)) {
				ring_publish(&ends.writer);
				model->published = model->reserved;
			}
		} else {
			model_next(&ends, model);
			if (chance(3) == 0)
				model_release(&ends, model);
		}
	}
	free(ends.memory);
	free(model);
}

static void it_is_a_queue(void)
{
	for (uint32_t size = 1024; size <= 1u << 16; size *= 2)
		like_a_queue(size, 8 * chance(size), 20000);
}

static void counters_wrap(void)
{
	for (uint32_t size = 1024; size <= 1u << 14; size *= 2)
		for (uint32_t before = 0; before <= 4 * size; before += size / 16)
			like_a_queue(size, 0u - before, 1000);
}

static void a_full_ring_across_the_wrap(void)
{
	for (uint32_t before = 0; before <= SMALL; before += 8) {
		struct ends ends = opened(SMALL, 0u - before);

		for (int i = 0; i < SMALL / 8; i++)
			write_one(&ends, 0, 3);
		check(!ring_reserve(&ends.writer, 1, 0));
		check(ring_used(&ends.writer) == SMALL);
		ring_publish(&ends.writer);
		for (int i = 0; i < SMALL / 8; i++)
			read_one(&ends, 0, 3);
		check(!ring_waiting(&ends.reader));
		ring_release(&ends.reader);
		check(ring_used(&ends.writer) == 0);
		free(ends.memory);
	}
}

static void scribble(void *memory, uint32_t bytes)
{
	for (uint32_t i = 0; i + 4 <= bytes; i += 4) {
		uint32_t word = anything();
		uint32_t small = chance(300);

		/* Mostly what looks like headers, or every walk ends at its first step. */
		memcpy((uint8_t *)memory + i, chance(8) ? &small : &word, 4);
		if (i % 8 == 0 && chance(10))
			*(uint32_t *)((uint8_t *)memory + i) = 8 * chance(10);
	}
}

static uint32_t touched; /* so that reading is not optimised away */

static void touch(const struct record *record, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes - HEADER; i++)
		touched += record->payload[i];
}

static void random_memory_is_read_inside_and_to_an_end(void)
{
	uint32_t taken = 0, damaged = 0;

	for (int round = 0; round < 30000; round++) {
		uint32_t begun = chance(2) ? 8 * chance(SMALL) : 0u - 8 * chance(SMALL);
		struct ends ends = opened(SMALL, begun);
		const struct record *record;
		uint32_t written = chance(4) ? 8 * chance(SMALL / 8 + 2) : anything();
		uint32_t steps = 0;
		int next;

		scribble(data(&ends), SMALL);
		atomic_store(counter(&ends, RING_WRITTEN), begun + written);
		while ((next = ring_next(&ends.reader, &record)) == 1) {
			check(++steps <= SMALL / HEADER);
			check(inside(&ends, record, HEADER));
			check(record->bytes >= HEADER && record->bytes % 8 == 0 && inside(&ends, record, record->bytes));
			check(record->kind != RING_FILLER);
			check(ends.reader.own - begun <= written);
			touch(record, record->bytes);
			taken++;
		}
		check(next == 0 || next == RING_DAMAGED);
		check(ring_next(&ends.reader, &record) == next);
		check(next == RING_DAMAGED || !ring_waiting(&ends.reader));
		damaged += next == RING_DAMAGED;
		free(ends.memory);
	}
	check(taken > 1000 && damaged > 1000 && damaged < 30000);
}

static void memory_that_changes_is_read_inside(void)
{
	struct ends ends = opened(SMALL, 0);
	uint32_t taken = 0;

	for (int i = 0; i < 300000; i++) {
		const struct record *record;

		if (chance(20) == 0)
			scribble(ends.memory, RING_HEAD + SMALL);
		atomic_store(counter(&ends, RING_WRITTEN), ends.reader.own + 8 * chance(SMALL / 8 + 2));
		if (ring_next(&ends.reader, &record) == 1) {
			check(inside(&ends, record, record->bytes));
			touch(record, record->bytes);
			taken++;
		}
		if (chance(3) == 0)
			ring_release(&ends.reader);
		if (chance(30) == 0)
			ends.reader.own = 8 * chance(SMALL);
	}
	check(taken > 1000);
	free(ends.memory);
}

/* What every offset has when nothing else is there: a filler of `bytes` at each step. */
static void fillers(struct ends *ends, uint32_t bytes)
{
	for (uint32_t offset = 0; offset < ends->size; offset += 8)
		*(struct record *)(data(ends) + offset) = (struct record){ .bytes = bytes, .kind = RING_FILLER };
	atomic_store(counter(ends, RING_WRITTEN), ends->reader.own + ends->size);
}

static void fillers_are_at_the_end_only(void)
{
	const struct record *record;

	for (uint32_t offset = 0; offset < SMALL; offset += 8) {
		for (uint32_t bytes = 8; bytes <= SMALL; bytes += 8) {
			struct ends ends = opened(SMALL, offset);

			fillers(&ends, bytes);
			check(ring_next(&ends.reader, &record) == RING_DAMAGED);
			check(ends.reader.own - offset <= SMALL);
			free(ends.memory);
		}
	}
}

static void more_than_a_ring_is_damage(void)
{
	const struct record *record;

	for (uint32_t over = 8; over; over <<= 1) {
		struct ends ends = opened(SMALL, 0u - 512);

		atomic_store(counter(&ends, RING_WRITTEN), 0u - 512 + SMALL + over);
		check(ring_next(&ends.reader, &record) == RING_DAMAGED);
		free(ends.memory);
	}
}

static void a_reader_that_lies_moves_the_writer_nowhere_outside(void)
{
	struct ends ends = opened(SMALL, 0);

	for (int i = 0; i < 300000; i++) {
		uint32_t payload = chance(SMALL / 4 - HEADER + 1);
		struct record *record;

		atomic_store(counter(&ends, RING_READ), chance(2) ? anything() : ends.writer.own - 8 * chance(140));
		atomic_store(counter(&ends, RING_WRITTEN), anything());
		record = ring_reserve(&ends.writer, 1, payload);
		if (record) {
			check(inside(&ends, record, whole(payload)));
			fill(record, payload, 1);
		}
		ring_publish(&ends.writer);
	}
	free(ends.memory);
}

static const struct behaviour behaviours[] = {
	{ "a ring has a power of two of data, 1024 to 2^30", only_sizes_that_are_powers_of_two },
	{ "a record of every size comes out as it went in", every_size_comes_out_as_it_went_in },
	{ "a quarter of the data always fits an empty ring, and nothing above ever does", nothing_above_a_quarter },
	{ "records of every size at every offset: what does not fit the end goes to the beginning", every_size_at_every_offset },
	{ "nothing is seen before it is published, everything after", nothing_is_seen_before_it_is_published },
	{ "a record stays where it is until it is released", a_record_stays_until_it_is_released },
	{ "a ring is full to the last byte, and has room again when it was read", a_full_ring_has_room_again_when_read },
	{ "random writes and reads leave a queue", it_is_a_queue },
	{ "the counters wrap at 2^32 wherever records stand", counters_wrap },
	{ "a full ring across 2^32 is full, and then empty", a_full_ring_across_the_wrap },
	{ "a reader of random memory stays inside and comes to an end", random_memory_is_read_inside_and_to_an_end },
	{ "a reader of memory that changes stays inside", memory_that_changes_is_read_inside },
	{ "a filler anywhere but at the end, or a second one, is damage", fillers_are_at_the_end_only },
	{ "more written than a ring holds is damage", more_than_a_ring_is_damage },
	{ "a writer whose reader lies stays inside", a_reader_that_lies_moves_the_writer_nowhere_outside },
};

int main(void)
{
	return TAP_RUN(behaviours);
}
