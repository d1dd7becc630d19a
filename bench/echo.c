/* Sends every datagram back to where it came from.
 *
 *     echo [--times N] 127.0.0.1:4000 127.0.0.2:4000 ...     until it is killed; prints a line when it listens
 *
 * With --times it answers each one N times. */

#include "../native/soak/ends.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>

enum { BATCH = 64, ROOM = 65536, QUEUE = 8 << 20, ADDRESSES = 64 };

static uint8_t rooms[BATCH][ROOM];
static struct iovec parts[BATCH];
static struct sockaddr_in peers[BATCH];
static struct mmsghdr messages[BATCH];
static long times = 1;

static int bound_to(const char *text)
{
	struct place place = place_of(text);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), bytes = QUEUE;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	if (fd < 0 || bind(fd, &place.any, place.length) < 0)
		give_up(text);
	return fd;
}

/* All that is there, up to a batch. */
static void answer_some(int fd)
{
	int count;

	for (int i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){ rooms[i], ROOM };
		messages[i].msg_hdr = (struct msghdr){ &peers[i], sizeof(peers[i]), &parts[i], 1, NULL, 0, 0 };
	}
	count = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
	for (int i = 0; i < count; i++)
		parts[i].iov_len = messages[i].msg_len;
	for (long time = 0; time < times; time++)
		/* One that cannot be sent stops the batch: the rest follows. */
		for (int from = 0, sent; from < count; from += sent > 0 ? sent : 1)
			sent = sendmmsg(fd, messages + from, count - from, 0);
}

int main(int count, char **arguments)
{
	static const struct option options[] = { { "times", 1, NULL, 't' }, { 0 } };
	struct pollfd sockets[ADDRESSES];
	int option, bound = 0;

	while ((option = getopt_long(count, arguments, "", options, NULL)) != -1)
		if (option == 't')
			times = atol(optarg);
		else
			return 2;
	if (optind == count || count - optind > ADDRESSES || times < 1) {
		fprintf(stderr, "usage: echo [--times N] ADDRESS:PORT ...\n");
		return 2;
	}
	for (; optind < count; optind++)
		sockets[bound++] = (struct pollfd){ bound_to(arguments[optind]), POLLIN, 0 };
	puts("listening");
	fflush(stdout);
	for (;;) {
		if (poll(sockets, bound, -1) < 0 && errno != EINTR)
			give_up("poll");
		for (int i = 0; i < bound; i++)
			if (sockets[i].revents)
				answer_some(sockets[i].fd);
	}
}
