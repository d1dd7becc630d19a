/* Behaviours by name, each a function that checks, told as TAP; and chance that can be had again. */
#ifndef FAIRLEAD_TAP_H
#define FAIRLEAD_TAP_H

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct behaviour {
	const char *name;
	void (*run)(void);
};

static jmp_buf tap_failed;
static uint64_t tap_state;

/* Ends the behaviour as failed unless `fact`. */
#define check(fact) ((fact) ? (void)0 : tap_fail(#fact, __FILE__, __LINE__))

_Noreturn static inline void tap_fail(const char *fact, const char *file, int line)
{
	printf("# %s:%d: %s\n", file, line, fact);
	longjmp(tap_failed, 1);
}

/* From 0 to `below` - 1. The same numbers for the same SEED of the environment. */
static inline uint32_t chance(uint32_t below)
{
	tap_state ^= tap_state << 13;
	tap_state ^= tap_state >> 7;
	tap_state ^= tap_state << 17;
	return (uint32_t)(((tap_state >> 32) * below) >> 32);
}

static inline uint32_t anything(void)
{
	chance(2);
	return (uint32_t)(tap_state >> 16);
}

static inline uint64_t tap_seed(void)
{
	const char *seed = getenv("SEED");
	return seed ? strtoull(seed, NULL, 10) : 1;
}

/* Runs them all; what `main` returns. */
static inline int tap_run(const struct behaviour *behaviours, int count)
{
	volatile int failures = 0;
	volatile int i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 14\n# SEED=%llu\n1..%d\n", (unsigned long long)tap_seed(), count);
	for (i = 0; i < count; i++) {
		int failed;

		tap_state = tap_seed() * 0x9e3779b97f4a7c15u | 1;
		failed = setjmp(tap_failed);
		if (!failed)
			behaviours[i].run();
		failures += failed;
		printf("%s %d - %s\n", failed ? "not ok" : "ok", i + 1, behaviours[i].name);
	}
	if (failures)
		_exit(1); /* what a failed behaviour has left behind is no leak */
	return 0;
}

#define TAP_RUN(behaviours) tap_run(behaviours, sizeof(behaviours) / sizeof((behaviours)[0]))

#endif
