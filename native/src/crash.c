#include "crash.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <execinfo.h>
#endif

enum { FRAMES = 64 };

static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
static struct sigaction before[NSIG];
static _Thread_local int mine;
static int watching;

void crash_mine(void)
{
	mine = 1;
}

static void put(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return; /* Nobody reads it. */
}

static void backtrace_to_stderr(void)
{
#ifdef __GLIBC__
	void *frames[FRAMES];

	backtrace_symbols_fd(frames, backtrace(frames, FRAMES), STDERR_FILENO);
#else
	put("(no backtrace with this C library)\n");
#endif
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	const struct sigaction *earlier = &before[signal];

	/* A trap of WebAssembly is mended there, and we stay for the next fault. */
	if (!mine && earlier->sa_flags & SA_SIGINFO) {
		earlier->sa_sigaction(signal, info, context);
		return;
	}
	if (mine) {
		put("fairlead: the native plane crashed: ");
		put(strsignal(signal));
		put("\n");
		backtrace_to_stderr();
	}
	/* Returning runs the instruction again, and the fault goes to whoever is there now; a signal that was sent
	 * has to be sent again. */
	sigaction(signal, earlier, NULL);
	if (info->si_code <= 0)
		raise(signal);
}

void crash_watch(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };

	if (watching)
		return;
	watching = 1;
#ifdef __GLIBC__
	/* The first call loads a library, which a handler must not. */
	void *frame[1];

	backtrace(frame, 1);
#endif
	for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++)
		sigaction(faults[i], &action, &before[faults[i]]);
}
