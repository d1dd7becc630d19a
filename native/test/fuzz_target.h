/* Who obeys the records that the fuzzer makes. A file per target, linked with fuzz_ring.c. */
#ifndef FAIRLEAD_FUZZ_TARGET_H
#define FAIRLEAD_FUZZ_TARGET_H

#include "../src/ring.h"

#include <stdio.h>
#include <stdlib.h>

struct target {
	const char *name;
	/* For one input, of many a process. */
	void *(*begin)(void);
	/* The record is a copy with exactly its own bytes around it, so that a sanitizer sees a read past its end. */
	void (*obey)(void *state, const struct record *record);
	void (*end)(void *state);
	/* Writes the input of that number, for the fuzzer to begin with, into `most` bytes, and returns how many it took;
	 * 0 when there are no more. NULL when there are none. */
	size_t (*seed)(uint32_t number, uint8_t *bytes, size_t most);
};

extern const struct target target;

/* Breaks the input unless `fact`. */
#define must(fact) ((fact) ? (void)0 : must_fail(#fact, __FILE__, __LINE__))

_Noreturn static inline void must_fail(const char *fact, const char *file, int line)
{
	fprintf(stderr, "# %s:%d: %s\n", file, line, fact);
	abort();
}

#endif
