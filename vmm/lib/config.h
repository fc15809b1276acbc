/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `config` file of a sandbox's directory: what it was created with, for whoever opens it later. The first line is
 * SANDBOX_FILES_MAGIC, then there is one key=value per line; in values a backslash is written as \\ and a newline as
 * \n.
 */
#ifndef WISP_LIB_CONFIG_H
#define WISP_LIB_CONFIG_H

#include "vmm/lib/lib.h"

struct config {
	const char *image;
	const char *workdir;
	const char *user;
	const char *shell;
	const char *hostname;
	const char **env; /* ended by NULL, never NULL itself */
	size_t env_count;
	const char **disks; /* "ro PATH" or "rw PATH" of each file it uses, ended by NULL, never NULL itself */
	size_t disk_count;
	uint32_t cpus;
	uint32_t memory_mib;
	int64_t created_ns;
	int64_t stop_grace_ms;
	bool writable;
	bool detach;
	bool keep;
	char *text; /* what the strings point into */
};

/* Writes `config` in the directory. -errno. */
int config_write(int dirfd, const struct config *config);
/* Reads it; keys that are missing or unknown are no error, so that versions may differ. -errno. */
int config_read(int dirfd, struct config *config);
void config_free(struct config *config);

#endif
