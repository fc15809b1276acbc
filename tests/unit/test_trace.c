/* SPDX-License-Identifier: Apache-2.0 */
/* Stage stamps: their lines, which counters they have, and breakpoints. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/test.h"
#include "vmm/monitor/trace.h"

static char *written(const struct trace *trace)
{
	static char text[4096];
	char name[] = "/tmp/wisp-trace-XXXXXX";
	int fd = mkstemp(name);
	CHECK_EQ(trace_write(trace, AT_FDCWD, name), 0);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	close(fd);
	unlink(name);
	return text;
}

static void some_counts(const struct trace_source *source, struct trace_counts *counts)
{
	(void)source;
	counts->known[0] = counts->known[1] = counts->known[2] = true;
	counts->value[0] = UINT64_MAX;
	counts->value[1] = 0; /* known, and not the same as unknown */
	counts->value[2] = 7;
}

static const struct trace_source some = {.read = some_counts};

static void stamps_are_lines_in_order(void)
{
	struct trace trace = {0};
	trace_mark_at(&trace, "later", 20);
	trace_mark_at(&trace, "sooner", 10);
	CHECK_STR(written(&trace), "{\"stage\":\"sooner\",\"ns\":10}\n{\"stage\":\"later\",\"ns\":20}\n");
}

static void counts_are_the_sources(void)
{
	struct trace trace = {0};
	trace_mark(&trace, "no_source");
	trace.source = &some;
	trace_mark(&trace, "source");
	trace_mark_uncounted(&trace, "uncounted");
	trace_mark_at(&trace, "past", 1);
	trace.source = NULL;
	trace_mark_from(&trace, "given", &some);
	for (unsigned i = 0; i < trace.count; i++)
		trace.stamp[i].ns = i;
	CHECK_STR(written(&trace),
	        "{\"stage\":\"no_source\",\"ns\":0}\n"
	        "{\"stage\":\"source\",\"ns\":1,\"exits\":18446744073709551615,\"io_exits\":0,\"mmio_exits\":7}\n"
	        "{\"stage\":\"uncounted\",\"ns\":2}\n"
	        "{\"stage\":\"past\",\"ns\":3}\n"
	        "{\"stage\":\"given\",\"ns\":4,\"exits\":18446744073709551615,\"io_exits\":0,\"mmio_exits\":7}\n");
}

static void stamps_are_bounded(void)
{
	struct trace trace = {0};
	for (unsigned i = 0; i < 2 * TRACE_STAMPS_MAX; i++)
		trace_mark_at(&trace, "a_name_that_is_longer_than_a_stamp_has_room_for", i);
	unsigned lines = 0;
	for (const char *p = written(&trace); (p = strchr(p, '\n')); p++)
		lines++;
	CHECK_EQ(lines, TRACE_STAMPS_MAX);
	CHECK_EQ(strlen(trace.stamp[0].name), TRACE_NAME_MAX - 1);
	trace_mark(NULL, "nothing");
	trace_mark_from(NULL, "nothing", &some);
	trace_mark_at(NULL, "nothing", 1);
}

static void breakpoints_are_hit_once(void)
{
	struct trace trace = {0};
	uint8_t code[2] = {0x90, 0xc3};
	const char *name = NULL;
	trace_set_breakpoint(&trace, "start_kernel", 0xffffffff81000000, code, (const uint8_t[]){0xe6, 0x7e});
	CHECK(code[0] == 0xe6 && code[1] == 0x7e);
	CHECK(!trace_hit(&trace, 0x1000, &name));
	CHECK(trace_hit(&trace, 0xffffffff81000000, &name));
	CHECK_STR(name, "start_kernel");
	CHECK(code[0] == 0x90 && code[1] == 0xc3);
	CHECK(trace_hit(&trace, 0xffffffff81000000, &name)); /* another vCPU was on its way here */
	CHECK(name == NULL);
}

TEST_MAIN("trace", {"stamps_are_lines_in_order", stamps_are_lines_in_order},
        {"counts_are_the_sources", counts_are_the_sources}, {"stamps_are_bounded", stamps_are_bounded},
        {"breakpoints_are_hit_once", breakpoints_are_hit_once})
