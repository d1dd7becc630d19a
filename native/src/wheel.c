#include "wheel.h"

#include <string.h>

enum { RIPE = -1 };

static void link_at(struct timer **place, struct timer *timer)
{
	timer->next = *place;
	timer->link = place;
	if (timer->next)
		timer->next->link = &timer->next;
	*place = timer;
}

static void unlink_timer(struct timer *timer)
{
	*timer->link = timer->next;
	if (timer->next)
		timer->next->link = timer->link;
	timer->link = NULL;
}

void wheel_init(struct wheel *wheel, int64_t now)
{
	memset(wheel, 0, sizeof(*wheel));
	wheel->tick = now / WHEEL_TICK_MS;
}

void wheel_clear(struct wheel *wheel, struct timer *timer)
{
	if (!timer->link)
		return;
	unlink_timer(timer);
	if (timer->slot != RIPE && !wheel->slots[timer->slot])
		wheel->busy[timer->slot / 64] &= ~(1ull << timer->slot % 64);
}

void wheel_set(struct wheel *wheel, struct timer *timer, int64_t due)
{
	int64_t tick;

	wheel_clear(wheel, timer);
	if (due == WHEEL_NEVER)
		return;
	tick = due / WHEEL_TICK_MS + (due % WHEEL_TICK_MS > 0);
	/* The slot of now has been turned to already. */
	if (tick <= wheel->tick)
		tick = wheel->tick + 1;
	timer->due = due;
	timer->slot = tick % WHEEL_SLOTS;
	wheel->busy[timer->slot / 64] |= 1ull << timer->slot % 64;
	link_at(&wheel->slots[timer->slot], timer);
}

void wheel_sooner(struct wheel *wheel, struct timer *timer, int64_t due)
{
	if (!timer->link || due < timer->due)
		wheel_set(wheel, timer, due);
}

/* How many slots after `from` the next busy one is, itself counted as 0; -1 when all are empty. */
static int next_busy(const struct wheel *wheel, int from)
{
	int word = from / 64;
	uint64_t bits = wheel->busy[word] & (~0ull << from % 64);

	for (int i = 0; i <= WHEEL_SLOTS / 64; i++) {
		if (bits)
			return (word * 64 + __builtin_ctzll(bits) - from + WHEEL_SLOTS) % WHEEL_SLOTS;
		word = (word + 1) % (WHEEL_SLOTS / 64);
		bits = wheel->busy[word];
	}
	return -1;
}

int64_t wheel_wait(const struct wheel *wheel, int64_t now)
{
	int64_t first = wheel->tick + 1, at;
	int ahead;

	if (wheel->ripe)
		return 0;
	ahead = next_busy(wheel, first % WHEEL_SLOTS);
	if (ahead < 0)
		return -1;
	at = (first + ahead) * WHEEL_TICK_MS;
	return at > now ? at - now : 0;
}

/* Moves the timers of a slot that are due to the ripe ones. */
static void gather(struct wheel *wheel, int slot, int64_t now)
{
	struct timer *timer, *next;

	for (timer = wheel->slots[slot]; timer; timer = next) {
		next = timer->next;
		if (timer->due > now)
			continue;
		wheel_clear(wheel, timer);
		timer->slot = RIPE;
		link_at(&wheel->ripe, timer);
	}
}

int wheel_turn(struct wheel *wheel, int64_t now, int most, void (*due)(void *context, struct timer *timer),
	       void *context)
{
	int64_t target = now / WHEEL_TICK_MS;
	int64_t first = wheel->tick + 1;

	if (target - first >= WHEEL_SLOTS)
		first = target - WHEEL_SLOTS + 1;
	for (int64_t tick = first; tick <= target; tick++)
		gather(wheel, tick % WHEEL_SLOTS, now);
	if (target > wheel->tick)
		wheel->tick = target;
	while (wheel->ripe && most-- > 0) {
		struct timer *timer = wheel->ripe;

		unlink_timer(timer);
		due(context, timer);
	}
	return wheel->ripe != NULL;
}
