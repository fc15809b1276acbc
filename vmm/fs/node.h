/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of the folder that the guest knows. A node is one inode of the host. It is found by its number, which is
 * the guest's, and by device and inode number, so that hard links are one node. No number is used twice in a session:
 * it has the generation of the node's place in the table. So after a restore (table.c), what the guest still calls by
 * a number that could not be restored is stale, and never another file.
 *
 * A node remembers the folder and the name under which it was last seen. Its descriptor (O_PATH) is opened when it is
 * needed, and closed again when others need theirs more; it is then opened anew by that name, and must be the same
 * inode. So the number of descriptors is bounded, however many files the guest looks at. A regular file has one only
 * while the guest has it open, so that one that the host removes does not take space for longer. A node that the guest
 * has removed keeps its descriptor, because it has no name any more.
 */
#ifndef WISP_FS_NODE_H
#define WISP_FS_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define NODE_ROOT 1u /* FUSE_ROOT_ID */
#define NODE_DEPTH_MAX 256u
#define NODE_INDEX_BITS 20u  /* of a number; the rest is the generation */
#define NODE_CACHED_BEFORE 1 /* for cached_ns: the guest may have pages from before a restore */

struct node {
	dev_t dev;
	ino_t ino;
	uint64_t lookups; /* the references of the guest */
	struct node *parent;
	char *name; /* in the parent; NULL: it has none that is known */
	struct node *next;
	struct node *newer, *older; /* in the order of use, if the descriptor may be closed */
	uint64_t generation;        /* how often its place was used before */
	int64_t cached_ns;          /* CLOCK_REALTIME: since when the guest may have pages of it; 0: it has none */
	uint32_t children;
	uint32_t opens; /* handles of the guest (fs.h) */
	mode_t type;
	int fd; /* -1: not open */
	bool used, listed;
	bool saved; /* it is in the table that is being written (table.c) */
};

struct nodes {
	struct node *all; /* by number */
	struct node **hash;
	struct node *free;
	struct node order; /* the ring of those whose descriptors may be closed */
	uint64_t seed;
	uint64_t generation; /* the least that a new node gets */
	uint32_t max, touched, count;
	uint32_t fds, fds_max; /* descriptors that may be closed */
	uint32_t pinned;       /* those that may not */
};

/*
 * `fd` is the root's, and stays the caller's. `fds_max` is at least twice NODE_DEPTH_MAX. 0 or -errno; nodes_destroy in
 * either case.
 */
int nodes_init(struct nodes *nodes, int fd, const struct stat *st, uint32_t max, uint32_t fds_max);
void nodes_destroy(struct nodes *nodes);

/*
 * For a table that was saved. In any order of parents before children: a node as the guest knows it, which must still
 * be what it was when it is first used. -EINVAL: its number or inode is taken or impossible, or its parent is not a
 * folder. Afterwards once: nodes that are new have at least this generation.
 */
int nodes_put(struct nodes *nodes, uint64_t id, const struct node *as, const char *name);
void nodes_go_on(struct nodes *nodes, uint64_t generation);

/* Whether there is no room for a node more. */
bool nodes_full(const struct nodes *nodes);

/* The node of an inode, or NULL. */
struct node *node_find_inode(struct nodes *nodes, dev_t dev, ino_t ino);

/* The node of a number of the guest's, or NULL. */
struct node *node_find(struct nodes *nodes, uint64_t id);
uint64_t node_id(const struct nodes *nodes, const struct node *node);

/* The descriptor (O_PATH), valid until two further nodes were asked for theirs. -ESTALE: it is not where it was. */
int node_fd(struct nodes *nodes, struct node *node);

/* Closes the descriptor of a regular file that the guest does not have open, if its name leads to it. */
void node_let_go(struct nodes *nodes, struct node *node);

/* 0, or -errno as node_fd; does not open a file. */
int node_stat(struct nodes *nodes, struct node *node, struct stat *st);

/* Finds `name`, which is one component, and counts a reference of the guest. 0 or -errno. */
int node_look_up(struct nodes *nodes, struct node *parent, const char *name, struct stat *st, struct node **found);

/* The same for a file that was opened or created under that name. */
int node_adopt(struct nodes *nodes, struct node *parent, const char *name, const struct stat *st, struct node **found);

void node_forget(struct nodes *nodes, struct node *node, uint64_t lookups);

/*
 * For what removes a name: the node that is known by it, with its descriptor open, or NULL. After that has succeeded,
 * node_unname.
 */
struct node *node_hold(struct nodes *nodes, struct node *parent, const char *name);
void node_unname(struct nodes *nodes, struct node *node);

/* The node is called so from now on. */
void node_rename(struct nodes *nodes, struct node *node, struct node *parent, const char *name);

/* One component below `fd`, never a link that is followed, nor a path that leads out. A descriptor or -errno. */
int node_open_beneath(int fd, const char *name, uint64_t flags, mode_t mode);

#endif
