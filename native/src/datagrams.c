#include "datagrams.h"

#include "thread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	RECEIVES = 4, /* batches a turn takes from one listener */
	/* A page more or less would have the beginnings of all datagrams meet in the same few lines of the cache. */
	STRIDE = DATAGRAM_BYTES + 5 * 64,
	/* Where it was sent to, which is shorter for IPv4, and how it is cut. */
	CONTROL = CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(int)),
};

/* One way: what the kernel is handed, and room for the bytes. */
struct way {
	struct mmsghdr messages[DATAGRAMS];
	struct iovec parts[DATAGRAMS];
	struct sockaddr_in6 names[DATAGRAMS];
	uint8_t controls[DATAGRAMS][CONTROL] __attribute__((aligned(8)));
	uint8_t *bytes;
};

struct batch {
	struct way in;
	struct way out;
	uint32_t segments[DATAGRAMS];
	int fds[DATAGRAMS]; /* what was posted leaves by these */
	struct share *shares[DATAGRAMS];
	uint32_t posted;
};

/* The kernel hands datagrams of one sender over in one piece where they came that way, all of one length but the last
 * (UDP_GRO in udp(7)): their length, or 0 when it is one. */
static uint32_t segment_of(struct mmsghdr *message)
{
	struct msghdr *header = &message->msg_hdr;

	for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part))
		if (part->cmsg_level == SOL_UDP && part->cmsg_type == UDP_GRO) {
			int segment;

			memcpy(&segment, CMSG_DATA(part), sizeof(segment));
			return segment > 0 && (uint32_t)segment < message->msg_len ? segment : 0;
		}
	return 0;
}

/* For a datagram of anybody: of a message that was received the kernel has changed how long its parts are. */
static void make_ready(struct way *way, int n)
{
	struct msghdr *message = &way->messages[n].msg_hdr;

	message->msg_name = &way->names[n];
	message->msg_namelen = sizeof(way->names[n]);
	message->msg_control = way->controls[n];
	message->msg_controllen = CONTROL;
}

static void lay_out(struct way *way)
{
	for (int i = 0; i < DATAGRAMS; i++) {
		way->parts[i] = (struct iovec){ way->bytes + (size_t)i * STRIDE, DATAGRAM_BYTES };
		way->messages[i].msg_hdr = (struct msghdr){ .msg_iov = &way->parts[i], .msg_iovlen = 1 };
		make_ready(way, i);
	}
}

int datagrams_prepare(struct thread *thread)
{
	struct batch *batch;

	if (thread->batch)
		return 0;
	batch = calloc(1, sizeof(*batch));
	if (!batch)
		return -ENOMEM;
	/* Untouched pages cost nothing: most datagrams are short. */
	batch->in.bytes = malloc((size_t)DATAGRAMS * STRIDE);
	batch->out.bytes = malloc((size_t)DATAGRAMS * STRIDE);
	thread->batch = batch;
	if (!batch->in.bytes || !batch->out.bytes) {
		datagrams_free(thread);
		return -ENOMEM;
	}
	lay_out(&batch->in);
	lay_out(&batch->out);
	return 0;
}

void datagrams_free(struct thread *thread)
{
	if (!thread->batch)
		return;
	free(thread->batch->in.bytes);
	free(thread->batch->out.bytes);
	free(thread->batch);
	thread->batch = NULL;
}

/* --- from clients ------------------------------------------------------------------------------------------- */

/* Where a datagram was sent to, by what the kernel says beside it (ip(7), IP_PKTINFO; RFC 3542, 6.2). */
static void read_local(struct msghdr *message, struct caller *caller)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
		if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO) {
			const struct in_pktinfo *info = (const struct in_pktinfo *)CMSG_DATA(part);

			memcpy(caller->local_ip, &info->ipi_spec_dst, 4);
			caller->interface = info->ipi_ifindex;
		} else if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO) {
			const struct in6_pktinfo *info = (const struct in6_pktinfo *)CMSG_DATA(part);
			int mapped = IN6_IS_ADDR_V4MAPPED(&info->ipi6_addr);

			memcpy(caller->local_ip, info->ipi6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
			caller->interface = info->ipi6_ifindex;
		}
	}
}

static void read_caller(const struct listener *listener, struct msghdr *message, struct caller *caller)
{
	const struct sockaddr *from = message->msg_name;

	memset(caller, 0, sizeof(*caller));
	memcpy(&caller->from, from, message->msg_namelen);
	caller->family = address_parts_of(from, caller->ip, &caller->port);
	caller->bind = listener->bind;
	if (listener->fixed)
		memcpy(caller->local_ip, listener->local_ip, sizeof(caller->local_ip));
	else
		read_local(message, caller);
}

static void take_one(struct thread *thread, struct listener *listener, const struct caller *caller, uint32_t hash,
		     struct datagram datagram)
{
	int by_ip = listener->share->listening->spec.datagrams.by_ip;
	struct session *session = sessions_find(thread, listener->share->sessions, caller, hash, by_ip);

	if (!session) {
		session_begin(thread, listener, caller, hash, datagram);
		return;
	}
	if (by_ip)
		session->peer = caller->from;
	session_request(thread, session, datagram);
}

static void take(struct thread *thread, struct listener *listener, struct mmsghdr *message)
{
	const struct datagram_spec *spec = &listener->share->listening->spec.datagrams;
	struct datagram all = { message->msg_hdr.msg_iov->iov_base, message->msg_len, segment_of(message) };
	struct caller caller;
	uint32_t hash;

	read_caller(listener, &message->msg_hdr, &caller);
	hash = sessions_hash(listener->share->sessions, &caller, spec->by_ip);
	if (spec->max_requests == 0) {
		take_one(thread, listener, &caller, hash, all);
		return;
	}
	/* Where each one counts they are taken one by one: the session may be another's in their midst. */
	do
		take_one(thread, listener, &caller, hash, datagram_cut(&all));
	while (all.length > 0);
}

void datagrams_receive(struct thread *thread, struct listener *listener)
{
	struct way *in = &thread->batch->in;
	int count = DATAGRAMS;

	for (int i = 0; i < RECEIVES && count == DATAGRAMS; i++) {
		count = syscall(SYS_recvmmsg, listener->fd, in->messages, DATAGRAMS, MSG_DONTWAIT, NULL);
		for (int n = 0; n < count; n++) {
			take(thread, listener, &in->messages[n]);
			make_ready(in, n);
		}
	}
}

/* --- to clients --------------------------------------------------------------------------------------------- */

int datagrams_from_backend(struct thread *thread, int fd, int most)
{
	struct batch *batch = thread->batch;
	int room = DATAGRAMS - (int)batch->posted, count;

	if (room < most && batch->posted > 0) {
		datagrams_flush(thread);
		room = DATAGRAMS;
	}
	if (most > room)
		most = room;
	for (int i = 0; i < most; i++) {
		struct msghdr *message = &batch->out.messages[batch->posted + i].msg_hdr;

		message->msg_name = NULL;
		message->msg_namelen = 0;
		message->msg_control = batch->out.controls[batch->posted + i];
		message->msg_controllen = CONTROL;
		message->msg_iov->iov_len = DATAGRAM_BYTES;
	}
	count = syscall(SYS_recvmmsg, fd, batch->out.messages + batch->posted, most, MSG_DONTWAIT, NULL);
	return count < 0 ? -errno : count;
}

struct datagram datagrams_first(struct thread *thread)
{
	struct mmsghdr *message = &thread->batch->out.messages[thread->batch->posted];

	return (struct datagram){ message->msg_hdr.msg_iov->iov_base, message->msg_len, segment_of(message) };
}

/* A part of what is told the kernel beside a datagram. */
static void add_part(struct msghdr *message, int level, int type, const void *data, size_t length)
{
	struct cmsghdr *part = (struct cmsghdr *)((uint8_t *)message->msg_control + message->msg_controllen);

	*part = (struct cmsghdr){ CMSG_LEN(length), level, type };
	memcpy(CMSG_DATA(part), data, length);
	message->msg_controllen += CMSG_SPACE(length);
}

/* Answers leave from the address the client asked. */
static void write_local(struct msghdr *message, const struct session *session)
{
	const struct who *who = &session->flow.who;

	if (session->peer.sin6_family == AF_INET) {
		struct in_pktinfo info = { 0 };

		memcpy(&info.ipi_spec_dst, who->local_ip, 4);
		add_part(message, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
		return;
	}
	struct in6_pktinfo info = { 0 };

	if (who->family == FAMILY_IPV4) {
		info.ipi6_addr.s6_addr[10] = info.ipi6_addr.s6_addr[11] = 0xff;
		memcpy(info.ipi6_addr.s6_addr + 12, who->local_ip, 4);
	} else {
		memcpy(&info.ipi6_addr, who->local_ip, 16);
		/* Only a link-local address needs to be told whose it is. */
		if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
			info.ipi6_ifindex = session->interface;
	}
	add_part(message, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
}

/* The next one of the batch leaves by `fd`, to `to`; its bytes are laid out. */
static struct msghdr *post(struct batch *batch, struct share *share, int fd, const void *to, struct datagram datagram)
{
	uint32_t at = batch->posted++;
	struct msghdr *message = &batch->out.messages[at].msg_hdr;
	const struct sockaddr *name = to;

	batch->fds[at] = fd;
	batch->shares[at] = share;
	batch->segments[at] = datagram.segment;
	message->msg_name = &batch->out.names[at];
	message->msg_namelen =
		name->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	memcpy(message->msg_name, to, message->msg_namelen);
	message->msg_iov->iov_len = datagram.length;
	message->msg_control = batch->out.controls[at];
	message->msg_controllen = 0;
	return message;
}

void datagrams_answer(struct thread *thread, struct session *session, struct datagram datagram)
{
	const struct listener *listener = session->listener;
	struct msghdr *message =
		post(thread->batch, listener->share, listener->fd, &session->peer, datagram);

	if (!listener->fixed)
		write_local(message, session);
	if (datagram.segment) {
		uint16_t segment = datagram.segment;

		add_part(message, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment));
	}
}

int datagrams_send(int fd, struct datagram datagram)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
	} control;
	uint16_t segment = datagram.segment;
	struct iovec part = { (void *)datagram.bytes, datagram.length };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes };

	if (!segment)
		return syscall(SYS_sendto, fd, datagram.bytes, datagram.length, MSG_DONTWAIT | MSG_NOSIGNAL, NULL,
			       0) < 0 ? -errno : 0;
	add_part(&message, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment));
	return syscall(SYS_sendmsg, fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int datagrams_cannot_cut(int error)
{
	return error == EINVAL || error == EIO || error == EMSGSIZE || error == EOPNOTSUPP;
}

void datagrams_shoot(struct thread *thread, struct share *share, int fd, const struct address *to,
		     struct datagram one)
{
	struct batch *batch = thread->batch;

	if (batch->posted == DATAGRAMS)
		datagrams_flush(thread);
	memcpy(batch->out.parts[batch->posted].iov_base, one.bytes, one.length);
	post(batch, share, fd, &to->any, one);
}

/* What was posted as one. */
static struct datagram posted(const struct batch *batch, uint32_t at)
{
	const struct iovec *part = &batch->out.parts[at];

	return (struct datagram){ part->iov_base, part->iov_len, batch->segments[at] };
}

/* Sends what the kernel would not cut, datagram by datagram. The part that said how is the last one. */
static void send_pieces(struct batch *batch, uint32_t at)
{
	struct msghdr *message = &batch->out.messages[at].msg_hdr;
	struct datagram left = posted(batch, at);

	message->msg_controllen -= CMSG_SPACE(sizeof(uint16_t));
	do {
		struct datagram one = datagram_cut(&left);

		*message->msg_iov = (struct iovec){ (void *)one.bytes, one.length };
		if (sendmsg(batch->fds[at], message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			flow_count(&batch->shares[at]->drops.send, 1);
	} while (left.length > 0);
	message->msg_iov->iov_base = batch->out.bytes + (size_t)at * STRIDE;
}

/* Sends those from `from` to before `to`, which leave by one socket. */
static void send_run(struct batch *batch, uint32_t from, uint32_t to)
{
	while (from < to) {
		int sent = syscall(SYS_sendmmsg, batch->fds[from], batch->out.messages + from, to - from,
				   MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent > 0) {
			from += sent;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (batch->segments[from] && datagrams_cannot_cut(errno)) {
			send_pieces(batch, from++);
			continue;
		}
		/* A full queue is full for the others too; what else went wrong is this one's. */
		do
			flow_count(&batch->shares[from]->drops.send, datagram_pieces(posted(batch, from)));
		while (++from < to && errno == EAGAIN);
	}
}

void datagrams_flush(struct thread *thread)
{
	struct batch *batch = thread->batch;
	uint32_t posted = batch->posted;

	batch->posted = 0;
	for (uint32_t from = 0, to; from < posted; from = to) {
		to = from + 1;
		while (to < posted && batch->fds[to] == batch->fds[from])
			to++;
		send_run(batch, from, to);
	}
}
