#include "plane.h"

#include "crash.h"
#include "sessions.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { SIGNALLED_BYTES = 64 };

static void free_thread(struct plane *plane, int index)
{
	thread_destroy(plane->thread[index]);
	free(plane->thread[index]);
	plane->thread[index] = NULL;
}

static int add_thread(struct plane *plane, int index, uint8_t *rings, size_t ring)
{
	struct thread *thread = malloc(sizeof(*thread));
	uint8_t *up = rings + 2 * index * ring;
	int error = thread ? thread_init(thread, plane, index, up, up + ring, ring) : -ENOMEM;

	if (error) {
		free(thread);
		return error;
	}
	plane->thread[index] = thread;
	error = -pthread_create(&thread->id, NULL, thread_run, thread);
	if (error)
		free_thread(plane, index);
	return error;
}

int plane_start(struct plane **made, int threads, void *memory, size_t ring, int ceiling,
		void (*wake)(void *context), void *context)
{
	struct plane *plane = calloc(1, sizeof(*plane));
	sigset_t all, before;
	int error = 0;

	if (!plane)
		return -ENOMEM;
	plane->ceiling = ceiling;
	plane->signalled = memory;
	plane->wake = wake;
	plane->context = context;
	crash_watch();
	/* Signals are for the main thread; those of a fault cannot be blocked to any good. */
	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGABRT);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (plane->threads < threads && !error) {
		error = add_thread(plane, plane->threads, (uint8_t *)memory + SIGNALLED_BYTES, ring);
		plane->threads += !error;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error) {
		plane_stop(plane);
		return error;
	}
	*made = plane;
	return 0;
}

void plane_stop(struct plane *plane)
{
	for (int i = 0; i < plane->threads; i++) {
		atomic_store(&plane->thread[i]->quit, 1);
		plane_rouse(plane, i);
	}
	for (int i = 0; i < plane->threads; i++) {
		pthread_join(plane->thread[i]->id, NULL);
		free_thread(plane, i);
	}
	for (int id = 0; id < LISTENING_MOST; id++)
		if (plane->listenings[id])
			plane_forget(plane, plane->listenings[id]);
	free(plane);
}

struct listening *plane_listening(struct plane *plane, const struct spec *spec)
{
	struct listening *listening;
	int id = 0;

	while (id < LISTENING_MOST && plane->listenings[id])
		id++;
	listening = id < LISTENING_MOST ? calloc(1, sizeof(*listening)) : NULL;
	if (!listening)
		return NULL;
	listening->id = id;
	listening->spec = *spec;
	for (int i = 0; i < LISTENING_THREADS; i++)
		listening->shares[i].listening = listening;
	atomic_store(&plane->listenings[id], listening);
	return listening;
}

void plane_forget(struct plane *plane, struct listening *listening)
{
	atomic_store(&plane->listenings[listening->id], NULL);
	/* Those that have said SAYS_STOPPED have none any more. */
	for (int i = 0; i < LISTENING_THREADS; i++)
		sessions_free(listening->shares[i].sessions);
	access_free(listening->spec.access);
	free(listening);
}

struct listening *plane_find(struct plane *plane, uint32_t id)
{
	return id < LISTENING_MOST ? atomic_load_explicit(&plane->listenings[id], memory_order_acquire) : NULL;
}

void plane_signal(struct plane *plane)
{
	if (atomic_exchange(plane->signalled, 1) == 0)
		plane->wake(plane->context);
}

void plane_rouse(struct plane *plane, int thread)
{
	uint64_t once = 1;

	/* It fails only when 2^64 wakes are pending. */
	while (write(plane->thread[thread]->wake, &once, sizeof(once)) < 0 && errno == EINTR)
		;
}
