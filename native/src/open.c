#include "open.h"

#include "datagrams.h"
#include "option.h"
#include "steer.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

/* What has to be said before bind. */
static int prepare(int fd, int family, const struct open_options *options, int reuse_port)
{
	int error = 0;

	if (family == AF_UNIX)
		return 0;
	/* Connections of an earlier listener that linger do not keep the port. Of datagrams it would be shared. */
	error = option_set_if(fd, SOL_SOCKET, SO_REUSEADDR, !options->datagrams);
	if (!error)
		error = option_set_if(fd, SOL_SOCKET, SO_REUSEPORT, reuse_port);
	if (!error && family == AF_INET6)
		error = option_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	if (!error)
		error = option_set_if(fd, IPPROTO_IP, IP_FREEBIND, options->freebind);
	if (!error)
		error = option_set_if(fd, IPPROTO_IP, IP_TRANSPARENT, options->transparent);
	if (!error && family == AF_INET6)
		error = option_set_if(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, options->transparent);
	return error;
}

/* What clients inherit, and what is asked of the queue. */
static int tune(int fd, int family, const struct open_options *options)
{
	int error;

	if (family == AF_UNIX)
		return 0;
	error = option_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (!error)
		error = option_set_if(fd, SOL_SOCKET, SO_KEEPALIVE, options->keep_alive_s > 0);
	if (!error)
		error = option_set_if(fd, IPPROTO_TCP, TCP_KEEPIDLE, options->keep_alive_s);
	if (!error)
		error = option_set_if(fd, IPPROTO_TCP, TCP_KEEPINTVL, options->keep_alive_s);
	if (!error)
		error = option_set_if(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, options->user_timeout_ms);
	if (!error)
		error = option_set_if(fd, IPPROTO_TCP, TCP_FASTOPEN, options->fast_open);
	if (!error)
		error = option_set_if(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, options->defer_accept_s);
	return error;
}

static int open_bound(struct address *address, const struct open_options *options, int reuse_port,
		      const char **call)
{
	int family = address->any.sa_family;
	int type = options->datagrams ? SOCK_DGRAM : SOCK_STREAM;
	int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error;

	*call = "socket";
	if (fd < 0)
		return -errno;
	*call = "setsockopt";
	error = prepare(fd, family, options, reuse_port);
	if (!error) {
		*call = "bind";
		error = bind(fd, &address->any, address->length) < 0 ? -errno : 0;
	}
	if (!error && family != AF_UNIX) {
		*call = "getsockname";
		error = getsockname(fd, &address->any, &address->length) < 0 ? -errno : 0;
	}
	if (!error)
		return fd;
	close(fd);
	return error;
}

/* What is asked of a socket for datagrams once it is bound. */
static int tune_datagrams(int fd, const struct address *address, const struct open_options *options)
{
	int error = 0;

	/* More than the system lets anybody have (net.core.rmem_max) is for those with CAP_NET_ADMIN. */
	if (options->receive_buffer && option_set(fd, SOL_SOCKET, SO_RCVBUFFORCE, options->receive_buffer) < 0)
		error = option_set(fd, SOL_SOCKET, SO_RCVBUF, options->receive_buffer);
	option_roomy(fd);
	option_may_be_cut(fd);
	/* Older kernels (before 5.0) hand them over one by one. */
	option_set(fd, SOL_UDP, UDP_GRO, 1);
	/* A socket that dials from the address of a client may have the port we listen on, too: IKE and SIP are asked
	 * from the port they are asked at. Both have to allow it, which is compared as it is then. */
	if (!error)
		error = option_set_if(fd, SOL_SOCKET, SO_REUSEADDR, options->transparent);
	if (error || (!options->transparent && !address_is_any(address)))
		return error;
	/* Where each datagram was sent to. */
	return address->any.sa_family == AF_INET ? option_set(fd, IPPROTO_IP, IP_PKTINFO, 1)
						 : option_set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
}

static int listen_on(int fd, const struct address *address, const struct open_options *options, const char **call)
{
	int error;

	*call = "setsockopt";
	if (options->datagrams)
		return tune_datagrams(fd, address, options);
	error = tune(fd, address->any.sa_family, options);
	if (error)
		return error;
	*call = "listen";
	return listen(fd, options->backlog) < 0 ? -errno : 0;
}

/* Another descriptor of the same socket. */
static int again(int fd, const char **call)
{
	int another = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	*call = "fcntl";
	return another < 0 ? -errno : another;
}

int open_listeners(struct address *address, int count, const struct open_options *options, int *fds,
		   const char **call)
{
	int family = address->any.sa_family;
	int opened = 0, error = 0;

	while (opened < count && error >= 0) {
		/* A port somebody listens on looks free to whoever sets SO_REUSEPORT as well, so the first is bound
		 * without. Set afterwards it still lets the others join: the kernel compares what is set now. */
		error = family == AF_UNIX && opened > 0 ? again(fds[0], call)
							: open_bound(address, options, opened > 0, call);
		if (error < 0)
			break;
		fds[opened++] = error;
		if (opened == 1 && count > 1 && family != AF_UNIX)
			error = option_set(fds[0], SOL_SOCKET, SO_REUSEPORT, 1);
	}
	for (int i = 0; i < opened && error >= 0; i++)
		error = listen_on(fds[i], address, options, call);
	if (error >= 0 && options->by_address && count > 1) {
		*call = "setsockopt";
		error = steer_by_address(fds[0], count);
	}
	if (error >= 0)
		return 0;
	while (opened > 0)
		close(fds[--opened]);
	return error;
}

int open_probe(int mark, int transparent, const char **refused)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int error;

	if (fd < 0)
		return -errno;
	*refused = "mark";
	error = option_set_if(fd, SOL_SOCKET, SO_MARK, mark);
	if (!error) {
		*refused = "transparent";
		error = option_set_if(fd, IPPROTO_IP, IP_TRANSPARENT, transparent);
	}
	close(fd);
	return error;
}
