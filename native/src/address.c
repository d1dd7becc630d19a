#include "address.h"

#include "records.h"

#include <errno.h>
#include <string.h>

int address_of_ip(struct address *address, uint32_t family, const uint8_t *ip, uint32_t port)
{
	memset(address, 0, sizeof(*address));
	if (family == FAMILY_IPV4) {
		address->length = sizeof(address->in);
		address->in.sin_family = AF_INET;
		address->in.sin_port = htons(port);
		memcpy(&address->in.sin_addr, ip, 4);
		return 0;
	}
	if (family == FAMILY_IPV6) {
		address->length = sizeof(address->in6);
		address->in6.sin6_family = AF_INET6;
		address->in6.sin6_port = htons(port);
		memcpy(&address->in6.sin6_addr, ip, 16);
		return 0;
	}
	return -EINVAL;
}

int address_of_path(struct address *address, const uint8_t *path, size_t bytes)
{
	/* A path that is not abstract is followed by a zero byte. */
	if (bytes == 0 || bytes > sizeof(address->un.sun_path) - (path[0] != 0))
		return -ENAMETOOLONG;
	memset(address, 0, sizeof(*address));
	address->un.sun_family = AF_UNIX;
	memcpy(address->un.sun_path, path, bytes);
	address->length = offsetof(struct sockaddr_un, sun_path) + bytes + (path[0] != 0);
	return 0;
}

int address_is_any(const struct address *address)
{
	if (address->any.sa_family == AF_INET)
		return address->in.sin_addr.s_addr == INADDR_ANY;
	return address->any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address->in6.sin6_addr);
}

uint32_t address_parts_of(const struct sockaddr *address, uint8_t ip[16], uint16_t *port)
{
	memset(ip, 0, 16);
	*port = 0;
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)address;

		memcpy(ip, &in->sin_addr, 4);
		*port = ntohs(in->sin_port);
		return FAMILY_IPV4;
	}
	if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
		int mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);

		*port = ntohs(in6->sin6_port);
		memcpy(ip, in6->sin6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
		return mapped ? FAMILY_IPV4 : FAMILY_IPV6;
	}
	return FAMILY_UNIX;
}

uint32_t address_parts(const struct address *address, uint8_t ip[16], uint16_t *port)
{
	return address_parts_of(&address->any, ip, port);
}
