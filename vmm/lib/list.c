/* SPDX-License-Identifier: Apache-2.0 */
/* Lists the sandboxes of a state root, which changes nothing, and prunes them. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/lib/state.h"

void wisp_free_sandbox_list(struct wisp_sandbox_info **list)
{
	for (size_t i = 0; list && list[i]; i++)
		wisp_free_sandbox_info(list[i]);
	free(list);
}

static int by_name(const void *a, const void *b)
{
	const struct wisp_sandbox_info *const *left = a, *const *right = b;
	return strcmp((*left)->name, (*right)->name);
}

/* Skips what is not a sandbox or cannot be read, so that one odd entry does not hide the others. */
static int add_one(int root_fd, const char *root, const char *name, struct wisp_sandbox_info ***list, size_t *count)
{
	struct wisp_sandbox_info *info;
	if (lib_check_name(name, NULL) < 0)
		return 0;
	int r = state_inspect(root_fd, root, name, &info, NULL);
	if (r < 0)
		return lib_is_shortage(-r) ? r : 0;
	struct wisp_sandbox_info **grown = reallocarray(*list, *count + 2, sizeof(*grown));
	if (!grown) {
		wisp_free_sandbox_info(info);
		return -ENOMEM;
	}
	grown[(*count)++] = info;
	grown[*count] = NULL;
	*list = grown;
	return 0;
}

/* A walk over the entries. `entry` returns 0, or -errno of a shortage of the host. */
struct visit {
	int (*entry)(struct visit *visit, int root_fd, const char *name);
	const char *root;
	struct wisp_sandbox_info **list; /* what it found, ended by NULL */
	size_t count;
	bool dry_run;
};

static int visit_all(struct visit *visit, const char *state_root, struct wisp_error *error)
{
	int root_fd;
	char *root;
	int r = state_open_root(state_root, false, &root_fd, &root, error);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	visit->root = root;
	DIR *dir = fdopendir(root_fd);
	struct dirent *entry;
	if (!dir) {
		r = lib_fail_errno(error, errno, "cannot read %s", root);
		close(root_fd);
	}
	while (r == 0) {
		errno = 0;
		if (!(entry = readdir(dir)))
			break;
		r = visit->entry(visit, root_fd, entry->d_name);
		if (r < 0)
			lib_fail_errno(error, -r, "cannot examine %s/%s", root, entry->d_name);
	}
	if (r == 0 && errno != 0)
		r = lib_fail_errno(error, errno, "cannot read %s", root);
	if (dir)
		closedir(dir);
	free(root);
	return r;
}

static int finish(struct visit *visit, int r, struct wisp_sandbox_info ***list)
{
	if (r < 0) {
		wisp_free_sandbox_list(visit->list);
		return r;
	}
	qsort(visit->list, visit->count, sizeof(*visit->list), by_name);
	if (list)
		*list = visit->list;
	else
		wisp_free_sandbox_list(visit->list);
	return (int)visit->count;
}

static int list_entry(struct visit *visit, int root_fd, const char *name)
{
	return add_one(root_fd, visit->root, name, &visit->list, &visit->count);
}

static int prune_entry(struct visit *visit, int root_fd, const char *name)
{
	size_t before = visit->count;
	if (sandbox_files_is_hidden(name)) {
		if (!visit->dry_run)
			state_remove_leftover(root_fd, name);
		return 0;
	}
	int r = list_entry(visit, root_fd, name);
	if (r < 0 || visit->count == before)
		return r;
	bool stale = visit->list[before]->state == WISP_SANDBOX_STALE;
	if (stale && (visit->dry_run || state_remove(root_fd, name) == 0))
		return 0;
	wisp_free_sandbox_info(visit->list[before]);
	visit->list[before] = NULL;
	visit->count--;
	return 0;
}

static int collect(
        struct visit *visit, const char *state_root, struct wisp_sandbox_info ***list, struct wisp_error *error)
{
	if (list)
		*list = NULL;
	visit->list = calloc(1, sizeof(struct wisp_sandbox_info *));
	if (!visit->list)
		return lib_no_memory(error);
	return finish(visit, visit_all(visit, state_root, error), list);
}

int wisp_list_sandboxes(const char *state_root, struct wisp_sandbox_info ***list, struct wisp_error *error)
{
	struct visit visit = {.entry = list_entry};
	if (lib_is_null(list, "list", error))
		return -EINVAL;
	return collect(&visit, state_root, list, error);
}

int wisp_prune_sandboxes(
        const char *state_root, bool dry_run, struct wisp_sandbox_info ***removed, struct wisp_error *error)
{
	struct visit visit = {.entry = prune_entry, .dry_run = dry_run};
	return collect(&visit, state_root, removed, error);
}
