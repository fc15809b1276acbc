/* SPDX-License-Identifier: Apache-2.0 */
/* guestclock monotonic|realtime: prints that clock, in nanoseconds or milliseconds. For the guest, whose date has
 * seconds. */
#include <stdio.h>
#include <string.h>
#include <time.h>

int main(int argc, char **argv)
{
	struct timespec now;
	if (argc == 2 && strcmp(argv[1], "monotonic") == 0) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		printf("%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
		return 0;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	printf("%lld\n", now.tv_sec * 1000LL + now.tv_nsec / 1000000);
	return 0;
}
