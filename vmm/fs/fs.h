/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wisp-fs: serves one folder of the host to one guest, by the FUSE protocol (linux/fuse.h). One thread takes one
 * request after the other. All that a request says is the guest's, and hostile.
 *
 * A file is never opened by a path. What the guest names is one component below a descriptor of its folder, and what it
 * has found is opened again through that file's own descriptor, and only if it is a regular file or a folder: device
 * nodes, FIFOs and sockets are the guest's own business.
 */
#ifndef WISP_FS_FS_H
#define WISP_FS_FS_H

#include <fcntl.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "vmm/fs/node.h"
#include "vmm/shared/fs_wire.h"

#define FS_NODES_MAX (1u << 20)
#define FS_HANDLES_MAX (1u << 16)

struct fs_options {
	int socket, requests, replies, folder; /* fs_wire.h; `folder` was opened with O_PATH */
	bool read_only;
	bool map;       /* the guest's user ids are the host's; else all files are those of its root */
	bool always;    /* nothing but the guest changes the folder: what it knows stays valid */
	bool same;      /* refuse the table of a guest that knows another folder */
	uint32_t fds;   /* descriptors that may be open at once, or 0: as many as the limit permits */
	uint32_t nodes; /* or 0: FS_NODES_MAX */
	uint32_t table; /* bytes of a table, or 0: FS_TABLE_MAX */
};

/* An open file or folder of the guest. */
struct handle {
	int fd; /* -1: it was open before a restore, and could not be opened again */
	bool used, is_folder;
	uint32_t next_free;
	uint64_t node;           /* of an open file: its number; 0: it is not open, or a folder */
	struct entries *entries; /* of a folder, or NULL (folders.c) */
};

/* A file or folder that a guest uses which opens none (fs_init_session). */
struct unopened {
	uint64_t node; /* 0: none */
	struct handle handle;
};

struct fs {
	struct fs_options o;
	int proc;     /* /proc/self/fd */
	bool is_file; /* the folder is a single file */
	dev_t dev;
	struct nodes nodes;
	struct handle *handles;
	uint32_t handles_max, handles_touched, free_handle;
	bool skips_open, skips_opendir; /* the guest is told to open no files, no folders */
	struct unopened last[2];        /* the file and the folder that were used so last */
	uint8_t *in;                    /* FS_FRAME and the request */
	uint8_t *out;                   /* the reply */
};

/* One request, of which all lengths are checked. */
struct request {
	struct fuse_in_header head;
	const void *arg; /* what follows the header */
	uint32_t size;   /* of that, without what is in the pipe */
	uint32_t piped;  /* bytes left in the request pipe: a write's */
	const char *name, *name2;
	struct node *node;
	void *out;     /* the reply's body */
	uint32_t room; /* of that */
	uint32_t more; /* bytes of the reply that are in the reply pipe already, and follow `out` */
	uint32_t tail; /* bytes of `out` that go to the pipe behind those */
	int file;      /* a descriptor that the monitor gets with the reply, or -1 */
};

/* An operation: bytes of its reply's body in `out`, or -errno. */
typedef int fs_op(struct fs *fs, struct request *r);

/* ---- serve.c ---- */

/* 0 or -errno; fs_destroy in either case. The descriptors stay the caller's. */
int fs_init(struct fs *fs, const struct fs_options *options);
void fs_destroy(struct fs *fs);

/* Serves until the monitor is gone: 0. -EPROTO: it is not one. */
int fs_serve(struct fs *fs);

/* Reads what is left of the request from the pipe, `bytes` at most. 0, or -EPIPE: the monitor is gone. */
int fs_take(struct fs *fs, struct request *r, void *to, uint32_t bytes);

/* 0, or -errno: `name` is not one component of a path, or NULL. */
int fs_check_component(const char *name);

/* Forgets all that the guest knows. 0 or -errno. */
int fs_reset(struct fs *fs);

/* ---- table.c ---- */

/* What the guest knows, as table.h has it: its size, or -errno. The caller frees *table. */
int64_t fs_save_table(struct fs *fs, uint8_t **table);

/*
 * Restores a table, for a guest that knows what it says; what an earlier guest knew is forgotten. Nothing in it is
 * trusted: what it names is looked for in the folder only. 0; -EINVAL: it is not a table; -EXDEV: it is another
 * folder's; -EMFILE: it has more open files than there are descriptors for; or -ENOMEM.
 */
int fs_restore_table(struct fs *fs, const uint8_t *table, size_t size);

/* Serves one message of the monitor's. 0, or -errno: the monitor is gone. */
int fs_serve_table(struct fs *fs, const struct fs_table_message *message);

/* ---- attributes.c ---- */

/* How long the guest may go without asking again: what the host changes is seen within a second. */
#define FS_VALID_NS 900000000u

/* The same if only the guest changes the folder: for a hundred years. */
#define FS_VALID_ALWAYS_S 3155760000u

/* Changes of a file within one tick of the host's clock have the same time. */
#define FS_TICK_NS 20000000

void fs_fill_attr(const struct fs *fs, const struct stat *st, struct fuse_attr *attr);
int fs_fill_entry(struct fs *fs, struct request *r, struct node *node, const struct stat *st);

/* What of a mode a guest may give a file: a setuid program of the guest's would be one of the host's. */
mode_t fs_mode(mode_t mode, bool is_folder);

/* The host's clock, and whether the guest's pages of a file may stay when it opens the file again. */
int64_t fs_now_ns(void);
bool fs_keeps(const struct fs *fs, const struct node *node, const struct stat *st);

/* Opens what a node is, again, with the rights of `flags`: a descriptor or -errno. */
int fs_reopen(struct fs *fs, struct node *node, int flags);

/* Who owns what is created in between. */
void fs_become(const struct fs *fs, const struct request *r);
void fs_return(const struct fs *fs);

/* "/proc/self/fd/N" without the folder. */
struct fs_link {
	char name[12];
};
struct fs_link fs_link(int fd);

fs_op fs_lookup, fs_forget, fs_batch_forget, fs_getattr, fs_setattr, fs_statfs, fs_init_session, fs_destroy_session;

/* ---- names.c ---- */

fs_op fs_mknod, fs_mkdir, fs_symlink, fs_link_file, fs_readlink, fs_unlink, fs_rmdir, fs_rename, fs_rename2;

/* ---- files.c ---- */

/* The handle of a number of the guest's, or NULL. */
struct handle *fs_handle(struct fs *fs, uint64_t fh, bool is_folder);

/*
 * The same for a request that only reads, which has the number 0 if the guest opens nothing: its node is then opened.
 * That handle is valid until the next call. NULL, with -errno in *error.
 */
struct handle *fs_opened(struct fs *fs, const struct request *r, uint64_t fh, bool is_folder, int *error);

/* The flags of an OPEN that matter on the host. O_APPEND is obeyed with each write. */
#define FS_OPEN_FLAGS (O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC)

/* Whether there are as many as there may be. Asked before anything is opened, truncated or created. */
bool fs_is_full(const struct fs *fs);

/* Takes over `fd`. The number. */
uint32_t fs_add_handle(struct fs *fs, int fd, bool is_folder);
/* The file that the handle has open is the node's. */
void fs_belong(struct fs *fs, struct handle *handle, struct node *node);
void fs_close_handle(struct fs *fs, struct handle *handle);
void fs_close_unopened(struct fs *fs);

fs_op fs_open, fs_create_file, fs_read, fs_write, fs_release, fs_fsync, fs_fallocate, fs_lseek, fs_copy, fs_syncfs;

/* ---- folders.c ---- */

fs_op fs_opendir, fs_readdir, fs_readdirplus, fs_releasedir, fs_fsyncdir;

/* ---- xattrs.c: only user.* ---- */

fs_op fs_getxattr, fs_setxattr, fs_listxattr, fs_removexattr;

#endif
