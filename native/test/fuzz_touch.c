/* The least of a target: looks at every byte. */
#include "fuzz_target.h"

static void *begin(void)
{
	static volatile uint32_t sum;

	return (void *)&sum;
}

static void touch(void *state, const struct record *record)
{
	volatile uint32_t *sum = state;

	for (uint32_t i = 0; i < record->bytes - sizeof(*record); i++)
		*sum += record->payload[i];
}

static void end(void *state)
{
	(void)state;
}

const struct target target = { "touch", begin, touch, end, NULL };
