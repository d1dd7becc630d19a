#include "access.h"

#include "records.h"

#include <stdlib.h>

static uint32_t word_of(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
}

static int is_above(const uint32_t *words, const uint8_t *ip, uint32_t width)
{
	for (uint32_t i = 0; i < width; i++) {
		uint32_t theirs = word_of(ip + 4 * i);

		if (words[i] != theirs)
			return words[i] > theirs;
	}
	return 0;
}

int access_allows(const struct access *access, uint32_t family, const uint8_t *ip)
{
	const struct turns *turns = family == FAMILY_IPV6 ? &access->ipv6 : &access->ipv4;
	uint32_t width = family == FAMILY_IPV6 ? 4 : 1;
	uint32_t low = 0, high = turns->count;

	while (high - low > 1) {
		uint32_t middle = (low + high) / 2;

		if (is_above(turns->words + middle * width, ip, width))
			high = middle;
		else
			low = middle;
	}
	return (low & 1) == 0 ? (int)turns->first_allows : !turns->first_allows;
}

void access_free(struct access *access)
{
	if (!access)
		return;
	free(access->ipv4.words);
	free(access->ipv6.words);
	free(access);
}
