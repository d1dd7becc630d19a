/* Who may come in: the one decision that is made here, since it is made of every datagram of a stranger. The words are
 * those of src/access/boundaries.ts. */
#ifndef FAIRLEAD_ACCESS_H
#define FAIRLEAD_ACCESS_H

#include <stdint.h>

/* Addresses at which the verdict turns, ascending; the first is 0. A word each for IPv4, four for IPv6. */
struct turns {
	uint32_t count;
	uint32_t first_allows;
	uint32_t *words;
};

struct access {
	struct turns ipv4;
	struct turns ipv6;
};

/* Whether an address may come in; `ip` as records have it. A binary search. */
int access_allows(const struct access *access, uint32_t family, const uint8_t *ip);

/* Frees the table and its words; NULL is fine. */
void access_free(struct access *access);

#endif
