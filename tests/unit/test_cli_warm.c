/* SPDX-License-Identifier: Apache-2.0 */
/* --warm: the process that a cold start leaves behind, and when there is none. The monitor is the fake one. */
#include "tests/unit/test_cli.h"

/* Waits until the maker has put a snapshot into the cache, and forgets when it was used last. */
#define WAIT_FOR_SNAPSHOT                                                                               \
	"i=0; until ls cache/wisp/images/warm-*.snap >/dev/null 2>&1 || [ $i = 1000 ]; do sleep 0.01; " \
	"i=$((i + 1)); done; touch -d '-1 day' cache/wisp/images/warm-*.snap; "
/* Prints 1 if it was used since then. */
#define IS_USED "find cache/wisp/images -name 'warm-*.snap' -newermt '-1 hour' | wc -l; "
/* The makers are gone, with their sandboxes. */
#define WAIT_FOR_END "i=0; while [ \"$(ls state)\" ] && [ $i != 1000 ]; do sleep 0.01; i=$((i + 1)); done; "

static void a_cold_start_leaves_a_snapshot(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c, "run --warm -- echo a </dev/null; " WAIT_FOR_SNAPSHOT IS_USED WAIT_FOR_END, 0, "a\n0\n");
	expect(&c, "run --warm -e A=5 -- sh -c 'echo $A; exit 7' </dev/null; echo $?; " IS_USED, 0, "5\n7\n1\n");
	CHECK_STR(c.err, "");
	expect(&c, "touch -d '-1 day' cache/wisp/images/*.snap; create --warm --rm -n box; " IS_USED "wisp stop box", 0,
	        "box\n1\n");
	/* Other memory, other snapshot. */
	expect(&c,
	        "rm cache/wisp/images/*; create --warm --rm -n box -m 96; wisp stop box; " WAIT_FOR_SNAPSHOT
	                WAIT_FOR_END "create --warm --rm -n box -m 96; wisp stop box; " IS_USED,
	        0, "box\nbox\n1\n");
	expect(&c, "touch -d '-1 day' cache/wisp/images/*.snap; wisp prune --cache | cut -c 1-14; ls cache/wisp/images",
	        0, "1 file deleted\n");
	end(&c);
}

/* A user who wants it always says so once, and what cannot start warm boots. */
static void by_the_environment(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	setenv("WISP_WARM", "1", 1);
	expect(&c, "run -- true </dev/null; " WAIT_FOR_SNAPSHOT WAIT_FOR_END "run -- true </dev/null; " IS_USED, 0,
	        "1\n");
	expect(&c,
	        "touch -d '-1 day' cache/wisp/images/*.snap; echo >disk; run --disk disk -- true </dev/null; "
	        "run --console -- true </dev/null; " IS_USED,
	        0, "0\n");
	setenv("WISP_WARM", "0", 1);
	expect(&c, "run -- true </dev/null; " IS_USED, 0, "0\n");
	unsetenv("WISP_WARM");
	expect(&c, "run -- true </dev/null; " IS_USED, 0, "0\n");
	expect_error(&c, "run --warm --disk disk -- true", 125, "a warm start cannot be combined with disks");
	expect_error(&c, "run --warm --console -- true", 125, "cannot be combined with console");
	expect_error(&c, "wisp create --warm --from x", 125, "cannot be combined with from");
	end(&c);
}

/* It waits for the end of wisp, however that comes, in a session of its own and without the caller's descriptors. */
static void the_maker_keeps_nothing(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c,
	        "mkfifo in; exec 9<>in; \"$WISP\" run --kernel \"$READY\" --warm -- cat <in 8>file & pid=$!\n"
	        "maker() { for p in $(cat /proc/$pid/task/$pid/children); do "
	        "tr '\\0' ' ' <\"/proc/$p/cmdline\" | grep -q -- --warm && echo $p; done; }\n"
	        "fds() { readlink /proc/$1/fd/* | tr '\\n' ' ' | sed 's/pipe:[^ ]*/pipe/'; }\n"
	        "i=0; until m=$(maker) && [ \"$(fds $m)\" = '/dev/null /dev/null /dev/null pipe ' ] || [ $i = 1000 ]; "
	        "do sleep 0.01; i=$((i + 1)); done; fds $m; echo\n"
	        "awk '{ print ($1 == $6) }' /proc/$m/stat; ls cache/wisp/images | grep -c snap\n"
	        "kill -9 $pid; wait $pid 2>/dev/null; " WAIT_FOR_SNAPSHOT
	        "i=0; while [ -e /proc/$m/stat ] && [ $i != 1000 ]; do sleep 0.01; i=$((i + 1)); done; ls "
	        "cache/wisp/images | grep -c snap; " WAIT_FOR_END,
	        0, "/dev/null /dev/null /dev/null pipe \n1\n0\n1\n");
	end(&c);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	        {"a_cold_start_leaves_a_snapshot", a_cold_start_leaves_a_snapshot},
	        {"by_the_environment", by_the_environment},
	        {"the_maker_keeps_nothing", the_maker_keeps_nothing},
	};
	fake_vmm_main(argc, argv);
	return test_main("cli_warm", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
