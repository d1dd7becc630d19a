/* Things of one size that are found by a number: in blocks, which never move and are kept until the end. */
#ifndef FAIRLEAD_SLAB_H
#define FAIRLEAD_SLAB_H

#include <stdint.h>

enum {
	SLAB_BLOCK = 256, /* things are allocated so many at a time */
	SLAB_BLOCKS = 4096,
};

struct slab {
	uint32_t size;  /* of one, in bytes; a multiple of 8 */
	uint32_t slots; /* there is memory for; they are numbered from 0 */
	void *free;
	uint8_t *blocks[SLAB_BLOCKS];
};

/* One that is nobody's, with its number in `slot`; what it was before is still in it, but for the first eight bytes.
 * A new one is zeroed. NULL without memory. */
void *slab_take(struct slab *slab, uint32_t *slot);

/* Nobody's again. The first eight bytes are the slab's from now on. */
void slab_give(struct slab *slab, void *thing, uint32_t slot);

/* Frees all of them. */
void slab_free(struct slab *slab);

/* The one with that number, somebody's or not; NULL where there never was one. */
static inline void *slab_at(const struct slab *slab, uint32_t slot)
{
	if (slot >= slab->slots)
		return 0;
	return slab->blocks[slot / SLAB_BLOCK] + (uint64_t)(slot % SLAB_BLOCK) * slab->size;
}

#endif
