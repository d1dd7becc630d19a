/* Socket addresses, and the form they have in records. */
#ifndef FAIRLEAD_ADDRESS_H
#define FAIRLEAD_ADDRESS_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct address {
	socklen_t length;
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	};
};

/* An address of FAMILY_IPV4 or FAMILY_IPV6 whose bytes are in `ip`. Returns 0, or -EINVAL for
 * another family. */
int address_of_ip(struct address *address, uint32_t family, const uint8_t *ip, uint32_t port);

/* A path; one that begins with a zero byte is abstract. Returns 0, or -ENAMETOOLONG when it does not fit. */
int address_of_path(struct address *address, const uint8_t *path, size_t bytes);

/* Family, bytes and port as records have them: an IPv4-mapped address as the IPv4 one, no bytes of a path. */
uint32_t address_parts(const struct address *address, uint8_t ip[16], uint16_t *port);

/* The same of an address as the kernel hands it out. */
uint32_t address_parts_of(const struct sockaddr *address, uint8_t ip[16], uint16_t *port);

/* Whether it stands for every address of the machine. */
int address_is_any(const struct address *address);

#endif
