/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `config` file in a sandbox's directory: the options that it was created with, for processes that open it later.
 * The first line is SANDBOX_FILES_MAGIC, and each other line is key=value; in values a backslash is written as \\ and a
 * newline as \n.
 */
#ifndef WISP_LIB_CONFIG_H
#define WISP_LIB_CONFIG_H

#include "vmm/lib/cgroup.h"

struct config_disk {
	uint32_t cache; /* enum wisp_cache */
	uint64_t dev;   /* of the file: another may have its path by now */
	uint64_t ino;
	struct wisp_rate rate; /* for clones */
};

struct config {
	const char *image;
	const char *workdir;
	const char *user;
	const char *shell;
	const char *hostname;
	const char *net;  /* NULL, or what its network device is connected to: net.h */
	const char *warm; /* NULL, or the configuration whose warm start this sandbox was booted for: warm.h */
	/* What the guest may reach: as struct wisp_create_options has it, without values; ended by NULL, if not NULL.
	 */
	const char *const *allow, *const *secrets;
	const char **env; /* never NULL; ended by NULL */
	size_t env_count;
	const char **disks; /* "ro PATH" or "rw PATH" of each file it uses; never NULL; ended by NULL */
	size_t disk_count;
	struct config_disk *disk_info; /* of each of `disks`; zero where it is not known */
	size_t disk_info_count;
	const struct wisp_folder *const *folders; /* ended by NULL, if not NULL */
	uint32_t cpus;
	uint32_t memory_mib;
	int64_t created_ns;
	int64_t stop_grace_ms;
	int64_t max_duration_ms; /* for its clones, as the next */
	int64_t idle_timeout_ms;
	struct cgroup_limits limits; /* likewise, as the next */
	struct wisp_rate vsock_rate, console_rate;
	const char *cgroup; /* NULL, or the path of its own */
	bool writable;
	bool overlay; /* the second disk takes the changes to the image */
	bool bare;
	bool detach;
	bool keep;
	char *text;                             /* holds the strings */
	const char **allow_list, **secret_list; /* of a config that was read: hold `allow` and `secrets` */
	size_t allow_count, secret_count;
	struct wisp_folder *folder_store; /* likewise: hold `folders` */
	const struct wisp_folder **folder_list;
	size_t folder_count;
};

/* Whether the first disk is an image: not with a folder as the root. */
bool config_has_image(const struct config *config);

/* Appends `config` as text. Check text->failed. */
void config_format(const struct config *config, struct lib_string *text);
/* Takes over `text`, which is allocated, even if it fails. Returns -ENOMEM on failure. */
int config_parse(char *text, struct config *config);

/* Writes `config` in the directory. Returns -errno on failure. */
int config_write(int dirfd, const struct config *config);
/* Reads it. Missing and unknown keys are not errors, so that versions may differ. Returns -errno on failure. */
int config_read(int dirfd, struct config *config);
/* The same of the open file. */
int config_read_open(int fd, struct config *config);
void config_free(struct config *config);

#endif
