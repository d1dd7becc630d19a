/* Streams of bytes through a balancer, with this program at both ends: every byte that arrives has to be the one
 * that was sent there, and every flow has to end as it was ended.
 *
 *      streams --to 127.0.0.1:4000 --backend 127.0.0.1:5000 --gigabytes 10
 *
 * A client's first 16 bytes name its flow, so that the backend knows what is to come and what to send. What a stream
 * holds follows from its key and the place in it: bytes that are lost, doubled, moved or another flow's are seen at
 * once.
 *
 * --resets-end takes an end where a reset was due. --lenient takes flows that are refused or broken off, as long as
 * what came before is right. SIGTERM ends all at once.
 */
#include "ends.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
	ADDRESSES = 64,
	EVENTS = 256,
	CHUNK = 64 * 1024,
	ROOM = 256 * 1024, /* a read */
	HEADER = 16,
	TURN = 4,          /* reads or writes before others have theirs */
	IDLE_LEAST_MS = 195,
	FAULTS_SHOWN = 20,
	PAUSES = 40,       /* of an end, on average half of it */
	MIB = 1 << 20,
};

enum plan {
	BOTH_AT_ONCE,
	BACKEND_WAITS, /* for the client's end, and then sends */
	CLIENT_WAITS,
	CLIENT_RESETS,
	BACKEND_RESETS,
	REFUSED,       /* no backend takes connections */
	IDLE,          /* nobody says anything, and the balancer ends it */
	PLANS,
};

static const char *const plan_names[] = { "both at once", "backend waits", "client waits", "client resets",
					  "backend resets", "refused", "idle" };

struct flow;

/* One socket of ours. */
struct end {
	struct end *next_paused;
	struct end *next_done;
	struct flow *flow; /* NULL at a backend until its header is here */
	int fd;
	int client;
	int tcp;
	uint32_t watched;
	uint64_t send_key, receive_key;
	uint64_t to_send, sent;
	uint64_t to_receive, received;
	uint64_t reset_at;           /* of both together; UINT64_MAX is never */
	uint64_t pause_every, pause_at;
	int64_t resume_at;           /* 0 while it reads */
	uint64_t chances;
	uint8_t head[HEADER];
	int head_bytes;              /* sent or received */
	int waits, stays;            /* before it sends; rather than end */
	int connecting, shut, ended, done;
};

struct flow {
	uint64_t id; /* 0 while it is none */
	enum plan plan;
	struct end *client, *backend;
	int64_t began, moved;
	int was_reset; /* by one of us */
	int all_tcp;
};

struct places {
	struct place at[ADDRESSES];
	int count;
};

static struct places to, backends, refused, idle;
static int short_ones, lenient, resets_end, concurrency = 64;
static uint64_t bytes_wanted, flows_wanted, seed = 1;
static int64_t until = INT64_MAX, stuck_ms = 30000;
static volatile sig_atomic_t told_to_end;

static int epoll;
static struct flow *flows;
static struct end *paused, *done_ends;
static uint64_t begun, finished, by_plan[PLANS], bytes_right[2];
static uint64_t faults, broken, cut, unreached, stuck, pauses, retried, most_at_once;
static int open_flows;
static uint8_t received[ROOM];
static uint64_t expected[ROOM / 8 + 2];

static void fault(const struct end *end, const char *what)
{
	const struct flow *flow = end->flow;

	if (++faults > FAULTS_SHOWN)
		return;
	printf("FAULT %s, %s: %s (sent %llu of %llu, received %llu of %llu)\n",
	       flow ? plan_names[flow->plan] : "nobody's", end->client ? "client" : "backend", what,
	       (unsigned long long)end->sent, (unsigned long long)end->to_send,
	       (unsigned long long)end->received, (unsigned long long)end->to_receive);
}

static uint64_t chance(uint64_t *state)
{
	return mixed(*state += 0x9e3779b97f4a7c15u);
}

/* Some bytes of the stream with this key. They stay until the next call. */
static const uint8_t *stream(uint64_t key, uint64_t from, size_t length)
{
	uint64_t word = from / 8, words = (from % 8 + length + 7) / 8;

	for (uint64_t i = 0; i < words; i++)
		expected[i] = mixed(key + (word + i) * 0x9e3779b97f4a7c15u);
	return (uint8_t *)expected + from % 8;
}

/* --- watching ----------------------------------------------------------------------------------------------- */

static int may_send(const struct end *end)
{
	return !end->shut && !end->waits && (!end->stays || (end->client && end->head_bytes < HEADER));
}

static void watch(struct end *end)
{
	uint32_t wanted = 0;
	struct epoll_event event = { .data.ptr = end };

	if (end->done)
		return;
	if (!end->ended && !end->resume_at && !end->connecting)
		wanted |= EPOLLIN;
	if (end->connecting || (end->flow && may_send(end)) || (end->client && end->head_bytes < HEADER))
		wanted |= EPOLLOUT;
	if (wanted == end->watched)
		return;
	event.events = wanted;
	/* A hang-up is told whatever is watched, and that of a paused end all the time. */
	if (epoll_ctl(epoll, wanted == 0 ? EPOLL_CTL_DEL : end->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, end->fd,
		      &event) < 0)
		give_up("epoll_ctl");
	end->watched = wanted;
}

static void pause_reading(struct end *end, int64_t now)
{
	end->pause_at = end->received + 1 + chance(&end->chances) % end->pause_every;
	end->resume_at = now + 1 + chance(&end->chances) % 20;
	end->next_paused = paused;
	paused = end;
	pauses++;
}

/* --- the end of ends ---------------------------------------------------------------------------------------- */

static void finish_if_over(struct flow *flow)
{
	if (flow->id == 0 || !flow->client->done || (flow->backend && !flow->backend->done))
		return;
	if (!flow->backend && flow->plan != REFUSED && flow->plan != CLIENT_RESETS) {
		if (!lenient)
			fault(flow->client, "it never reached a backend");
		unreached++;
	}
	flow->id = 0;
	finished++;
	open_flows--;
}

static void close_end(struct end *end, int reset)
{
	static const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

	if (end->done)
		return;
	if (reset)
		setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(end->fd);
	end->done = 1;
	end->next_done = done_ends;
	done_ends = end;
}

static void forget_done(void)
{
	while (done_ends) {
		struct end *end = done_ends, **at = &paused;

		done_ends = end->next_done;
		while (*at && *at != end)
			at = &(*at)->next_paused;
		if (*at)
			*at = end->next_paused;
		if (end->flow) {
			struct flow *flow = end->flow;
			int both = !flow->backend || flow->backend->done;

			/* Both are needed to judge, and go together. */
			if (flow->client->done && both) {
				struct end *other = end->client ? flow->backend : flow->client;

				finish_if_over(flow);
				if (other && other != end) {
					struct end **link = &done_ends;

					while (*link && *link != other)
						link = &(*link)->next_done;
					if (*link)
						*link = other->next_done;
					for (at = &paused; *at && *at != other;)
						at = &(*at)->next_paused;
					if (*at)
						*at = other->next_paused;
					free(other);
				}
				free(end);
			}
			continue;
		}
		free(end);
	}
}

/* The other side has gone without an end. */
static void was_broken(struct end *end, int error)
{
	struct flow *flow = end->flow;

	if (flow && !flow->was_reset && flow->plan != REFUSED && flow->plan != IDLE) {
		broken++;
		if (!lenient)
			fault(end, strerror(error));
	}
	close_end(end, 0);
}

static void judge_end(struct end *end)
{
	const struct flow *flow = end->flow;

	if (end->received == end->to_receive || flow->plan == REFUSED || flow->plan == IDLE)
		return;
	if (flow->was_reset) {
		/* Unix sockets have no reset that could be passed on. */
		if (flow->all_tcp && !lenient && !resets_end)
			fault(end, "an end where a reset was due");
		return;
	}
	/* Unix sockets again, and clients that were refused. */
	if (!end->tcp || !flow->backend)
		broken++;
	else
		cut++;
	if (!lenient)
		fault(end, "it ended too early");
}

static void judge_idle(const struct end *end)
{
	int64_t ms = now_ms() - end->flow->began;

	if (end->client && end->flow->plan == IDLE && ms < IDLE_LEAST_MS && !lenient)
		fault(end, "it was not idle for so long");
	if (end->flow->plan == REFUSED && end->received > 0)
		fault(end, "somebody said something");
}

/* --- moving bytes ------------------------------------------------------------------------------------------- */

static void reset_if_due(struct end *end)
{
	if (end->done || end->sent + end->received < end->reset_at)
		return;
	end->flow->was_reset = 1;
	close_end(end, 1);
}

static void send_some(struct end *end)
{
	struct flow *flow = end->flow;

	while (end->client && end->head_bytes < HEADER) {
		ssize_t sent = send(end->fd, end->head + end->head_bytes, HEADER - end->head_bytes,
				    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EAGAIN)
			return;
		if (sent < 0) {
			was_broken(end, errno);
			return;
		}
		end->head_bytes += sent;
	}
	for (int i = 0; i < TURN && may_send(end) && end->sent < end->to_send; i++) {
		uint64_t length = end->to_send - end->sent, left = end->reset_at - end->sent - end->received;
		ssize_t sent;

		if (end->sent + end->received >= end->reset_at)
			break;
		if (length > CHUNK)
			length = CHUNK;
		if (length > left)
			length = left;
		sent = send(end->fd, stream(end->send_key, end->sent, length), length, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EAGAIN)
			return;
		if (sent < 0) {
			was_broken(end, errno);
			return;
		}
		end->sent += sent;
		flow->moved = now_ms();
	}
	reset_if_due(end);
	if (!end->done && may_send(end) && end->sent == end->to_send) {
		shutdown(end->fd, SHUT_WR);
		end->shut = 1;
	}
}

/* 0 when nothing more is there. */
static int receive_some(struct end *end)
{
	ssize_t got = recv(end->fd, received, ROOM, MSG_DONTWAIT);

	if (got < 0 && errno == EAGAIN)
		return 0;
	if (got < 0) {
		judge_idle(end);
		was_broken(end, errno);
		return 0;
	}
	if (got == 0) {
		end->ended = 1;
		end->waits = 0;
		judge_end(end);
		judge_idle(end);
		return 0;
	}
	end->flow->moved = now_ms();
	if (end->received + got > end->to_receive ||
	    memcmp(received, stream(end->receive_key, end->received, got), got) != 0) {
		fault(end, "other bytes than were sent");
		close_end(end, 1);
		return 0;
	}
	end->received += got;
	bytes_right[end->client] += got;
	if (end->pause_every && end->received >= end->pause_at) {
		pause_reading(end, end->flow->moved);
		return 0;
	}
	return 1;
}

static void go_on(struct end *end)
{
	if (!end->resume_at)
		for (int i = 0; i < TURN && !end->done && !end->ended && !end->resume_at && receive_some(end); i++)
			reset_if_due(end);
	if (!end->done)
		reset_if_due(end);
	if (!end->done)
		send_some(end);
	if (!end->done && end->ended && (end->shut || end->stays))
		close_end(end, 0);
	watch(end);
}

/* --- beginnings --------------------------------------------------------------------------------------------- */

static uint64_t some_size(uint64_t *chances)
{
	uint64_t kind = chance(chances) % 200, size = chance(chances);

	if (kind < 16)
		return 0;
	if (short_ones)
		return size % 20000;
	if (kind < 96)
		return size % 4096;
	if (kind < 166)
		return size % (256 * 1024);
	if (kind < 192)
		return size % (4 * MIB);
	if (kind < 199)
		return size % (32 * MIB);
	return size % (100 * MIB + 1);
}

static enum plan some_plan(uint64_t *chances)
{
	uint64_t kind = chance(chances) % 100;

	if (kind < 5 && refused.count)
		return REFUSED;
	if (kind < 10 && idle.count)
		return IDLE;
	if (kind < 20)
		return CLIENT_RESETS;
	if (kind < 30)
		return BACKEND_RESETS;
	if (kind < 50)
		return BACKEND_WAITS;
	return kind < 65 ? CLIENT_WAITS : BOTH_AT_ONCE;
}

static void shrink(struct end *end, int option)
{
	int bytes = 4096 << chance(&end->chances) % 6;

	setsockopt(end->fd, SOL_SOCKET, option, &bytes, sizeof(bytes));
}

/* What either end does with its socket besides; long streams get neither too many pauses nor too little room, or
 * they would take minutes. */
static void vary(struct end *end, uint64_t chances)
{
	end->chances = chances;
	if (chance(&end->chances) % 4 == 0) {
		end->pause_every = 1 + end->to_receive / (1 + chance(&end->chances) % PAUSES);
		end->pause_at = 1 + chance(&end->chances) % end->pause_every;
	}
	if (end->to_receive < MIB && chance(&end->chances) % 5 == 0)
		shrink(end, SO_RCVBUF);
	if (end->to_send < MIB && chance(&end->chances) % 5 == 0)
		shrink(end, SO_SNDBUF);
}

static struct end *new_end(int fd, int client, int tcp)
{
	struct end *end = calloc(1, sizeof(*end));

	if (!end)
		give_up("calloc");
	end->fd = fd;
	end->client = client;
	end->tcp = tcp;
	end->reset_at = UINT64_MAX;
	return end;
}

/* Sizes and keys follow from the id: both ends come to the same. */
static void plan_end(struct flow *flow, struct end *end)
{
	uint64_t chances = mixed(flow->id ^ seed), up_key = chance(&chances), down_key = chance(&chances);
	enum plan plan = some_plan(&chances);
	uint64_t up = some_size(&chances), down = some_size(&chances), reset = chance(&chances);

	flow->plan = plan;
	end->flow = flow;
	end->stays = plan == IDLE || plan == REFUSED;
	if (end->stays)
		up = down = 0;
	end->send_key = end->client ? up_key : down_key;
	end->receive_key = end->client ? down_key : up_key;
	end->to_send = end->client ? up : down;
	end->to_receive = end->client ? down : up;
	end->waits = plan == (end->client ? CLIENT_WAITS : BACKEND_WAITS);
	if (plan == (end->client ? CLIENT_RESETS : BACKEND_RESETS))
		end->reset_at = reset % 4 == 0 ? 0 : reset % (up + down + 1);
	vary(end, chance(&chances) + end->client);
}

static const struct place *place_for(const struct flow *flow, uint64_t n)
{
	const struct places *places = flow->plan == REFUSED ? &refused : flow->plan == IDLE ? &idle : &to;

	return &places->at[n % places->count];
}

/* 0 when the system takes no more now. */
static int begin(struct flow *flow)
{
	uint64_t id = begun << 20 | (uint64_t)(flow - flows + 1);
	uint64_t chances = mixed(id ^ seed);
	const struct place *place;
	struct end *end;
	int fd;

	*flow = (struct flow){ .id = id, .began = now_ms() };
	flow->moved = flow->began;
	chance(&chances), chance(&chances);
	flow->plan = some_plan(&chances);
	place = place_for(flow, begun);
	fd = socket(place->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		give_up("socket");
	end = new_end(fd, 1, is_tcp(place));
	plan_end(flow, end);
	flow->client = end;
	flow->all_tcp = end->tcp;
	memcpy(end->head, &id, 8);
	id = ~id;
	memcpy(end->head + 8, &id, 8);
	end->connecting = 1;
	if (connect(fd, &place->any, place->length) < 0 && errno != EINPROGRESS) {
		flow->id = 0;
		retried++;
		if (errno != EAGAIN && !lenient)
			fault(end, strerror(errno));
		close(fd);
		free(end);
		return 0;
	}
	begun++;
	open_flows++;
	by_plan[flow->plan]++;
	if ((uint64_t)open_flows > most_at_once)
		most_at_once = open_flows;
	watch(end);
	return 1;
}

static void connected(struct end *end)
{
	int error = 0;
	socklen_t length = sizeof(error);

	getsockopt(end->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	end->connecting = 0;
	if (error)
		was_broken(end, error);
	else
		go_on(end);
}

/* The first bytes at a backend. */
static void meet(struct end *end)
{
	ssize_t got = recv(end->fd, end->head + end->head_bytes, HEADER - end->head_bytes, MSG_DONTWAIT);
	uint64_t id, again;
	struct flow *flow;

	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0) {
		close_end(end, 0); /* Its client has gone again. */
		return;
	}
	end->head_bytes += got;
	if (end->head_bytes < HEADER)
		return;
	memcpy(&id, end->head, 8);
	memcpy(&again, end->head + 8, 8);
	if (id != ~again || (id & 0xfffff) == 0) {
		fault(end, "other first bytes than were sent");
		close_end(end, 1);
		return;
	}
	flow = (id & 0xfffff) <= (uint64_t)concurrency ? &flows[(id & 0xfffff) - 1] : NULL;
	if (!flow || flow->id != id || flow->backend) {
		close_end(end, 0); /* A client that has reset was forgotten, or an earlier run's comes late. */
		return;
	}
	flow->backend = end;
	flow->all_tcp &= end->tcp;
	plan_end(flow, end);
	go_on(end);
}

static void accept_some(int listener)
{
	struct place peer;

	for (;;) {
		int fd;

		peer.length = sizeof(peer.un);
		fd = accept4(listener, &peer.any, &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		watch(new_end(fd, 0, is_tcp(&peer)));
	}
}

static void heed(struct end *end)
{
	if (end->done)
		return;
	if (end->connecting)
		connected(end);
	else if (!end->flow)
		meet(end);
	else
		go_on(end);
}

static void resume(int64_t now)
{
	struct end **at = &paused;

	while (*at) {
		struct end *end = *at;

		if (end->resume_at > now && !end->done) {
			at = &end->next_paused;
			continue;
		}
		*at = end->next_paused;
		end->resume_at = 0;
		if (!end->done)
			go_on(end);
	}
}

static void find_stuck(int64_t now)
{
	for (int i = 0; i < concurrency; i++) {
		struct flow *flow = &flows[i];

		if (flow->id == 0 || now - flow->moved < stuck_ms)
			continue;
		stuck++;
		fault(flow->client, "stuck");
		if (flow->backend && !flow->backend->done)
			fault(flow->backend, "stuck");
		flow->was_reset = 1;
		close_end(flow->client, 1);
		if (flow->backend)
			close_end(flow->backend, 1);
	}
}

static int more_wanted(int64_t now)
{
	if (now >= until || (flows_wanted && begun >= flows_wanted))
		return 0;
	return !bytes_wanted || bytes_right[0] + bytes_right[1] < bytes_wanted;
}

/* --- the program -------------------------------------------------------------------------------------------- */

static void listen_at(const struct place *place)
{
	struct epoll_event event = { .events = EPOLLIN };
	int fd = socket(place->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

	if (!is_tcp(place))
		unlink(place->un.sun_path);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, &place->any, place->length) < 0 || listen(fd, 4096) < 0)
		give_up("listen");
	/* Ends are pointers, which are even. */
	event.data.u64 = (uint64_t)fd << 1 | 1;
	epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void begin_more(int64_t now)
{
	for (int i = 0; i < concurrency && more_wanted(now); i++)
		if (flows[i].id == 0 && !begin(&flows[i]))
			return;
}

static void run(void)
{
	struct epoll_event events[EVENTS];
	int64_t looked = 0, told = now_ms();

	for (;;) {
		int64_t now = now_ms();
		int count;

		begin_more(now);
		if (told_to_end || (open_flows == 0 && !more_wanted(now)))
			return;
		count = epoll_wait(epoll, events, EVENTS, paused ? 1 : 20);
		for (int i = 0; i < count; i++)
			if (events[i].data.u64 & 1)
				accept_some(events[i].data.u64 >> 1);
			else
				heed(events[i].data.ptr);
		now = now_ms();
		resume(now);
		if (now - looked > 1000) {
			looked = now;
			find_stuck(now);
		}
		forget_done();
		if (now - told > 10000) {
			told = now;
			fprintf(stderr, "%llu flows, %llu MiB\n", (unsigned long long)finished,
				(unsigned long long)(bytes_right[0] + bytes_right[1]) / MIB);
		}
	}
}

static void on_term(int signal)
{
	(void)signal;
	told_to_end = 1;
}

static void tell_number(const char *name, uint64_t number)
{
	printf("\"%s\":%llu,", name, (unsigned long long)number);
}

static void tell(int64_t ms)
{
	putchar('{');
	tell_number("flows", finished);
	tell_number("up", bytes_right[0]);
	tell_number("down", bytes_right[1]);
	tell_number("ms", ms);
	tell_number("faults", faults);
	tell_number("broken", broken);
	tell_number("cut", cut);
	tell_number("unreached", unreached);
	tell_number("stuck", stuck);
	tell_number("pauses", pauses);
	tell_number("retried", retried);
	tell_number("most", most_at_once);
	printf("\"plans\":{");
	for (int i = 0; i < PLANS; i++)
		printf("%s\"%s\":%llu", i ? "," : "", plan_names[i], (unsigned long long)by_plan[i]);
	printf("}}\n");
}

static void add(struct places *places, const char *text)
{
	if (places->count == ADDRESSES) {
		fprintf(stderr, "expected at most %d addresses of a kind\n", ADDRESSES);
		exit(2);
	}
	places->at[places->count++] = place_of(text);
}

static void read_arguments(int count, char **arguments)
{
	static const struct option options[] = {
		{ "to", 1, NULL, 't' },
		{ "backend", 1, NULL, 'b' },
		{ "refused", 1, NULL, 'r' },
		{ "idle", 1, NULL, 'i' },
		{ "flows", 1, NULL, 'n' },
		{ "gigabytes", 1, NULL, 'g' },
		{ "seconds", 1, NULL, 's' },
		{ "concurrency", 1, NULL, 'c' },
		{ "seed", 1, NULL, 'S' },
		{ "stuck-ms", 1, NULL, 'k' },
		{ "resets-end", 0, NULL, 'R' },
		{ "short", 0, NULL, 'x' },
		{ "lenient", 0, NULL, 'l' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(count, arguments, "", options, NULL)) != -1)
		switch (option) {
		case 't': add(&to, optarg); break;
		case 'b': add(&backends, optarg); break;
		case 'r': add(&refused, optarg); break;
		case 'i': add(&idle, optarg); break;
		case 'n': flows_wanted = strtoull(optarg, NULL, 10); break;
		case 'g': bytes_wanted = strtod(optarg, NULL) * 1e9; break;
		case 's': until = now_ms() + strtod(optarg, NULL) * 1000; break;
		case 'c': concurrency = atoi(optarg); break;
		case 'S': seed = mixed(strtoull(optarg, NULL, 10)); break;
		case 'k': stuck_ms = atoll(optarg); break;
		case 'R': resets_end = 1; break;
		case 'x': short_ones = 1; break;
		case 'l': lenient = 1; break;
		default: exit(2);
		}
	if (to.count == 0 || backends.count == 0 || concurrency < 1 || concurrency > 0xfffff) {
		fprintf(stderr, "usage: streams --to ADDRESS --backend ADDRESS [--refused ADDRESS] [--idle ADDRESS]\n"
				"       [--flows N] [--gigabytes N] [--seconds N] [--concurrency N] [--seed N]\n"
				"       [--stuck-ms N] [--short] [--lenient] [--resets-end]\n");
		exit(2);
	}
}

int main(int count, char **arguments)
{
	int64_t began = now_ms();

	read_arguments(count, arguments);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, on_term);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	flows = calloc(concurrency, sizeof(*flows));
	if (epoll < 0 || !flows)
		give_up("start");
	for (int i = 0; i < backends.count; i++)
		listen_at(&backends.at[i]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	run();
	tell(now_ms() - began);
	return faults > 0;
}
