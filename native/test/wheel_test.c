/* What wheel.h promises, beside a naive list of what is due when. */
#include "../src/wheel.h"
#include "tap.h"

#include <stddef.h>
#include <string.h>

enum {
	ITEMS = 300,
	TURN_MS = WHEEL_TICK_MS * WHEEL_SLOTS,
	DAY_MS = 24 * 3600 * 1000,
	ALL = 1 << 30,
};

/* A timer of its own allocation, so that a sanitizer sees one touched after its end. */
struct item {
	struct timer timer;
	int number;
};

static struct wheel wheel;
static struct item *items[ITEMS];
static int64_t due_at[ITEMS]; /* the model: WHEEL_NEVER is not set */
static int64_t since[ITEMS];  /* due, or set when that was in the past */
static int64_t now;
static int calls;
static int in_time; /* the wheel is turned whenever it asks to be */
static int lively;  /* callbacks change others */

static struct item *fresh(int number)
{
	struct item *item = calloc(1, sizeof(*item));

	check(item);
	item->number = number;
	return item;
}

static void begin(int64_t at)
{
	now = at;
	calls = 0;
	in_time = 0;
	lively = 0;
	wheel_init(&wheel, now);
	for (int i = 0; i < ITEMS; i++) {
		items[i] = fresh(i);
		due_at[i] = WHEEL_NEVER;
	}
}

static void end(void)
{
	for (int i = 0; i < ITEMS; i++)
		free(items[i]);
}

static int set_count(void)
{
	int count = 0;

	for (int i = 0; i < ITEMS; i++)
		count += due_at[i] != WHEEL_NEVER;
	return count;
}

/* How many of the model are due at `at`. */
static int due_count(int64_t at)
{
	int count = 0;

	for (int i = 0; i < ITEMS; i++)
		count += due_at[i] <= at;
	return count;
}

/* How many should have been called by a turn to now. */
static int late_count(void)
{
	int count = 0;

	for (int i = 0; i < ITEMS; i++)
		count += due_at[i] != WHEEL_NEVER && since[i] <= now - WHEEL_TICK_MS;
	return count;
}

static void note(int i, int64_t due)
{
	due_at[i] = due;
	since[i] = due > now ? due : now;
}

static void set(int i, int64_t due)
{
	wheel_set(&wheel, &items[i]->timer, due);
	note(i, due);
}

static void sooner(int i, int64_t due)
{
	wheel_sooner(&wheel, &items[i]->timer, due);
	if (due < due_at[i])
		note(i, due);
}

static void clear(int i)
{
	wheel_clear(&wheel, &items[i]->timer);
	due_at[i] = WHEEL_NEVER;
}

/* Clears and frees it: its flow is over, another has its place. */
static void replace(int i)
{
	clear(i);
	free(items[i]);
	items[i] = fresh(i);
}

static int64_t some_due(void)
{
	switch (chance(10)) {
	case 0:
		return now - chance(DAY_MS);
	case 1:
		return now;
	case 2:
		return now + chance(4 * TURN_MS);
	case 3:
		return now + chance(9) * DAY_MS;
	case 4:
		return now + TURN_MS - 2 * WHEEL_TICK_MS + chance(4 * WHEEL_TICK_MS);
	case 5:
		return (now / WHEEL_TICK_MS + chance(2000)) * WHEEL_TICK_MS;
	case 6:
		return WHEEL_NEVER - chance(3);
	default:
		return now + chance(3000);
	}
}

static void change_one(void)
{
	int i = chance(ITEMS);

	switch (chance(6)) {
	case 0:
		clear(i);
		break;
	case 1:
		clear(i);
		clear(i);
		break;
	case 2:
		replace(i);
		break;
	case 3:
		sooner(i, some_due());
		break;
	default:
		set(i, some_due());
	}
}

static void called(void *context, struct timer *timer)
{
	struct item *item = (struct item *)((char *)timer - offsetof(struct item, timer));
	int i = item->number;

	check(context == &wheel);
	check(items[i] == item);
	check(due_at[i] != WHEEL_NEVER); /* it was set, and has not been called since */
	check(due_at[i] <= now);         /* never early */
	check(!in_time || now - WHEEL_TICK_MS <= since[i]);
	due_at[i] = WHEEL_NEVER;
	calls++;
	if (!lively)
		return;
	for (int changes = chance(4); changes; changes--)
		change_one();
	if (chance(4) == 0)
		replace(i);
	else if (chance(4) == 0)
		set(i, some_due());
}

/* Turns, and checks what is true after every turn. */
static int turn(int most)
{
	int before = calls;
	int more = wheel_turn(&wheel, now, most, called, &wheel);

	check(calls - before <= most);
	if (more) {
		check(calls - before == most);
		check(due_count(now) > 0);
		check(wheel_wait(&wheel, now) == 0);
	} else if (!lively) {
		check(late_count() == 0);
	}
	return more;
}

/* What waiting promises: nobody is late by it, and it does not return at once for nobody. */
static int64_t wait_checked(void)
{
	int64_t wait = wheel_wait(&wheel, now);

	check((wait == -1) == (set_count() == 0));
	if (wait == -1)
		return wait;
	check(wait >= 0 && wait <= TURN_MS + WHEEL_TICK_MS);
	for (int i = 0; i < ITEMS; i++)
		if (due_at[i] != WHEEL_NEVER)
			check(wait == 0 || now + wait - WHEEL_TICK_MS <= since[i]);
	return wait;
}

static void nobody_is_waited_for(void)
{
	begin(123456789);
	check(wheel_wait(&wheel, now) == -1);
	now += DAY_MS;
	check(turn(ALL) == 0 && calls == 0);
	set(0, WHEEL_NEVER);
	sooner(1, WHEEL_NEVER);
	clear(2);
	clear(2);
	check(wheel_wait(&wheel, now) == -1);
	set(0, now + 10);
	check(wheel_wait(&wheel, now) >= 0);
	set(0, WHEEL_NEVER);
	check(wheel_wait(&wheel, now) == -1);
	now += 1000;
	check(turn(ALL) == 0 && calls == 0);
	end();
}

/* At every phase of a tick and for every delay of some ticks: called in [due, due + tick], once. */
static void every_phase_of_a_tick(void)
{
	begin(0);
	for (int64_t start = 1000; start < 1000 + WHEEL_TICK_MS; start++) {
		for (int delay = 0; delay <= 4 * WHEEL_TICK_MS; delay++) {
			wheel_init(&wheel, start);
			now = start;
			calls = 0;
			in_time = 1;
			set(0, start + delay);
			for (; !calls; now++) {
				check(wait_checked() <= delay + WHEEL_TICK_MS);
				turn(ALL);
			}
			now += 1000;
			turn(ALL);
			check(calls == 1);
		}
	}
	end();
}

static void a_wait_is_as_long_as_the_delay(void)
{
	begin(7777777);
	for (int i = 0; i < 2000; i++) {
		int64_t delay = chance(TURN_MS - 2 * WHEEL_TICK_MS);
		int64_t wait;

		now += chance(1000);
		turn(ALL);
		set(0, now + delay);
		wait = wait_checked();
		check(wait >= delay - WHEEL_TICK_MS && wait <= delay + WHEEL_TICK_MS);
		clear(0);
	}
	end();
}

static void later_than_a_turn_is_passed_over(void)
{
	begin(55);
	in_time = 1;
	for (int i = 0; i < ITEMS; i++)
		set(i, now + (int64_t)i * TURN_MS / 10);
	while (set_count()) {
		int64_t wait = wait_checked();

		now += wait;
		turn(ALL);
	}
	check(calls == ITEMS);
	end();
}

static void dues_at_the_ends_of_time(void)
{
	begin(987654321);
	set(0, INT64_MAX - 1);
	set(1, INT64_MAX - WHEEL_TICK_MS);
	set(2, INT64_MAX / 2);
	set(3, INT64_MIN);
	set(4, -1);
	set(5, 0);
	set(6, INT64_MIN + 1);
	sooner(7, INT64_MAX - 2);
	sooner(8, INT64_MIN);
	wait_checked();
	now += WHEEL_TICK_MS;
	check(turn(ALL) == 0);
	check(calls == 5);
	for (int i = 0; i < 3000; i++) {
		now += WHEEL_TICK_MS * chance(3);
		turn(ALL);
	}
	check(calls == 5 && set_count() == 4);
	end();
}

static void sooner_never_delays(void)
{
	begin(100000);
	set(0, now + 500);
	sooner(0, now + 5000);
	sooner(0, WHEEL_NEVER);
	sooner(1, now + 700);
	set(2, now + 5000);
	sooner(2, now + 300);
	in_time = 1;
	while (calls < 3) {
		now += wait_checked();
		turn(ALL);
	}
	check(now <= 100000 + 700 + WHEEL_TICK_MS);
	end();
}

static void at_most_so_many_a_turn(void)
{
	begin(5000);
	for (int i = 0; i < ITEMS; i++)
		set(i, now + chance(20000));
	now += DAY_MS;
	for (int i = 1; i < ITEMS / 7; i++) {
		check(turn(7) == 1);
		check(calls == 7 * i);
		now += chance(1000);
	}
	check(turn(0) == 1);
	while (turn(7) == 1)
		;
	check(calls == ITEMS);
	check(wheel_wait(&wheel, now) == -1);
	end();
}

/* Those that are about to be called are set, cleared and freed between two turns. */
static void changed_before_they_are_called(void)
{
	begin(5000);
	for (int round = 0; round < 2000; round++) {
		for (int i = 0; i < ITEMS; i++)
			if (chance(3) == 0)
				set(i, now + chance(200));
		now += chance(400);
		turn(chance(ITEMS / 4));
		for (int i = 0; i < ITEMS / 3; i++)
			change_one();
		wait_checked();
	}
	end();
}

static void clear_rest(void *context, struct timer *timer)
{
	called(context, timer);
	for (int i = 0; i < ITEMS; i++)
		replace(i);
}

static void the_first_may_clear_the_others(void)
{
	begin(9000);
	for (int i = 0; i < ITEMS; i++)
		set(i, now + chance(500));
	now += 1000;
	check(wheel_turn(&wheel, now, ALL, clear_rest, &wheel) == 0);
	check(calls == 1);
	check(wheel_wait(&wheel, now) == -1);
	end();
}

static void again(void *context, struct timer *timer)
{
	called(context, timer);
	set(0, now - chance(1000));
}

/* One that is always due has its calls and no more, and the others have theirs. */
static void due_again_in_its_own_call(void)
{
	begin(9000);
	set(0, now);
	set(1, now + 100);
	for (int i = 0; i < 100; i++) {
		int before = calls;

		now += WHEEL_TICK_MS;
		wheel_turn(&wheel, now, 10, again, &wheel);
		check(calls - before >= 1 && calls - before <= 10);
		check(wheel_wait(&wheel, now) >= 0 && wheel_wait(&wheel, now) <= WHEEL_TICK_MS);
	}
	check(due_at[1] == WHEEL_NEVER);
	end();
}

static void turned_when_it_asks(void)
{
	begin(4000000000);
	in_time = 1;
	lively = 1;
	for (int i = 0; i < ITEMS; i++)
		set(i, some_due());
	for (int i = 0; i < 100000; i++) {
		int64_t wait = wait_checked();

		if (wait == -1 || chance(5) == 0) {
			change_one();
			continue;
		}
		now += chance(3) ? wait : chance((uint32_t)wait + 1);
		wheel_turn(&wheel, now, ALL, called, &wheel);
		/* Without anybody due it may ask for nothing at once, or the thread would spin. */
		check(due_count(now) || wheel_wait(&wheel, now) != 0);
		for (int changes = chance(3); changes; changes--)
			change_one();
	}
	check(calls > 10000);
	end();
}

static void a_clock_that_jumps(void)
{
	begin(4000000000);
	for (int i = 0; i < 30000; i++) {
		lively = chance(2);
		for (int changes = chance(40); changes; changes--)
			change_one();
		switch (chance(4)) {
		case 0:
			now += (int64_t)chance(40) * DAY_MS + chance(1000);
			break;
		case 1:
			now += chance(2 * TURN_MS);
			break;
		case 2:
			now += (int64_t)TURN_MS * (1 + chance(3)) - WHEEL_TICK_MS + chance(2 * WHEEL_TICK_MS);
			break;
		default:
			now += chance(200);
		}
		turn(chance(3) ? ALL : (int)chance(10));
		wait_checked();
	}
	lively = 0;
	while (turn(ALL) || due_count(now))
		now += WHEEL_TICK_MS;
	check(calls > 10000);
	end();
}

static const struct behaviour behaviours[] = {
	{ "nobody on the wheel is nothing to wait for", nobody_is_waited_for },
	{ "at every phase of a tick: never early, late by at most a tick, once", every_phase_of_a_tick },
	{ "a wait is as long as the delay, within a tick", a_wait_is_as_long_as_the_delay },
	{ "what is due later than a turn is passed over until it is time", later_than_a_turn_is_passed_over },
	{ "dues at both ends of time neither overflow nor wait", dues_at_the_ends_of_time },
	{ "sooner brings forward and never delays", sooner_never_delays },
	{ "at most so many are called a turn, and the rest in the next", at_most_so_many_a_turn },
	{ "those about to be called may be set, cleared and freed between turns", changed_before_they_are_called },
	{ "the first that is called may clear and free the others", the_first_may_clear_the_others },
	{ "one that is due again in its own call does not keep the others", due_again_in_its_own_call },
	{ "turned when it asks: like the list, while callbacks change others", turned_when_it_asks },
	{ "a clock that jumps by days loses nobody", a_clock_that_jumps },
};

int main(void)
{
	return TAP_RUN(behaviours);
}
