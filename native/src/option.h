/* Socket options that are whole numbers. */
#ifndef FAIRLEAD_OPTION_H
#define FAIRLEAD_OPTION_H

#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

/* Sets an option. Returns 0 or -errno. */
static inline int option_set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* The same, where 0 leaves the system's way. */
static inline int option_set_if(int fd, int level, int name, int value)
{
	return value ? option_set(fd, level, name, value) : 0;
}

/* Room for datagrams that have not left yet. Those to hosts that do not answer ARP stay for seconds, up to the system's
 * default for each such host (arp(7), unres_qlen_bytes), and nothing else leaves by a socket that is full of them. More
 * than net.core.wmem_max is for those with CAP_NET_ADMIN. */
static inline void option_roomy(int fd)
{
	const int bytes = 4 << 20;

	if (option_set(fd, SOL_SOCKET, SO_SNDBUFFORCE, bytes) < 0)
		option_set(fd, SOL_SOCKET, SO_SNDBUF, bytes);
}

/* Datagrams of a socket are cut by whoever on their way has to. Of others Linux forbids that, and relies on being told
 * how much the way takes (IP_MTU_DISCOVER in ip(7)): the first that is too long is lost, and all of them where a
 * firewall holds that message back. Sockets of IPv6 that talk IPv4 have this option, too. */
static inline void option_may_be_cut(int fd)
{
	option_set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
}

/* Datagrams the kernel has dropped because nobody read them. It is the count that SO_RXQ_OVFL puts beside each datagram,
 * without a word more a datagram. */
static inline uint32_t option_drops(int fd)
{
	uint32_t memory[SK_MEMINFO_VARS] = { 0 };
	socklen_t length = sizeof(memory);

	getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &length);
	return memory[SK_MEMINFO_DROPS];
}

#endif
