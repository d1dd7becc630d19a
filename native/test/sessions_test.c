/* What sessions.h promises, beside a naive list of who is whose. */
#include "../src/session.h"
#include "../src/thread.h"
#include "tap.h"

#include <stddef.h>
#include <string.h>

enum {
	CLIENTS = 300,
	PLACES = 500, /* sessions, those nobody finds any more among them */
	STEPS = 1000000,
	LOOKS_EVERY = 64,
	CROWD = 65536,
};

/* How the model's clients are hashed: as they are, into few places, into one, or around the end of the table. */
enum hashing { HONEST, FEW, ONE, LAST, HASHINGS };

struct item {
	struct session *session; /* NULL is nobody */
	uint32_t client;
	int keyed, answered;
	uint64_t heard; /* greater is later */
};

static struct thread thread;
static struct sessions *sessions;
static struct caller callers[CLIENTS];
static uint32_t hashes[CLIENTS];
static struct item items[PLACES]; /* the model */
static int by_ip, no_memory;
static uint64_t clock_of_hearing;

void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);

void *__wrap_calloc(size_t count, size_t bytes)
{
	return no_memory ? NULL : __real_calloc(count, bytes);
}

static void begin(void)
{
	no_memory = 0;
	memset(&thread, 0, sizeof(thread));
	memset(items, 0, sizeof(items));
	thread.sessions.size = sizeof(struct session);
	sessions = sessions_new();
	check(sessions);
	sessions->secret = tap_seed(); /* the same chances again */
}

static void end(void)
{
	sessions_free(sessions);
	slab_free(&thread.sessions);
}

/* --- clients ------------------------------------------------------------------------------------------------ */

/* Neighbours in everything that makes a client: each differs from others by one thing only. */
static struct caller caller_numbered(uint32_t number)
{
	uint32_t what = number % 6, which = number / 6 + 1;
	struct caller caller = { .ip = { 192, 0, 2, 1 }, .local_ip = { 127, 0, 0, 1 }, .family = FAMILY_IPV4,
				 .port = 4000 };

	if (what == 0)
		caller.port += which;
	else if (what == 1)
		memcpy(caller.ip, &which, sizeof(which));
	else if (what == 2)
		memcpy(caller.local_ip, &which, sizeof(which));
	else if (what == 3)
		caller.bind = which;
	else
		caller.family = FAMILY_IPV6;
	if (what == 4)
		memcpy(caller.ip + 12, &which, sizeof(which));
	else if (what == 5)
		memcpy(caller.local_ip + 12, &which, sizeof(which));
	return caller;
}

/* With sessions by address some of the ports are the same client. */
static int is_same(uint32_t left, uint32_t right)
{
	struct caller one = callers[left], other = callers[right];

	if (by_ip)
		one.port = other.port;
	return memcmp(&one, &other, sizeof(one)) == 0;
}

static uint32_t hash_of(uint32_t client, enum hashing hashing)
{
	uint32_t hash = sessions_hash(sessions, &callers[client], by_ip);

	switch (hashing) {
	case FEW:
		return hash % 7 << 4;
	case ONE:
		return 1;
	case LAST:
		return UINT32_MAX - hash % 5;
	default:
		return hash;
	}
}

static void meet(enum hashing hashing)
{
	for (uint32_t i = 0; i < CLIENTS; i++) {
		callers[i] = caller_numbered(i);
		hashes[i] = hash_of(i, hashing);
	}
}

/* --- the model ---------------------------------------------------------------------------------------------- */

static struct item *whose(uint32_t client)
{
	for (int i = 0; i < PLACES; i++)
		if (items[i].session && items[i].keyed && is_same(items[i].client, client))
			return &items[i];
	return NULL;
}

static struct item *free_item(void)
{
	for (int i = 0; i < PLACES; i++)
		if (!items[i].session)
			return &items[i];
	return NULL;
}

/* Never answered first, then who was heard of least recently. */
/* Of those that have had an answer, or of the others. */
static struct item *model_oldest_of(int answered, uint32_t *count)
{
	struct item *oldest = NULL;

	*count = 0;
	for (int i = 0; i < PLACES; i++) {
		struct item *item = &items[i];

		if (!item->session || item->answered != answered)
			continue;
		++*count;
		if (!oldest || item->heard < oldest->heard)
			oldest = item;
	}
	return oldest;
}

static struct item *model_oldest(uint32_t most)
{
	uint32_t strangers, others;
	struct item *stranger = model_oldest_of(0, &strangers), *answered = model_oldest_of(1, &others);

	if (!stranger || !answered)
		return stranger ? stranger : answered;
	return strangers >= (most + 7) / 8 ? stranger : answered;
}

static struct session *find(uint32_t client)
{
	struct caller caller = callers[client];

	/* How the kernel has it does not matter. */
	caller.interface = anything();
	caller.from.sin6_port = (uint16_t)anything();
	return sessions_find(&thread, sessions, &caller, hashes[client], by_ip);
}

static struct session *made(const struct caller *caller, uint32_t hash)
{
	uint32_t slot;
	struct session *session = slab_take(&thread.sessions, &slot);

	check(session);
	*session = (struct session){ .hash = hash };
	session->flow.who = (struct who){ .slot = SESSION_SLOT | slot, .bind = caller->bind,
					  .family = caller->family, .port = caller->port };
	memcpy(session->flow.who.ip, caller->ip, sizeof(caller->ip));
	memcpy(session->flow.who.local_ip, caller->local_ip, sizeof(caller->local_ip));
	return session;
}

static void give(struct session *session)
{
	slab_give(&thread.sessions, session, session->flow.who.slot & ~SESSION_SLOT);
}

static void add(struct item *item, uint32_t client, int keyed)
{
	struct session *session = made(&callers[client], hashes[client]);

	check(sessions_add(sessions, session, keyed) == 0);
	*item = (struct item){ session, client, keyed, 0, ++clock_of_hearing };
}

static void answer(struct item *item)
{
	if (item->session->responses++ == 0) {
		sessions_answered(sessions, item->session);
		item->answered = 1;
	} else {
		sessions_touch(sessions, item->session);
	}
	item->heard = ++clock_of_hearing;
}

static void drop(struct item *item)
{
	sessions_remove(sessions, item->session);
	give(item->session);
	item->session = NULL;
}

/* --- what is looked at -------------------------------------------------------------------------------------- */

static uint32_t line_length(const struct line *line, int answered)
{
	const struct session *before = NULL;
	uint32_t length = 0;

	for (const struct session *at = line->oldest; at; before = at, at = at->newer, length++)
		check(at->older == before && (at->responses > 0) == answered);
	check(line->newest == before);
	return length;
}

/* Every entry is found from its home on, and is somebody's. */
static void check_entries(void)
{
	uint32_t mask = sessions->capacity - 1, taken = 0;

	check((sessions->capacity & mask) == 0 && 2 * sessions->keyed <= sessions->capacity);
	for (uint32_t i = 0; i < sessions->capacity; i++) {
		const struct entry *entry = &sessions->entries[i];
		const struct session *session;

		if (!entry->slot)
			continue;
		session = slab_at(&thread.sessions, entry->slot - 1);
		check(session && session->keyed && session->hash == entry->hash);
		for (uint32_t at = entry->hash & mask; at != i; at = (at + 1) & mask)
			check(sessions->entries[at].slot != 0 && sessions->entries[at].slot != entry->slot);
		taken++;
	}
	check(taken == sessions->keyed);
}

static void check_all(void)
{
	uint32_t open = 0, keyed = 0;

	for (int i = 0; i < PLACES; i++)
		if (items[i].session) {
			open++;
			keyed += items[i].keyed;
			check(!items[i].keyed || find(items[i].client) == items[i].session);
		}
	check(sessions->open == open && sessions->keyed == keyed);
	check(line_length(&sessions->unanswered, 0) + line_length(&sessions->answered, 1) == open);
	check_entries();
}

/* --- behaviours --------------------------------------------------------------------------------------------- */

/* A client comes: its session is found, and heard of; a stranger has one from now on, whom others may not find. */
static void come(uint32_t client)
{
	struct item *item = whose(client), *empty = free_item();

	check(find(client) == (item ? item->session : NULL));
	if (item) {
		sessions_touch(sessions, item->session);
		item->heard = ++clock_of_hearing;
	} else if (empty) {
		add(empty, client, chance(8) != 0);
	}
}

static void evict(void)
{
	uint32_t most = chance(2 * PLACES);
	struct item *oldest = model_oldest(most);

	check(sessions_oldest(sessions, most) == (oldest ? oldest->session : NULL));
	if (oldest)
		drop(oldest);
}

static void happen(void)
{
	struct item *item = &items[chance(PLACES)];

	switch (chance(8)) {
	case 0:
	case 1:
	case 2:
		come(chance(CLIENTS));
		break;
	case 3:
		if (item->session)
			answer(item);
		break;
	case 4:
		if (item->session) {
			sessions_detach(sessions, item->session);
			item->keyed = 0;
		}
		break;
	case 5:
		if (chance(4) == 0)
			evict();
		break;
	default:
		if (item->session && chance(2))
			drop(item);
	}
}

static void live(enum hashing hashing, int steps)
{
	begin();
	meet(hashing);
	for (int i = 0; i < steps; i++) {
		happen();
		if (i % LOOKS_EVERY == 0)
			check_all();
	}
	check_all();
	for (struct item *oldest; (oldest = model_oldest(PLACES));) {
		check(sessions_oldest(sessions, PLACES) == oldest->session);
		drop(oldest);
	}
	check(sessions->open == 0 && sessions->keyed == 0 && sessions_oldest(sessions, PLACES) == NULL);
	check_entries();
	end();
}

static void a_model_agrees(void)
{
	for (by_ip = 0; by_ip < 2; by_ip++)
		live(HONEST, STEPS / 2);
}

static void a_model_agrees_where_hashes_meet(void)
{
	by_ip = 0;
	for (enum hashing hashing = FEW; hashing < HASHINGS; hashing++)
		live(hashing, STEPS / 10);
}

/* Every two clients are two, whatever it is they differ in. */
static void clients_are_told_apart(void)
{
	by_ip = 0;
	begin();
	meet(ONE);
	for (uint32_t client = 0; client < CLIENTS; client++) {
		check(find(client) == NULL);
		add(&items[client], client, 1);
	}
	check_all();
	end();
}

static void ports_of_an_address_are_one(void)
{
	by_ip = 1;
	begin();
	meet(HONEST);
	add(&items[0], 0, 1);
	for (uint32_t client = 0; client < CLIENTS; client++) {
		check(is_same(0, client) == (hashes[0] == hashes[client]));
		check(find(client) == (is_same(0, client) ? items[0].session : NULL));
	}
	end();
}

static void nobody_before_the_first(void)
{
	by_ip = 0;
	begin();
	meet(HONEST);
	check(find(0) == NULL && sessions_oldest(sessions, PLACES) == NULL && sessions->capacity == 0);
	add(&items[0], 0, 0);
	check(find(0) == NULL && sessions_oldest(sessions, PLACES) == items[0].session && sessions->capacity == 0);
	sessions_detach(sessions, items[0].session);
	drop(&items[0]);
	check(sessions->open == 0 && sessions_oldest(sessions, PLACES) == NULL);
	end();
}

static void evicted_in_order(void)
{
	struct session *order[6];

	by_ip = 0;
	begin();
	meet(HONEST);
	for (int i = 0; i < 6; i++) {
		add(&items[i], i, 1);
		order[i] = items[i].session;
	}
	answer(&items[1]); /* 0 2 3 4 5, then 1 */
	answer(&items[0]); /* 2 3 4 5, then 1 0 */
	sessions_touch(sessions, order[2]);
	sessions_touch(sessions, order[1]);
	sessions_touch(sessions, order[1]);
	for (int i = 0; i < 6; i++) {
		/* The eighth of six is one, who comes. */
		static const int expected[] = { 3, 4, 5, 2, 0, 1 };

		check(sessions_oldest(sessions, 6) == order[expected[i]]);
		drop(&items[expected[i]]);
	}
	end();
}

/* Nothing is done when the table cannot grow, and it grows later. */
static void without_memory(void)
{
	struct session *refused;

	by_ip = 0;
	begin();
	meet(HONEST);
	no_memory = 1;
	check(sessions_new() == NULL);
	no_memory = 0;
	refused = made(&callers[CLIENTS - 1], hashes[CLIENTS - 1]);
	for (uint32_t client = 0; client < CLIENTS - 1; client++) {
		int is_full = 2 * (sessions->keyed + 1) > sessions->capacity;

		no_memory = 1;
		if (is_full) {
			check(sessions_add(sessions, refused, 1) < 0 && !refused->keyed);
			check(find(CLIENTS - 1) == NULL && sessions->open == client);
			check_all();
		}
		no_memory = 0;
		add(&items[client], client, 1);
	}
	check_all();
	end();
}

/* --- a crowd ------------------------------------------------------------------------------------------------ */

static struct session *crowd[CROWD];

/* The clients of a network behind one address, or a network each of whose addresses comes once. */
static struct caller of_crowd(uint32_t number, int of_ports)
{
	struct caller caller = { .family = FAMILY_IPV4, .ip = { 10 }, .local_ip = { 10, 0, 0, 1 }, .port = 5000 };

	if (of_ports) {
		caller.port = number;
	} else {
		caller.ip[1] = number >> 16;
		caller.ip[2] = number >> 8;
		caller.ip[3] = number;
	}
	return caller;
}

/* How far from their homes entries are: in all, and the farthest. */
static uint64_t displaced(uint32_t *farthest)
{
	uint32_t mask = sessions->capacity - 1;
	uint64_t sum = 0;

	*farthest = 0;
	for (uint32_t i = 0; i < sessions->capacity; i++)
		if (sessions->entries[i].slot) {
			uint32_t far = (i - sessions->entries[i].hash) & mask;

			sum += far;
			*farthest = far > *farthest ? far : *farthest;
		}
	return sum;
}

static void gather(int of_ports)
{
	uint32_t farthest;

	for (uint32_t i = 0; i < CROWD; i++) {
		struct caller caller = of_crowd(i, of_ports);
		uint32_t hash = sessions_hash(sessions, &caller, 0);

		check(sessions_find(&thread, sessions, &caller, hash, 0) == NULL);
		crowd[i] = made(&caller, hash);
		check(sessions_add(sessions, crowd[i], 1) == 0);
		/* What a search costs does not depend on how many they are: half an entry beyond the home, where chance
		 * is even (Knuth, volume 3, 6.4, theorem K). */
		if ((i & (i + 1)) == 0 && i > 1000)
			check(displaced(&farthest) < i && farthest < 100);
	}
	check(sessions->keyed == CROWD && sessions->capacity == 2 * CROWD);
}

static void scatter(int of_ports)
{
	uint32_t left = CROWD;

	for (uint32_t i = 0; i < CROWD; i++) {
		uint32_t leaver = (i * 40503u + 7) % CROWD; /* every one of them */
		struct caller caller = of_crowd(leaver, of_ports);
		struct caller another = of_crowd(chance(CROWD), of_ports);
		struct session *found;

		check(sessions_find(&thread, sessions, &caller, crowd[leaver]->hash, 0) == crowd[leaver]);
		sessions_remove(sessions, crowd[leaver]);
		check(sessions_find(&thread, sessions, &caller, crowd[leaver]->hash, 0) == NULL);
		give(crowd[leaver]);
		crowd[leaver] = NULL;
		found = sessions_find(&thread, sessions, &another, sessions_hash(sessions, &another, 0), 0);
		check(found == crowd[of_ports ? another.port : another.ip[2] << 8 | another.ip[3]]);
		check(sessions->keyed == --left);
		if (i % (CROWD / 8) == 0)
			check_entries();
	}
}

static void a_crowd(void)
{
	begin();
	for (int of_ports = 0; of_ports < 2; of_ports++) {
		gather(of_ports);
		check_entries();
		scatter(of_ports);
	}
	/* Once it has grown it stays; nobody's place is taken. */
	check(sessions->capacity == 2 * CROWD && sessions->keyed == 0 && sessions->open == 0);
	end();
}

/* Who chooses clients to meet in one table does not know those that meet in another. */
static void a_secret(void)
{
	struct sessions *other;
	uint32_t same = 0;

	begin();
	other = sessions_new();
	check(other);
	other->secret = ~sessions->secret;
	for (uint32_t i = 0; i < CROWD; i++) {
		struct caller caller = of_crowd(i, 0);

		same += (sessions_hash(sessions, &caller, 0) ^ sessions_hash(other, &caller, 0)) % 4096 == 0;
	}
	check(same < CROWD / 1024);
	sessions_free(other);
	end();
}

int main(void)
{
	static const struct behaviour behaviours[] = {
		{ "nobody is found before the first", nobody_before_the_first },
		{ "clients that differ in one thing are told apart", clients_are_told_apart },
		{ "by address, all ports are one client", ports_of_an_address_are_one },
		{ "the unanswered are evicted first, but for an eighth, then who was not heard of for longest", evicted_in_order },
		{ "random sessions agree with a model", a_model_agrees },
		{ "they do where hashes meet", a_model_agrees_where_hashes_meet },
		{ "nothing is done without memory", without_memory },
		{ "65,536 are found at the cost of a thousand, and leave in any order", a_crowd },
		{ "another secret is another order", a_secret },
	};

	return TAP_RUN(behaviours);
}
