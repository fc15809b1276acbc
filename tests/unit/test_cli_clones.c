/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs for snapshots and clones with the library as it is, on the fake monitor, which saves a pattern and forks.
 */
#include "tests/unit/test_cli.h"

static void a_file_is_a_sandbox(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c, "create -q -n box -e A=b; wisp snapshot box a.snap; stat -c %a a.snap; ls *snap*", 0,
	        "600\na.snap\n");
	CHECK_STR(c.err, "");
	expect_error(&c, "wisp snapshot box a.snap", 125, "a.snap exists");
	expect(&c, "wisp snapshot --replace box a.snap; wisp snapshot --verify a.snap", 0, "");
	expect_error(&c, "echo mine >file; wisp snapshot --replace box file", 125, "not a snapshot");
	expect_error(&c, "wisp snapshot box /no/dir/file", 125, "/no/dir");
	expect(&c, "wisp run --from a.snap -- sh -c 'echo $A; exit 7' </dev/null", 7, "b\n");
	expect_error(&c, "wisp run --prefetch -- true", 125, "requires --from");
	expect(&c, "wisp run --from a.snap --prefetch -- echo read </dev/null", 0, "read\n");
	expect(&c, "wisp create --from a.snap -n two -e C=d; wisp exec two -- sh -c 'echo $A $C' </dev/null", 0,
	        "two\nb d\n");
	expect_error(&c, "wisp create --from a.snap -n two", 125, "'two' is running");
	expect(&c,
	        "wisp rm -f two; wisp snapshot --compress box z.snap; wisp snapshot --verify z.snap; wisp run --from "
	        "z.snap -- echo expanded </dev/null; images=$XDG_CACHE_HOME/wisp/images; ls $images | grep -c "
	        "snapshot; touch "
	        "-d '1 hour ago' $images/*; wisp prune --cache | cut -d' ' -f1,2; ls $images | grep -c snapshot",
	        1, "expanded\n1\n1 file\n0\n");
	/* A byte of memory, a file of another kind, half a file. */
	expect_error(&c,
	        "cp a.snap bad; printf x | dd of=bad bs=1 seek=$(($(stat -c %s bad) - 100000)) conv=notrunc "
	        "2>/dev/null; "
	        "wisp snapshot --verify bad",
	        125, "bad");
	expect_error(&c, "wisp run --from file -- true", 125, "file");
	expect_error(&c, "truncate -s 100000 bad; wisp run --from bad -- true", 125, "bad");
	expect_error(&c, "wisp run --from none -- true", 125, "none");
	expect(&c,
	        "wisp snapshot --stop box b.snap; wisp ls | grep -c stopped; wisp run --from b.snap -- echo again "
	        "</dev/null; wisp rm box",
	        0, "1\nagain\n");
	end(&c);
}

static void a_disk_needs_a_decision(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "truncate -s 1M disk; create -q -n box --disk disk");
	expect_error(&c, "wisp snapshot box a.snap", 125, "disk");
	expect_error(&c, "wisp fork box", 125, "disk");
	expect(&c, "wisp snapshot --copy-disks box a.snap; ls; wisp ls -q", 0,
	        "a.snap\na.snap.disk0\ndisk\nerr\nlib\nout\nstate\nbox\n");
	expect_error(&c, "wisp run --from a.snap -- true", 125, "belongs to the snapshot");
	expect(&c, "wisp run --from a.snap --copy-disks -- echo copied </dev/null", 0, "copied\n");
	expect(&c, "cp disk other; wisp run --from a.snap --disk other -- echo other </dev/null", 0, "other\n");
	expect_error(&c, "wisp run --from a.snap --disk disk -- true", 125, "in use by the sandbox 'box'");
	expect(&c, "wisp fork box --copy-disks -n twin; wisp rm -f twin box", 0, "twin\n");
	end(&c);
}

static void clones_are_sandboxes(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c, "create -q -n box -e A=b; wisp fork box -n f --count 3; wisp exec f-3 -- sh -c 'echo $A' </dev/null",
	        0, "f-1\nf-2\nf-3\nb\n");
	expect_error(&c, "wisp fork box -n f-2", 125, "'f-2' is running");
	expect(&c, "wisp fork f-1 -n g --keep --prefetch; wisp stop f-1 f-2 f-3 g box; wisp ls -q; wisp rm g box", 0,
	        "g\nbox\ng\n");
	end(&c);
}

static void paused_and_templates(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c, "create -q -n box; wisp pause box; wisp pause box; wisp ls | grep -c paused", 0, "1\n");
	expect_error(&c, "wisp exec box -- true", 123, "is paused");
	expect(&c,
	        "wisp snapshot box a.snap; wisp fork box -n f; wisp exec f -- echo runs </dev/null; wisp ls | grep -c "
	        "paused",
	        0, "f\nruns\n1\n");
	expect(&c, "wisp resume box; wisp exec box -- echo on </dev/null; wisp rm -f f box", 0, "on\n");
	expect(&c, "wisp create --from a.snap --template -n t; wisp ls | grep -c template", 0, "t\n1\n");
	expect_error(&c, "wisp exec t -- true", 123, "wisp fork t");
	expect(&c, "wisp fork t -n f --count 2; wisp exec f-2 -- echo runs </dev/null", 0, "f-1\nf-2\nruns\n");
	expect(&c, "wisp stop t f-1 f-2; wisp ls -q; wisp rm t", 0, "t\n");
	end(&c);
}

int main(int argc, char **argv)
{
	fake_vmm_main(argc, argv);
	static const struct test_case cases[] = {
	        {"a_file_is_a_sandbox", a_file_is_a_sandbox},
	        {"a_disk_needs_a_decision", a_disk_needs_a_decision},
	        {"clones_are_sandboxes", clones_are_sandboxes},
	        {"paused_and_templates", paused_and_templates},
	};
	return test_main("cli_clones", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
