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

/* The sandbox, or NULL and why. */
UNUSED static struct wisp_sandbox *create(const struct wisp_create_options *options)
{
	struct wisp_sandbox *sandbox = NULL;
	struct wisp_error error;
	if (wisp_create_sandbox(options, &sandbox, &error) < 0)
		printf("# %s\n", error.message);
	return sandbox;
}

/* No sandbox is created: the error has this status, and says this. */
UNUSED static void expect_refusal(struct place *p, enum wisp_status status, const char *word)
{
	struct wisp_sandbox *sandbox;
	struct wisp_error error = {0};
	CHECK(wisp_create_sandbox(&p->options, &sandbox, &error) < 0);
	if (error.status != status || !strstr(error.message, word))
		printf("# %s: %s\n", wisp_get_status_name(error.status), error.message);
	CHECK_EQ(error.status, status);
	CHECK(strstr(error.message, word));
	CHECK(!strchr(error.message, '\n'));
	CHECK(!sandbox);
}

/* Nothing is left: no directory, no child. */
UNUSED static void end_place(struct place *p, int entries)
{
	CHECK_EQ(count_entries(p->root), entries);
	CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
	remove_all(p->dir);
}

#endif
