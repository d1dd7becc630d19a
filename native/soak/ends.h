/* Addresses as the soak programs are given them: 127.0.0.1:4000 or unix:/path. */
#ifndef FAIRLEAD_SOAK_ENDS_H
#define FAIRLEAD_SOAK_ENDS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

struct place {
	socklen_t length;
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_un un;
	};
};

static inline void give_up(const char *what)
{
	perror(what);
	exit(2);
}

static inline struct place place_of(const char *text)
{
	struct place place = { .length = sizeof(place.in) };
	const char *colon = strrchr(text, ':');
	char host[64] = "";

	if (strncmp(text, "unix:", 5) == 0) {
		place.length = sizeof(place.un);
		place.un.sun_family = AF_UNIX;
		snprintf(place.un.sun_path, sizeof(place.un.sun_path), "%s", text + 5);
		return place;
	}
	if (colon && (size_t)(colon - text) < sizeof(host))
		memcpy(host, text, colon - text);
	place.in.sin_family = AF_INET;
	place.in.sin_port = htons(colon ? atoi(colon + 1) : 0);
	if (!colon || inet_pton(AF_INET, host, &place.in.sin_addr) != 1) {
		fprintf(stderr, "expected 127.0.0.1:4000 or unix:/path, got %s\n", text);
		exit(2);
	}
	return place;
}

static inline int is_tcp(const struct place *place)
{
	return place->any.sa_family != AF_UNIX;
}

/* Of CLOCK_MONOTONIC. */
static inline int64_t now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000ll + time.tv_nsec / 1000000;
}

/* A number that looks random, the same one for the same `seed`. */
static inline uint64_t mixed(uint64_t seed)
{
	seed = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9u;
	seed = (seed ^ seed >> 27) * 0x94d049bb133111ebu;
	return seed ^ seed >> 31;
}

#endif
