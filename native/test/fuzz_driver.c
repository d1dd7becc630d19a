/* Stands in for libFuzzer where the compiler has none: random changes of inputs, and those that come by a place
 * as often as no other did are kept and changed again. Wants the rest compiled with
 * -fsanitize-coverage=trace-pc, itself without.
 *
 *      fuzz_x            for FUZZ_SECONDS (2), from SEED (1)
 *      fuzz_x FILE ...   these inputs, once
 *
 * An input that breaks something is left at FUZZ_LEFT.
 */
#include "fuzz_target.h"
#include "tap.h"

#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	MOST_BYTES = 4096,
	MOST_KEPT = 4096,
	PLACES = 1 << 12,
	HANGS_S = 20, /* without 1,000 inputs */
};

struct input {
	size_t count;
	uint8_t bytes[MOST_BYTES];
};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);
void __sanitizer_cov_trace_pc(void);
void __sanitizer_set_death_callback(void (*callback)(void));

static uint8_t passed[PLACES];  /* how often this input came by */
static uint8_t reached[PLACES]; /* in which magnitudes any did: a bit each */
static uint32_t news;           /* bits set so far */
static struct input *kept[MOST_KEPT];
static uint32_t kept_count;
static struct input now;

void __sanitizer_cov_trace_pc(void)
{
	uintptr_t place = (uintptr_t)__builtin_return_address(0);
	uint8_t *count = &passed[(place ^ place >> 12) % PLACES];

	*count += *count < UINT8_MAX;
}

/* Runs what is in `now`; true when it came by somewhere as often as no other did. */
static int run_new(void)
{
	uint32_t before = news;

	memset(passed, 0, sizeof(passed));
	LLVMFuzzerTestOneInput(now.bytes, now.count);
	for (uint32_t i = 0; i < PLACES; i++) {
		uint8_t magnitude = passed[i] ? 1u << (31 - __builtin_clz(passed[i])) : 0;

		news += magnitude && !(reached[i] & magnitude);
		reached[i] |= magnitude;
	}
	return news != before;
}

static void leave_input(void)
{
	const char *path = getenv("FUZZ_LEFT");
	FILE *file = path ? fopen(path, "w") : NULL;

	if (!file)
		return;
	fwrite(now.bytes, 1, now.count, file);
	fclose(file);
	fprintf(stderr, "# the input is in %s\n", path);
}

static void died(int signal)
{
	static const char hung[] = "# an input hangs\n";

	if (signal == SIGALRM && write(2, hung, sizeof(hung) - 1) < 0)
		_exit(2);
	leave_input();
	_exit(1);
}

static void keep(void)
{
	if (kept_count == MOST_KEPT)
		return;
	kept[kept_count] = malloc(sizeof(now));
	if (kept[kept_count])
		*kept[kept_count++] = now;
}

static void insert(size_t place, const uint8_t *bytes, size_t count)
{
	if (now.count + count > MOST_BYTES)
		return;
	memmove(now.bytes + place + count, now.bytes + place, now.count - place);
	memcpy(now.bytes + place, bytes, count);
	now.count += count;
}

static void insert_random(size_t place)
{
	uint8_t bytes[64];
	size_t count = 1 + chance(sizeof(bytes));

	for (size_t i = 0; i < count; i++)
		bytes[i] = chance(2) ? (uint8_t)anything() : 0;
	insert(place, bytes, count);
}

static void insert_other(size_t place)
{
	const struct input *other = kept[chance(kept_count)];
	size_t from = chance((uint32_t)other->count + 1);

	insert(place, other->bytes + from, chance((uint32_t)(other->count - from) + 1));
}

static void cut(size_t place)
{
	size_t count = chance((uint32_t)(now.count - place) + 1);

	memmove(now.bytes + place, now.bytes + place + count, now.count - place - count);
	now.count -= count;
}

static void set_word(size_t place)
{
	static const uint32_t telling[] = { 0, 1, 7, 8, 16, 24, 256, 1016, 1024, 8192, INT32_MAX, UINT32_MAX - 7, UINT32_MAX };
	uint32_t word = chance(3) ? 8 * chance(40) : telling[chance(sizeof(telling) / sizeof(telling[0]))];

	if (place + 4 <= now.count)
		memcpy(now.bytes + place, &word, 4);
}

static void change_one(void)
{
	size_t place = chance((uint32_t)now.count + 1);

	switch (chance(7)) {
	case 0:
		insert_random(place);
		break;
	case 1:
		insert_other(place);
		break;
	case 2:
		cut(place);
		break;
	case 3:
		set_word(place);
		break;
	case 4:
		set_word(place / 4 * 4 + chance(4));
		break;
	default:
		if (place < now.count)
			now.bytes[place] ^= chance(2) ? 1u << chance(8) : anything();
	}
}

static uint32_t places(void)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < PLACES; i++)
		count += reached[i] != 0;
	return count;
}

static void fuzz(time_t seconds)
{
	struct timespec clock;
	unsigned long long runs = 0;
	time_t until;

	clock_gettime(CLOCK_MONOTONIC, &clock);
	until = clock.tv_sec + seconds;
	run_new();
	keep();
	for (uint32_t i = 0; target.seed && (now.count = target.seed(i, now.bytes, MOST_BYTES)) > 0; i++) {
		run_new();
		keep();
	}
	while (clock.tv_sec < until) {
		now = *kept[chance(kept_count)];
		for (uint32_t changes = 1 + chance(8); changes; changes--)
			change_one();
		if (run_new())
			keep();
		if (++runs % 1000)
			continue;
		alarm(HANGS_S);
		clock_gettime(CLOCK_MONOTONIC, &clock);
	}
	alarm(0);
	printf("# %llu inputs, %u kept, %u places reached\n", runs, kept_count, places());
}

static void read_file(const char *path)
{
	FILE *file = fopen(path, "r");

	if (!file) {
		perror(path);
		exit(1);
	}
	now.count = fread(now.bytes, 1, MOST_BYTES, file);
	fclose(file);
	LLVMFuzzerTestOneInput(now.bytes, now.count);
}

int main(int count, char **arguments)
{
	const char *seconds = getenv("FUZZ_SECONDS");

	tap_state = tap_seed() * 0x9e3779b97f4a7c15u | 1;
	signal(SIGABRT, died);
	signal(SIGALRM, died);
	__sanitizer_set_death_callback(leave_input);
	alarm(HANGS_S);
	for (int i = 1; i < count; i++)
		read_file(arguments[i]);
	if (count == 1)
		fuzz(seconds ? atoi(seconds) : 2);
	while (kept_count)
		free(kept[--kept_count]);
	return 0;
}
