/* One thread writes and another reads, as fast as they can, and the reader sleeps when there is nothing. */
#include "../src/ring.h"
#include "tap.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
	RECORDS = 1000000,
	SINGLES = 100000,
	GLANCES = 100000,
	SIZE = 1 << 14,
	LONG_MS = 10000, /* far above any delay of a machine: who sleeps so long has not been woken */
};

struct run {
	uint32_t records;
	int batch; /* records a publish, at most; 1 waits for the reader after each */
	uint8_t *memory;
	struct ring writer;
	struct ring reader;
	_Atomic uint32_t asleep; /* as the words between the planes: the reader sets it, the writer takes it */
	int wake;
	uint32_t sleeps;
	uint64_t random; /* the writer's own */
};

static uint32_t some(struct run *run, uint32_t below)
{
	run->random = run->random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(((run->random >> 32) * below) >> 32);
}

static uint32_t sum(const uint8_t *bytes, uint32_t count)
{
	uint32_t sum = 2166136261;

	for (uint32_t i = 0; i < count; i++)
		sum = (sum ^ bytes[i]) * 16777619;
	return sum;
}

static void show(struct run *run)
{
	uint64_t one = 1;

	ring_publish(&run->writer);
	if (!atomic_load(&run->asleep))
		return;
	atomic_store(&run->asleep, 0);
	if (write(run->wake, &one, sizeof(one)) < 0)
		abort();
}

/* payload: sum of what follows (u32), number (u32), random bytes */
static void write_one(struct run *run, uint32_t number)
{
	uint32_t payload = 8 + some(run, some(run, 50) ? 60 : SIZE / 4 - 16);
	struct record *record;

	while (!(record = ring_reserve(&run->writer, 1 + number % 7, payload))) {
		show(run);
		sched_yield();
	}
	memset(record->payload + 8, (int)some(run, 256), payload - 8);
	memcpy(record->payload + 4, &number, 4);
	for (uint32_t i = 8; i < payload; i += 1 + i / 4)
		record->payload[i] = (uint8_t)some(run, 256);
	memset(record->payload + payload, 0, record->bytes - sizeof(*record) - payload);
	number = sum(record->payload + 4, record->bytes - sizeof(*record) - 4);
	memcpy(record->payload, &number, 4);
}

static void *write_all(void *context)
{
	struct run *run = context;
	int batch = 0;

	for (uint32_t number = 0; number < run->records; number++) {
		write_one(run, number);
		if (batch-- > 0)
			continue;
		show(run);
		batch = (int)some(run, run->batch);
		while (run->batch == 1 && ring_used(&run->writer))
			sched_yield();
	}
	show(run);
	return NULL;
}

static int woken(struct run *run, int ms)
{
	struct pollfd poller = { .fd = run->wake, .events = POLLIN };
	uint64_t count;

	return poll(&poller, 1, ms) == 1 && read(run->wake, &count, sizeof(count)) > 0;
}

static void sleep_if_empty(struct run *run)
{
	atomic_store(&run->asleep, 1);
	if (ring_waiting(&run->reader)) {
		atomic_store(&run->asleep, 0);
		return;
	}
	run->sleeps++;
	while (!woken(run, LONG_MS))
		check(!ring_waiting(&run->reader)); /* nobody sleeps while something is published */
}

static void read_one(const struct record *record, uint32_t number)
{
	uint32_t told[2];

	memcpy(told, record->payload, sizeof(told));
	check(record->kind == 1 + number % 7);
	check(told[1] == number);
	check(told[0] == sum(record->payload + 4, record->bytes - sizeof(*record) - 4));
}

static void read_all(struct run *run)
{
	const struct record *record;
	uint32_t number = 0;

	while (number < run->records) {
		int next = ring_next(&run->reader, &record);

		check(next != RING_DAMAGED);
		if (next == 0) {
			ring_release(&run->reader);
			sleep_if_empty(run);
			continue;
		}
		read_one(record, number++);
		if (chance(8) == 0)
			ring_release(&run->reader);
	}
	ring_release(&run->reader);
	check(ring_next(&run->reader, &record) == 0);
}

static void begin_at(struct ring *ring, uint32_t begun)
{
	atomic_store(ring->written, begun);
	atomic_store(ring->read, begun);
	ring->own = begun;
}

static void both(uint32_t records, int batch)
{
	/* Not on the stack: a writer whose reader has failed goes on. */
	struct run *run = calloc(1, sizeof(*run));
	pthread_t writer;

	check(run);
	*run = (struct run){ .records = records, .batch = batch, .random = tap_seed() };
	run->memory = calloc(1, RING_HEAD + SIZE);
	run->wake = eventfd(0, EFD_CLOEXEC);
	check(run->memory && run->wake >= 0);
	check(ring_init(&run->writer, run->memory, RING_HEAD + SIZE) == 0);
	check(ring_init(&run->reader, run->memory, RING_HEAD + SIZE) == 0);
	begin_at(&run->writer, 0u - 100 * SIZE);
	begin_at(&run->reader, 0u - 100 * SIZE);
	check(pthread_create(&writer, NULL, write_all, run) == 0);
	read_all(run);
	pthread_join(writer, NULL);
	check(ring_used(&run->writer) == 0);
	printf("# %u records, slept %u times\n", run->records, run->sleeps);
	close(run->wake);
	free(run->memory);
	free(run);
}

static void in_batches(void)
{
	both(RECORDS, 40);
}

static void one_at_a_time(void)
{
	both(SINGLES, 1);
}

/* Both look at the same time, again and again: who looks, and what he saw. */
struct glance {
	struct ring ring;
	/* A cache line each, or whoever takes one has the next as well, and nobody is ever late. */
	_Alignas(64) _Atomic uint32_t asleep;
	_Alignas(64) _Atomic uint32_t round;    /* the reader has said that it begins */
	_Alignas(64) _Atomic uint32_t answered; /* the writer has looked in this one */
	int saw;                   /* the writer, before `answered` */
};

static void idle(uint32_t count)
{
	for (volatile uint32_t i = 0; i < count; i++)
		;
}

/* Spins, since two that have been woken are never at once; yields where there is one processor. */
static void await(_Atomic uint32_t *word, uint32_t value)
{
	for (uint32_t spins = 1; atomic_load(word) != value; spins++)
		if (spins % 500 == 0)
			sched_yield();
}

static void *publish_and_look(void *context)
{
	struct glance *glance = context;
	struct ring writer = glance->ring;

	for (uint32_t round = 1; round <= GLANCES; round++) {
		ring_reserve(&writer, 1, 0);
		await(&glance->round, round);
		atomic_load(&glance->asleep); /* at hand, so that looking is quicker than publishing */
		idle(round % 128);
		ring_publish(&writer);
		glance->saw = (int)atomic_load(&glance->asleep);
		atomic_store(&glance->answered, round);
	}
	return NULL;
}

static void one_sees_the_other(void)
{
	struct glance glance = { .round = 0 };
	void *memory = aligned_alloc(64, RING_HEAD + SIZE);
	uint32_t missed = 0;
	pthread_t writer;

	check(memory);
	memset(memory, 0, RING_HEAD + SIZE);
	check(ring_init(&glance.ring, memory, RING_HEAD + SIZE) == 0);
	check(pthread_create(&writer, NULL, publish_and_look, &glance) == 0);
	for (uint32_t round = 1; round <= GLANCES; round++) {
		const struct record *record;
		int saw;

		atomic_store(&glance.asleep, 0);
		atomic_store(&glance.round, round);
		ring_waiting(&glance.ring);
		idle(chance(128));
		atomic_store(&glance.asleep, 1);
		saw = ring_waiting(&glance.ring);
		await(&glance.answered, round);
		missed += !saw && !glance.saw;
		ring_next(&glance.ring, &record);
		ring_release(&glance.ring);
	}
	pthread_join(writer, NULL);
	free(memory);
	printf("# missed %u of %u\n", missed, GLANCES);
	check(missed == 0);
}

static const struct behaviour behaviours[] = {
	{ "a million records arrive whole and in order across 2^32, however they are published", in_batches },
	{ "who publishes and who falls asleep at the same time: one sees the other", one_sees_the_other },
	{ "one at a time, nobody sleeps while something is published", one_at_a_time },
};

int main(void)
{
	return TAP_RUN(behaviours);
}
