#include "obey.h"

#include "plane.h"
#include "records.h"

#include <errno.h>

static struct share *find_share(struct thread *thread, uint32_t listening)
{
	struct listening *found = plane_find(thread->plane, listening);

	return found ? &found->shares[thread->index] : NULL;
}

static int obey_listen(struct thread *thread, const struct told_listen *told)
{
	struct share *share = find_share(thread, told->listening);
	int error;

	if (!share)
		return -EINVAL;
	error = listener_open(thread, share, told->bind, told->fd, told->shared);
	if (error)
		thread_trouble(thread, TROUBLE_LISTEN, -error, &(struct listener){ .share = share, .bind = told->bind });
	return 0;
}

/* Flows have a byte for it, where 0 is that they are not to be ended. */
static int ends(uint32_t reason)
{
	return reason > 0 && reason <= UINT8_MAX;
}

static int obey_close(struct thread *thread, uint32_t kind, const struct told_close *told)
{
	struct share *share = find_share(thread, told->listening);

	if (!share)
		return -EINVAL;
	if (kind == TOLD_DRAIN) {
		listeners_drain(thread, share);
		return 0;
	}
	if (!ends(told->reason))
		return -EINVAL;
	share->stopping = 1;
	share->reason = told->reason;
	listeners_shut(thread, share);
	flow_doom(thread, share, NO_ROW, told->reason);
	share_done(thread, share);
	return 0;
}

static int obey_drop(struct thread *thread, const struct told_drop *told)
{
	struct share *share = find_share(thread, told->listening);

	if (!share || told->row > INT32_MAX || !ends(told->reason))
		return -EINVAL;
	flow_doom(thread, share, told->row, told->reason);
	return 0;
}

static int obey_answer(struct thread *thread, uint32_t kind, const struct told_flow *told, uint32_t bytes)
{
	struct flow *flow = thread_flow(thread, told->slot, told->life);
	const struct told_dial *dial = (const struct told_dial *)told;

	if (!flow || !flow->owed)
		return -EINVAL;
	if (kind == TOLD_DIAL && (dial->row > INT32_MAX ||
				  (uint64_t)dial->path_bytes + dial->ahead_bytes > bytes - sizeof(*dial)))
		return -EINVAL;
	flow->who.flow = told->flow;
	switch (kind) {
	case TOLD_DIAL:
		flow_dial(thread, flow, dial);
		break;
	case TOLD_WAIT:
		flow_wait(thread, flow, (const struct told_wait *)told);
		break;
	case TOLD_LATER:
		flow_later(thread, flow);
		break;
	case TOLD_REFUSE:
		flow_refuse(thread, flow, ((const struct told_refuse *)told)->reason);
		break;
	}
	return 0;
}

int obey_record(struct thread *thread, const struct record *record)
{
	static const uint32_t least[] = {
		[TOLD_LISTEN] = sizeof(struct told_listen), [TOLD_DIAL] = sizeof(struct told_dial),
		[TOLD_WAIT] = sizeof(struct told_wait),	    [TOLD_LATER] = sizeof(struct told_flow),
		[TOLD_REFUSE] = sizeof(struct told_refuse), [TOLD_DROP] = sizeof(struct told_drop),
		[TOLD_DRAIN] = sizeof(struct told_close),   [TOLD_STOP] = sizeof(struct told_close),
	};
	uint32_t kind = record->kind, bytes = record->bytes - sizeof(*record);
	const void *told = record->payload;

	if (kind < TOLD_LISTEN || kind > TOLD_STOP || bytes < least[kind])
		return -EINVAL;
	switch (kind) {
	case TOLD_LISTEN:
		return obey_listen(thread, told);
	case TOLD_DROP:
		return obey_drop(thread, told);
	case TOLD_DRAIN:
	case TOLD_STOP:
		return obey_close(thread, kind, told);
	default:
		return obey_answer(thread, kind, told, bytes);
	}
}
