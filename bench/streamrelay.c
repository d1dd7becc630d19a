/* The least a relay of connections can be: it decides nothing, limits nothing, and counts nothing.
 *
 *     streamrelay 127.0.0.1:4000 127.0.0.1:5000     from the first to the second, until it is killed
 *
 * What it costs is what the system calls cost that any such relay has to make. It is for requests and answers that fit
 * the buffers of sockets: whoever does not take what is sent, or ends, is let go with its other side. */

#include "../native/soak/ends.h"

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS = 256, ACCEPTS = 32, ROOM = 64 * 1024, DESCRIPTORS = 1 << 16 };

static const uint32_t edges = EPOLLIN | EPOLLRDHUP | EPOLLET;
static uint8_t room[ROOM];
/* By descriptor: the other side, 0 for none; and whether that is still being connected to. */
static int others[DESCRIPTORS], dialling[DESCRIPTORS];
static struct place backend;
static int epoll, listener;

static void watch(int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	if (fd >= DESCRIPTORS || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		give_up("epoll_ctl");
}

static void let_go(int fd)
{
	int other = others[fd];

	others[fd] = others[other] = dialling[fd] = dialling[other] = 0;
	close(fd);
	close(other);
}

static void take_clients(void)
{
	for (int i = 0; i < ACCEPTS; i++) {
		int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK), dialled;

		if (client < 0)
			return;
		dialled = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(dialled, &backend.any, backend.length);
		watch(dialled, edges | EPOLLOUT);
		others[client] = dialled;
		others[dialled] = client;
		dialling[dialled] = 1;
	}
}

static void pass_on(int fd)
{
	ssize_t length = recv(fd, room, ROOM, 0);

	if (length <= 0 || send(others[fd], room, length, MSG_NOSIGNAL) != length)
		let_go(fd);
}

static void heed(int fd, uint32_t events)
{
	if (dialling[fd]) {
		dialling[fd] = 0;
		watch(others[fd], edges);
	} else if (others[fd] && events & ~EPOLLOUT) {
		pass_on(fd);
	}
}

int main(int count, char **arguments)
{
	static const int on = 1;
	struct epoll_event events[EVENTS];
	struct place front;

	if (count != 3) {
		fprintf(stderr, "usage: streamrelay ADDRESS:PORT BACKEND:PORT\n");
		return 2;
	}
	front = place_of(arguments[1]);
	backend = place_of(arguments[2]);
	epoll = epoll_create1(0);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (bind(listener, &front.any, front.length) < 0 || listen(listener, 4096) < 0)
		give_up("listen");
	watch(listener, EPOLLIN);
	for (;;) {
		int ready = epoll_wait(epoll, events, EVENTS, -1);

		for (int i = 0; i < ready; i++)
			if (events[i].data.fd == listener)
				take_clients();
			else
				heed(events[i].data.fd, events[i].events);
	}
}
