/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `config` file in a sandbox's directory: the options that it was created with, for processes that open it later.
 * The first line is SANDBOX_FILES_MAGIC, and each other line is key=value; in values a backslash is written as \\ and a
 * newline as \n.
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
	const char **env; /* never NULL; ended by NULL */
	size_t env_count;
	const char **disks; /* "ro PATH" or "rw PATH" of each file it uses; never NULL; ended by NULL */
	size_t disk_count;
	uint32_t cpus;
	uint32_t memory_mib;
	int64_t created_ns;
	int64_t stop_grace_ms;
	bool writable;
	bool detach;
	bool keep;
	char *text; /* holds the strings */
};

/* Writes `config` in the directory. Returns -errno on failure. */
int config_write(int dirfd, const struct config *config);
/* Reads it. Missing and unknown keys are not errors, so that versions may differ. Returns -errno on failure. */
int config_read(int dirfd, struct config *config);
void config_free(struct config *config);

#endif
