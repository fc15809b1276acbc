/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox to be saved, and what tests of snapshots share. */
#ifndef WISP_TEST_SAVED_H
#define WISP_TEST_SAVED_H

#include "tests/unit/test_place.h"
#include "vmm/shared/snapshot.h"

struct saved {
	struct place place;
	struct wisp_sandbox *sandbox;
	char file[112], cache[112];
	struct wisp_disk disks[2];
	char paths[2][112];
};

/* A sandbox with `disks` further disks, of which the second is read-only. */
UNUSED static bool start(struct saved *s, size_t disks)
{
	struct wisp_error error;
	memset(s, 0, sizeof(*s));
	if (!make_place(&s->place))
		return false;
	snprintf(s->file, sizeof(s->file), "%s/file", s->place.dir);
	snprintf(s->cache, sizeof(s->cache), "%s/cache", s->place.dir);
	for (size_t i = 0; i < 2; i++) {
		snprintf(s->paths[i], sizeof(s->paths[i]), "%s/d%zu", s->place.dir, i);
		write_file(s->place.dir, i ? "d1" : "d0", i ? "read" : "written");
		s->disks[i] = (struct wisp_disk){.path = s->paths[i], .read_only = i == 1};
	}
	s->place.options.disks = disks == 1 ? s->disks + 1 : s->disks;
	s->place.options.disk_count = disks;
	s->place.options.cache_dir = s->cache;
	if (wisp_create_sandbox(&s->place.options, &s->sandbox, &error) == 0)
		return true;
	printf("# %s\n", error.message);
	return false;
}

UNUSED static void end(struct saved *s)
{
	wisp_close_sandbox(s->sandbox);
	end_place(&s->place, 0);
}

/* The options of a sandbox that comes from the file. */
UNUSED static struct wisp_create_options from(const struct saved *s)
{
	struct wisp_create_options options = {.size = sizeof(options),
	        .state_root = s->place.root,
	        .libdir = s->place.lib,
	        .name = "new",
	        .from = s->file,
	        .cache_dir = s->cache,
	        .disk_size = sizeof(struct wisp_disk)};
	return options;
}

UNUSED static bool runs_soon(struct wisp_sandbox *sandbox)
{
	enum wisp_sandbox_state state;
	for (int i = 0; i < 1000; i++) {
		if (wisp_get_sandbox_state(sandbox, &state, NULL) == 0 && state == WISP_SANDBOX_RUNNING)
			return true;
		sleep_ms(10);
	}
	return false;
}

UNUSED static void expect(int got, int wanted, const struct wisp_error *error, const char *word)
{
	if (got != wanted || (wanted < 0 && !strstr(error->message, word)))
		printf("# %d: %s\n", got, got < 0 ? error->message : "");
	CHECK_EQ(got, wanted);
	CHECK(wanted == 0 || strstr(error->message, word));
	CHECK(wanted == 0 || !strchr(error->message, '\n'));
}

UNUSED static void refuse(const struct wisp_create_options *options, int wanted, const char *word)
{
	struct wisp_sandbox *sandbox;
	struct wisp_error error = {0};
	expect(wisp_create_sandbox(options, &sandbox, &error), wanted, &error, word);
	CHECK(!sandbox);
}

UNUSED static bool read_description(const struct wisp_sandbox *sandbox, struct description *d)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/description", wisp_get_sandbox_dir(sandbox));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, d, sizeof(*d)) : -1;
	if (fd >= 0)
		close(fd);
	return n == (ssize_t)sizeof(*d);
}

UNUSED static mode_t mode_of(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

UNUSED static enum wisp_sandbox_state state_of(struct wisp_sandbox *sandbox)
{
	enum wisp_sandbox_state state = 0;
	CHECK_EQ(wisp_get_sandbox_state(sandbox, &state, NULL), 0);
	return state;
}

#endif
