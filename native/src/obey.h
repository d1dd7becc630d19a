/* What TypeScript tells a thread. */
#ifndef FAIRLEAD_OBEY_H
#define FAIRLEAD_OBEY_H

#include "ring.h"
#include "thread.h"

/* Does what a record says. Returns 0, or -EINVAL for one that means nothing; nothing is done then. */
int obey_record(struct thread *thread, const struct record *record);

#endif
