/* Deadlines of very many flows: a wheel of slots, each a list of the timers due about then.
 *
 *      slot   0      1      2      3    ...  1023       one slot is WHEEL_TICK_MS; a turn is 51 s
 *             │             │                           due later than a turn: passed over until it is time
 *           timer ⇄ timer timer
 *
 * Packets never touch the wheel: a flow notes when it last moved, and is asked when it might be due.
 */
#ifndef FAIRLEAD_WHEEL_H
#define FAIRLEAD_WHEEL_H

#include <stdint.h>

enum {
	WHEEL_TICK_MS = 50,
	WHEEL_SLOTS = 1024,
};

#define WHEEL_NEVER INT64_MAX

/* Embedded in what is due; zeroed is a timer that is not set. Its fields belong to the wheel. */
struct timer {
	struct timer *next;
	struct timer **link; /* what points to this one; NULL while it is not set */
	int64_t due;         /* ms */
	int32_t slot;
};

struct wheel {
	struct timer *slots[WHEEL_SLOTS];
	uint64_t busy[WHEEL_SLOTS / 64]; /* which slots have somebody */
	struct timer *ripe;              /* due, and not asked yet */
	int64_t tick;                    /* the last one turned to */
};

/* An empty wheel at `now`, in ms. */
void wheel_init(struct wheel *wheel, int64_t now);

/* `timer` is due at `due` ms and at no other time; not at all at WHEEL_NEVER. Never early, and late by at most
 * WHEEL_TICK_MS when the wheel is turned in time. Constant time. */
void wheel_set(struct wheel *wheel, struct timer *timer, int64_t due);

/* The same, unless it is set for sooner. */
void wheel_sooner(struct wheel *wheel, struct timer *timer, int64_t due);

/* Not due any more. Twice is fine. */
void wheel_clear(struct wheel *wheel, struct timer *timer);

/* Ms until somebody may be due; -1 when nobody is on the wheel. Looks at 17 words at most. */
int64_t wheel_wait(const struct wheel *wheel, int64_t now);

/* Turns the wheel to `now` and calls `due` for at most `most` timers that are, each taken off before. `due` may
 * set and clear any timer of the wheel, also those that are about to be called. Returns 1 when more are due. */
int wheel_turn(struct wheel *wheel, int64_t now, int most, void (*due)(void *context, struct timer *timer),
	       void *context);

#endif
