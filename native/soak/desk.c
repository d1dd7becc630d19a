/* The threads of the native plane without Node: a desk that knows one backend for each listener.
 *
 *      desk [--threads N] [--moody] [--drops] 127.0.0.1:4000=127.0.0.1:5000 unix:/front=unix:/back ...
 *      desk ... udp:127.0.0.1:4000=127.0.0.1:5000 udp,sessions=99,responses=3:127.0.0.1:4001=127.0.0.1:5001 ...
 *
 * Fronts of datagrams say after `udp` what else is asked of them: by-ip, guarded, deaf (nobody is told that a backend
 * is unreachable), requests=N, responses=N, sessions=N of each thread, glimpses=N and idle=MS. A guarded one lets
 * 127.16.0.0/16 in, but for each second 256 addresses.
 *
 * A moody desk lets some flows wait for their first bytes, answers others later, and tries a dead address first; with
 * --drops it ends the flows of a row now and then. SIGTERM drains, stops and tells what was counted; the status is 1
 * when something is left over.
 */
#include "ends.h"

#include "../src/open.h"
#include "../src/plane.h"
#include "../src/records.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
	RING = RING_HEAD + 512 * 1024,
	FIRST = 64,
	LISTENINGS = 64,
	ROWS = LISTENING_FIRST_BLOCK,
	LATER = 4096,
	LATER_MS = 5,
	REASONS = 64,
	HEADER = 16,
	SESSIONS = 16384, /* of a thread, where nothing else is asked */
	IDLE_MS = 500,
	RECEIVE_BUFFER = 4 << 20,
	TURNS = 258, /* of a guarded front */
};

struct front {
	struct listening *listening;
	struct place backend;
	uint32_t id;
	int threads_drained, threads_stopped;
};

/* An answer that is given later. */
struct later {
	int64_t at;
	int thread;
	struct who who;
};

static struct plane *plane;
static uint8_t *memory;
static int threads = 2, moody, drops, woken;
static struct ring up[LISTENING_THREADS], down[LISTENING_THREADS];
static struct front fronts[LISTENINGS];
static int front_count;
static struct later later[LATER];
static int later_first, later_count;
static uint64_t arrived, refused, ended, heads, dials, dial_failures, slots_back, troubles, rouses, chances = 1;
static uint64_t lost, glimpses, requests, responses, wrong;
static uint64_t by_reason[REASONS];

static void wake(void *context)
{
	uint64_t once = 1;

	(void)context;
	if (write(woken, &once, sizeof(once)) < 0)
		return; /* It is awake. */
}

static void publish(int thread)
{
	_Atomic uint32_t *asleep = (_Atomic uint32_t *)((uint8_t *)down[thread].written + RING_ASLEEP);
	uint32_t one = 1;

	ring_publish(&down[thread]);
	if (atomic_compare_exchange_strong(asleep, &one, 0)) {
		rouses++;
		plane_rouse(plane, thread);
	}
}

static void *tell(int thread, uint32_t kind, uint32_t bytes)
{
	for (;;) {
		struct record *record = ring_reserve(&down[thread], kind, bytes);

		if (record)
			return memset(record->payload, 0, bytes);
		publish(thread);
		sched_yield();
	}
}

static struct told_flow about(const struct who *who)
{
	return (struct told_flow){ .slot = who->slot, .life = who->life, .flow = arrived };
}

static void tell_dial(int thread, const struct who *who, int dead)
{
	const struct place *backend = &fronts[who->listening].backend;
	uint32_t path = is_tcp(backend) ? 0 : strlen(backend->un.sun_path);
	struct told_dial *told = tell(thread, TOLD_DIAL, sizeof(*told) + path);

	dials++;
	told->flow = about(who);
	told->row = dials % ROWS;
	told->note = dials;
	told->timeout_ms = 5000;
	if (dead) {
		told->family = FAMILY_IPV4;
		told->port = 1;
		memcpy(told->ip, (uint8_t[]){ 127, 0, 0, 1 }, 4);
	} else if (path) {
		told->family = FAMILY_UNIX;
		memcpy(told->rest, backend->un.sun_path, path);
	} else {
		told->family = FAMILY_IPV4;
		told->port = ntohs(backend->in.sin_port);
		memcpy(told->ip, &backend->in.sin_addr, 4);
	}
	told->path_bytes = path;
}

static void tell_later(int thread, const struct who *who)
{
	struct told_flow *told = tell(thread, TOLD_LATER, sizeof(*told));
	int place = (later_first + later_count) % LATER;

	*told = about(who);
	later[place] = (struct later){ .at = now_ms() + LATER_MS, .thread = thread, .who = *who };
	later_count++;
}

static void tell_wait(int thread, const struct who *who)
{
	struct told_wait *told = tell(thread, TOLD_WAIT, sizeof(*told));

	told->flow = about(who);
	told->at_least = HEADER;
	told->at_most = 16384;
	told->ms = 10000;
}

static void decide(int thread, const struct who *who)
{
	int mood = moody ? mixed(chances++) % 10 : 9;

	arrived++;
	if (mood < 2)
		tell_wait(thread, who);
	else if (mood < 4 && later_count < LATER)
		tell_later(thread, who);
	else
		tell_dial(thread, who, mood == 4);
}

static void refuse(int thread, const struct who *who)
{
	struct told_refuse *told = tell(thread, TOLD_REFUSE, sizeof(*told));

	told->flow = about(who);
	told->reason = 0;
}

static void hear_ended(const struct said_ended *end)
{
	const struct datagram_spec *spec = &fronts[end->who.listening].listening->spec.datagrams;

	ended++;
	slots_back += end->row != NO_ROW;
	by_reason[end->reason % REASONS]++;
	requests += end->requests;
	responses += end->responses;
	wrong += (spec->on && end->requests < 1) || (spec->max_requests && end->requests > spec->max_requests) ||
		 (spec->max_responses && end->responses > spec->max_responses);
}

static void hear_record(int thread, const struct record *record)
{
	const struct who *who = (const struct who *)record->payload;
	const struct said_done *done = (const struct said_done *)record->payload;
	const struct said_trouble *trouble = (const struct said_trouble *)record->payload;

	switch (record->kind) {
	case SAYS_ARRIVED:
		decide(thread, who);
		break;
	case SAYS_HEADED:
		heads++;
		tell_dial(thread, who, 0);
		break;
	case SAYS_DIAL_FAILED:
		dial_failures++;
		slots_back++;
		lost += ((const struct said_dial_failed *)who)->lost;
		if (((const struct said_dial_failed *)who)->error == ECONNREFUSED)
			tell_dial(thread, who, 0);
		else
			refuse(thread, who);
		break;
	case SAYS_ENDED:
		hear_ended((const struct said_ended *)record->payload);
		break;
	case SAYS_GLIMPSED:
		glimpses++;
		break;
	case SAYS_DRAINED:
		fronts[done->listening].threads_drained++;
		break;
	case SAYS_STOPPED:
		fronts[done->listening].threads_stopped++;
		break;
	case SAYS_TROUBLE:
		troubles++;
		fprintf(stderr, "thread %d: trouble %u: %s\n", thread, trouble->what, strerror(trouble->error));
		break;
	}
}

static void hear_all(void)
{
	for (int i = 0; i < threads; i++) {
		const struct record *record;

		while (ring_next(&up[i], &record) > 0)
			hear_record(i, record);
		ring_release(&up[i]);
	}
}

static void answer_later(void)
{
	while (later_count > 0 && later[later_first].at <= now_ms()) {
		tell_dial(later[later_first].thread, &later[later_first].who, 0);
		later_first = (later_first + 1) % LATER;
		later_count--;
	}
}

static void publish_all(void)
{
	for (int i = 0; i < threads; i++)
		publish(i);
}

/* As src/plane/native/plane.ts does: whoever writes after the last store of 0 wakes us. */
static void hear(void)
{
	_Atomic uint32_t *signalled = (_Atomic uint32_t *)memory;
	int waiting;

	do {
		atomic_store(signalled, 1);
		hear_all();
		publish_all();
		atomic_store(signalled, 0);
		waiting = 0;
		for (int i = 0; i < threads; i++)
			waiting |= ring_waiting(&up[i]);
	} while (waiting);
}

static void drop_some(void)
{
	uint32_t row = mixed(chances++) % ROWS;

	for (int front = 0; front < front_count; front++)
		for (int i = 0; i < threads; i++) {
			struct told_drop *told = tell(i, TOLD_DROP, sizeof(*told));

			*told = (struct told_drop){ .listening = fronts[front].id, .row = row, .reason = 30 };
		}
}

static struct access *guards(void)
{
	struct access *access = calloc(1, sizeof(*access));
	uint32_t *words = malloc(TURNS * sizeof(*words));

	if (!access || !words)
		give_up("memory");
	words[0] = 0;
	for (int i = 1; i < TURNS; i++)
		words[i] = 0x7f100000 + 256 * (i - 1);
	access->ipv4 = (struct turns){ .count = TURNS, .words = words };
	return access;
}

/* What is asked of a front after `udp`: up to its address, which is returned. */
static char *ask_of(char *text, struct spec *spec, struct open_options *options)
{
	struct datagram_spec *datagrams = &spec->datagrams;
	char *colon = strchr(text, ':'), *option;

	options->datagrams = 1;
	options->receive_buffer = RECEIVE_BUFFER;
	*datagrams = (struct datagram_spec){ .on = 1, .max_sessions = SESSIONS, .tell_unreachable = 1 };
	spec->client_idle_ms = IDLE_MS;
	spec->backend_idle_ms = 2 * IDLE_MS;
	if (!colon)
		give_up(text);
	*colon = 0;
	strsep(&text, ",");
	while ((option = strsep(&text, ","))) {
		const char *value = strchr(option, '=');
		uint32_t number = value ? atoi(value + 1) : 1;

		if (strcmp(option, "by-ip") == 0)
			datagrams->by_ip = options->by_address = 1;
		else if (strcmp(option, "guarded") == 0)
			spec->access = guards();
		else if (strcmp(option, "deaf") == 0)
			datagrams->tell_unreachable = 0;
		else if (strncmp(option, "requests=", 9) == 0)
			datagrams->max_requests = number;
		else if (strncmp(option, "responses=", 10) == 0)
			datagrams->max_responses = number;
		else if (strncmp(option, "sessions=", 9) == 0)
			datagrams->max_sessions = number;
		else if (strncmp(option, "glimpses=", 9) == 0)
			datagrams->glimpses = number;
		else if (strncmp(option, "idle=", 5) == 0)
			spec->client_idle_ms = spec->backend_idle_ms = number;
		else
			give_up(option);
	}
	return colon + 1;
}

static void open_front(const char *text)
{
	struct spec spec = { .half_close_ms = 60000, .undecided_ms = 60000, .keep_alive_s = 1, .report = 1,
			     .measure = 1 };
	struct open_options options = { .backlog = 4096 };
	struct front *front = &fronts[front_count++];
	char *copy = strdup(text), *middle = strrchr(copy, '=');
	struct address address;
	struct place place;
	int fds[LISTENING_THREADS], count, error;
	const char *call = "open";

	if (!middle || front_count == LISTENINGS)
		give_up("expected FRONT=BACKEND");
	*middle = 0;
	front->backend = place_of(middle + 1);
	place = place_of(strncmp(copy, "udp", 3) == 0 ? ask_of(copy, &spec, &options) : copy);
	free(copy);
	address.length = place.length;
	memcpy(&address.un, &place.un, sizeof(place.un));
	if (!is_tcp(&place))
		unlink(place.un.sun_path);
	count = threads;
	error = open_listeners(&address, count, &options, fds, &call);
	if (error) {
		errno = -error;
		give_up(call);
	}
	front->listening = plane_listening(plane, &spec);
	front->id = front->listening->id;
	for (int i = 0; i < threads; i++) {
		struct told_listen *told;
		struct row *rows = calloc(LISTENING_FIRST_BLOCK, sizeof(*rows));

		atomic_store(&front->listening->shares[i].rows[0], rows);
		told = tell(i, TOLD_LISTEN, sizeof(*told));
		*told = (struct told_listen){ .listening = front->id, .bind = 0, .fd = fds[i],
					      .shared = !is_tcp(&place) };
	}
}

static void close_all(uint32_t kind)
{
	for (int front = 0; front < front_count; front++)
		for (int i = 0; i < threads; i++) {
			struct told_close *told = tell(i, kind, sizeof(*told));

			*told = (struct told_close){ .listening = fronts[front].id, .reason = 29 };
		}
	publish_all();
}

/* How many threads have said so of how many fronts. */
static int done_with(int stopped)
{
	int sum = 0;

	for (int front = 0; front < front_count; front++)
		sum += stopped ? fronts[front].threads_stopped : fronts[front].threads_drained;
	return sum;
}

static void turn(struct pollfd *polled, int count)
{
	uint64_t times;

	if (poll(polled, count, later_count || drops ? 5 : 1000) > 0 && polled[0].revents)
		if (read(woken, &times, sizeof(times)) < 0)
			give_up("eventfd");
	hear();
	answer_later();
	publish_all();
}

static void tell_number(const char *name, uint64_t number)
{
	printf("\"%s\":%llu,", name, (unsigned long long)number);
}

static struct drops all_drops(void)
{
	struct drops sum = { 0 };

	for (int front = 0; front < front_count; front++)
		for (int i = 0; i < threads; i++) {
			const struct drops *drops = &fronts[front].listening->shares[i].drops;

			sum.access += drops->access;
			sum.undecided += drops->undecided;
			sum.draining += drops->draining;
			sum.send += drops->send;
		}
	return sum;
}

static void report_datagrams(void)
{
	struct drops drops = all_drops();

	tell_number("lost", lost);
	tell_number("glimpses", glimpses);
	tell_number("requests", requests);
	tell_number("responses", responses);
	tell_number("deniedDatagrams", drops.access);
	tell_number("undecidedDatagrams", drops.undecided);
	tell_number("drainingDatagrams", drops.draining);
	tell_number("unsentDatagrams", drops.send);
	tell_number("wrongEnds", wrong);
}

static void report(void)
{
	double rx = 0, tx = 0, connects = 0;

	for (int front = 0; front < front_count; front++)
		for (int i = 0; i < threads; i++) {
			struct row *rows = atomic_load(&fronts[front].listening->shares[i].rows[0]);

			for (int row = 0; row < ROWS; row++) {
				rx += rows[row].rx;
				tx += rows[row].tx;
				connects += rows[row].connects;
			}
			free(rows);
		}
	putchar('{');
	tell_number("arrived", arrived);
	tell_number("refused", refused);
	tell_number("ended", ended);
	tell_number("heads", heads);
	tell_number("dials", dials);
	tell_number("dialFailures", dial_failures);
	tell_number("slotsBack", slots_back);
	tell_number("connects", connects);
	tell_number("rx", rx);
	tell_number("tx", tx);
	tell_number("rouses", rouses);
	tell_number("troubles", troubles);
	report_datagrams();
	printf("\"reasons\":{");
	for (int i = 0, told = 0; i < REASONS; i++)
		if (by_reason[i])
			printf("%s\"%d\":%llu", told++ ? "," : "", i, (unsigned long long)by_reason[i]);
	printf("}}\n");
}

static int start(void)
{
	sigset_t mask;
	int error;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN);
	woken = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	memory = aligned_alloc(64, (FIRST + 2 * threads * RING + 63) / 64 * 64);
	if (!memory)
		give_up("memory");
	memset(memory, 0, FIRST + 2 * threads * RING);
	for (int i = 0; i < threads; i++) {
		ring_init(&up[i], memory + FIRST + 2 * i * RING, RING);
		ring_init(&down[i], memory + FIRST + (2 * i + 1) * RING, RING);
	}
	error = plane_start(&plane, threads, memory, RING, 1 << 30, wake, NULL);
	if (error) {
		errno = -error;
		give_up("plane_start");
	}
	return signalfd(-1, &mask, SFD_CLOEXEC);
}

int main(int count, char **arguments)
{
	struct pollfd polled[2] = { { .events = POLLIN }, { .events = POLLIN } };
	int64_t dropped = 0;
	int first = 1;

	for (; first < count && strncmp(arguments[first], "--", 2) == 0; first++)
		if (strcmp(arguments[first], "--moody") == 0)
			moody = 1;
		else if (strcmp(arguments[first], "--drops") == 0)
			drops = 1;
		else if (strcmp(arguments[first], "--threads") == 0 && first + 1 < count)
			threads = atoi(arguments[++first]);
	if (first >= count || threads < 1 || threads > LISTENING_THREADS) {
		fprintf(stderr, "usage: desk [--threads N] [--moody] [--drops] FRONT=BACKEND...\n");
		return 2;
	}
	polled[1].fd = start();
	polled[0].fd = woken;
	while (first < count)
		open_front(arguments[first++]);
	publish_all();
	printf("ready\n");
	fflush(stdout);
	while (!polled[1].revents) {
		turn(polled, 2);
		if (drops && now_ms() - dropped > 50) {
			dropped = now_ms();
			drop_some();
		}
	}
	close_all(TOLD_DRAIN);
	while (done_with(0) < front_count * threads)
		turn(polled, 1);
	close_all(TOLD_STOP);
	while (done_with(1) < front_count * threads)
		turn(polled, 1);
	report();
	for (int front = 0; front < front_count; front++)
		plane_forget(plane, fronts[front].listening);
	plane_stop(plane);
	free(memory);
	return arrived != ended + refused || dials != slots_back || wrong > 0;
}
