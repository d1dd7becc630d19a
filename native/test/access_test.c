/* What access.h promises, beside a walk through every turn. */
#include "../src/access.h"
#include "../src/records.h"
#include "tap.h"

#include <stddef.h>
#include <string.h>

enum {
	TABLES = 400,
	LOOKS = 1000,
	TURNS = 70,
	IPV6_BYTES = 16,
};

/* The addresses at which the verdict turns as the bytes they are: the model. */
struct model {
	uint32_t count, bytes, first_allows;
	uint8_t at[TURNS][IPV6_BYTES];
};

static int ordered(const void *left, const void *right)
{
	return memcmp(left, right, IPV6_BYTES);
}

static int model_allows(const struct model *model, const uint8_t *ip)
{
	uint32_t turns = 0;

	for (uint32_t i = 1; i < model->count; i++)
		turns += memcmp(model->at[i], ip, model->bytes) <= 0;
	return model->first_allows ? turns % 2 == 0 : turns % 2 == 1;
}

/* Addresses that differ late, or early, or all over. */
static void some_ip(uint8_t *ip, uint32_t bytes)
{
	uint32_t same = chance(3) ? chance(bytes) : 0;
	uint8_t filler = chance(2) ? 0 : chance(2) ? 0xff : 0x80;

	memset(ip, 0, IPV6_BYTES);
	for (uint32_t i = 0; i < bytes; i++)
		ip[i] = i < same ? filler : anything();
}

/* The next address, or the one before; what is after the last is the first. */
static void step(uint8_t *ip, uint32_t bytes, int down)
{
	for (uint32_t i = bytes; i-- > 0;) {
		ip[i] += down ? -1 : 1;
		if (ip[i] != (down ? 0xff : 0))
			return;
	}
}

static struct model some_model(uint32_t bytes, uint32_t count)
{
	struct model model = { .bytes = bytes, .count = count, .first_allows = chance(2) };
	uint32_t kept = 1;

	for (uint32_t i = 1; i < count; i++)
		if (chance(3) == 0 && i > 1) {
			memcpy(model.at[i], model.at[i - 1], IPV6_BYTES);
			step(model.at[i], bytes, 0);
		} else {
			some_ip(model.at[i], bytes);
		}
	if (count == 0)
		return model;
	qsort(model.at, count, sizeof(model.at[0]), ordered);
	for (uint32_t i = 1; i < count; i++)
		if (memcmp(model.at[i], model.at[kept - 1], IPV6_BYTES) != 0)
			memmove(model.at[kept++], model.at[i], IPV6_BYTES);
	model.count = kept;
	return model;
}

/* Memory of exactly their size, so that a sanitizer sees a look beyond. */
static struct turns turns_of(const struct model *model)
{
	uint32_t width = model->bytes / 4;
	struct turns turns = { .count = model->count, .first_allows = model->first_allows };

	turns.words = model->count ? malloc(model->count * model->bytes) : NULL;
	check(turns.words || model->count == 0);
	for (uint32_t i = 0; i < model->count; i++)
		for (uint32_t word = 0; word < width; word++) {
			const uint8_t *bytes = model->at[i] + 4 * word;

			turns.words[i * width + word] = (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 |
							(uint32_t)bytes[2] << 8 | bytes[3];
		}
	return turns;
}

/* What is looked up has the bytes of its family and no more. */
static int allows(const struct access *access, uint32_t bytes, const uint8_t *ip)
{
	uint8_t *exact = malloc(bytes);
	int result;

	check(exact);
	memcpy(exact, ip, bytes);
	result = access_allows(access, bytes == 4 ? FAMILY_IPV4 : FAMILY_IPV6, exact);
	free(exact);
	return result;
}

static void look_around(const struct access *access, const struct model *model)
{
	uint8_t ip[IPV6_BYTES];

	for (int i = 0; i < LOOKS; i++) {
		some_ip(ip, model->bytes);
		if (model->count && chance(2)) {
			memcpy(ip, model->at[chance(model->count)], IPV6_BYTES);
			if (chance(3))
				step(ip, model->bytes, chance(2));
		}
		check(allows(access, model->bytes, ip) == model_allows(model, ip));
	}
	for (int end = 0; end < 2; end++) {
		memset(ip, end ? 0xff : 0, sizeof(ip));
		check(allows(access, model->bytes, ip) == model_allows(model, ip));
	}
}

/* Either family has a table of its own. */
static void agree(uint32_t ipv4_count, uint32_t ipv6_count)
{
	struct model ipv4 = some_model(4, ipv4_count), ipv6 = some_model(16, ipv6_count);
	struct access *access = malloc(sizeof(*access));

	check(access);
	access->ipv4 = turns_of(&ipv4);
	access->ipv6 = turns_of(&ipv6);
	look_around(access, &ipv4);
	look_around(access, &ipv6);
	access_free(access);
}

static void tables_agree(void)
{
	for (int i = 0; i < TABLES; i++)
		agree(1 + chance(TURNS - 1), 1 + chance(TURNS - 1));
}

static void short_tables_agree(void)
{
	for (uint32_t count = 0; count < 9; count++)
		for (int i = 0; i < 5; i++)
			agree(count, 8 - count);
}

/* The same network as ACCESS rules have it: 10.0.0.0/8 is let in, and 2001:db8::/32. */
static void a_network(void)
{
	static uint32_t ipv4[] = { 0, 0x0a000000, 0x0b000000 };
	static uint32_t ipv6[] = { 0, 0, 0, 0, 0x20010db8, 0, 0, 0, 0x20010db9, 0, 0, 0 };
	struct access access = { { 3, 0, ipv4 }, { 3, 0, ipv6 } };
	uint8_t ip[IPV6_BYTES] = { 0x20, 0x01, 0x0d, 0xb8 };

	check(access_allows(&access, FAMILY_IPV4, (uint8_t[]){ 10, 0, 0, 0 }));
	check(access_allows(&access, FAMILY_IPV4, (uint8_t[]){ 10, 255, 255, 255 }));
	check(!access_allows(&access, FAMILY_IPV4, (uint8_t[]){ 9, 255, 255, 255 }));
	check(!access_allows(&access, FAMILY_IPV4, (uint8_t[]){ 11, 0, 0, 0 }));
	check(!access_allows(&access, FAMILY_IPV4, (uint8_t[]){ 200, 1, 1, 1 }));
	check(access_allows(&access, FAMILY_IPV6, ip));
	memset(ip + 4, 0xff, 12);
	check(access_allows(&access, FAMILY_IPV6, ip));
	step(ip, IPV6_BYTES, 0);
	check(!access_allows(&access, FAMILY_IPV6, ip));
	memset(ip, 0xff, IPV6_BYTES);
	check(!access_allows(&access, FAMILY_IPV6, ip));
}

static void nobody_has_a_table(void)
{
	access_free(NULL);
	access_free(calloc(1, sizeof(struct access)));
}

int main(void)
{
	static const struct behaviour behaviours[] = {
		{ "random tables of both families agree with a walk", tables_agree },
		{ "so do tables of no turn, one and a few", short_tables_agree },
		{ "a network ends where it ends", a_network },
		{ "no table is freed", nobody_has_a_table },
	};

	return TAP_RUN(behaviours);
}
