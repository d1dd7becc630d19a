#include "pipes.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	WANTED_BYTES = 1 << 20, /* what the kernel allows everybody unless told otherwise (pipe-max-size) */
	LEAST_BYTES = 1 << 16,
};

void pipes_init(struct pipes *pipes, int ceiling)
{
	*pipes = (struct pipes){ .ceiling = ceiling };
}

static void discard(struct pipes *pipes, struct pipe *pipe)
{
	close(pipe->read);
	close(pipe->write);
	free(pipe);
	pipes->open--;
}

/* Without privileges a user gets only so many pages (pipe-user-pages-soft); then a smaller pipe must do. */
static int enlarge(int fd)
{
	for (int wanted = WANTED_BYTES; wanted > LEAST_BYTES; wanted /= 4) {
		int bytes = fcntl(fd, F_SETPIPE_SZ, wanted);

		if (bytes > 0)
			return bytes;
	}
	return fcntl(fd, F_GETPIPE_SZ);
}

static struct pipe *open_pipe(struct pipes *pipes)
{
	struct pipe *pipe;
	int fds[2];

	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0)
		return NULL;
	pipe = malloc(sizeof(*pipe));
	if (!pipe || fds[0] >= pipes->ceiling || fds[1] >= pipes->ceiling) {
		close(fds[0]);
		close(fds[1]);
		free(pipe);
		return NULL;
	}
	*pipe = (struct pipe){ .read = fds[0], .write = fds[1], .bytes = enlarge(fds[1]) };
	pipes->open++;
	return pipe;
}

struct pipe *pipes_take(struct pipes *pipes)
{
	struct pipe *pipe = pipes->free;

	pipes->taken++;
	if (!pipe)
		return pipes->open < PIPES_MOST ? open_pipe(pipes) : NULL;
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
