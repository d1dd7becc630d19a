/* Questions in datagrams, their answers, and how many are lost.
 *
 *     datagrams --to 127.0.0.1:4000 [--sessions 64] [--window 64] [--seconds 2] ...     prints a line of JSON
 *
 * A session is an address: 127.16.0.0, 127.16.0.1 and so on, all of which Linux takes for its own, on one socket. So
 * thousands of them cost this program no more than one, and a server sees as many clients. They ask in turn. With several
 * --to, session 0 asks the first, session 1 the second, and so on.
 *
 *     --window N     so many questions may be unanswered; the next is asked when an answer is there
 *     --rate N       a second instead, whatever becomes of the answers
 *     --flood        with --rate: answers are not waited for, nor looked at
 *     --questions N  ends it before --seconds, or without these
 *     --sink A:P     the backend is here: a question is answered when it has arrived there
 *     --open         first every session has a question answered; then it prints a line, and goes on when it has read
 *                    one. Only what follows is counted.
 *     --port N       sessions have that port, and so are the same ones again the next time
 *     --first N      the number of the first session
 *     --size N       bytes of a question and of its answer: 100
 *     --timeout-ms N after which a question is lost: 1000
 *
 * An answer is right when it comes from where the question went, to the session that asked, and says the same. SIGTERM
 * ends it: what is unanswered then is not counted as asked. */

#include "../native/soak/ends.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
	BATCH = 64,
	ROOM = 2048,
	QUEUE = 8 << 20,
	/* Questions that may be on their way. */
	FLIGHTS = 1 << 20,
	LONGEST_US = 1 << 21,
	OPENINGS = 5,
	/* An address is the first one and a number: 127.16.0.0 to 127.255.255.255. */
	MOST_SESSIONS = 15 << 20,
	PLACES = 8,
};

#define FIRST_ADDRESS 0x7f100000u
#define SECOND 1000000000ll

/* What a datagram begins with. The rest follows from `number`. */
struct question {
	/* Of this run: answers of an earlier one are nobody's. */
	uint64_t run;
	uint64_t number;
	uint32_t session;
	uint32_t again;
};

struct flight {
	uint64_t number;
	int64_t sent;
	uint32_t session;
	int open;
};

struct counts {
	uint64_t asked, answered, lost, late, again, wrong, unsent;
};

static uint32_t sessions = 64, first_session;
static uint64_t window = 64, questions_wanted, run;
static double rate, seconds;
static int size = 100, port, flood, opening;
static int64_t timeout = SECOND;
static struct place to[PLACES], sink;
static int places, has_sink;

static int fd, sink_fd = -1;
static struct flight flights[FLIGHTS];
static uint64_t next_number, oldest, in_flight;
static uint32_t turn, unopened;
static uint8_t *opened;
static struct counts counts;
static uint32_t took[LONGEST_US];
static volatile sig_atomic_t told_to_end;
static uint8_t pattern[ROOM + 256];

/* One batch of either direction. */
static uint8_t rooms[BATCH][ROOM];
static struct iovec parts[BATCH];
static struct sockaddr_in peers[BATCH];
static union {
	struct cmsghdr aligned;
	uint8_t bytes[CMSG_SPACE(sizeof(struct in_pktinfo))];
} controls[BATCH];
static struct mmsghdr messages[BATCH];

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * SECOND + time.tv_nsec;
}

static struct place *place_for(uint32_t session)
{
	return &to[session % places];
}

static struct flight *flight_of(uint64_t number)
{
	return &flights[number % FLIGHTS];
}

/* --- asking ------------------------------------------------------------------------------------------------- */

static void close_flight(struct flight *flight)
{
	flight->open = 0;
	in_flight--;
}

static void lose(struct flight *flight)
{
	close_flight(flight);
	counts.lost++;
}

/* Questions are asked in order, and so are they lost. */
static void lose_old(int64_t time)
{
	for (; oldest < next_number; oldest++) {
		struct flight *flight = flight_of(oldest);

		if (flight->open && time - flight->sent < timeout && next_number - oldest < FLIGHTS)
			return;
		if (flight->open)
			lose(flight);
	}
}

static uint32_t next_session(void)
{
	while (opening && opened[turn % sessions])
		turn++;
	return turn++ % sessions;
}

static void write_question(int i, uint32_t session, int64_t time)
{
	struct question question = { run, next_number, session, ~session };
	struct msghdr *header = &messages[i].msg_hdr;
	struct in_pktinfo from = { .ipi_spec_dst.s_addr = htonl(FIRST_ADDRESS + first_session + session) };
	struct place *place = place_for(session);
	struct cmsghdr *control;

	memcpy(rooms[i], &question, sizeof(question));
	memcpy(rooms[i] + sizeof(question), pattern + (next_number & 255), size - sizeof(question));
	parts[i] = (struct iovec){ rooms[i], size };
	*header = (struct msghdr){
		&place->any, place->length, &parts[i], 1, &controls[i], sizeof(controls[i]), 0
	};
	control = CMSG_FIRSTHDR(header);
	control->cmsg_level = IPPROTO_IP;
	control->cmsg_type = IP_PKTINFO;
	control->cmsg_len = CMSG_LEN(sizeof(from));
	memcpy(CMSG_DATA(control), &from, sizeof(from));
	if (!flood) {
		*flight_of(next_number) = (struct flight){ next_number, time, session, 1 };
		in_flight++;
	}
	next_number++;
}

static void ask(uint64_t count)
{
	int64_t time = now();
	int written = count < BATCH ? count : BATCH;

	for (int i = 0; i < written; i++)
		write_question(i, next_session(), time);
	counts.asked += written;
	for (int from = 0; from < written;) {
		int sent = sendmmsg(fd, messages + from, written - from, 0);

		if (sent < 0 && errno == EINTR)
			continue;
		/* A question the system does not take is lost like any other. */
		if (sent < 0)
			counts.unsent++;
		from += sent > 0 ? sent : 1;
	}
}

/* --- answers ------------------------------------------------------------------------------------------------ */

/* What an answer came to, as a session; UINT32_MAX when that is none. */
static uint32_t session_of(struct msghdr *header)
{
	struct in_pktinfo info;

	for (struct cmsghdr *each = CMSG_FIRSTHDR(header); each; each = CMSG_NXTHDR(header, each))
		if (each->cmsg_level == IPPROTO_IP && each->cmsg_type == IP_PKTINFO) {
			memcpy(&info, CMSG_DATA(each), sizeof(info));
			return ntohl(info.ipi_addr.s_addr) - FIRST_ADDRESS - first_session;
		}
	return UINT32_MAX;
}

static int is_right(int i, int length, const struct question *question)
{
	const struct sockaddr_in *asked;

	if (length != size || question->session != ~question->again || question->number >= next_number)
		return 0;
	if (memcmp(rooms[i] + sizeof(*question), pattern + (question->number & 255), size - sizeof(*question)) != 0)
		return 0;
	if (has_sink)
		return 1;
	asked = &place_for(question->session)->in;
	return peers[i].sin_addr.s_addr == asked->sin_addr.s_addr && peers[i].sin_port == asked->sin_port &&
	       session_of(&messages[i].msg_hdr) == question->session;
}

static void heed(int i, int64_t time)
{
	int length = messages[i].msg_len;
	struct question question = { 0 };
	struct flight *flight;
	int64_t us;

	memcpy(&question, rooms[i], (size_t)length < sizeof(question) ? (size_t)length : sizeof(question));
	if (length >= (int)sizeof(question.run) && question.run != run)
		return; /* Of an earlier run. */
	if (!is_right(i, length, &question)) {
		counts.wrong++;
		return;
	}
	flight = flight_of(question.number);
	if (flight->number != question.number) {
		counts.late++;
		return;
	}
	if (!flight->open) {
		if (time - flight->sent < timeout)
			counts.again++;
		else
			counts.late++;
		return;
	}
	close_flight(flight);
	counts.answered++;
	us = (time - flight->sent) / 1000;
	took[us < LONGEST_US ? us : LONGEST_US - 1]++;
	if (opening && !opened[flight->session]) {
		opened[flight->session] = 1;
		unopened--;
	}
}

/* How many there were. */
static int hear(void)
{
	int count;

	for (int i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){ rooms[i], ROOM };
		messages[i].msg_hdr = (struct msghdr){
			&peers[i], sizeof(peers[i]), &parts[i], 1, &controls[i], sizeof(controls[i]), 0
		};
	}
	count = recvmmsg(has_sink ? sink_fd : fd, messages, BATCH, MSG_DONTWAIT, NULL);
	if (count <= 0)
		return 0;
	if (!flood) {
		int64_t time = now();

		for (int i = 0; i < count; i++)
			heed(i, time);
	}
	return count;
}

/* --- the run ------------------------------------------------------------------------------------------------ */

static void wait_for_some(int64_t ns)
{
	struct pollfd either = { has_sink ? sink_fd : fd, POLLIN, 0 };
	struct timespec time = { ns / SECOND, ns % SECOND };

	if (ns > 0)
		ppoll(&either, 1, &time, NULL);
}

/* Of questions that are due those beyond a batch are never asked: a burst that nobody meant would only tell how long
 * this program has been kept waiting. */
static uint64_t due(int64_t time, int64_t *began)
{
	int64_t count = (time - *began) / (double)SECOND * rate - counts.asked;

	if (count <= BATCH)
		return count > 0 ? count : 0;
	*began += (count - BATCH) / rate * SECOND;
	return BATCH;
}

static uint64_t free_places(void)
{
	return in_flight < window ? window - in_flight : 0;
}

/* Nanoseconds it took, and so none that was spent on the last answers that never came. */
static int64_t run_until(int64_t end, uint64_t wanted)
{
	int64_t began = now(), paced_from = began, asked_until = began;

	for (;;) {
		int64_t time = now(), wait = 10000000;
		int more = time < end && counts.asked < wanted && !told_to_end && !(opening && unopened == 0);
		uint64_t room = !more ? 0 : rate > 0 ? due(time, &paced_from) : free_places();

		lose_old(time);
		if (room > wanted - counts.asked)
			room = wanted - counts.asked;
		if (room > 0)
			ask(room);
		if (more)
			asked_until = time;
		if (!more && (in_flight == 0 || told_to_end))
			break;
		if (hear() > 0)
			continue;
		if (more && rate > 0)
			wait = paced_from + (counts.asked + 1) / rate * SECOND - now();
		wait_for_some(wait);
	}
	if (told_to_end)
		counts.asked -= in_flight;
	return asked_until - began;
}

static double at(double share)
{
	uint64_t place = counts.answered * share, passed = 0;

	for (int us = 0; us < LONGEST_US; us++) {
		passed += took[us];
		if (passed > place || (passed == counts.answered && passed))
			return us;
	}
	return 0;
}

static void open_all(void)
{
	double paced = rate;
	char line[16];

	opened = calloc(sessions, 1);
	unopened = sessions;
	rate = 0;
	for (int i = 0; i < OPENINGS && unopened > 0; i++)
		run_until(INT64_MAX, counts.asked + unopened);
	rate = paced;
	opening = 0;
	printf("{\"unopened\":%u,\"lost\":%llu,\"wrong\":%llu}\n", unopened, (unsigned long long)counts.lost,
	       (unsigned long long)counts.wrong);
	counts = (struct counts){ 0 };
	memset(took, 0, sizeof(took));
	if (!fgets(line, sizeof(line), stdin))
		exit(2);
}

static void tell_number(const char *name, uint64_t number)
{
	printf("\"%s\":%llu,", name, (unsigned long long)number);
}

static void tell(int64_t ns)
{
	putchar('{');
	tell_number("asked", counts.asked);
	tell_number("answered", counts.answered);
	tell_number("lost", counts.lost);
	tell_number("late", counts.late);
	tell_number("again", counts.again);
	tell_number("wrong", counts.wrong);
	tell_number("unsent", counts.unsent);
	printf("\"ms\":%.1f,\"rate\":%.0f,\"p50\":%.0f,\"p99\":%.0f,\"p999\":%.0f}\n", ns / 1e6,
	       ns ? counts.answered / (ns / (double)SECOND) : 0, at(0.5), at(0.99), at(0.999));
}

static int bound_to(const struct place *place)
{
	int made = socket(AF_INET, SOCK_DGRAM, 0), bytes = QUEUE, yes = 1;

	if (setsockopt(made, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
		setsockopt(made, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	setsockopt(made, IPPROTO_IP, IP_PKTINFO, &yes, sizeof(yes));
	if (made < 0 || bind(made, &place->any, place->length) < 0)
		give_up("bind");
	return made;
}

static void on_term(int signal)
{
	(void)signal;
	told_to_end = 1;
}

static int usage(void)
{
	fprintf(stderr, "usage: datagrams --to ADDRESS:PORT ... [--sessions N] [--window N] [--rate N] [--flood] [--seconds N]\n"
			"       [--questions N] [--sink ADDRESS:PORT] [--open] [--port N] [--first N] [--size N]\n"
			"       [--timeout-ms N]\n");
	return 2;
}

static int read_arguments(int count, char **arguments)
{
	static const struct option options[] = {
		{ "to", 1, NULL, 't' },
		{ "sessions", 1, NULL, 's' },
		{ "window", 1, NULL, 'w' },
		{ "rate", 1, NULL, 'r' },
		{ "flood", 0, NULL, 'f' },
		{ "seconds", 1, NULL, 'S' },
		{ "questions", 1, NULL, 'q' },
		{ "sink", 1, NULL, 'k' },
		{ "open", 0, NULL, 'o' },
		{ "port", 1, NULL, 'p' },
		{ "first", 1, NULL, 'F' },
		{ "size", 1, NULL, 'z' },
		{ "timeout-ms", 1, NULL, 'T' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(count, arguments, "", options, NULL)) != -1)
		switch (option) {
		case 't':
			if (places == PLACES)
				return 0;
			to[places++] = place_of(optarg);
			break;
		case 's': sessions = strtoul(optarg, NULL, 10); break;
		case 'w': window = strtoull(optarg, NULL, 10); break;
		case 'r': rate = atof(optarg); break;
		case 'f': flood = 1; break;
		case 'S': seconds = atof(optarg); break;
		case 'q': questions_wanted = strtoull(optarg, NULL, 10); break;
		case 'k': sink = place_of(optarg), has_sink = 1; break;
		case 'o': opening = 1; break;
		case 'p': port = atoi(optarg); break;
		case 'F': first_session = strtoul(optarg, NULL, 10); break;
		case 'z': size = atoi(optarg); break;
		case 'T': timeout = atof(optarg) * 1e6; break;
		default: return 0;
		}
	return places > 0 && sessions > 0 && first_session + sessions <= MOST_SESSIONS && window > 0 &&
	       window < FLIGHTS / 2 && size >= (int)sizeof(struct question) && size <= ROOM && (!flood || rate > 0);
}

int main(int count, char **arguments)
{
	struct place any = { .length = sizeof(any.in), .in.sin_family = AF_INET };
	int64_t began, ns;

	if (!read_arguments(count, arguments))
		return usage();
	if (seconds == 0 && questions_wanted == 0)
		seconds = 2;
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = i;
	/* Waits are short when it paces. */
	prctl(PR_SET_TIMERSLACK, 1);
	signal(SIGTERM, on_term);
	setvbuf(stdout, NULL, _IOLBF, 0);
	any.in.sin_port = htons(port);
	fd = bound_to(&any);
	if (has_sink)
		sink_fd = bound_to(&sink);
	run = mixed(now() ^ (uint64_t)getpid() << 40);
	if (opening)
		open_all();
	began = now();
	ns = run_until(seconds > 0 ? began + (int64_t)(seconds * SECOND) : INT64_MAX,
		       questions_wanted ? questions_wanted : UINT64_MAX);
	tell(ns);
	return counts.wrong > 0;
}
