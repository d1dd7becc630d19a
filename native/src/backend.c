#include "backend.h"

#include "option.h"
#include "plane.h"
#include "thread.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

/* The address of the client itself. The port of a datagram is the client's too; that of a connection is any. */
static int client_address(const struct flow *flow, int fd, int family, int type, struct address *source)
{
	int error = address_of_ip(source, flow->who.family, flow->who.ip, type == SOCK_DGRAM ? flow->who.port : 0);

	if (!error && source->any.sa_family != family)
		error = -EAFNOSUPPORT;
	/* The client may talk to several backends from one port. */
	if (!error && type == SOCK_DGRAM)
		error = option_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (error)
		return error;
	return family == AF_INET6 ? option_set(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
				  : option_set(fd, IPPROTO_IP, IP_TRANSPARENT, 1);
}

/* Where it comes from, when the configuration says so. */
static int choose_source(const struct flow *flow, int fd, int family, int type)
{
	const struct spec *spec = spec_of(flow);
	struct address source = spec->source;
	int error = spec->transparent ? client_address(flow, fd, family, type, &source) : 0;

	if (error || source.length == 0 || source.any.sa_family != family)
		return error;
	/* Without this the kernel picks a port when it binds, before it knows the backend, and 28,000 flows to all
	 * backends together use up what each backend could have (ip(7)). */
	if (type == SOCK_STREAM)
		option_set(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	return bind(fd, &source.any, source.length) < 0 ? -(errno | ERROR_SOURCE) : 0;
}

int backend_open(const struct thread *thread, const struct flow *flow, const struct address *address, int type)
{
	const struct spec *spec = spec_of(flow);
	int family = address->any.sa_family;
	int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error = 0;

	if (fd < 0)
		return -errno;
	/* The last ones are for whoever asks the API why clients are refused. */
	if (fd >= thread->plane->ceiling)
		error = -EMFILE;
	if (!error && family != AF_UNIX) {
		error = option_set_if(fd, SOL_SOCKET, SO_MARK, spec->mark);
		if (!error)
			error = choose_source(flow, fd, family, type);
		if (!error && type == SOCK_STREAM)
			error = option_set_if(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, spec->user_timeout_ms);
	}
	if (!error)
		return fd;
	close(fd);
	return error;
}

int backend_address(struct address *address, const struct told_dial *told)
{
	int error = told->family == FAMILY_UNIX ? address_of_path(address, told->rest, told->path_bytes)
					   : address_of_ip(address, told->family, told->ip, told->port);
	if (!error && told->family == FAMILY_IPV6)
		address->in6.sin6_scope_id = told->scope;
	return error;
}
