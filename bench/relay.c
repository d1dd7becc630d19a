/* The least a relay of datagrams can be: it decides nothing, forgets nobody, and counts nothing.
 *
 *     relay 127.0.0.1:4000 127.0.0.1:5000       from the first to the second, until it is killed
 *
 * What it costs is what the system calls cost that any such relay has to make. */

#include "../native/soak/ends.h"

#include <sys/epoll.h>

enum { BATCH = 64, ROOM = 2048, SESSIONS = 16384, PLACES = 4 * SESSIONS, ANSWERS = 16 };

struct session {
	struct sockaddr_in client;
	int fd;
};

static uint8_t rooms[BATCH][ROOM];
static struct iovec parts[BATCH];
static struct sockaddr_in peers[BATCH];
static struct mmsghdr messages[BATCH];
/* By client: its first place, or the next free one after it. */
static struct session *table[PLACES];
static struct place backend;
static int epoll, listener, sessions;

static struct session *session_of(const struct sockaddr_in *client)
{
	uint64_t key = (uint64_t)client->sin_addr.s_addr << 16 | client->sin_port;
	struct epoll_event event = { .events = EPOLLIN };
	struct session **place = &table[mixed(key) % PLACES];

	while (*place) {
		if ((*place)->client.sin_addr.s_addr == client->sin_addr.s_addr &&
		    (*place)->client.sin_port == client->sin_port)
			return *place;
		if (++place == table + PLACES)
			place = table;
	}
	if (sessions++ == SESSIONS)
		give_up("sessions");
	*place = event.data.ptr = calloc(1, sizeof(struct session));
	(*place)->client = *client;
	(*place)->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (connect((*place)->fd, &backend.any, backend.length) < 0)
		give_up("connect");
	epoll_ctl(epoll, EPOLL_CTL_ADD, (*place)->fd, &event);
	return *place;
}

static void take_questions(void)
{
	int count;

	for (int i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){ rooms[i], ROOM };
		messages[i].msg_hdr = (struct msghdr){ &peers[i], sizeof(peers[i]), &parts[i], 1, NULL, 0, 0 };
	}
	count = recvmmsg(listener, messages, BATCH, MSG_DONTWAIT, NULL);
	for (int i = 0; i < count; i++)
		send(session_of(&peers[i])->fd, rooms[i], messages[i].msg_len, 0);
}

static int answers;

static void send_answers(void)
{
	for (int from = 0, sent; from < answers; from += sent > 0 ? sent : 1)
		sent = sendmmsg(listener, messages + from, answers - from, 0);
	answers = 0;
}

static void take_answers(struct session *session)
{
	for (int i = 0; i < ANSWERS; i++) {
		ssize_t length = recv(session->fd, rooms[answers], ROOM, 0);

		if (length < 0)
			return;
		parts[answers] = (struct iovec){ rooms[answers], length };
		messages[answers].msg_hdr = (struct msghdr){
			&session->client, sizeof(session->client), &parts[answers], 1, NULL, 0, 0
		};
		if (++answers == BATCH)
			send_answers();
	}
}

int main(int count, char **arguments)
{
	struct epoll_event events[BATCH], event = { .events = EPOLLIN };
	struct place front;

	if (count != 3) {
		fprintf(stderr, "usage: relay ADDRESS:PORT BACKEND:PORT\n");
		return 2;
	}
	front = place_of(arguments[1]);
	backend = place_of(arguments[2]);
	epoll = epoll_create1(0);
	listener = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (bind(listener, &front.any, front.length) < 0)
		give_up("bind");
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
	for (;;) {
		int ready = epoll_wait(epoll, events, BATCH, -1);

		for (int i = 0; i < ready; i++)
			if (events[i].data.ptr)
				take_answers(events[i].data.ptr);
		send_answers();
		for (int i = 0; i < ready; i++)
			if (!events[i].data.ptr)
				take_questions();
	}
}
