#include "pipes.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	/* All pipes of a user together may have 64 MiB without privileges (pipe-user-pages-soft in pipe(7)), which is
	 * PIPES_MOST of one thread. The next ones get 8 KiB, and are of no use. */
	WANTED_BYTES = 1 << 18,
	LEAST_BYTES = 1 << 16, /* a smaller one costs more than copying */
	AGAIN_NS = 1000000000,
};

void pipes_init(struct pipes *pipes, int ceiling)
{
	*pipes = (struct pipes){ .ceiling = ceiling };
}

static void discard(struct pipes *pipes, struct pipe *pipe)
{
	pipes->again = 0;
	close(pipe->read);
	close(pipe->write);
	free(pipe);
	pipes->open--;
}

/* Its size, as large as is wanted or as the system gives. */
static int enlarge(int fd)
{
	int bytes = fcntl(fd, F_SETPIPE_SZ, WANTED_BYTES);

	return bytes > 0 ? bytes : fcntl(fd, F_GETPIPE_SZ);
}

static struct pipe *open_pipe(struct pipes *pipes)
{
	struct pipe *pipe;
	int fds[2], bytes;

	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0)
		return NULL;
	pipe = malloc(sizeof(*pipe));
	bytes = enlarge(fds[1]);
	if (!pipe || bytes < LEAST_BYTES || fds[0] >= pipes->ceiling || fds[1] >= pipes->ceiling) {
		close(fds[0]);
		close(fds[1]);
		free(pipe);
		return NULL;
	}
	*pipe = (struct pipe){ .read = fds[0], .write = fds[1], .bytes = bytes };
	pipes->open++;
	return pipe;
}

/* While there is a limit, every turn of every flow that fills a buffer would run into it by a system call or two. */
static struct pipe *ask_for_pipe(struct pipes *pipes, int64_t now)
{
	struct pipe *pipe;

	if (pipes->open >= PIPES_MOST || now < pipes->again)
		return NULL;
	pipe = open_pipe(pipes);
	pipes->again = pipe ? 0 : now + AGAIN_NS;
	return pipe;
}

struct pipe *pipes_take(struct pipes *pipes, int64_t now)
{
	struct pipe *pipe = pipes->free;

	pipes->taken++;
	if (!pipe)
		return ask_for_pipe(pipes, now);
	pipes->free = pipe->next;
	pipes->kept--;
	return pipe;
}

void pipes_give(struct pipes *pipes, struct pipe *pipe, int empty)
{
	if (!empty || pipes->kept >= PIPES_KEPT) {
		discard(pipes, pipe);
		return;
	}
	pipe->next = pipes->free;
	pipes->free = pipe;
	pipes->kept++;
}

void pipes_close(struct pipes *pipes)
{
	while (pipes->free) {
		struct pipe *pipe = pipes->free;

		pipes->free = pipe->next;
		discard(pipes, pipe);
	}
	pipes->kept = 0;
}
