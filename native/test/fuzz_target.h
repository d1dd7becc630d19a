/* Who obeys the records that the fuzzer makes. A file per target, linked with fuzz_ring.c. */
#ifndef FAIRLEAD_FUZZ_TARGET_H
#define FAIRLEAD_FUZZ_TARGET_H

#include "../src/ring.h"

struct target {
	const char *name;
	/* For one input, of many a process. */
	void *(*begin)(void);
	/* The record is a copy with exactly its own bytes around it, so that a sanitizer sees a read past its end. */
	void (*obey)(void *state, const struct record *record);
	void (*end)(void *state);
};

extern const struct target target;

#endif
