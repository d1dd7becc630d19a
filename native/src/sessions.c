#include "sessions.h"

#include "session.h"
#include "thread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { LEAST_CAPACITY = 64 };

struct sessions *sessions_new(void)
{
	struct sessions *sessions = calloc(1, sizeof(*sessions));

	if (!sessions)
		return NULL;
	sessions->shots[0] = sessions->shots[1] = -1;
	/* Without randomness so early in a boot it is only easier to slow us down. */
	if (getrandom(&sessions->secret, sizeof(sessions->secret), GRND_NONBLOCK) < 0)
		sessions->secret = (uintptr_t)sessions;
	return sessions;
}

void sessions_free(struct sessions *sessions)
{
	if (!sessions)
		return;
	for (int i = 0; i < 2; i++)
		if (sessions->shots[i] >= 0)
			close(sessions->shots[i]);
	free(sessions->entries);
	free(sessions);
}

/* --- finding ------------------------------------------------------------------------------------------------ */

static uint64_t mix(uint64_t hash, uint64_t word)
{
	unsigned __int128 product = (unsigned __int128)(hash ^ word) * 0x9e3779b97f4a7c15u;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t word_at(const uint8_t *bytes)
{
	uint64_t word;

	memcpy(&word, bytes, sizeof(word));
	return word;
}

uint32_t sessions_hash(const struct sessions *sessions, const struct caller *caller, int by_ip)
{
	uint64_t hash = mix(sessions->secret, word_at(caller->ip));

	hash = mix(hash, (uint64_t)caller->bind << 16 | (by_ip ? 0 : caller->port));
	hash = mix(hash, word_at(caller->local_ip));
	if (caller->family == FAMILY_IPV6) {
		hash = mix(hash, word_at(caller->ip + 8));
		hash = mix(hash, word_at(caller->local_ip + 8));
	}
	return (uint32_t)hash;
}

static struct session *session_at(const struct thread *thread, uint32_t slot)
{
	return slab_at(&thread->sessions, slot);
}

static int is_of(const struct session *session, const struct caller *caller, int by_ip)
{
	const struct who *who = &session->flow.who;

	return who->bind == caller->bind && who->family == caller->family && (by_ip || who->port == caller->port) &&
	       memcmp(who->ip, caller->ip, sizeof(who->ip)) == 0 &&
	       memcmp(who->local_ip, caller->local_ip, sizeof(who->local_ip)) == 0;
}

struct session *sessions_find(struct thread *thread, const struct sessions *sessions, const struct caller *caller,
			      uint32_t hash, int by_ip)
{
	uint32_t mask = sessions->capacity - 1;

	if (sessions->capacity == 0)
		return NULL;
	for (uint32_t at = hash & mask; sessions->entries[at].slot; at = (at + 1) & mask)
		if (sessions->entries[at].hash == hash) {
			struct session *session = session_at(thread, sessions->entries[at].slot - 1);

			if (is_of(session, caller, by_ip))
				return session;
		}
	return NULL;
}

static void insert(struct entry *entries, uint32_t mask, struct entry entry)
{
	uint32_t at = entry.hash & mask;

	while (entries[at].slot)
		at = (at + 1) & mask;
	entries[at] = entry;
}

static int grow(struct sessions *sessions)
{
	uint32_t capacity = sessions->capacity ? 2 * sessions->capacity : LEAST_CAPACITY;
	struct entry *entries = calloc(capacity, sizeof(*entries));

	if (!entries)
		return -ENOMEM;
	for (uint32_t i = 0; i < sessions->capacity; i++)
		if (sessions->entries[i].slot)
			insert(entries, capacity - 1, sessions->entries[i]);
	free(sessions->entries);
	sessions->entries = entries;
	sessions->capacity = capacity;
	return 0;
}

/* Takes an entry out and moves those behind it up, so that no search ends too soon (Knuth, volume 3, 6.4, R). */
static void take_out(struct sessions *sessions, uint32_t hole)
{
	uint32_t mask = sessions->capacity - 1, at = hole;

	for (;;) {
		uint32_t home;

		at = (at + 1) & mask;
		if (!sessions->entries[at].slot)
			break;
		home = sessions->entries[at].hash & mask;
		if (((at - home) & mask) < ((at - hole) & mask))
			continue;
		sessions->entries[hole] = sessions->entries[at];
		hole = at;
	}
	sessions->entries[hole].slot = 0;
}

/* --- lists -------------------------------------------------------------------------------------------------- */

static struct line *line_of(struct sessions *sessions, const struct session *session)
{
	return session->responses > 0 ? &sessions->answered : &sessions->unanswered;
}

static void append(struct line *line, struct session *session)
{
	session->older = line->newest;
	session->newer = NULL;
	*(line->newest ? &line->newest->newer : &line->oldest) = session;
	line->newest = session;
}

static void leave(struct line *line, struct session *session)
{
	*(session->older ? &session->older->newer : &line->oldest) = session->newer;
	*(session->newer ? &session->newer->older : &line->newest) = session->older;
}

void sessions_touch(struct sessions *sessions, struct session *session)
{
	struct line *line = line_of(sessions, session);

	if (line->newest == session)
		return;
	leave(line, session);
	append(line, session);
}

void sessions_answered(struct sessions *sessions, struct session *session)
{
	leave(&sessions->unanswered, session);
	append(&sessions->answered, session);
	sessions->strangers--;
}

struct session *sessions_oldest(const struct sessions *sessions, uint32_t most)
{
	struct session *stranger = sessions->unanswered.oldest, *answered = sessions->answered.oldest;

	/* Who comes will be one more. */
	return stranger && (!answered || sessions->strangers >= most / 8 + (most % 8 > 0)) ? stranger : answered;
}

/* --- coming and going --------------------------------------------------------------------------------------- */

int sessions_add(struct sessions *sessions, struct session *session, int keyed)
{
	if (keyed && 2 * (sessions->keyed + 1) > sessions->capacity && grow(sessions) < 0)
		return -ENOMEM;
	if (keyed) {
		struct entry entry = { session->hash, (session->flow.who.slot & ~SESSION_SLOT) + 1 };

		insert(sessions->entries, sessions->capacity - 1, entry);
		sessions->keyed++;
		session->keyed = 1;
	}
	sessions->open++;
	sessions->strangers++;
	append(&sessions->unanswered, session);
	return 0;
}

void sessions_detach(struct sessions *sessions, struct session *session)
{
	uint32_t mask = sessions->capacity - 1, slot = (session->flow.who.slot & ~SESSION_SLOT) + 1;
	uint32_t at = session->hash & mask;

	if (!session->keyed)
		return;
	while (sessions->entries[at].slot != slot)
		at = (at + 1) & mask;
	take_out(sessions, at);
	sessions->keyed--;
	session->keyed = 0;
}

void sessions_remove(struct sessions *sessions, struct session *session)
{
	sessions_detach(sessions, session);
	leave(line_of(sessions, session), session);
	sessions->open--;
	sessions->strangers -= session->responses == 0;
}
