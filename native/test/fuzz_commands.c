/* A thread obeys what it is told, in any order and about anything, among clients and backends that come, go and talk.
 *
 *      kind of a record | 1 to 8: as records.h has it; life 0 is whoever lives in that slot
 *                       | STEP_...: something happens around the thread
 *                       | others: mean nothing, and nothing is done
 *
 * Of the order only that is kept which listening.ts keeps: nothing is answered before it was asked, and a listening is
 * opened, drained once, and stopped once when it has drained. A ledger is kept of what the thread says: every client is
 * refused or has one end, every dial is paid back once, and a listening is freed as soon as it has stopped.
 */
#include "fuzz_target.h"
#include "fuzz_world.h"

#include "../src/crash.h"
#include "../src/plane.h"
#include "../src/records.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum {
	STEP_TURN = 16, /* ms (u16) */
	STEP_CLIENT,    /* listening */
	STEP_SEND,      /* peer, bytes / 16 (u16) */
	STEP_READ,      /* peer */
	STEP_LEAVE,     /* peer, how */
	STEP_HEAR,      /* TypeScript reads */
	STEP_FILL,      /* it has not read for long: bytes left (u16) */
	STEP_EPOLL,     /* the next wait fails */
	STEP_MEMORY,    /* so does an allocation: after so many */
	STEP_DRAIN,     /* listening: told by the ring, so that the thread obeys between events and what they tell */
	STEP_STOP,
	STEP_LEAST = STEP_TURN,
	STEP_MOST = STEP_STOP,
};

enum {
	LISTENINGS = 4,
	ROWS = 16 + 32,
	RING = 512 * 1024,
	ENDS_ABRUPTLY = 0x7f, /* kind of a last record: threads and flows end without a word */
	PATIENCE = 64,        /* turns until all has been said */
	LIVES = WORLD_PEERS + 1,
};

/* What is known of a client. */
struct account {
	int arrived, refused, ended;
	int holds; /* a slot of `row` */
	uint32_t row;
};

enum phase { OPEN, DRAINING, DRAINED, STOPPING };

struct fuzzed {
	struct thread thread;
	struct plane plane;
	_Atomic uint32_t signalled;
	struct listening *listenings[LISTENINGS];
	struct row rows[LISTENINGS][ROWS];
	int listeners[LISTENINGS]; /* that clients come by */
	enum phase phases[LISTENINGS];
	struct ring heard;
	struct ring told;
	struct account ledger[LIVES];
	int abrupt;
	int lowest; /* descriptor that was free */
};

/* A ring for each way. Most of what is told does not come by the one down: it is handed over, each in memory of its
 * own. */
static uint8_t memory[2][RING_HEAD + RING] __attribute__((aligned(64)));

void crash_watch(void)
{
}

void crash_mine(void)
{
}

static void woken(void *context)
{
	(void)context;
}

static int lowest_free(void)
{
	int fd = dup(0);

	must(fd >= 0);
	close(fd);
	return fd;
}

/* --- TypeScript's side -------------------------------------------------------------------------------------- */

static struct account *account_of(struct fuzzed *fuzzed, uint32_t life)
{
	must(life > 0 && life < LIVES);
	return &fuzzed->ledger[life];
}

static struct flow *flow_at(struct fuzzed *fuzzed, uint32_t slot)
{
	return slab_at(&fuzzed->thread.connections, slot);
}

static void pay_back(struct account *account, uint32_t row)
{
	must(account->holds && account->row == row);
	account->holds = 0;
}

static void hear_drained(struct fuzzed *fuzzed, uint32_t id)
{
	must(id < LISTENINGS && fuzzed->phases[id] == DRAINING);
	fuzzed->phases[id] = DRAINED;
}

static void hear_stopped(struct fuzzed *fuzzed, uint32_t id)
{
	must(id < LISTENINGS && fuzzed->phases[id] == STOPPING && fuzzed->listenings[id]);
	plane_forget(&fuzzed->plane, fuzzed->listenings[id]);
	fuzzed->listenings[id] = NULL;
}

static void hear_ended(struct fuzzed *fuzzed, const struct said_ended *said)
{
	struct account *account = account_of(fuzzed, said->who.life);

	must(account->arrived && !account->refused && !account->ended);
	account->ended = 1;
	if (said->row != NO_ROW)
		pay_back(account, (uint32_t)said->row);
	must(!account->holds && said->rx >= 0 && said->tx >= 0 && said->duration_ms >= 0);
}

static void hear_record(struct fuzzed *fuzzed, const struct record *record)
{
	const struct who *who = (const struct who *)record->payload;
	struct account *account = record->kind <= SAYS_ENDED ? account_of(fuzzed, who->life) : NULL;

	must(!account || (who->listening < LISTENINGS && fuzzed->listenings[who->listening] && !account->ended));
	switch (record->kind) {
	case SAYS_ARRIVED:
		must(!account->arrived);
		account->arrived = 1;
		break;
	case SAYS_HEADED:
		must(account->arrived && ((const struct said_headed *)record->payload)->length <= FLOW_HEAD_MOST);
		break;
	case SAYS_DIAL_FAILED:
		pay_back(account, ((const struct said_dial_failed *)record->payload)->row);
		break;
	case SAYS_CONNECTED:
	case SAYS_FIRST_BYTE:
		must(account->holds && account->row == ((const struct said_reached *)record->payload)->row);
		break;
	case SAYS_ENDED:
		hear_ended(fuzzed, (const struct said_ended *)record->payload);
		break;
	case SAYS_DRAINED:
		hear_drained(fuzzed, ((const struct said_done *)record->payload)->listening);
		break;
	case SAYS_STOPPED:
		hear_stopped(fuzzed, ((const struct said_done *)record->payload)->listening);
		break;
	default:
		must(record->kind == SAYS_TROUBLE);
	}
}

static void hear(struct fuzzed *fuzzed)
{
	const struct record *record;
	int next;

	while ((next = ring_next(&fuzzed->heard, &record)) == 1)
		hear_record(fuzzed, record);
	must(next == 0);
	ring_release(&fuzzed->heard);
	atomic_store(&fuzzed->signalled, 0);
}

/* As if so much had been said before that only `left` bytes of the ring are free. */
static void fill(struct fuzzed *fuzzed, uint32_t left)
{
	uint32_t free = RING - (fuzzed->thread.up.own - fuzzed->heard.own);

	atomic_store(fuzzed->thread.up.read, fuzzed->thread.up.own - RING + (left < free ? left : free));
}

/* --- what it is told ---------------------------------------------------------------------------------------- */

/* A descriptor that the thread may own: an open listener, or what is none. */
static int some_descriptor(uint32_t which)
{
	switch (which % 4) {
	case 0:
		return world_listener(0);
	case 1:
		return world_listener(1);
	case 2:
		return socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	default:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	}
}

static void tell_listen(struct fuzzed *fuzzed, struct record *record)
{
	struct told_listen *told = (struct told_listen *)record->payload;
	int fd;

	if (told->listening < LISTENINGS && fuzzed->phases[told->listening] != OPEN)
		return;
	fd = told->fd = some_descriptor(told->fd);
	must(fd >= 0);
	if (world_obey(record) < 0)
		close(fd);
	else if (told->listening < LISTENINGS && fcntl(fd, F_GETFD) >= 0)
		fuzzed->listeners[told->listening] = fd;
}

static enum phase *phase_before(struct fuzzed *fuzzed, uint32_t kind, uint32_t listening)
{
	enum phase *phase = listening < LISTENINGS ? &fuzzed->phases[listening] : NULL;

	return phase && *phase == (kind == TOLD_DRAIN ? OPEN : DRAINED) ? phase : NULL;
}

static void close_in_turn(struct fuzzed *fuzzed, uint32_t kind, uint32_t listening)
{
	enum phase *phase = phase_before(fuzzed, kind, listening);
	struct record *record = phase ? ring_reserve(&fuzzed->told, kind, sizeof(struct told_close)) : NULL;

	if (!record)
		return;
	*(struct told_close *)record->payload = (struct told_close){ .listening = listening, .reason = 29 };
	ring_publish(&fuzzed->told);
	*phase = kind == TOLD_DRAIN ? DRAINING : STOPPING;
}

static void tell_close(struct fuzzed *fuzzed, const struct record *record)
{
	const struct told_close *told = (const struct told_close *)record->payload;
	enum phase *phase = phase_before(fuzzed, record->kind, told->listening);

	if (told->listening < LISTENINGS && !phase)
		return;
	if (world_obey(record) < 0)
		return;
	must(phase != NULL);
	*phase = record->kind == TOLD_DRAIN ? DRAINING : STOPPING;
}

static void tell_answer(struct fuzzed *fuzzed, struct record *record)
{
	struct told_dial *told = (struct told_dial *)record->payload;
	struct flow *flow = flow_at(fuzzed, told->flow.slot);
	struct account *account;
	int known;

	hear(fuzzed);
	if (flow && flow->unsaid & (1 << SAYS_HEADED | 1 << SAYS_DIAL_FAILED))
		return;
	if (flow && told->flow.life == 0)
		told->flow.life = flow->who.life;
	known = flow && flow->known;
	if (world_obey(record) < 0)
		return;
	account = account_of(fuzzed, told->flow.life);
	must(account->arrived && !account->holds && !account->refused && !account->ended);
	if (record->kind == TOLD_DIAL) {
		account->holds = 1;
		account->row = told->row;
	}
	account->refused = record->kind == TOLD_REFUSE && !known;
}

/* What is too short goes there as it is, and means nothing. */
static void tell(struct fuzzed *fuzzed, struct record *record)
{
	uint32_t payload = record->bytes - sizeof(*record);

	switch (record->kind) {
	case TOLD_LISTEN:
		if (payload >= sizeof(struct told_listen))
			return tell_listen(fuzzed, record);
		break;
	case TOLD_DIAL:
		if (payload >= sizeof(struct told_dial))
			return tell_answer(fuzzed, record);
		break;
	case TOLD_WAIT:
	case TOLD_LATER:
	case TOLD_REFUSE:
		if (payload >= sizeof(struct told_flow))
			return tell_answer(fuzzed, record);
		break;
	case TOLD_DRAIN:
	case TOLD_STOP:
		if (payload >= sizeof(struct told_close))
			return tell_close(fuzzed, record);
		break;
	case TOLD_DROP:
		world_obey(record);
		return;
	}
	must(world_obey(record) == -EINVAL);
}

/* --- what happens ------------------------------------------------------------------------------------------- */

static uint32_t byte(const struct record *record, uint32_t place)
{
	return place < record->bytes - sizeof(*record) ? record->payload[place] : 0;
}

static uint32_t word(const struct record *record, uint32_t place)
{
	return byte(record, place) << 8 | byte(record, place + 1);
}

static void check_shares(struct fuzzed *fuzzed)
{
	for (uint32_t id = 0; id < LISTENINGS; id++) {
		const struct share *share = fuzzed->listenings[id] ? &fuzzed->listenings[id]->shares[0] : NULL;
		int count = 0;

		for (struct flow *flow = share ? share->flows : NULL; flow; flow = flow->next) {
			must(flow->share == share && flow->state != FLOW_FREE && *flow->before == flow);
			count++;
		}
		must(!share || share->count == count);
	}
}

static void step(struct fuzzed *fuzzed, const struct record *record)
{
	switch (record->kind) {
	case STEP_TURN:
		world_turn(word(record, 0));
		check_shares(fuzzed);
		break;
	case STEP_CLIENT:
		world_client(fuzzed->listeners[byte(record, 0) % LISTENINGS]);
		break;
	case STEP_SEND:
		world_send(byte(record, 0), 16 * word(record, 1));
		break;
	case STEP_READ:
		world_read(byte(record, 0));
		break;
	case STEP_LEAVE:
		world_leave(byte(record, 0), byte(record, 1) % 4);
		break;
	case STEP_HEAR:
		hear(fuzzed);
		break;
	case STEP_FILL:
		fill(fuzzed, word(record, 0));
		break;
	case STEP_EPOLL:
		world_fail_epoll();
		break;
	case STEP_MEMORY:
		world_fail_memory(byte(record, 0));
		break;
	case STEP_DRAIN:
		close_in_turn(fuzzed, TOLD_DRAIN, byte(record, 0));
		break;
	case STEP_STOP:
		close_in_turn(fuzzed, TOLD_STOP, byte(record, 0));
		break;
	}
}

static void obey(void *context, const struct record *record)
{
	struct fuzzed *fuzzed = context;

	fuzzed->abrupt = record->kind == ENDS_ABRUPTLY;
	if (record->kind >= STEP_LEAST && record->kind <= STEP_MOST)
		step(fuzzed, record);
	else
		tell(fuzzed, (struct record *)record);
}

/* --- beginning and end -------------------------------------------------------------------------------------- */

static struct record *made(uint32_t kind, const void *payload, size_t bytes)
{
	struct record *record = calloc(1, sizeof(*record) + bytes);

	must(record != NULL);
	record->kind = kind;
	record->bytes = sizeof(*record) + bytes;
	memcpy(record->payload, payload, bytes);
	return record;
}

static void told(struct fuzzed *fuzzed, uint32_t kind, const void *payload, size_t bytes)
{
	struct record *record = made(kind, payload, bytes);

	tell(fuzzed, record);
	free(record);
}

/* Short times and none, everything measured and nothing: each listening has another mixture. */
static struct spec spec_numbered(uint32_t id)
{
	int64_t limit = id % 2 ? 0 : 1000;
	struct spec spec = { .client_idle_ms = limit, .backend_idle_ms = 2 * limit, .half_close_ms = limit,
			     .undecided_ms = id == 3 ? 0 : 3000, .report = id % 2, .measure = id < 2,
			     .keep_alive_s = 5 * id, .user_timeout_ms = id == 2 ? 1000 : 0, .transparent = id == 3 };

	if (id == 2)
		must(address_of_ip(&spec.source, FAMILY_IPV4, (const uint8_t *)"\x7f\0\0\2", 0) == 0);
	return spec;
}

static void add_listening(struct fuzzed *fuzzed, uint32_t id)
{
	struct spec spec = spec_numbered(id);
	struct listening *listening = plane_listening(&fuzzed->plane, &spec);
	struct told_listen where = { .listening = id, .bind = id, .fd = id % 2, .shared = id % 2 };

	must(listening && listening->id == id);
	fuzzed->listenings[id] = listening;
	listening->shares[0].rows[0] = fuzzed->rows[id];
	if (id < 2)
		listening->shares[0].rows[1] = fuzzed->rows[id] + LISTENING_FIRST_BLOCK;
	told(fuzzed, TOLD_LISTEN, &where, sizeof(where));
}

static void *begin(void)
{
	struct fuzzed *fuzzed = calloc(1, sizeof(*fuzzed));

	must(fuzzed != NULL);
	world_begin(&fuzzed->thread);
	fuzzed->lowest = lowest_free();
	fuzzed->plane = (struct plane){ .threads = 1, .ceiling = 1 << 20, .signalled = &fuzzed->signalled, .wake = woken };
	fuzzed->plane.thread[0] = &fuzzed->thread;
	memset(memory[0], 0, RING_HEAD);
	memset(memory[1], 0, RING_HEAD);
	must(thread_init(&fuzzed->thread, &fuzzed->plane, 0, memory[0], memory[1], sizeof(memory[0])) == 0);
	must(ring_init(&fuzzed->heard, memory[0], sizeof(memory[0])) == 0);
	must(ring_init(&fuzzed->told, memory[1], sizeof(memory[1])) == 0);
	for (uint32_t id = 0; id < LISTENINGS; id++)
		add_listening(fuzzed, id);
	return fuzzed;
}

static int settled(const struct fuzzed *fuzzed)
{
	for (uint32_t id = 0; id < LISTENINGS; id++)
		if (fuzzed->listenings[id])
			return 0;
	return 1;
}

/* Answers what is still owed and stops, as a server that is removed does. */
static void finish(struct fuzzed *fuzzed)
{
	for (int turns = 0; !settled(fuzzed); turns++) {
		must(turns < PATIENCE);
		world_turn(0);
		hear(fuzzed);
		for (uint32_t slot = 0; slot < fuzzed->thread.connections.slots; slot++) {
			struct told_refuse refuse = { .flow = { .slot = slot }, .reason = 14 };

			if (flow_at(fuzzed, slot)->owed && flow_at(fuzzed, slot)->state != FLOW_FREE)
				told(fuzzed, TOLD_REFUSE, &refuse, sizeof(refuse));
		}
		for (uint32_t id = 0; id < LISTENINGS; id++) {
			struct told_close close = { .listening = id, .reason = 30 };

			told(fuzzed, TOLD_DRAIN, &close, sizeof(close));
			told(fuzzed, TOLD_STOP, &close, sizeof(close));
		}
	}
	for (uint32_t life = 1; life < LIVES; life++) {
		const struct account *account = &fuzzed->ledger[life];

		must(account->arrived == account->refused + account->ended && !account->holds);
	}
	must(fuzzed->thread.pipes.open == fuzzed->thread.pipes.kept);
}

static void end(void *context)
{
	struct fuzzed *fuzzed = context;

	world_calm();
	world_turn(0);
	if (!fuzzed->abrupt)
		finish(fuzzed);
	world_end();
	thread_destroy(&fuzzed->thread);
	for (uint32_t id = 0; id < LISTENINGS; id++)
		if (fuzzed->listenings[id])
			plane_forget(&fuzzed->plane, fuzzed->listenings[id]);
	must(lowest_free() == fuzzed->lowest);
	free(fuzzed);
}

/* --- what to begin with ------------------------------------------------------------------------------------- */

struct seed {
	uint8_t *at;
	size_t left;
};

static void add(struct seed *seed, uint32_t kind, const void *payload, size_t bytes)
{
	const uint8_t head[] = { kind, bytes >> 8, bytes };

	must(seed->left >= sizeof(head) + bytes);
	memcpy(seed->at, head, sizeof(head));
	if (bytes)
		memcpy(seed->at + sizeof(head), payload, bytes);
	seed->at += sizeof(head) + bytes;
	seed->left -= sizeof(head) + bytes;
}

static void add_step(struct seed *seed, uint32_t kind, uint8_t first, uint8_t second, uint8_t third)
{
	const uint8_t payload[] = { first, second, third };

	add(seed, kind, payload, sizeof(payload));
}

static void turn(struct seed *seed)
{
	add_step(seed, STEP_TURN, 0, 1, 0);
}

static void arrive(struct seed *seed, uint8_t listening)
{
	add_step(seed, STEP_CLIENT, listening, 0, 0);
	turn(seed);
}

static void dial(struct seed *seed, uint32_t family, uint32_t port, const char *path, const char *ahead)
{
	size_t bytes = sizeof(struct told_dial) + strlen(path) + strlen(ahead);
	struct told_dial *told = calloc(1, bytes + 1);

	must(told != NULL);
	*told = (struct told_dial){ .row = 3, .timeout_ms = 500, .family = family, .port = port,
				    .path_bytes = strlen(path), .ahead_bytes = strlen(ahead), .ip = { 127, 0, 0, 1 } };
	memcpy(told->rest, path, strlen(path));
	memcpy(told->rest + strlen(path), ahead, strlen(ahead));
	add(seed, TOLD_DIAL, told, bytes);
	free(told);
	turn(seed);
	turn(seed);
}

/* From the client, who came first, to the backend and back. */
static void talk(struct seed *seed, uint16_t pieces)
{
	for (uint8_t peer = 0; peer < 2; peer++) {
		add_step(seed, STEP_SEND, peer, pieces >> 8, pieces);
		turn(seed);
		add_step(seed, STEP_READ, !peer, 0, 0);
		turn(seed);
	}
}

static void close_listening(struct seed *seed, uint32_t listening)
{
	struct told_close told = { .listening = listening, .reason = 29 };

	for (uint32_t kind = TOLD_DRAIN; kind <= TOLD_STOP; kind++) {
		add(seed, kind, &told, sizeof(told));
		turn(seed);
		add(seed, STEP_HEAR, NULL, 0);
	}
}

static void seed_relay(struct seed *seed)
{
	arrive(seed, 1);
	dial(seed, FAMILY_IPV4, 0, "", "PROXY");
	talk(seed, 4);
	for (uint8_t peer = 0; peer < 2; peer++) {
		add_step(seed, STEP_LEAVE, peer, LEAVE_SHUT, 0);
		turn(seed);
	}
}

static void seed_plenty(struct seed *seed)
{
	arrive(seed, 0);
	dial(seed, FAMILY_IPV6, 1, "", "");
	for (int i = 0; i < 4; i++)
		talk(seed, 0x7fff);
	add_step(seed, STEP_LEAVE, 1, LEAVE_RESET, 0);
	turn(seed);
}

static void seed_wait(struct seed *seed)
{
	struct told_wait told = { .at_least = 16, .at_most = 64, .ms = 500 };

	arrive(seed, 0);
	add(seed, TOLD_WAIT, &told, sizeof(told));
	add_step(seed, STEP_SEND, 0, 0, 2);
	turn(seed);
	dial(seed, FAMILY_UNIX, 0, "x", "ahead");
	talk(seed, 8);
	add_step(seed, STEP_TURN, 0xff, 0xff, 0);
}

static void seed_refused(struct seed *seed)
{
	struct told_refuse told = { .reason = 4 };

	arrive(seed, 2);
	dial(seed, FAMILY_IPV4, 2, "", "");
	add(seed, TOLD_LATER, &told, sizeof(told.flow));
	turn(seed);
	add(seed, TOLD_REFUSE, &told, sizeof(told));
}

static void seed_drop(struct seed *seed)
{
	struct told_drop told = { .listening = 1, .row = 3, .reason = 29 };

	arrive(seed, 1);
	dial(seed, FAMILY_UNIX, 0, "d", "");
	add(seed, TOLD_DROP, &told, sizeof(told));
	turn(seed);
	close_listening(seed, 1);
}

static void seed_listen(struct seed *seed)
{
	struct told_listen told = { .listening = 3, .bind = 7, .fd = 0 };

	add(seed, TOLD_LISTEN, &told, sizeof(told));
	arrive(seed, 3);
	dial(seed, FAMILY_IPV4, 4, "", "");
	arrive(seed, 3);
	close_listening(seed, 3);
}

/* A listener that cannot accept, and is told to close in the turn in which it finds out. */
static void seed_trouble(struct seed *seed)
{
	struct told_listen told = { .listening = 0, .bind = 1, .fd = 2 };

	add(seed, TOLD_LISTEN, &told, sizeof(told));
	add_step(seed, STEP_DRAIN, 0, 0, 0);
	turn(seed);
	turn(seed);
	add(seed, STEP_HEAR, NULL, 0);
	add_step(seed, STEP_STOP, 0, 0, 0);
	turn(seed);
}

static void seed_failures(struct seed *seed)
{
	arrive(seed, 0);
	add_step(seed, STEP_FILL, 0, 64, 0);
	dial(seed, FAMILY_IPV4, 3, "", "");
	add(seed, STEP_HEAR, NULL, 0);
	add_step(seed, STEP_MEMORY, 1, 0, 0);
	dial(seed, FAMILY_IPV4, 0, "", "");
	add(seed, STEP_EPOLL, NULL, 0);
	turn(seed);
	add(seed, ENDS_ABRUPTLY, NULL, 0);
}

static size_t seed(uint32_t number, uint8_t *bytes, size_t most)
{
	static void (*const seeds[])(struct seed *) = { seed_relay, seed_plenty, seed_wait, seed_refused,
							seed_drop, seed_listen, seed_trouble, seed_failures };
	static const uint8_t large[] = { 4, 0, 0 }; /* a ring, see fuzz_ring.c */
	struct seed seed = { bytes + sizeof(large), most - sizeof(large) };

	if (number >= sizeof(seeds) / sizeof(*seeds))
		return 0;
	memcpy(bytes, large, sizeof(large));
	seeds[number](&seed);
	return most - seed.left;
}

const struct target target = { "commands", begin, obey, end, seed };
