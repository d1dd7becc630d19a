/* Socket options that are whole numbers. */
#ifndef FAIRLEAD_OPTION_H
#define FAIRLEAD_OPTION_H

#include <errno.h>
#include <sys/socket.h>

/* Sets an option. Returns 0 or -errno. */
static inline int option_set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* The same, where 0 leaves the system's way. */
static inline int option_set_if(int fd, int level, int name, int value)
{
	return value ? option_set(fd, level, name, value) : 0;
}

#endif
