/* A fault on a thread of the plane ends the process with a word and a backtrace. */
#ifndef FAIRLEAD_CRASH_H
#define FAIRLEAD_CRASH_H

/* From now on. Faults of other threads go to whoever handled them before. Twice is fine. */
void crash_watch(void);

/* This thread is one of the plane. */
void crash_mine(void);

#endif
