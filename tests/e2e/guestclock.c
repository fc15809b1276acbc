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
		printf("%lld%09ld\n", (long long)now.tv_sec, now.tv_nsec);
		return 0;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	printf("%lld%03ld\n", (long long)now.tv_sec, now.tv_nsec / 1000000);
	return 0;
}
