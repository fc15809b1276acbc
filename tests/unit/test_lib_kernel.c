/* SPDX-License-Identifier: Apache-2.0 */
/* Which of wisp's own kernels a sandbox boots, and what is said of one that is missing. */
#include <sched.h>

#include "tests/unit/test_place.h"

static void a_kernel_that_was_not_built(void)
{
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof(set), &set) < 0 || CPU_COUNT(&set) < 2)
		SKIP("this host has one processor");
	struct place p;
	REQUIRE(make_place(&p));
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/vmlinux-smp", p.lib);
	REQUIRE(unlink(path) == 0);
	p.options.kernel = NULL;
	p.options.cpus = 2;
	expect_refusal(&p, WISP_ERR_SETUP, "make guest");
	end_place(&p, 0);
}

/* Of wisp's own kernels, the name alone; anything else is a path. */
static void kernels_have_names(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	char path[PATH_MAX];
	REQUIRE(make_place(&p));
	p.options.kernel = "full";
	expect_refusal(&p, WISP_ERR_SETUP, "install the package wisp-guest-full");
	write_file(p.lib, "vmlinux-full", "fake\n");
	CHECK_EQ(wisp_create_sandbox(&p.options, &sandbox, NULL), 0);
	wisp_close_sandbox(sandbox);
	p.options.kernel = "vmlinux-full";
	expect_refusal(&p, WISP_ERR_SETUP, "/vmlinux-full: No such file");
	p.options.kernel = "./full";
	expect_refusal(&p, WISP_ERR_SETUP, "/full: No such file");
	snprintf(path, sizeof(path), "%s/vmlinux-up", p.lib);
	REQUIRE(unlink(path) == 0);
	p.options.kernel = "up";
	expect_refusal(&p, WISP_ERR_SETUP, "check the installation");
	end_place(&p, 0);
}

int main(int argc, char **argv)
{
	fake_vmm_main(argc, argv);
	static const struct test_case cases[] = {
	        {"a_kernel_that_was_not_built", a_kernel_that_was_not_built},
	        {"kernels_have_names", kernels_have_names},
	};
	return test_main("lib_kernel", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
