#include "slab.h"

#include <errno.h>
#include <stdlib.h>

/* The beginning of one that is nobody's. */
struct vacant {
	uint32_t next; /* its number and 1; 0 is none */
	uint32_t slot;
};

static int more(struct slab *slab)
{
	uint8_t *block;

	if (slab->slots == SLAB_BLOCK * SLAB_BLOCKS)
		return -ENOMEM;
	block = calloc(SLAB_BLOCK, slab->size);
	if (!block)
		return -ENOMEM;
	slab->blocks[slab->slots / SLAB_BLOCK] = block;
	slab->slots += SLAB_BLOCK;
	for (uint32_t slot = slab->slots; slot-- > slab->slots - SLAB_BLOCK;)
		slab_give(slab, slab_at(slab, slot), slot);
	return 0;
}

void *slab_take(struct slab *slab, uint32_t *slot)
{
	struct vacant *taken;

	if (!slab->free && more(slab) < 0)
		return NULL;
	taken = slab->free;
	*slot = taken->slot;
	slab->free = taken->next ? slab_at(slab, taken->next - 1) : NULL;
	return taken;
}

void slab_give(struct slab *slab, void *thing, uint32_t slot)
{
	struct vacant *vacant = thing, *after = slab->free;

	*vacant = (struct vacant){ .next = after ? after->slot + 1 : 0, .slot = slot };
	slab->free = vacant;
}

void slab_free(struct slab *slab)
{
	for (uint32_t block = 0; block < slab->slots / SLAB_BLOCK; block++)
		free(slab->blocks[block]);
	slab->slots = 0;
	slab->free = NULL;
}
