/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/init_args.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "vmm/shared/fs_wire.h"

/* What is not plain in a path is written as %XX: the kernel's words end at a space, and quotes have a meaning. */
static void append_path(const char *path, char *to, size_t size)
{
	size_t used = strlen(to);
	for (; *path && used + 4 <= size; path++) {
		bool plain = isalnum((unsigned char)*path) || strchr("/._-+,@", *path);
		used += (size_t)snprintf(to + used, size - used, plain ? "%c" : "%%%02X", (unsigned char)*path);
	}
}

static bool is_root(const struct description_folder *folder)
{
	return strcmp(folder->path, "/") == 0;
}

void init_args_make(const struct description *d, char to[INIT_ARGS_MAX])
{
	const size_t size = INIT_ARGS_MAX;
	bool image = d->flags & DESCRIPTION_IMAGE, overlay = d->flags & DESCRIPTION_OVERLAY;
	if (d->flags & DESCRIPTION_BARE) {
		to[0] = '\0';
		return;
	}
	int used = snprintf(to, size, "host=%s", d->hostname);
	if (image)
		used += snprintf(
		        to + used, size - (size_t)used, " root=vda mode=%s", d->disk[0].read_only ? "ro" : "rw");
	if (d->folder_count > 0 && is_root(&d->folder[0]))
		used += snprintf(to + used, size - (size_t)used, " root=" FS_TAG " mode=ro", 0);
	if (overlay)
		used += snprintf(to + used, size - (size_t)used, " overlay=vdb");
	if (d->cpus > 1)
		used += snprintf(to + used, size - (size_t)used, " cpus=%u", d->cpus);
	if (d->flags & DESCRIPTION_TRACE)
		used += snprintf(to + used, size - (size_t)used, " stamps=1");
	for (uint32_t i = 0; i < d->folder_count; i++) {
		used = (int)strlen(to);
		if (is_root(&d->folder[i])) {
			snprintf(to + used, size - (size_t)used, " folder=/");
			continue;
		}
		snprintf(to + used, size - (size_t)used, " folder=%s%s:", d->folder[i].read_only ? "ro" : "rw",
		        d->folder[i].is_file ? ":file" : "");
		append_path(d->folder[i].path, to, size);
	}
}
