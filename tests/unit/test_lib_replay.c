/* SPDX-License-Identifier: Apache-2.0 */
/* What a terminal is shown of the past: all but what it would answer, wherever the pieces are cut. */
#include <string.h>

#include "tests/unit/test.h"
#include "vmm/lib/replay.h"

/* Feeds the text in pieces of `step` bytes; `left` bytes of it are of the past. */
static size_t filter(const char *text, size_t length, size_t step, uint64_t left, char *to, size_t size)
{
	struct replay replay = {.left = left};
	size_t count = 0;
	for (size_t at = 0; at < length; at += step) {
		const uint8_t *in = (const uint8_t *)text + at, *out;
		size_t in_length = length - at < step ? length - at : step, out_length;
		while (replay_next(&replay, &in, &in_length, &out, &out_length)) {
			CHECK(out_length > 0 && count + out_length < size);
			memcpy(to + count, out, out_length);
			count += out_length;
		}
	}
	to[count] = '\0';
	return count;
}

static void check(const char *text, const char *wanted)
{
	size_t length = strlen(text);
	for (size_t step = 1; step <= length; step++) {
		char got[8192];
		filter(text, length, step, length, got, sizeof(got));
		if (strcmp(got, wanted) != 0) {
			printf("# step %zu of \"", step);
			for (const char *c = text; *c; c++)
				printf(*c >= ' ' ? "%c" : "\\%03o", *c);
			printf("\"\n");
			CHECK_STR(got, wanted);
			return;
		}
	}
}

static void queries_are_taken_out(void)
{
	static const char *const queries[] = {"\033[6n", "\033[5n", "\033[?6n", "\033[?996n", "\033[c", "\033[0c",
	        "\033[>c", "\033[>0c", "\033[=c", "\033[>q", "\033[>0q", "\033[?2026$p", "\033[4$p", "\033[?u",
	        "\033[?4m", "\033[18t", "\033[14;2t", "\033[21t", "\033[x", "\033[1x", "\033[1;1;1;1;5;5*y", "\033[1$w",
	        "\033[?1;1;0S", "\033[#|", "\033Z", "\005", "\033]10;?\033\\", "\033]11;?\007", "\033]4;1;?\007",
	        "\033]10;?;?\033\\", "\033]52;c;?\007", "\033]22;?__current__\007", "\033]1337;ReportCellSize\007",
	        "\033]21;foreground=?\033\\", "\033P$qm\033\\", "\033P+q544e\033\\",
	        "\033_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\033\\", "\033[6\nn"};
	for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
		char text[256];
		check(queries[i], "");
		snprintf(text, sizeof(text), "a%sb", queries[i]);
		check(text, "ab");
		snprintf(text, sizeof(text), "%s%s\033[1m%s", queries[i], queries[i], queries[i]);
		check(text, "\033[1m");
	}
}

static void all_else_is_shown(void)
{
	static const char *const texts[] = {"plain\r\n", "\xc3\xa9\xe2\x82\xac", "\033[31mred\033[0m",
	        "\033[?25l\033[?1049h", "\033[2J\033[H", "\033[1;5r", "\033[2 q", "\033[0q", "\033[>4;2m", "\033[>4n",
	        "\033[>1u", "\033[<u", "\033[8;24;80t", "\033[22;0t", "\033[?5c", "\033[5S", "\033[1;1;5;5$x",
	        "\033(B\033)0\0337\0338\033=", "\033]0;what;?\007", "\033]2;;?\033\\", "\033]8;;http://x/;?\033\\",
	        "\033]52;c;aGVsbG8=\007", "\033]11;#000000\007", "\033P0;1q#0;2;0;0;0~~@@\033\\",
	        "\033_Ga=T,f=100;AAAA\033\\", "\033^private\033\\", "\033[12\033[1m", "\033]10;\033[1m",
	        "\033]10;\030?\007", "\033\033[1m", "\033[1\030c", "a\033[\xc3\xa9"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		check(texts[i], texts[i]);
	/* What breaks a sequence off begins the next, which may be a query. */
	check("\033[12\033[6n!", "\033[12!");
	check("\033]10;\033[6n!", "\033]10;!");
}

/* Titles, images: nothing is lost of what is too long to be held. */
static void long_sequences_are_passed_on(void)
{
	static char text[6000], got[8192];
	memset(text, 'x', sizeof(text));
	memcpy(text, "\033]52;c;", 7);
	memcpy(text + sizeof(text) - 7, "\007\033[6n!!", 7);
	for (size_t step = 1; step < sizeof(text); step = step * 3 + 1) {
		CHECK_EQ(filter(text, sizeof(text), step, sizeof(text), got, sizeof(got)), sizeof(text) - 4);
		CHECK(memcmp(got, text, sizeof(text) - 6) == 0);
		CHECK_STR(got + sizeof(text) - 6, "!!");
	}
}

/* What comes now is answered, also where only its beginning is of the past. */
static void the_present_is_untouched(void)
{
	static const char text[] = "a\033[6nb\033[c\033[6nc";
	static const struct {
		uint64_t left;
		const char *wanted;
	} cases[] = {{0, "a\033[6nb\033[c\033[6nc"}, {2, "a\033[6nb\033[c\033[6nc"}, {5, "ab\033[c\033[6nc"},
	        {8, "ab\033[c\033[6nc"}, {9, "ab\033[6nc"}, {12, "ab\033[6nc"}, {13, "abc"}, {1000, "abc"}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (size_t step = 1; step < sizeof(text); step++) {
			char got[64];
			filter(text, sizeof(text) - 1, step, cases[i].left, got, sizeof(got));
			CHECK_STR(got, cases[i].wanted);
		}
	}
}

/* What lies before a gap does not go on behind it. */
static void a_gap_ends_a_sequence(void)
{
	struct replay replay = {.left = 100};
	const uint8_t *in = (const uint8_t *)"\033[", *out;
	size_t length = 2, out_length;
	CHECK(!replay_next(&replay, &in, &length, &out, &out_length));
	replay_drop(&replay, 90);
	CHECK_EQ(replay.left, 8);
	in = (const uint8_t *)"6n";
	length = 2;
	REQUIRE(replay_next(&replay, &in, &length, &out, &out_length));
	CHECK(out_length == 2 && memcmp(out, "6n", 2) == 0);
	replay_drop(&replay, UINT64_MAX);
	CHECK_EQ(replay.left, 0);
}

TEST_MAIN("lib_replay", {"queries_are_taken_out", queries_are_taken_out}, {"all_else_is_shown", all_else_is_shown},
        {"long_sequences_are_passed_on", long_sequences_are_passed_on},
        {"the_present_is_untouched", the_present_is_untouched}, {"a_gap_ends_a_sequence", a_gap_ends_a_sequence})
