/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of guest and monitor, from the kernel's text. */
#include <stdlib.h>

#include "tests/unit/test.h"
#include "vmm/monitor/smaps.h"

static const char text[] =
        "00400000-00500000 r-xp 00000000 08:01 1234                               /opt/lib/wisp/wisp-vmm\n"
        "Size:               1024 kB\nKernelPageSize:        4 kB\nRss:                 100 kB\n"
        "Pss:                  40 kB\nPss_Dirty:            9 kB\nShared_Clean:         60 kB\n"
        "Private_Clean:        30 kB\nPrivate_Dirty:        10 kB\nSwap:                  1 kB\n"
        "SwapPss:               1 kB\nVmFlags: rd ex mr mw me\n"
        "7f0000000000-7f0004000000 rw-p 00000000 00:00 0 \n"
        "Rss:                5000 kB\nPss:                 300 kB\nPrivate_Clean:         0 kB\n"
        "Private_Dirty:       200 kB\nSwap:                 50 kB\n"
        "7f0004000000-7f0005000000 rw-p 00000000 00:00 0                          [anon: Rss: 77 kB]\n"
        "Rss:                 700 kB\n"
        "7fff00000000-7fff00021000 rw-p 00000000 00:00 0                          [stack]\n"
        "Rss:                   8 kB\nPss:                   8 kB\nPrivate_Dirty:         8 kB\n";

static const struct gmem gmem = {.count = 2,
        .region = {
                {.host = (uint8_t *)0x7f0000001000, .size = 0x1000}, {.host = (uint8_t *)0x7f0004001000, .size = 1}}};

static void check(const struct smaps *s)
{
	CHECK_EQ(s->monitor.resident, 108 << 10);
	CHECK_EQ(s->monitor.proportional, 48 << 10);
	CHECK_EQ(s->monitor.private, 48 << 10);
	CHECK_EQ(s->monitor.swapped, 1 << 10);
	CHECK_EQ(s->guest.resident, 5700 << 10);
	CHECK_EQ(s->guest.proportional, 300 << 10);
	CHECK_EQ(s->guest.private, 200 << 10);
	CHECK_EQ(s->guest.swapped, 50 << 10);
}

/* However it is cut. */
static void pieces_make_the_same_sums(void)
{
	for (size_t piece = 1; piece < sizeof(text) + 1; piece += piece < 70 ? 1 : 97) {
		struct smaps s = {.gmem = &gmem};
		for (size_t at = 0; at < sizeof(text) - 1; at += piece)
			smaps_take(&s, text + at, at + piece < sizeof(text) ? piece : sizeof(text) - 1 - at);
		check(&s);
	}
}

static void without_a_guest_all_is_the_monitors(void)
{
	struct smaps s = {0};
	smaps_take(&s, text, sizeof(text) - 1);
	CHECK_EQ(s.guest.resident, 0);
	CHECK_EQ(s.monitor.resident, (108 + 5700) << 10);
}

static void odd_lines_are_passed_over(void)
{
	static const char odd[] = "Rss: kB\nRss\nPss: 5 pages\n\n:\nRss: 99999999999999999999 kB extra\nzzzz-zz rw\n";
	char *longest = malloc(100000);
	struct smaps s = {0};
	REQUIRE(longest);
	memset(longest, 'x', 100000);
	smaps_take(&s, odd, strlen("Rss: kB\nRss\n\n:\n"));
	smaps_take(&s, longest, 100000);
	smaps_take(&s, "\nRss: 4 kB\n", 11);
	CHECK_EQ(s.monitor.resident, 4096);
	free(longest);
}

TEST_MAIN("smaps", {"pieces_make_the_same_sums", pieces_make_the_same_sums},
        {"without_a_guest_all_is_the_monitors", without_a_guest_all_is_the_monitors},
        {"odd_lines_are_passed_over", odd_lines_are_passed_over})
