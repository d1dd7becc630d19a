/* Which of the sockets that share an address a client's datagrams come to. */
#ifndef FAIRLEAD_STEER_H
#define FAIRLEAD_STEER_H

/* Has the kernel choose among the `count` sockets of the group of `fd` by the address of the client alone, so that all
 * its ports are one thread's. By itself it looks at the port too (SO_ATTACH_REUSEPORT_CBPF in socket(7)). 0 or
 * -errno. */
int steer_by_address(int fd, int count);

#endif
