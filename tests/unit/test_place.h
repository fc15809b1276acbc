/* SPDX-License-Identifier: Apache-2.0 */
/* A state directory and a libdir with the fake monitor of test_lib.h, for tests that create sandboxes. */
#ifndef WISP_TEST_PLACE_H
#define WISP_TEST_PLACE_H

#include "tests/unit/test_lib.h"

struct place {
	char dir[64];
	char root[80];
	char lib[80];
	char kernel[112];
	struct wisp_create_options options;
};

UNUSED static bool make_place(struct place *p)
{
	*p = (struct place){.dir = "/tmp/wisp-test-XXXXXX"};
	if (!mkdtemp(p->dir))
		return false;
	snprintf(p->root, sizeof(p->root), "%s/state", p->dir);
	snprintf(p->lib, sizeof(p->lib), "%s/lib", p->dir);
	snprintf(p->kernel, sizeof(p->kernel), "%s/fake-ready", p->lib);
	p->options = (struct wisp_create_options){.size = sizeof(p->options),
	        .state_root = p->root,
	        .libdir = p->lib,
	        .kernel = p->kernel,
	        .name = "box",
	        .disk_size = sizeof(struct wisp_disk)};
	return make_libdir(p->lib);
}

UNUSED static void set_kernel(struct place *p, const char *name)
{
	snprintf(p->kernel, sizeof(p->kernel), "%s/%s", p->lib, name);
}

/* Nothing is left: no directory, no child. */
UNUSED static void end_place(struct place *p, int entries)
{
	CHECK_EQ(count_entries(p->root), entries);
	CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
	remove_all(p->dir);
}

#endif
