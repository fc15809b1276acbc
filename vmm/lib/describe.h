/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox that is being made, by a boot, from a snapshot or as a clone: its options, and the description and
 * descriptors that they become.
 */
#ifndef WISP_LIB_DESCRIBE_H
#define WISP_LIB_DESCRIBE_H

#include "vmm/lib/config.h"
#include "vmm/shared/description.h"

/* wisp's own kernels, in libdir. */
#define KERNEL_PREFIX "vmlinux-"
#define KERNEL_UP KERNEL_PREFIX "up"     /* one processor */
#define KERNEL_SMP KERNEL_PREFIX "smp"   /* several */
#define KERNEL_FULL KERNEL_PREFIX "full" /* the same, and what containers need; only if someone has built it */

struct creation {
	struct wisp_create_options options; /* checked, defaults filled in */
	struct lib_cancel cancel;
	struct restore *restore; /* with options.from: restore.h */
	int from_fd;             /* -1, or the open file that options.from names, which restore_open takes over */
	const char *warm_key;    /* NULL, or what is in the config of a warm start's snapshot: warm.h */
	struct description description;
	struct description_fds fds;
	char *cgroup; /* that was made for it, or NULL */
	char *helper;
	char *proxy;           /* wisp-proxy, if there are rules, or NULL */
	char *fs;              /* likewise wisp-fs, if there are folders */
	struct egress *egress; /* as the proxy, until the sandbox has it: egress.h */
	char *net;             /* what the network device is connected to, for the config; or NULL */
	char *image;           /* the file that is the image, absolute */
	bool image_is_packed;  /* it is a directory's, in the cache */
	char *disk_names[DESCRIPTION_DISKS_MAX + 1]; /* "ro PATH" or "rw PATH" of each disk, for the config */
	struct config_disk disk_info[DESCRIPTION_DISKS_MAX];
	struct wisp_folder folders[WISP_FOLDERS_MAX]; /* those that are described, for the config; owns `path` */
	int copy_from[DESCRIPTION_DISKS_MAX];         /* -1, or the disk of which the sandbox gets a copy */
};

/* A disk that a machine knows already, of which the guest has a file system in use. */
struct known_disk {
	const char *path; /* relative to `dir`, if it is not absolute */
	int dir;
	bool read_only;
	enum wisp_cache cache;
	bool in_use;                             /* by a machine that is paused meanwhile */
	bool copy;                               /* the sandbox gets a copy of it */
	bool check_size, check_time, check_file; /* whether it must have the following */
	uint64_t size;
	int64_t mtime_ns;
	uint64_t dev, ino;
};

/*
 * Opens, checks and locks every file that the options name, and fills in the description, but for what depends on the
 * sandbox's name. 0 or -errno with `error`; release with creation_free either way.
 */
int creation_describe(struct creation *creation, struct wisp_error *error);

/* `given` made absolute, or the file of libdir; the caller's to free. NULL when memory is out. */
char *creation_own_file(const struct creation *creation, const char *given, const char *name);

/* The file in libdir of the kernel that the options choose, such as "vmlinux-up"; NULL if they name a file. */
const char *creation_own_kernel(const struct wisp_create_options *options);

/* The parts of it that a creation without a boot has too. */
int creation_prepare_helper(struct creation *creation, struct wisp_error *error);
int creation_prepare_egress(struct creation *creation, struct wisp_error *error);
int creation_set_options(struct creation *creation, struct wisp_error *error);

/* ---- disks.c: the order in which they are added is that of their names in the guest ---- */

/* Adds and locks an open disk, which the creation owns from here on. */
int creation_add_disk(struct creation *creation, int fd, const char *path, bool read_only, enum wisp_cache cache,
        struct wisp_error *error);
int creation_open_disk(
        struct creation *creation, const char *path, bool read_only, enum wisp_cache cache, struct wisp_error *error);
/* One that is to be copied is opened for reading, and with `in_use` its user's lock is ignored. */
int creation_add_known_disk(struct creation *creation, const struct known_disk *disk, struct wisp_error *error);
/* Makes the copies in the sandbox's directory, "disk0.img" and so on. */
int creation_copy_disks(struct creation *creation, const struct wisp_sandbox *sandbox, struct wisp_error *error);

/* ---- rates.c ---- */

/* What the options say of the rates of the devices that are described: the last step. */
int creation_set_rates(struct creation *creation, struct wisp_error *error);

/* ---- claim.c ---- */

struct cgroup_limits creation_limits(const struct wisp_create_options *options);

/*
 * Claims the sandbox's name and directory in `root`, and fills in the handle and the rest of the description. The
 * handle has root_fd; creation->fds.lock is the lock, which creation_unclaim gives back with all else.
 */
int creation_claim(struct creation *creation, const char *root, struct wisp_sandbox *sandbox, struct wisp_error *error);
void creation_unclaim(struct creation *creation, struct wisp_sandbox *sandbox);

/* ---- create.c ---- */

/* Checks creation->options, and describes what they ask for, by a boot or from a snapshot. */
int creation_prepare(struct creation *creation, struct wisp_error *error);
/*
 * Creates what was prepared, and waits until it is ready unless options.no_wait is set. Takes over root_fd. On failure
 * nothing is left, and *sandbox is unchanged.
 */
int creation_start(struct creation *creation, const char *root, int root_fd, struct wisp_sandbox **sandbox,
        struct wisp_error *error);

void creation_init(struct creation *creation);
void creation_free(struct creation *creation);

#endif
