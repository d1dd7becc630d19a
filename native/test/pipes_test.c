/* What pipes.h promises, counted in the descriptors of this process. */
#include "../src/pipes.h"
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	HIGH = 1 << 20,
};

/* The linker leads these calls here (--wrap): what the machine would not refuse on demand is refused. */
static int no_memory, no_pipe, no_larger, asked;

void *__real_malloc(size_t bytes);
int __real_pipe2(int fds[2], int flags);
int __real_fcntl(int fd, int command, long value);
void *__wrap_malloc(size_t bytes);
int __wrap_pipe2(int fds[2], int flags);
int __wrap_fcntl(int fd, int command, long value);

void *__wrap_malloc(size_t bytes)
{
	return no_memory ? NULL : __real_malloc(bytes);
}

int __wrap_pipe2(int fds[2], int flags)
{
	errno = no_pipe;
	asked++;
	return no_pipe ? -1 : __real_pipe2(fds, flags);
}

int __wrap_fcntl(int fd, int command, long value)
{
	errno = EPERM;
	return no_larger && command == F_SETPIPE_SZ ? -1 : __real_fcntl(fd, command, value);
}

static struct pipes pipes;
static struct pipe *taken[PIPES_MOST];
static int64_t now; /* ns */
static int before; /* descriptors of this process when the behaviour began */

static int descriptors(void)
{
	DIR *folder = opendir("/proc/self/fd");
	int count = 0;

	check(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static void begin(int ceiling)
{
	before = descriptors();
	pipes_init(&pipes, ceiling);
	check(descriptors() == before);
}

/* Whoever gave no pipe is asked again. */
static void a_second_passes(void)
{
	now += 1000000000;
}

static int opened(void)
{
	return descriptors() - before;
}

static void take(int count)
{
	for (int i = 0; i < count; i++)
		check((taken[i] = pipes_take(&pipes, now)));
}

static void give(int count, int empty)
{
	for (int i = 0; i < count; i++)
		pipes_give(&pipes, taken[i], empty);
}

static int fails_with(ssize_t result, int error)
{
	return result == -1 && errno == error;
}

static void a_pipe_is_empty_and_does_not_block(void)
{
	struct pipe *pipe;
	char byte = 7;

	begin(HIGH);
	check((pipe = pipes_take(&pipes, now)));
	check(fails_with(read(pipe->read, &byte, 1), EAGAIN));
	check(write(pipe->write, &byte, 1) == 1);
	check(read(pipe->read, &byte, 1) == 1 && byte == 7);
	check(fcntl(pipe->read, F_GETFD) & FD_CLOEXEC);
	check(fcntl(pipe->write, F_GETFD) & FD_CLOEXEC);
	pipes_give(&pipes, pipe, 1);
	pipes_close(&pipes);
	check(opened() == 0);
}

static void it_holds_what_it_says(void)
{
	static char page[4096];
	struct pipe *pipe;
	int held = 0;

	begin(HIGH);
	check((pipe = pipes_take(&pipes, now)));
	check(pipe->bytes >= 4096 && pipe->bytes == fcntl(pipe->write, F_GETPIPE_SZ));
	while (write(pipe->write, page, sizeof(page)) == sizeof(page))
		held += sizeof(page);
	check(errno == EAGAIN && held == pipe->bytes);
	pipes_give(&pipes, pipe, 0);
	check(opened() == 0);
}

static void no_more_than_so_many(void)
{
	begin(HIGH);
	take(PIPES_MOST);
	check(opened() == 2 * PIPES_MOST);
	check(!pipes_take(&pipes, now));
	check(!pipes_take(&pipes, now));
	check(opened() == 2 * PIPES_MOST);
	pipes_give(&pipes, taken[9], 1);
	check((taken[9] = pipes_take(&pipes, now)));
	pipes_give(&pipes, taken[9], 0);
	check((taken[9] = pipes_take(&pipes, now)));
	check(!pipes_take(&pipes, now));
	give(PIPES_MOST, 0);
	check(opened() == 0);
}

static void some_are_kept(void)
{
	begin(HIGH);
	take(PIPES_MOST);
	give(PIPES_MOST, 1);
	check(opened() == 2 * PIPES_KEPT);
	take(PIPES_KEPT);
	check(opened() == 2 * PIPES_KEPT);
	give(PIPES_KEPT, 1);
	check(opened() == 2 * PIPES_KEPT);
	pipes_close(&pipes);
	check(opened() == 0);
	pipes_close(&pipes);
	take(PIPES_KEPT);
	give(PIPES_KEPT, 1);
	check(opened() == 2 * PIPES_KEPT);
	pipes_close(&pipes);
	check(opened() == 0);
}

static void no_two_flows_share_one(void)
{
	begin(HIGH);
	take(PIPES_KEPT);
	give(PIPES_KEPT, 1);
	take(PIPES_MOST);
	for (int i = 0; i < PIPES_MOST; i++)
		for (int j = 0; j < i; j++)
			check(taken[i] != taken[j] && taken[i]->read != taken[j]->read &&
			      taken[i]->write != taken[j]->write && taken[i]->read != taken[j]->write);
	give(PIPES_MOST, 1);
	pipes_close(&pipes);
	check(opened() == 0);
}

static void a_dirty_pipe_is_closed(void)
{
	char byte = 1;

	begin(HIGH);
	take(PIPES_KEPT);
	for (int i = 0; i < PIPES_KEPT; i++)
		check(write(taken[i]->write, &byte, 1) == 1);
	give(PIPES_KEPT, 0);
	check(opened() == 0);
	take(PIPES_KEPT);
	for (int i = 0; i < PIPES_KEPT; i++)
		check(fails_with(read(taken[i]->read, &byte, 1), EAGAIN));
	give(PIPES_KEPT, 1);
	pipes_close(&pipes);
	check(opened() == 0);
}

static void given_after_the_close(void)
{
	begin(HIGH);
	take(4);
	pipes_give(&pipes, taken[0], 1);
	pipes_close(&pipes);
	check(opened() == 6);
	pipes_give(&pipes, taken[1], 0);
	pipes_give(&pipes, taken[2], 1);
	pipes_give(&pipes, taken[3], 1);
	check((taken[0] = pipes_take(&pipes, now)));
	pipes_give(&pipes, taken[0], 1);
	pipes_close(&pipes);
	check(opened() == 0);
}

/* The lowest number that leaves `room` descriptors free below it. */
static int above(int room)
{
	int fds[16];
	int highest = -1;

	for (int i = 0; i < room; i++)
		highest = fds[i] = dup(0);
	for (int i = 0; i < room; i++)
		close(fds[i]);
	return highest + 1;
}

static void descriptors_stay_below_the_ceiling(void)
{
	for (int room = 0; room < 12; room++) {
		int ceiling = above(room);

		begin(ceiling);
		for (int i = 0; i < room / 2; i++) {
			check((taken[i] = pipes_take(&pipes, now)));
			check(taken[i]->read < ceiling && taken[i]->write < ceiling);
		}
		check(!pipes_take(&pipes, now));
		check(!pipes_take(&pipes, now));
		check(opened() == room / 2 * 2);
		give(room / 2, 1);
		pipes_close(&pipes);
		check(opened() == 0);
	}
}

static void a_ceiling_that_was_reached_is_not_for_ever(void)
{
	int other;

	begin(above(2));
	check((other = dup(0)) >= 0);
	check(!pipes_take(&pipes, now));
	close(other);
	a_second_passes();
	take(1);
	give(1, 1);
	pipes_close(&pipes);
	check(opened() == 0);
}

static void limit(rlim_t most)
{
	struct rlimit limits;

	check(getrlimit(RLIMIT_NOFILE, &limits) == 0);
	limits.rlim_cur = most < limits.rlim_max ? most : limits.rlim_max;
	check(setrlimit(RLIMIT_NOFILE, &limits) == 0);
}

static void no_descriptors_is_no_pipe(void)
{
	struct rlimit limits;

	check(getrlimit(RLIMIT_NOFILE, &limits) == 0);
	begin(HIGH);
	for (int room = 0; room < 5; room++) {
		/* What counts the descriptors needs one, so what is left over is seen when there is room again. */
		limit(above(room));
		for (int i = 0; i < room / 2; i++)
			check((taken[i] = pipes_take(&pipes, now)));
		for (int i = 0; i < 2 * PIPES_MOST; i++)
			check(!pipes_take(&pipes, now));
		limit(limits.rlim_cur);
		check(opened() == room / 2 * 2);
		give(room / 2, 1);
		pipes_close(&pipes);
		check(opened() == 0);
		a_second_passes();
	}
	take(PIPES_MOST);
	give(PIPES_MOST, 1);
	pipes_close(&pipes);
	check(opened() == 0);
}

static void what_the_system_refuses_is_no_pipe(void)
{
	begin(HIGH);
	take(1);
	no_memory = 1;
	for (int i = 0; i < 2 * PIPES_MOST; i++)
		check(!pipes_take(&pipes, now));
	no_memory = 0;
	a_second_passes();
	no_pipe = ENFILE;
	for (int i = 0; i < 2 * PIPES_MOST; i++)
		check(!pipes_take(&pipes, now));
	no_pipe = 0;
	check(opened() == 2);
	give(1, 1);
	a_second_passes();
	take(PIPES_MOST);
	give(PIPES_MOST, 1);
	pipes_close(&pipes);
	check(opened() == 0);
}

static void who_gave_none_is_not_asked_all_the_time(void)
{
	begin(HIGH);
	take(2);
	asked = 0;
	no_pipe = ENFILE;
	for (int i = 0; i < 1000; i++)
		check(!pipes_take(&pipes, now));
	check(asked == 1);
	now += 999999999;
	check(!pipes_take(&pipes, now) && asked == 1);
	now++;
	check(!pipes_take(&pipes, now) && asked == 2);
	/* A pipe that is closed makes room. */
	no_pipe = 0;
	pipes_give(&pipes, taken[1], 0);
	check((taken[1] = pipes_take(&pipes, now)) && asked == 3);
	give(2, 0);
	check(opened() == 0);
}

static void a_pipe_that_may_not_grow_does(void)
{
	begin(HIGH);
	no_larger = 1;
	take(1);
	no_larger = 0;
	check(taken[0]->bytes >= 4096 && taken[0]->bytes == fcntl(taken[0]->write, F_GETPIPE_SZ));
	give(1, 1);
	pipes_close(&pipes);
	check(opened() == 0);
}

static void like_a_count(void)
{
	int in_use = 0;

	begin(HIGH);
	for (int i = 0; i < 50000; i++) {
		char byte = 1;
		int which;

		if (chance(2)) {
			struct pipe *pipe = pipes_take(&pipes, now);

			check(!pipe == (in_use == PIPES_MOST));
			if (pipe) {
				check(fails_with(read(pipe->read, &byte, 1), EAGAIN));
				taken[in_use++] = pipe;
			}
		} else if (in_use) {
			int dirty = chance(2);

			which = chance(in_use);
			if (dirty)
				check(write(taken[which]->write, &byte, 1) == 1);
			pipes_give(&pipes, taken[which], !dirty);
			taken[which] = taken[--in_use];
		}
		if (i % 100 == 0)
			check(opened() >= 2 * in_use && opened() <= 2 * (in_use + PIPES_KEPT) && opened() <= 2 * PIPES_MOST);
	}
	give(in_use, 1);
	pipes_close(&pipes);
	check(opened() == 0);
}

static const struct behaviour behaviours[] = {
	{ "a pipe is empty and does not block, and no child has it", a_pipe_is_empty_and_does_not_block },
	{ "a pipe holds as much as it says", it_holds_what_it_says },
	{ "no more are in use than may be", no_more_than_so_many },
	{ "some are kept for the next, also after a close; the others are closed", some_are_kept },
	{ "no two flows have the same pipe", no_two_flows_share_one },
	{ "a pipe that is not empty is closed", a_dirty_pipe_is_closed },
	{ "a pipe that is given back after the close works as any other", given_after_the_close },
	{ "descriptors stay below the ceiling, and none is lost at it", descriptors_stay_below_the_ceiling },
	{ "a ceiling that was reached is not for ever", a_ceiling_that_was_reached_is_not_for_ever },
	{ "no descriptors is no pipe, and nothing lost", no_descriptors_is_no_pipe },
	{ "no memory and no pipe of the system is no pipe, and nothing lost", what_the_system_refuses_is_no_pipe },
	{ "who gave none is asked again after a second or a close", who_gave_none_is_not_asked_all_the_time },
	{ "a pipe that may not grow does as well", a_pipe_that_may_not_grow_does },
	{ "random takes and gives, dirty and clean, keep to the count", like_a_count },
};

int main(void)
{
	return TAP_RUN(behaviours);
}
