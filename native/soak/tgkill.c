/* tgkill PID THREAD SIGNAL: sends a signal to one thread, which kill(1) cannot. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int count, char **arguments)
{
	if (count == 4 && syscall(SYS_tgkill, atoi(arguments[1]), atoi(arguments[2]), atoi(arguments[3])) == 0)
		return 0;
	perror("tgkill PID THREAD SIGNAL");
	return 1;
}
