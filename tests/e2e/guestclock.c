/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guestclock monotonic|realtime [repeat]: prints that clock, in nanoseconds or milliseconds; with `repeat` again every
 * millisecond. For the guest, whose date has seconds.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

int main(int argc, char **argv)
{
	static const struct timespec pause = {.tv_nsec = 1000000};
	bool monotonic = argc > 1 && strcmp(argv[1], "monotonic") == 0;
	bool repeat = argc > 2 && strcmp(argv[2], "repeat") == 0;
	struct timespec now;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (;;) {
		clock_gettime(monotonic ? CLOCK_MONOTONIC : CLOCK_REALTIME, &now);
		int written = monotonic ? printf("%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec)
		                        : printf("%lld\n", now.tv_sec * 1000LL + now.tv_nsec / 1000000);
		if (!repeat || written < 0)
			return written < 0;
		nanosleep(&pause, NULL);
	}
}
