/* Socket options that are whole numbers. */
#ifndef FAIRLEAD_OPTION_H
#define FAIRLEAD_OPTION_H

#include <errno.h>
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

#endif
