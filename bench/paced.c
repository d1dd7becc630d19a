/* Requests over kept connections at a fixed mean rate, whatever the answers do.
 *
 *     paced PORT CONNECTIONS RATE SECONDS   prints: requests a second, p50, p99, p99.9, longest; in microseconds
 *
 * The times between two requests are exponential and the same in every run. Connections take turns; a request that
 * is due while all of them wait for an answer counts from when it would have been sent. */

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MOST_CONNECTIONS 1024
#define SECOND 1000000000LL
#define LAST_ANSWERS (10 * SECOND)

static const char request[] = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";

/* By descriptor: when its request was sent. */
static int64_t sent_at[MOST_CONNECTIONS + 64];
/* A ring of descriptors that wait for no answer. */
static int idle[MOST_CONNECTIONS];
static unsigned first_idle, idles;
/* When those requests were due that found no connection, first in first out. */
static int64_t *late;
static long first_late, lates;
static int64_t *took;
static long answers;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * SECOND + time.tv_nsec;
}

static int64_t until_next(double rate)
{
	static uint64_t state = 88172645463325252ULL;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return -log(((state >> 11) + 0.5) / 9007199254740992.0) / rate * SECOND;
}

static int next_idle(void)
{
	idles--;
	return idle[first_idle++ % MOST_CONNECTIONS];
}

static void put_idle(int fd)
{
	idle[(first_idle + idles++) % MOST_CONNECTIONS] = fd;
}

static void ask(int fd, int64_t since)
{
	sent_at[fd] = since;
	if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) != sizeof request - 1)
		fail("send");
}

static void answered(int fd)
{
	char answer[4096];
	ssize_t length = recv(fd, answer, sizeof answer, 0);

	if (length <= 0) {
		if (length == 0)
			errno = ECONNRESET;
		fail("recv");
	}
	took[answers++] = now() - sent_at[fd];
	if (first_late < lates)
		ask(fd, late[first_late++]);
	else
		put_idle(fd);
}

static int connection(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		fail("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
	return fd;
}

static int ascending(const void *left, const void *right)
{
	int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

	return (a > b) - (a < b);
}

static double at(double share)
{
	long place = answers * share;

	return took[place < answers ? place : answers - 1] / 1000.0;
}

int main(int count, char **words)
{
	if (count != 5 || atoi(words[2]) > MOST_CONNECTIONS) {
		fprintf(stderr, "usage: paced PORT CONNECTIONS RATE SECONDS\n");
		return 2;
	}
	unsigned connections = atoi(words[2]);
	double rate = atof(words[3]);
	long most = rate * atof(words[4]), sent = 0;
	struct epoll_event events[64];
	int epoll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);

	took = calloc(most, sizeof *took);
	late = calloc(most, sizeof *late);
	epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &(struct epoll_event){ EPOLLIN, { .fd = timer } });
	while (idles < connections) {
		int fd = connection(atoi(words[1]));
		epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){ EPOLLIN, { .fd = fd } });
		put_idle(fd);
	}

	int64_t began = now(), due = began, end = 0, armed = 0;
	while (answers < most && (sent < most || now() < end)) {
		for (int64_t time = now(); sent < most && due <= time; due += until_next(rate)) {
			/* That this process comes late is nobody's latency: a request counts from being sent. */
			if (idles > 0)
				ask(next_idle(), now());
			else
				late[lates++] = time;
			if (++sent == most)
				end = time + LAST_ANSWERS;
		}
		/* The timer of a descriptor has no slack, unlike the time-out of epoll_wait. */
		int64_t wake = sent < most ? due : end;
		if (wake != armed) {
			struct itimerspec when = { .it_value = { wake / SECOND, wake % SECOND } };
			timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
			armed = wake;
		}
		int ready = epoll_wait(epoll, events, 64, -1);
		for (int i = 0; i < ready; i++)
			if (events[i].data.fd != timer)
				answered(events[i].data.fd);
	}
	if (answers < most) {
		fprintf(stderr, "paced: %ld of %ld requests were not answered\n", most - answers, most);
		return 1;
	}
	qsort(took, answers, sizeof *took, ascending);
	printf("%.0f %.1f %.1f %.1f %.1f\n", answers / ((now() - began) / (double)SECOND), at(0.5), at(0.99),
	       at(0.999), at(1));
	return 0;
}
