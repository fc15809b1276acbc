/* SPDX-License-Identifier: Apache-2.0 */
/* All sandboxes under a state root. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/state.h"

/* Directories that were being made or deleted when their process died. A live one is younger or has its lock held. */
static void sweep_hidden(int root_fd, const char *name)
{
	struct stat st;
	int dir_fd = openat(root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir_fd < 0)
		return;
	bool old = fstat(dir_fd, &st) == 0 && time(NULL) - st.st_ctim.tv_sec > 60;
	enum state_lock lock = state_probe(dir_fd);
	close(dir_fd);
	if (strlen(name) == 17 && old && lock != STATE_HELD)
		state_remove(root_fd, name, -1);
}

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

static int add_one(int root_fd, const char *root, const char *name, struct wisp_sandbox_info ***list, size_t *count,
        struct wisp_error *error)
{
	struct wisp_sandbox_info *info;
	bool ghost;
	if (lib_check_name(name, NULL) < 0)
		return 0;
	int r = state_inspect(root_fd, root, name, &info, &ghost, error);
	if (r == -ENOENT || r == -EFBIG)
		return 0; /* gone meanwhile, or nothing of ours */
	if (r < 0)
		return r;
	if (ghost) {
		state_remove(root_fd, name, -1);
		wisp_free_sandbox_info(info);
		return 0;
	}
	struct wisp_sandbox_info **grown = reallocarray(*list, *count + 2, sizeof(*grown));
	if (!grown) {
		wisp_free_sandbox_info(info);
		return lib_no_memory(error);
	}
	grown[(*count)++] = info;
	grown[*count] = NULL;
	*list = grown;
	return 0;
}

int wisp_list_sandboxes(const char *state_root, struct wisp_sandbox_info ***list, struct wisp_error *error)
{
	int root_fd;
	char *root;
	size_t count = 0;
	*list = NULL;
	struct wisp_sandbox_info **found = calloc(1, sizeof(*found));
	if (!found)
		return lib_no_memory(error);
	int r = state_open_root(state_root, false, &root_fd, &root, error);
	if (r == -ENOENT) {
		*list = found;
		return 0;
	}
	if (r < 0) {
		free(found);
		return r;
	}
	DIR *dir = fdopendir(root_fd);
	struct dirent *entry;
	if (!dir) {
		r = lib_fail_errno(error, errno, "cannot read %s", root);
		close(root_fd);
	}
	while (r == 0 && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			sweep_hidden(root_fd, entry->d_name);
		else
			r = add_one(root_fd, root, entry->d_name, &found, &count, error);
	}
	if (dir)
		closedir(dir);
	free(root);
	if (r < 0) {
		wisp_free_sandbox_list(found);
		return r;
	}
	qsort(found, count, sizeof(*found), by_name);
	*list = found;
	return (int)count;
}
