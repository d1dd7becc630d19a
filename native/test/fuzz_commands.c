/* A thread obeys what it is told, in any order and about anything, among clients and backends that come, go and talk,
 * by connections and by datagrams.
 *
 *      kind of a record | 1 to 8: as records.h has it; life 0 is whoever lives in that slot
 *                       | STEP_...: something happens around the thread
 *                       | others: mean nothing, and nothing is done
 *
 * Of the order only that is kept which listening.ts keeps: nothing is answered before it was asked, and a listening is
 * opened, drained once, and stopped once when it has drained. A ledger is kept of what the thread says: every client is
 * refused or has one end, every dial is paid back once, what rows count is what the ends say, and a listening is freed
 * as soon as it has stopped.
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
	STEP_CLIENT,    /* listening, from where */
	STEP_SEND,      /* peer, bytes / 16 (u16) */
	STEP_READ,      /* peer */
	STEP_LEAVE,     /* peer, how */
	STEP_HEAR,      /* TypeScript reads */
	STEP_FILL,      /* it has not read for long: bytes left (u16) */
	STEP_EPOLL,     /* the next wait fails */
	STEP_MEMORY,    /* so does an allocation: after so many */
	STEP_DRAIN,     /* listening: told by the ring, so that the thread obeys between events and what they tell */
	STEP_STOP,
	STEP_ASK,       /* peer, then a burst: times, bytes (u16), segment (u16) */
	STEP_ANSWER,    /* a burst */
	STEP_VANISH,    /* a backend does, or is there again */
	STEP_CALLS,     /* sending and receiving fails: after so many, so many, how */
	STEP_DESK,      /* all that is owed is answered: how, port, row */
	STEP_LEAST = STEP_TURN,
	STEP_MOST = STEP_DESK,
};

enum {
	LISTENINGS = 8,
	OF_DATAGRAMS = 4, /* from this one on they are */
	ROWS = 16 + 32,
	RING = 512 * 1024,
	ENDS_ABRUPTLY = 0x7f, /* kind of a last record: threads and flows end without a word */
	PATIENCE = 64,        /* turns until all has been said */
	LIVES = 1 << 16,      /* more than an input can begin */
	BURST = 16,
	GLIMPSE = 64,
};

/* What is known of a client. */
struct account {
	int arrived, refused, ended;
	int holds; /* a slot of `row` */
	uint32_t row;
	uint32_t glimpses;
};

/* What all ends of a listening say together. */
struct sums {
	double rx, tx, requests, responses;
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
	struct account *ledger; /* by life */
	uint32_t lives;         /* there is room for */
	struct sums sums[LISTENINGS];
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
	if (life >= fuzzed->lives) {
		uint32_t lives = 2 * life + 64;

		fuzzed->ledger = realloc(fuzzed->ledger, lives * sizeof(*fuzzed->ledger));
		must(fuzzed->ledger != NULL);
		memset(fuzzed->ledger + fuzzed->lives, 0, (lives - fuzzed->lives) * sizeof(*fuzzed->ledger));
		fuzzed->lives = lives;
	}
	return &fuzzed->ledger[life];
}

static struct flow *flow_at(struct fuzzed *fuzzed, uint32_t slot)
{
	return slot & SESSION_SLOT ? slab_at(&fuzzed->thread.sessions, slot & ~SESSION_SLOT)
				   : slab_at(&fuzzed->thread.connections, slot);
}

static const struct datagram_spec *datagrams_of(const struct fuzzed *fuzzed, uint32_t id)
{
	return &fuzzed->listenings[id]->spec.datagrams;
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

/* All ends have been said: what is read in place while flows live agrees with them. What a client sent before there was
 * a backend is nobody's. */
static void check_rows(const struct fuzzed *fuzzed, uint32_t id)
{
	const struct sums *said = &fuzzed->sums[id];
	struct sums read = { 0 };

	for (uint32_t row = 0; row < ROWS; row++) {
		const struct row *counted = &fuzzed->rows[id][row];

		must(counted->rx >= 0 && counted->tx >= 0 && counted->requests >= 0 && counted->responses >= 0);
		read.rx += counted->rx;
		read.tx += counted->tx;
		read.requests += counted->requests;
		read.responses += counted->responses;
	}
	must(read.rx == said->rx && read.responses == said->responses);
	must(read.tx <= said->tx && read.requests <= said->requests);
}

static void hear_stopped(struct fuzzed *fuzzed, uint32_t id)
{
	must(id < LISTENINGS && fuzzed->phases[id] == STOPPING && fuzzed->listenings[id]);
	check_rows(fuzzed, id);
	plane_forget(&fuzzed->plane, fuzzed->listenings[id]);
	fuzzed->listenings[id] = NULL;
}

static void check_session_end(const struct fuzzed *fuzzed, const struct said_ended *said)
{
	const struct datagram_spec *spec = datagrams_of(fuzzed, said->who.listening);

	must(said->requests >= 0 && said->responses >= 0 && (said->responses > 0 || said->rx == 0));
	must(spec->max_requests == 0 || said->requests <= spec->max_requests);
	must(spec->max_responses == 0 || said->responses <= spec->max_responses);
	must(spec->max_requests != 1 || said->responses == 0);
	must(said->responses > 0 || said->first_byte_ms < 0);
}

static void hear_ended(struct fuzzed *fuzzed, const struct said_ended *said)
{
	struct account *account = account_of(fuzzed, said->who.life);
	struct sums *sums = &fuzzed->sums[said->who.listening];

	sums->rx += said->rx;
	sums->tx += said->tx;
	sums->requests += said->requests;
	sums->responses += said->responses;
	if (said->who.listening >= OF_DATAGRAMS)
		check_session_end(fuzzed, said);
	else
		must(said->requests == 0 && said->responses == 0);

	must(account->arrived && !account->refused && !account->ended);
	account->ended = 1;
	if (said->row != NO_ROW)
		pay_back(account, (uint32_t)said->row);
	must(!account->holds && said->rx >= 0 && said->tx >= 0 && said->duration_ms >= 0);
}

static void hear_arrived(const struct who *who)
{
	int is_session = who->listening >= OF_DATAGRAMS;

	must(is_session == ((who->slot & SESSION_SLOT) != 0) && is_session == (who->fd == -1));
	must(!is_session || who->family == FAMILY_IPV4 || who->family == FAMILY_IPV6);
	must(!is_session || (who->port && who->local_port));
}

static void hear_dial_failed(const struct fuzzed *fuzzed, struct account *account, const struct said_dial_failed *said)
{
	const struct datagram_spec *spec = datagrams_of(fuzzed, said->who.listening);

	must(!said->lost || (spec->on && spec->tell_unreachable));
	must(said->error > 0);
	pay_back(account, said->row);
}

static void hear_glimpsed(const struct fuzzed *fuzzed, struct account *account, const struct said_glimpsed *said)
{
	must(account->holds && account->row == said->row && said->length <= GLIMPSE);
	must(++account->glimpses <= datagrams_of(fuzzed, said->who.listening)->glimpses);
}

static int is_of_flow(uint32_t kind)
{
	return kind <= SAYS_ENDED || kind == SAYS_GLIMPSED;
}

static void hear_record(struct fuzzed *fuzzed, const struct record *record)
{
	const struct who *who = (const struct who *)record->payload;
	struct account *account = is_of_flow(record->kind) ? account_of(fuzzed, who->life) : NULL;

	must(!account || (who->listening < LISTENINGS && fuzzed->listenings[who->listening] && !account->ended));
	switch (record->kind) {
	case SAYS_ARRIVED:
		must(!account->arrived);
		account->arrived = 1;
		hear_arrived(who);
		break;
	case SAYS_HEADED:
		must(account->arrived && ((const struct said_headed *)record->payload)->length <= FLOW_HEAD_MOST);
		break;
	case SAYS_DIAL_FAILED:
		hear_dial_failed(fuzzed, account, (const struct said_dial_failed *)record->payload);
		break;
	case SAYS_CONNECTED:
	case SAYS_FIRST_BYTE:
		must(account->holds && account->row == ((const struct said_reached *)record->payload)->row);
		break;
	case SAYS_ENDED:
		hear_ended(fuzzed, (const struct said_ended *)record->payload);
		break;
	case SAYS_GLIMPSED:
		hear_glimpsed(fuzzed, account, (const struct said_glimpsed *)record->payload);
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
static int some_descriptor(uint32_t listening, uint32_t which)
{
	if (listening >= OF_DATAGRAMS && listening < LISTENINGS) {
		if (which % 5 < WHERES)
			return world_datagrams(which % 5);
		which--; /* neither of the others */
	}
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
	fd = told->fd = some_descriptor(told->listening, told->fd);
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

static uint32_t line_length(const struct line *line, int answered)
{
	const struct session *before = NULL;
	uint32_t length = 0;

	for (const struct session *at = line->oldest; at; before = at, at = at->newer, length++) {
		must(at->older == before && (at->responses > 0) == answered);
		must(at->flow.state != FLOW_CLOSED && at->flow.state != FLOW_FREE);
	}
	must(line->newest == before);
	return length;
}

static void check_sessions(struct fuzzed *fuzzed, const struct share *share, uint32_t open)
{
	const struct sessions *sessions = share->sessions;
	const struct datagram_spec *spec = &share->listening->spec.datagrams;
	uint32_t keyed = 0;

	must(share->drops.queue >= 0 && share->drops.access >= 0 && share->drops.undecided >= 0 &&
	     share->drops.draining >= 0 && share->drops.send >= 0);
	must(share->listening->spec.access || share->drops.access == 0);
	if (!sessions) {
		must(open == 0);
		return;
	}
	must(sessions->open == open && open <= spec->max_sessions);
	must(line_length(&sessions->unanswered, 0) == sessions->strangers);
	must(sessions->strangers + line_length(&sessions->answered, 1) == open);
	for (uint32_t i = 0; i < sessions->capacity; i++) {
		const struct entry *entry = &sessions->entries[i];
		const struct session *session;

		if (!entry->slot)
			continue;
		session = slab_at(&fuzzed->thread.sessions, entry->slot - 1);
		must(session && session->keyed && !session->spent && session->hash == entry->hash);
		for (uint32_t at = entry->hash; (at & (sessions->capacity - 1)) != i; at++)
			must(sessions->entries[at & (sessions->capacity - 1)].slot != 0);
		keyed++;
	}
	must(sessions->keyed == keyed && (spec->max_requests != 1 || keyed == 0));
}

static void check_shares(struct fuzzed *fuzzed)
{
	for (uint32_t id = 0; id < LISTENINGS; id++) {
		const struct share *share = fuzzed->listenings[id] ? &fuzzed->listenings[id]->shares[0] : NULL;
		int count = 0, open = 0, owed = 0;

		for (struct flow *flow = share ? share->flows : NULL; flow; flow = flow->next) {
			must(flow->share == share && flow->state != FLOW_FREE && *flow->before == flow);
			count++;
			open += flow->state != FLOW_CLOSED;
			owed += flow->owed;
		}
		must(!share || (share->count == count && share->owed == owed));
		if (share && id >= OF_DATAGRAMS)
			check_sessions(fuzzed, share, open);
	}
}

static void each_owed(struct fuzzed *fuzzed, struct record *answer)
{
	struct told_flow *told = (struct told_flow *)answer->payload;

	for (uint32_t of_session = 0; of_session < 2; of_session++) {
		struct slab *slab = of_session ? &fuzzed->thread.sessions : &fuzzed->thread.connections;

		for (uint32_t slot = 0; slot < slab->slots; slot++) {
			struct flow *flow = slab_at(slab, slot);

			if (flow->state == FLOW_FREE || !flow->owed)
				continue;
			told->slot = slot | (of_session ? SESSION_SLOT : 0);
			told->life = 0;
			tell(fuzzed, answer);
		}
	}
}

/* Whatever is asked is answered in the same way. */
static void desk(struct fuzzed *fuzzed, uint32_t how, uint32_t port, uint32_t row)
{
	static const uint32_t kinds[] = { TOLD_DIAL, TOLD_DIAL, TOLD_WAIT, TOLD_LATER, TOLD_REFUSE };
	struct record *answer = calloc(1, sizeof(*answer) + sizeof(struct told_dial));
	struct told_dial *dial = (struct told_dial *)answer->payload;

	must(answer != NULL);
	answer->kind = kinds[how % 5];
	answer->bytes = sizeof(*answer) + sizeof(*dial);
	if (answer->kind == TOLD_DIAL)
		*dial = (struct told_dial){ .row = row % ROWS, .timeout_ms = 500, .ip = { 127, 0, 0, 1 },
					    .family = how % 5 ? FAMILY_IPV6 : FAMILY_IPV4, .port = port };
	else if (answer->kind == TOLD_WAIT)
		*(struct told_wait *)dial = (struct told_wait){ .at_least = 1, .at_most = 64, .ms = 500 };
	else if (answer->kind == TOLD_REFUSE)
		((struct told_refuse *)dial)->reason = 4;
	each_owed(fuzzed, answer);
	free(answer);
}

static struct burst burst_of(const struct record *record, uint32_t place)
{
	return (struct burst){ .times = byte(record, place) % (BURST + 1), .bytes = word(record, place + 1),
			       .segment = word(record, place + 3) };
}

static void step(struct fuzzed *fuzzed, const struct record *record)
{
	switch (record->kind) {
	case STEP_TURN:
		world_turn(word(record, 0));
		check_shares(fuzzed);
		break;
	case STEP_CLIENT:
		world_client(fuzzed->listeners[byte(record, 0) % LISTENINGS], byte(record, 1));
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
	case STEP_ASK:
		world_ask(byte(record, 0), burst_of(record, 1));
		break;
	case STEP_ANSWER:
		world_answer(burst_of(record, 0));
		break;
	case STEP_VANISH:
		world_vanish();
		break;
	case STEP_CALLS:
		world_fail_calls(byte(record, 0), byte(record, 1), byte(record, 2));
		break;
	case STEP_DESK:
		desk(fuzzed, byte(record, 0), byte(record, 1), byte(record, 2));
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

/* Two addresses of this machine are kept out. */
static struct access *some_access(void)
{
	static const uint32_t turns[] = { 0, INADDR_LOOPBACK + 2, INADDR_LOOPBACK + 4 };
	struct access *access = calloc(1, sizeof(*access));

	must(access != NULL);
	access->ipv4 = (struct turns){ .count = 3, .first_allows = 1, .words = malloc(sizeof(turns)) };
	must(access->ipv4.words != NULL);
	memcpy(access->ipv4.words, turns, sizeof(turns));
	return access;
}

/* The same of datagrams: sessions that last, by address and ended by what they count, fired and forgotten, and the last
 * with all of their own. */
static struct spec spec_of_datagrams(uint32_t id)
{
	static const struct datagram_spec kinds[] = {
		{ .on = 1, .max_sessions = 4, .tell_unreachable = 1, .glimpses = 2 },
		{ .on = 1, .by_ip = 1, .max_requests = 3, .max_responses = 2, .max_sessions = 64, .glimpses = 9 },
		{ .on = 1, .max_requests = 1, .max_sessions = 8 },
		{ .on = 1, .max_requests = 20, .max_responses = 30, .max_sessions = 2, .tell_unreachable = 1 },
	};
	struct spec spec = { .datagrams = kinds[id - OF_DATAGRAMS], .undecided_ms = id == 5 ? 0 : 3000,
			     .report = id % 2 };

	if (id != 5)
		spec.client_idle_ms = spec.backend_idle_ms = 1000 + 500 * (id % 2);
	if (id == 6) {
		spec.access = some_access();
		must(address_of_ip(&spec.source, FAMILY_IPV4, (const uint8_t *)"\x7f\0\0\2", 0) == 0);
	}
	return spec;
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
	struct spec spec = id < OF_DATAGRAMS ? spec_numbered(id) : spec_of_datagrams(id);
	struct listening *listening = plane_listening(&fuzzed->plane, &spec);
	struct told_listen where = { .listening = id, .bind = id, .shared = id % 2,
				     .fd = id < OF_DATAGRAMS ? id % 2 : id % OF_DATAGRAMS % WHERES };

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

/* All of them can be had again. */
static void check_vacant(struct slab *slab)
{
	uint32_t slots = slab->slots, slot;

	for (uint32_t i = 0; i < slots; i++)
		must(slab_take(slab, &slot) && slot < slots && slab->slots == slots);
}

/* Answers what is still owed and stops, as a server that is removed does. */
static void finish(struct fuzzed *fuzzed)
{
	for (int turns = 0; !settled(fuzzed); turns++) {
		must(turns < PATIENCE);
		world_turn(0);
		hear(fuzzed);
		desk(fuzzed, 4, 0, 0);
		for (uint32_t id = 0; id < LISTENINGS; id++) {
			struct told_close close = { .listening = id, .reason = 30 };

			told(fuzzed, TOLD_DRAIN, &close, sizeof(close));
			told(fuzzed, TOLD_STOP, &close, sizeof(close));
		}
	}
	for (uint32_t life = 1; life < fuzzed->lives; life++) {
		const struct account *account = &fuzzed->ledger[life];

		must(account->arrived == account->refused + account->ended && !account->holds);
	}
	must(fuzzed->thread.pipes.open == fuzzed->thread.pipes.kept);
	check_vacant(&fuzzed->thread.connections);
	check_vacant(&fuzzed->thread.sessions);
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
	free(fuzzed->ledger);
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

/* --- of datagrams ------------------------------------------------------------------------------------------- */

static void ask(struct seed *seed, uint8_t peer, uint8_t times, uint16_t bytes, uint16_t segment)
{
	const uint8_t payload[] = { peer, times, bytes >> 8, bytes, segment >> 8, segment };

	add(seed, STEP_ASK, payload, sizeof(payload));
	turn(seed);
}

static void answer(struct seed *seed, uint8_t times, uint16_t bytes, uint16_t segment)
{
	const uint8_t payload[] = { times, bytes >> 8, bytes, segment >> 8, segment };

	add(seed, STEP_ANSWER, payload, sizeof(payload));
	turn(seed);
}

/* The desk dials for all who ask. */
static void decide(struct seed *seed, uint8_t how, uint8_t port)
{
	add_step(seed, STEP_DESK, how, port, 3);
	turn(seed);
}

static void meet(struct seed *seed, uint8_t listening, uint8_t from)
{
	add_step(seed, STEP_CLIENT, listening, from, 0);
}

static void seed_session(struct seed *seed)
{
	meet(seed, 4, 0);
	ask(seed, 0, 2, 100, 0);
	decide(seed, 0, 0);
	answer(seed, 1, 100, 0);
	ask(seed, 0, 1, 0, 0);
	ask(seed, 0, 1, 65507, 0);
	answer(seed, 2, 0, 0);
	answer(seed, 1, 65507, 0);
	add_step(seed, STEP_READ, 0, 0, 0);
	add_step(seed, STEP_TURN, 8, 0, 0);
	close_listening(seed, 4);
}

/* More wait than are kept, the first one is shown, and nobody is where they go at first. */
static void seed_moves(struct seed *seed)
{
	meet(seed, 4, 1);
	ask(seed, 0, 12, 100, 0);
	decide(seed, 2, 0);
	decide(seed, 0, 2);
	turn(seed);
	decide(seed, 0, 1);
	answer(seed, 1, 200, 0);
	add(seed, STEP_VANISH, NULL, 0);
	ask(seed, 0, 1, 100, 0);
	ask(seed, 0, 1, 100, 0);
	decide(seed, 1, 3);
	decide(seed, 0, 4);
	add(seed, STEP_VANISH, NULL, 0);
	ask(seed, 0, 1, 100, 0);
}

static void seed_by_ip(struct seed *seed)
{
	for (uint8_t client = 0; client < 4; client++)
		meet(seed, 5, client % 3 ? 2 : 9);
	for (uint8_t client = 0; client < 4; client++)
		ask(seed, client, 2, 50, 0);
	decide(seed, 0, 2);
	for (uint8_t client = 0; client < 4; client++)
		ask(seed, client, 1, 50, 0);
	decide(seed, 0, 0);
	answer(seed, 3, 30, 0);
	close_listening(seed, 5);
}

static void seed_shots(struct seed *seed)
{
	for (uint8_t client = 0; client < 4; client++)
		meet(seed, 6, client);
	for (uint8_t client = 0; client < 4; client++)
		ask(seed, client, 3, 20, 0);
	for (uint8_t port = 0; port < 5; port++) {
		decide(seed, port % 2, port);
		ask(seed, 0, 9, 20, 8);
	}
	decide(seed, 0, 0);
	answer(seed, 1, 20, 0);
	close_listening(seed, 6);
}

static void seed_evicts(struct seed *seed)
{
	for (uint8_t client = 0; client < 6; client++)
		meet(seed, 4, client);
	for (uint8_t client = 0; client < 6; client++) {
		ask(seed, client, 1, 60, 0);
		if (client % 3 == 1)
			decide(seed, 0, 0);
		if (client == 1)
			answer(seed, 1, 60, 0);
	}
	decide(seed, 3, 0);
	decide(seed, 4, 0);
}

/* So many answers that the kernel is asked to put them together, and it does: more at once than there may be. */
static void seed_most(struct seed *seed)
{
	meet(seed, 7, 0);
	ask(seed, 0, 1, 10, 0);
	decide(seed, 0, 0);
	for (int i = 0; i < 4; i++) {
		answer(seed, i < 2 ? 9 : 1, i < 2 ? 40 : 950, 100);
		ask(seed, 0, 1, 10, 0);
	}
}

static void seed_segments(struct seed *seed)
{
	meet(seed, 7, 0);
	meet(seed, 7, 0x80);
	meet(seed, 4, 0);
	for (uint8_t client = 0; client < 3; client++)
		ask(seed, client, 1, 900, 100);
	decide(seed, 0, 0);
	for (int i = 0; i < 3; i++) {
		answer(seed, 9, 40, 0);
		ask(seed, 2, 1, 900, 100);
		answer(seed, 1, 950, 100);
	}
	add_step(seed, STEP_CALLS, 0, 2, 4);
	ask(seed, 2, 1, 900, 100);
	answer(seed, 1, 950, 100);
	add(seed, ENDS_ABRUPTLY, NULL, 0);
}

static void seed_calls(struct seed *seed)
{
	meet(seed, 5, 8);
	meet(seed, 4, 3);
	for (uint8_t error = 0; error < 8; error++) {
		ask(seed, error % 2, 1, 10, 0);
		add_step(seed, STEP_CALLS, error, 1, error);
		decide(seed, 0, 0);
		answer(seed, 2, 10, 0);
	}
	add_step(seed, STEP_FILL, 0, 64, 0);
	meet(seed, 4, 4);
	ask(seed, 2, 1, 10, 0);
	add_step(seed, STEP_MEMORY, 0, 0, 0);
	ask(seed, 2, 1, 10, 0);
	add(seed, STEP_EPOLL, NULL, 0);
	turn(seed);
}

/* Memory lacks for the first of all sessions, then for the first of a listening's. */
static void seed_strangers(struct seed *seed)
{
	meet(seed, 4, 0);
	meet(seed, 5, 0);
	for (uint8_t count = 0; count < 4; count++) {
		add_step(seed, STEP_MEMORY, count % 3, 0, 0);
		ask(seed, count / 3, 1, 10, 0);
	}
	decide(seed, 0, 0);
	close_listening(seed, 5);
}

/* Dropped, and told to close in the turn in which more comes. */
static void seed_ends(struct seed *seed)
{
	struct told_drop told = { .listening = 7, .row = 3, .reason = 30 };

	meet(seed, 7, 0);
	meet(seed, 7, 1);
	ask(seed, 0, 1, 10, 0);
	ask(seed, 1, 1, 10, 0);
	decide(seed, 0, 0);
	add(seed, TOLD_DROP, &told, sizeof(told));
	answer(seed, 1, 10, 0);
	ask(seed, 0, 1, 10, 0);
	decide(seed, 0, 0);
	answer(seed, 1, 10, 0);
	for (uint8_t kind = STEP_DRAIN; kind <= STEP_STOP; kind++) {
		const uint8_t burst[] = { 1, 0, 10, 0, 0 };

		ask(seed, 0, 1, 10, 0);
		add(seed, STEP_ANSWER, burst, sizeof(burst));
		add_step(seed, kind, 7, 0, 0);
		ask(seed, 0, 1, 10, 0);
		add(seed, STEP_HEAR, NULL, 0);
	}
}

static size_t seed(uint32_t number, uint8_t *bytes, size_t most)
{
	static void (*const seeds[])(struct seed *) = { seed_relay, seed_plenty, seed_wait, seed_refused,
							seed_drop, seed_listen, seed_trouble, seed_failures,
							seed_session, seed_moves, seed_by_ip, seed_shots,
							seed_evicts, seed_most, seed_segments, seed_calls,
							seed_strangers, seed_ends };
	static const uint8_t large[] = { 4, 0, 0 }; /* a ring, see fuzz_ring.c */
	struct seed seed = { bytes + sizeof(large), most - sizeof(large) };

	if (number >= sizeof(seeds) / sizeof(*seeds))
		return 0;
	memcpy(bytes, large, sizeof(large));
	seeds[number](&seed);
	return most - seed.left;
}

const struct target target = { "commands", begin, obey, end, seed };
