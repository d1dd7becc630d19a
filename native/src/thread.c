#include "thread.h"

#include "crash.h"
#include "obey.h"
#include "plane.h"
#include "records.h"
#include "relay.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
	TIMERS = 256,       /* a turn asks so many */
	GOING_ON = 256,     /* and lets so many go on */
	AGAIN_MS = 5,       /* a full ring and paused listeners are looked at so often, */
	ANEW_MS = 100,      /* and a loop that cannot begin */
	EVENTS_A_TICK = 4,  /* after so many the time is asked for again */
	LONG_NS = 500000,   /* a turn that lasts longer is looked up from */
	UNHEARD_NS = 1000000, /* how long what is not urgent waits for company, */
	URGENT_NS = 250000,   /* and what is, while there is more to do */
	PIPES_MS = 1000,      /* pipes nobody has used for so long are closed */
	WAKE_KEY = 0,
};

static int64_t clock_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ll + time.tv_nsec;
}

void thread_tick(struct thread *thread)
{
	thread->now = clock_now();
}

/* --- watching ----------------------------------------------------------------------------------------------- */

int thread_watch(struct thread *thread, int op, int fd, uint32_t events, uint32_t key, uint32_t life)
{
	struct epoll_event event = { .events = events, .data.u64 = (uint64_t)life << 32 | key };

	return epoll_ctl(thread->epoll, op, fd, &event) < 0 ? -errno : 0;
}

static int open_epoll(struct thread *thread)
{
	int error;

	thread->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (thread->epoll < 0)
		return -errno;
	error = thread_watch(thread, EPOLL_CTL_ADD, thread->wake, EPOLLIN, WAKE_KEY, 0);
	if (error) {
		close(thread->epoll);
		thread->epoll = -1;
	}
	return error;
}

/* --- flows -------------------------------------------------------------------------------------------------- */

struct flow *thread_flow(struct thread *thread, uint32_t slot, uint32_t life)
{
	struct flow *flow = slot & SESSION_SLOT ? slab_at(&thread->sessions, slot & ~SESSION_SLOT)
						: slab_at(&thread->connections, slot);

	return flow && flow->state != FLOW_FREE && flow->who.life == life ? flow : NULL;
}

void thread_ready(struct thread *thread, struct flow *flow)
{
	if (flow->ready)
		return;
	flow->ready = 1;
	flow->next_ready = NULL;
	*thread->ready_end = flow;
	thread->ready_end = &flow->next_ready;
}

void thread_unsaid(struct thread *thread, struct flow *flow)
{
	if (flow->queued)
		return;
	flow->queued = 1;
	flow->next_unsaid = NULL;
	*thread->unsaid_end = flow;
	thread->unsaid_end = &flow->next_unsaid;
}

/* --- saying ------------------------------------------------------------------------------------------------- */

int thread_can_say(struct thread *thread, uint32_t bytes)
{
	/* A filler may go before it. */
	return ring_used(&thread->up) + 2 * (bytes + sizeof(struct record) + 8) <= thread->up.size;
}

void *thread_say(struct thread *thread, uint32_t kind, uint32_t bytes, int urgent)
{
	struct record *record = ring_reserve(&thread->up, kind, bytes);

	if (!record)
		return NULL;
	thread->urgent |= urgent;
	if (thread->unheard_at == 0)
		thread->unheard_at = thread->now;
	return record->payload;
}

static void say_unsaid(struct thread *thread)
{
	while (thread->unsaid) {
		struct flow *flow = thread->unsaid;
		struct flow *next = flow->next_unsaid;

		/* A flow whose end has been said is forgotten by it. */
		flow->queued = 0;
		if (!flow_say(thread, flow)) {
			flow->queued = 1;
			thread->urgent = 1; /* TypeScript has to read before there is room. */
			return;
		}
		thread->unsaid = next;
		if (!next)
			thread->unsaid_end = &thread->unsaid;
	}
}

/* Has TypeScript hear what was said. */
static void call(struct thread *thread)
{
	ring_publish(&thread->up);
	thread->urgent = 0;
	thread->unheard_at = 0;
	plane_signal(thread->plane);
}

static void tell(struct thread *thread)
{
	say_unsaid(thread);
	if (thread->undone)
		shares_done(thread);
	if (thread->unheard_at == 0)
		return;
	/* TypeScript may be awake for another reason, and hears it then. */
	ring_publish(&thread->up);
	if (thread->now - thread->unheard_at >= (thread->urgent ? URGENT_NS : UNHEARD_NS))
		call(thread);
}

void thread_trouble(struct thread *thread, uint32_t what, int error, const struct listener *listener)
{
	struct said_trouble *said = thread_say(thread, SAYS_TROUBLE, sizeof(*said), 1);

	if (!said)
		return;
	*said = (struct said_trouble){ .what = what, .error = error };
	if (listener) {
		said->listening = listener->share->listening->id;
		said->bind = listener->bind;
	}
}

/* Does all that has been told. A ring that cannot be what TypeScript wrote is a bug, and nobody knows what was said. */
static void obey(struct thread *thread)
{
	const struct record *record;
	int next;

	if (!ring_waiting(&thread->down))
		return;
	while ((next = ring_next(&thread->down, &record)) > 0)
		obey_record(thread, record);
	ring_release(&thread->down);
	if (next == RING_DAMAGED)
		abort();
}

/* --- the loop ----------------------------------------------------------------------------------------------- */

static int64_t at_most(int64_t ms, int64_t most)
{
	return ms < 0 || ms > most ? most : ms;
}

/* Ms epoll may wait; -1 is for ever. */
static int patience(const struct thread *thread)
{
	int64_t ms = wheel_wait(&thread->wheel, thread_ms(thread));

	if (thread->ready)
		return 0;
	if (thread->unheard_at || thread->closing)
		ms = at_most(ms, 1);
	if (thread->paused || thread->unsaid || thread->undone)
		ms = at_most(ms, AGAIN_MS);
	if (thread->pipes.kept)
		ms = at_most(ms, PIPES_MS);
	return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

static int sleep_until(struct thread *thread, struct epoll_event *events)
{
	int ms = patience(thread), count;

	if (ms != 0) {
		/* Whoever writes looks at this after writing, we look at what is written after this: one sees the
		 * other, see ring_publish. */
		atomic_store(thread->asleep, 1);
		if (ring_waiting(&thread->down))
			ms = 0;
	}
	count = epoll_wait(thread->epoll, events, THREAD_EVENTS, ms);
	/* Too late it only brings a wake that nobody needs. */
	atomic_store_explicit(thread->asleep, 0, memory_order_relaxed);
	return count;
}

/* What has happened: a number of events, or -errno. */
static int wait(struct thread *thread, struct epoll_event *events)
{
	int count = 0;

	if (thread->urgent) {
		/* A call costs both threads a change of the processor's mind. Who has come meanwhile shares it. */
		count = epoll_wait(thread->epoll, events, THREAD_EVENTS, 0);
		if (count == 0)
			call(thread);
	}
	if (count == 0)
		count = sleep_until(thread, events);
	thread_tick(thread);
	thread->looked_at = thread->now;
	return count < 0 ? (errno == EINTR ? 0 : -errno) : count;
}

static void rest(struct thread *thread)
{
	uint64_t times;

	if (read(thread->wake, &times, sizeof(times)) < 0)
		return; /* Somebody was quicker; it is empty all the same. */
}

static void heed(struct thread *thread, const struct epoll_event *event)
{
	uint32_t life = event->data.u64 >> 32;
	uint32_t key = (uint32_t)event->data.u64;

	if (life) {
		/* Earlier events of this batch may have ended it, and its place may be another's. */
		struct flow *flow = thread_flow(thread, key & SESSION_SLOT ? key : key >> 1, life);

		if (flow && key & SESSION_SLOT)
			session_event(thread, (struct session *)flow);
		else if (flow)
			connection_event(thread, (struct connection *)flow, key & 1, event->events);
	} else if (key == WAKE_KEY) {
		rest(thread);
	} else if (key < thread->listener_room && thread->listeners[key]) {
		listener_accept(thread, thread->listeners[key]);
	}
}

/* A turn with much to move goes on for long: what is waited for is said, and answers are taken, in its midst. */
static void look_up(struct thread *thread)
{
	thread_tick(thread);
	if (thread->now - thread->looked_at < LONG_NS)
		return;
	thread->looked_at = thread->now;
	obey(thread);
	tell(thread);
}

static void go_on(struct thread *thread)
{
	struct flow *last = NULL;

	/* Those who become ready by it wait for the next turn: sockets of others come first. */
	for (int i = 0; i < GOING_ON && thread->ready && thread->ready != last; i++) {
		struct flow *flow = thread->ready;

		thread->ready = flow->next_ready;
		if (!thread->ready)
			thread->ready_end = &thread->ready;
		flow->ready = 0;
		flow_go_on(thread, flow);
		if (!last && flow->ready)
			last = flow;
		if (i % EVENTS_A_TICK == EVENTS_A_TICK - 1)
			look_up(thread);
	}
}

static void timer_due(void *context, struct timer *timer)
{
	flow_due(context, (struct flow *)timer);
}

static void trim_pipes(struct thread *thread)
{
	if (thread->pipes_taken != thread->pipes.taken) {
		thread->pipes_taken = thread->pipes.taken;
		thread->pipes_at = thread->now;
	} else if (thread->now - thread->pipes_at >= PIPES_MS * 1000000ll) {
		pipes_close(&thread->pipes);
	}
}

/* Turns until it is told to quit (0) or cannot go on (-errno). */
static int turn(struct thread *thread)
{
	struct epoll_event events[THREAD_EVENTS];

	while (!atomic_load_explicit(&thread->quit, memory_order_relaxed)) {
		int count = wait(thread, events);

		if (count < 0)
			return count;
		obey(thread);
		for (int i = 0; i < count; i++) {
			heed(thread, &events[i]);
			if (i % EVENTS_A_TICK == EVENTS_A_TICK - 1)
				look_up(thread);
		}
		wheel_turn(&thread->wheel, thread_ms(thread), TIMERS, timer_due, thread);
		go_on(thread);
		if (thread->closing)
			listeners_close(thread);
		if (thread->paused)
			listeners_resume(thread);
		if (thread->pipes.kept)
			trim_pipes(thread);
		if (thread->batch)
			datagrams_flush(thread);
		tell(thread);
	}
	return 0;
}

static void each_flow(struct thread *thread, struct slab *slab, void (*call)(struct thread *, struct flow *))
{
	for (uint32_t slot = 0; slot < slab->slots; slot++) {
		struct flow *flow = slab_at(slab, slot);

		if (flow->state != FLOW_FREE)
			call(thread, flow);
	}
}

static void end_failed(struct thread *thread, struct flow *flow)
{
	flow_end(thread, flow, REASON_PLANE_FAILED, 1);
}

/* Ends all flows as plane-failed, by a reset: an end would pass for that of what was sent. Those TypeScript owes an
 * answer end when it comes. */
static void fail(struct thread *thread)
{
	each_flow(thread, &thread->connections, end_failed);
	each_flow(thread, &thread->sessions, end_failed);
}

/* A new epoll instance and everything that is to be watched in it. */
static int begin_anew(struct thread *thread)
{
	int error;

	if (thread->epoll >= 0)
		close(thread->epoll);
	error = open_epoll(thread);
	for (uint32_t key = 1; key < thread->listener_room && !error; key++) {
		struct listener *listener = thread->listeners[key];

		if (listener && listener->watched && listener_watch(thread, listener) != 0)
			listener_pause(thread, listener, 0);
	}
	return error;
}

static void pause_ms(int ms)
{
	struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l };

	nanosleep(&time, NULL);
}

/* As `top -H` and perf show it. */
static void name_thread(const struct thread *thread)
{
	char name[16];

	snprintf(name, sizeof(name), "relay %d", thread->index);
	pthread_setname_np(pthread_self(), name);
}

/* Woken on a processor that is somebody else's for the moment, it waits until that one's turn is over (SCHED_BATCH in
 * sched(7)): who sends much is not interrupted for every piece of it, and there is more to move at once. Whoever chose
 * another policy for the process has it. */
static void be_patient(void)
{
	static const struct sched_param none = { 0 };

	if (sched_getscheduler(0) == SCHED_OTHER)
		sched_setscheduler(0, SCHED_BATCH, &none);
}

void *thread_run(void *context)
{
	struct thread *thread = context;
	int error;

	crash_mine();
	name_thread(thread);
	be_patient();
	while ((error = turn(thread)) != 0) {
		fail(thread);
		thread_trouble(thread, TROUBLE_LOOP, -error, NULL);
		tell(thread);
		while (begin_anew(thread) != 0 && !atomic_load(&thread->quit))
			pause_ms(ANEW_MS);
	}
	return NULL;
}

/* --- beginning and end -------------------------------------------------------------------------------------- */

int thread_init(struct thread *thread, struct plane *plane, int index, void *up, void *down, size_t bytes)
{
	int error;

	*thread = (struct thread){ .plane = plane, .index = index, .epoll = -1, .wake = -1 };
	thread->connections.size = sizeof(struct connection);
	thread->sessions.size = sizeof(struct session);
	thread->ready_end = &thread->ready;
	thread->unsaid_end = &thread->unsaid;
	thread->now = clock_now();
	thread->asleep = (_Atomic uint32_t *)((uint8_t *)down + RING_ASLEEP);
	wheel_init(&thread->wheel, thread_ms(thread));
	pipes_init(&thread->pipes, plane->ceiling);
	error = ring_init(&thread->up, up, bytes);
	if (!error)
		error = ring_init(&thread->down, down, bytes);
	if (error)
		return error;
	thread->buffer = malloc(RELAY_BUFFER);
	thread->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	error = thread->wake < 0 ? -errno : !thread->buffer ? -ENOMEM : open_epoll(thread);
	if (error)
		thread_destroy(thread);
	return error;
}

static void close_flow(struct thread *thread, struct flow *flow)
{
	if (flow->state != FLOW_CLOSED)
		flow->kind->close(thread, flow, 0);
}

void thread_destroy(struct thread *thread)
{
	each_flow(thread, &thread->connections, close_flow);
	each_flow(thread, &thread->sessions, close_flow);
	slab_free(&thread->sessions);
	datagrams_free(thread);
	slab_free(&thread->connections);
	for (uint32_t key = 1; key < thread->listener_room; key++)
		if (thread->listeners[key]) {
			close(thread->listeners[key]->fd);
			free(thread->listeners[key]);
		}
	free(thread->listeners);
	pipes_close(&thread->pipes);
	free(thread->buffer);
	if (thread->epoll >= 0)
		close(thread->epoll);
	if (thread->wake >= 0)
		close(thread->wake);
}
