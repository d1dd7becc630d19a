/* Makes a ring of an input, reads it, and lets a target obey what was read.
 *
 *      input   | flags | offset (u16) | what the ring holds, raw or as records |
 *
 *      raw     | bytes written (u16) | count of changes (u8) | changes: place (u16), byte | data from the offset on |
 *      records | kind (u8) | payload bytes (u16) | payload | kind ...
 *
 * Raw finds what a reader must refuse; a change is made after each record, as another thread would. Records go
 * through the writer, so that a target sees whole ones without the fuzzer having to find their form.
 */
#include "fuzz_target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	RAW = 1,
	WRAPS = 2, /* the counters begin below 2^32 */
	LARGE = 4,
};

struct input {
	const uint8_t *at;
	size_t left;
};

struct ends {
	uint8_t *memory;
	uint32_t size;
	struct ring writer;
	struct ring reader;
};

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

static uint32_t take(struct input *input, uint32_t bytes)
{
	uint32_t value = 0;

	for (; bytes && input->left; bytes--, input->left--)
		value = value << 8 | *input->at++;
	return value;
}

static struct ends opened(struct input *input)
{
	uint32_t flags = take(input, 1);
	uint32_t size = flags & LARGE ? 8192 : 1024;
	uint32_t begun = take(input, 2) * 8 % size - (flags & WRAPS ? size : 0);
	struct ends ends = { .memory = calloc(1, RING_HEAD + size), .size = size };

	must(ends.memory != NULL);
	must(ring_init(&ends.writer, ends.memory, RING_HEAD + size) == 0);
	must(ring_init(&ends.reader, ends.memory, RING_HEAD + size) == 0);
	atomic_store(ends.writer.written, begun);
	atomic_store(ends.writer.read, begun);
	ends.writer.own = begun;
	ends.reader.own = begun;
	return ends;
}

static void obey(struct ends *ends, const struct record *record, void *state)
{
	size_t offset = (size_t)((const uint8_t *)record - (ends->memory + RING_HEAD));
	uint32_t bytes = record->bytes;
	struct record *copy;

	must(offset < ends->size && offset % 8 == 0);
	must(bytes >= sizeof(*record) && bytes % 8 == 0 && bytes <= ends->size - offset);
	must(record->kind != RING_FILLER);
	copy = malloc(bytes);
	must(copy != NULL);
	memcpy(copy, record, bytes);
	target.obey(state, copy);
	free(copy);
}

static void change(struct ends *ends, struct input *changes)
{
	uint32_t place = take(changes, 2) % (RING_HEAD + ends->size);

	ends->memory[place] = (uint8_t)take(changes, 1);
}

static void raw(struct ends *ends, struct input *input, void *state)
{
	uint32_t written = take(input, 2);
	uint32_t begun = ends->reader.own;
	struct input changes = { input->at + 1, 3 * take(input, 1) };
	const struct record *record;
	int still, next;

	if (changes.left > input->left)
		changes.left = input->left;
	still = !changes.left;
	input->at += changes.left;
	input->left -= changes.left;
	for (uint32_t i = 0; i < ends->size && input->left; i++)
		ends->memory[RING_HEAD + (begun + i) % ends->size] = (uint8_t)take(input, 1);
	atomic_store(ends->writer.written, begun + written);
	while ((next = ring_next(&ends->reader, &record)) == 1) {
		must(!still || (written <= ends->size && ends->reader.own - begun <= written));
		obey(ends, record, state);
		if (record->kind % 2)
			ring_release(&ends->reader);
		if (changes.left)
			change(ends, &changes);
	}
	must(next == 0 || next == RING_DAMAGED);
}

static void drain(struct ends *ends, void *state)
{
	const struct record *record;

	ring_publish(&ends->writer);
	while (ring_waiting(&ends->reader)) {
		must(ring_next(&ends->reader, &record) == 1);
		obey(ends, record, state);
	}
	ring_release(&ends->reader);
	must(ring_used(&ends->writer) == 0);
}

static void records(struct ends *ends, struct input *input, void *state)
{
	while (input->left) {
		uint32_t kind = take(input, 1);
		uint32_t payload = take(input, 2) % (ends->size / 4);
		size_t given = payload < input->left ? payload : input->left;
		struct record *record = ring_reserve(&ends->writer, kind ? kind : 256, payload);

		if (!record) {
			drain(ends, state);
			record = ring_reserve(&ends->writer, kind ? kind : 256, payload);
			must(record != NULL);
		}
		memset(record->payload, 0, record->bytes - sizeof(*record));
		if (given)
			memcpy(record->payload, input->at, given);
		input->at += given;
		input->left -= given;
	}
	drain(ends, state);
}

/* libFuzzer reads its first inputs from a folder: FUZZ_SEEDS is where it is to find those of the target. */
int LLVMFuzzerInitialize(int *count, char ***arguments)
{
	const char *folder = getenv("FUZZ_SEEDS");
	uint8_t bytes[4096];
	size_t length;

	(void)count;
	(void)arguments;
	for (uint32_t i = 0; folder && target.seed && (length = target.seed(i, bytes, sizeof(bytes))) > 0; i++) {
		char path[4096];
		FILE *file;

		snprintf(path, sizeof(path), "%s/%s-%u", folder, target.name, i);
		file = fopen(path, "w");
		must(file && fwrite(bytes, 1, length, file) == length && fclose(file) == 0);
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	struct input input = { bytes, count };
	int is_raw = count && bytes[0] & RAW;
	struct ends ends = opened(&input);
	void *state = target.begin();

	(is_raw ? raw : records)(&ends, &input, state);
	target.end(state);
	free(ends.memory);
	return 0;
}
