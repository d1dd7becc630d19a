/* What slab.h promises. */
#include "../src/slab.h"
#include "tap.h"

#include <stddef.h>
#include <string.h>

enum {
	THINGS = 2000,
	KEPT = 5, /* words of one beyond the first eight bytes */
	ALL = SLAB_BLOCK * SLAB_BLOCKS,
};

struct thing {
	uint64_t slabs;
	uint64_t mine[KEPT];
};

static int no_memory;

void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);

void *__wrap_calloc(size_t count, size_t bytes)
{
	return no_memory ? NULL : __real_calloc(count, bytes);
}

static void fill(struct thing *thing, uint64_t with)
{
	for (int i = 0; i < KEPT; i++)
		thing->mine[i] = with + i;
}

static int is_filled(const struct thing *thing, uint64_t with)
{
	for (int i = 0; i < KEPT; i++)
		if (thing->mine[i] != with + i)
			return 0;
	return 1;
}

static void takes_are_apart(void)
{
	struct slab slab = { .size = sizeof(struct thing) };
	struct thing *things[THINGS];
	uint32_t slots[THINGS];

	for (uint32_t i = 0; i < THINGS; i++) {
		things[i] = slab_take(&slab, &slots[i]);
		check(things[i] && slab_at(&slab, slots[i]) == things[i]);
		for (int word = 0; word < KEPT; word++)
			check(things[i]->mine[word] == 0);
		memset(things[i], 0xff, sizeof(*things[i]));
		fill(things[i], (uint64_t)i << 32);
	}
	for (uint32_t i = 0; i < THINGS; i++)
		check(is_filled(things[i], (uint64_t)i << 32));
	check(slab.slots >= THINGS && slab.slots < THINGS + SLAB_BLOCK);
	slab_free(&slab);
}

/* Taken and given at random: nobody's thing is another's, none moves, and what was in it is still there. */
static void a_model_agrees(void)
{
	struct slab slab = { .size = sizeof(struct thing) };
	struct thing *things[THINGS] = { 0 };
	uint32_t slots[THINGS], most = 0, taken = 0;
	static uint64_t last[THINGS + SLAB_BLOCK]; /* by slot; 0 is a new one */

	memset(last, 0, sizeof(last));
	for (int step = 0; step < 400000; step++) {
		uint32_t i = chance(THINGS);

		if (things[i]) {
			check(slab_at(&slab, slots[i]) == things[i] && is_filled(things[i], last[slots[i]]));
			slab_give(&slab, things[i], slots[i]);
			check(is_filled(things[i], last[slots[i]]));
			things[i] = NULL;
			taken--;
			continue;
		}
		things[i] = slab_take(&slab, &slots[i]);
		check(things[i] && slots[i] < slab.slots && slab_at(&slab, slots[i]) == things[i]);
		if (last[slots[i]])
			check(is_filled(things[i], last[slots[i]]));
		last[slots[i]] = (uint64_t)(step + 1) << 20;
		fill(things[i], last[slots[i]]);
		most = ++taken > most ? taken : most;
	}
	/* What is given is taken before there is more memory. */
	check(slab.slots < most + SLAB_BLOCK);
	slab_free(&slab);
}

static void a_slot_that_never_was(void)
{
	struct slab slab = { .size = 8 };
	uint32_t slot;

	check(slab_at(&slab, 0) == NULL && slab_at(&slab, UINT32_MAX) == NULL);
	check(slab_take(&slab, &slot) && slot < SLAB_BLOCK);
	check(slab_at(&slab, SLAB_BLOCK - 1) != NULL && slab_at(&slab, SLAB_BLOCK) == NULL);
	check(slab_at(&slab, UINT32_MAX) == NULL);
	slab_free(&slab);
	check(slab_at(&slab, 0) == NULL);
}

static void no_memory_is_no_end(void)
{
	struct slab slab = { .size = sizeof(struct thing) };
	uint32_t slot;

	no_memory = 1;
	check(slab_take(&slab, &slot) == NULL && slab.slots == 0);
	no_memory = 0;
	for (int i = 0; i < SLAB_BLOCK; i++)
		check(slab_take(&slab, &slot) != NULL);
	no_memory = 1;
	check(slab_take(&slab, &slot) == NULL && slab.slots == SLAB_BLOCK);
	slab_give(&slab, slab_at(&slab, 7), 7);
	check(slab_take(&slab, &slot) == slab_at(&slab, 7) && slot == 7);
	no_memory = 0;
	check(slab_take(&slab, &slot) != NULL && slot >= SLAB_BLOCK);
	slab_free(&slab);
}

static void as_many_as_there_are_numbers(void)
{
	struct slab slab = { .size = 8 };
	uint8_t *taken = calloc(ALL, 1);
	uint32_t slot;

	check(taken);
	for (int i = 0; i < ALL; i++) {
		check(slab_take(&slab, &slot) && slot < ALL && !taken[slot]);
		taken[slot] = 1;
	}
	check(slab_take(&slab, &slot) == NULL);
	slab_give(&slab, slab_at(&slab, ALL - 1), ALL - 1);
	check(slab_take(&slab, &slot) != NULL && slot == ALL - 1);
	free(taken);
	slab_free(&slab);
}

/* A slab that was freed is an empty one. */
static void begins_again(void)
{
	struct slab slab = { .size = sizeof(struct thing) };
	uint32_t slot;

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 3 * SLAB_BLOCK; i++) {
			struct thing *thing = slab_take(&slab, &slot);

			check(thing && thing->mine[0] == 0);
			fill(thing, 1);
		}
		slab_free(&slab);
		check(slab.slots == 0);
	}
	slab_free(&slab);
}

int main(void)
{
	static const struct behaviour behaviours[] = {
		{ "each one taken is its own, new and zeroed", takes_are_apart },
		{ "random takes and gives agree with a model", a_model_agrees },
		{ "a number that never was has nobody", a_slot_that_never_was },
		{ "without memory there is none, and later there is", no_memory_is_no_end },
		{ "there are as many as there are numbers", as_many_as_there_are_numbers },
		{ "a freed slab begins again", begins_again },
	};

	return TAP_RUN(behaviours);
}
