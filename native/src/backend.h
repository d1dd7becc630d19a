/* Sockets to backends: what the configuration asks of all of them. */
#ifndef FAIRLEAD_BACKEND_H
#define FAIRLEAD_BACKEND_H

#include "flow.h"

/* A socket of `type` (SOCK_STREAM or SOCK_DGRAM) for the flow to connect to `address`. Returns a descriptor or
 * -errno: with ERROR_SOURCE in it when it could not be bound to where it is to come from, -EMFILE when it would be one
 * of the last. */
int backend_open(const struct thread *thread, const struct flow *flow, const struct address *address, int type);

/* Where TypeScript has told to connect to. 0 or -errno. */
int backend_address(struct address *address, const struct told_dial *told);

#endif
