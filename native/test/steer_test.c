/* What steer.h promises, by datagrams on this machine: every port of an address comes to one socket of the group, and
 * addresses are spread. */
#include "../src/open.h"
#include "../src/steer.h"
#include "tap.h"

#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	MOST = 8, /* sockets of a group */
	ADDRESSES = 256,
	PORTS = 20,
	IPV6_ADDRESSES = 64,
	BIND_TRIES = 5000, /* a millisecond apart */
};

/* As the kernel has it; glibc and the kernel do not agree on one header. */
struct in6_request {
	struct in6_addr address;
	uint32_t prefix;
	int interface;
};

static int group[MOST];

static struct address ipv4(uint32_t host)
{
	struct address address = { .length = sizeof(address.in), .in = { .sin_family = AF_INET } };

	address.in.sin_addr.s_addr = htonl(host);
	return address;
}

static struct address ipv6(const char *bytes)
{
	struct address address = { .length = sizeof(address.in6), .in6 = { .sin6_family = AF_INET6 } };

	memcpy(&address.in6.sin6_addr, bytes, 16);
	return address;
}

/* A group; `at` becomes where it is. 0 when this machine has no such address. */
static int opened(struct address *at, int count, int by_address)
{
	struct open_options options = { .datagrams = 1, .by_address = by_address };
	const char *call;
	int error = open_listeners(at, count, &options, group, &call);

	if (error == -EAFNOSUPPORT || error == -EADDRNOTAVAIL)
		return 0;
	if (error)
		printf("# %s: %s\n", call, strerror(-error));
	check(error == 0);
	return 1;
}

static void close_group(int count)
{
	for (int i = 0; i < count; i++)
		close(group[i]);
}

/* Which one of the group a datagram from `from`, and a port that is free, comes to. */
static int comes_to(struct address from, struct address to, int count)
{
	int fd = socket(from.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), found = 0;
	struct pollfd polled[MOST];
	char sent = anything(), came;

	check(fd >= 0 && bind(fd, &from.any, from.length) == 0);
	check(sendto(fd, &sent, 1, 0, &to.any, to.length) == 1);
	close(fd);
	for (int i = 0; i < count; i++)
		polled[i] = (struct pollfd){ .fd = group[i], .events = POLLIN };
	check(poll(polled, count, -1) == 1);
	while (!polled[found].revents)
		found++;
	check(recv(group[found], &came, 1, MSG_DONTWAIT) == 1 && came == sent);
	return found;
}

/* Many addresses with a few ports each: how many addresses came to each of the group. */
static void spread(struct address to, int count, int *came)
{
	memset(came, 0, MOST * sizeof(*came));
	for (uint32_t i = 0; i < ADDRESSES; i++) {
		struct address from = ipv4(0x7f000001 + i + (i % 2 ? 0x10000 : 0));
		int first = comes_to(from, to, count);

		came[first]++;
		for (int port = 0; port < 3; port++)
			check(comes_to(from, to, count) == first);
	}
}

static void check_even(const int *came, int count)
{
	for (int i = 0; i < count; i++)
		check(came[i] > ADDRESSES / count / 3 && came[i] < 3 * ADDRESSES / count + 1);
}

static void ports_of_an_address_meet(void)
{
	struct address at = ipv4(INADDR_LOOPBACK);

	check(opened(&at, 4, 1));
	for (uint32_t i = 1; i < 10; i++) {
		int first = comes_to(ipv4(0x7f000000 + 977 * i), at, 4);

		for (int port = 0; port < PORTS; port++)
			check(comes_to(ipv4(0x7f000000 + 977 * i), at, 4) == first);
	}
	close_group(4);
}

static void addresses_are_spread(void)
{
	for (int count = 1; count <= MOST; count++) {
		struct address at = ipv4(INADDR_LOOPBACK);
		int came[MOST];

		check(opened(&at, count, 1));
		spread(at, count, came);
		check_even(came, count);
		close_group(count);
	}
}

/* What the kernel does by itself, so that the others say something. */
static void ports_do_not_meet_without(void)
{
	struct address at = ipv4(INADDR_LOOPBACK);
	int others = 0, first;

	check(opened(&at, 4, 0));
	first = comes_to(ipv4(INADDR_LOOPBACK), at, 4);
	for (int port = 0; port < 8 * PORTS; port++)
		others += comes_to(ipv4(INADDR_LOOPBACK), at, 4) != first;
	check(others > 0);
	close_group(4);
}

/* IPv4 that comes to a socket of IPv6 is IPv4 to the filter. */
static void ipv4_to_both(void)
{
	struct address at = ipv6("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), to = ipv4(INADDR_LOOPBACK);
	int came[MOST];

	if (!opened(&at, 4, 1))
		return;
	to.in.sin_port = at.in6.sin6_port;
	spread(to, 4, came);
	check_even(came, 4);
	close_group(4);
}

static void ports_of_an_ipv6_address_meet(void)
{
	static const char loopback[16] = { [15] = 1 };
	struct address at = ipv6(loopback);
	int first;

	if (!opened(&at, 4, 1))
		return;
	first = comes_to(ipv6(loopback), at, 4);
	for (int port = 0; port < PORTS; port++)
		check(comes_to(ipv6(loopback), at, 4) == first);
	close_group(4);
}

/* --- IPv6 addresses, of which this machine has one ----------------------------------------------------------- */

/* 2001:db8::/32 with a number somewhere. */
static struct address numbered(int number, int place)
{
	char bytes[16] = { 0x20, 0x01, 0x0d, (char)0xb8 };

	bytes[place] = number + 1;
	bytes[15] |= 1;
	return ipv6(bytes);
}

/*
 * Linux gives an IPv6 address out a moment after it was added, on lo as well: until its work queue
 * has found that nobody else has it, it is tentative and bind() says EADDRNOTAVAIL. One that stays
 * so is none.
 */
static int add_address(const struct address *address)
{
	struct in6_request request = { address->in6.sin6_addr, 128, if_nametoindex("lo") };
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int bound = -1;

	if (ioctl(fd, SIOCSIFADDR, &request) == 0 || errno == EEXIST)
		for (int tries = 0; tries < BIND_TRIES; tries++) {
			bound = bind(fd, &address->any, address->length);
			if (bound == 0 || errno != EADDRNOTAVAIL)
				break;
			poll(NULL, 0, 1);
		}
	close(fd);
	return bound == 0;
}

/* A network of our own, which only some let us have. */
static int own_network(void)
{
	struct ifreq up = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd;

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return 0;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &up) < 0)
		return 0;
	close(fd);
	return 1;
}

/* Whichever word of the address it is that tells them apart. */
static void spread_ipv6(int place)
{
	static const char loopback[16] = { [15] = 1 };
	struct address at = ipv6(loopback);
	int came[MOST] = { 0 };

	check(opened(&at, 4, 1));
	for (int i = 0; i < IPV6_ADDRESSES; i++) {
		struct address from = numbered(i, place);
		int first = comes_to(from, at, 4);

		came[first]++;
		for (int port = 0; port < 3; port++)
			check(comes_to(from, at, 4) == first);
	}
	for (int i = 0; i < 4; i++)
		check(came[i] > IPV6_ADDRESSES / 4 / 4);
	close_group(4);
}

enum { SPREAD = 0, NOT_SPREAD = 1, NO_NETWORK = 2 };

static int in_own_network(void)
{
	static const int places[] = { 5, 7, 10, 14 };

	if (!own_network())
		return NO_NETWORK;
	if (setjmp(tap_failed))
		return NOT_SPREAD;
	for (int i = 0; i < 4; i++)
		for (int number = 0; number < IPV6_ADDRESSES; number++) {
			struct address address = numbered(number, places[i]);

			if (!add_address(&address))
				return NO_NETWORK;
		}
	for (int i = 0; i < 4; i++)
		spread_ipv6(places[i]);
	return SPREAD;
}

static void ipv6_addresses_are_spread(void)
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	check(child >= 0);
	if (child == 0) {
		status = in_own_network();
		fflush(stdout);
		_exit(status);
	}
	check(waitpid(child, &status, 0) == child && WIFEXITED(status));
	if (WEXITSTATUS(status) == NO_NETWORK)
		printf("# no network of our own: not tried\n");
	check(WEXITSTATUS(status) != NOT_SPREAD);
}

static void of_no_group(void)
{
	int fd = dup(0);

	check(fd >= 0 && steer_by_address(fd, 4) < 0);
	close(fd);
	check(steer_by_address(fd, 4) == -EBADF);
}

int main(void)
{
	static const struct behaviour behaviours[] = {
		{ "all ports of an address come to one socket", ports_of_an_address_meet },
		{ "addresses are spread, among one socket up to eight", addresses_are_spread },
		{ "without steering ports do not meet", ports_do_not_meet_without },
		{ "IPv4 is spread among sockets of IPv6 too", ipv4_to_both },
		{ "all ports of an IPv6 address come to one socket", ports_of_an_ipv6_address_meet },
		{ "IPv6 addresses are spread by each of their words", ipv6_addresses_are_spread },
		{ "what is no socket is not steered", of_no_group },
	};

	return TAP_RUN(behaviours);
}
