/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/fs/node.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HASH_BITS 17u
#define HASH_SIZE (1u << HASH_BITS)
#define INDEX_MASK ((1u << NODE_INDEX_BITS) - 1)

int node_open_beneath(int fd, const char *name, uint64_t flags, mode_t mode)
{
	struct open_how how = {.flags = flags | O_NOFOLLOW | O_CLOEXEC,
	        .mode = mode,
	        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
	long ret;
	do
		ret = syscall(SYS_openat2, fd, name, &how, sizeof(how));
	while (ret < 0 && errno == EAGAIN); /* a rename on the host came in between */
	return ret < 0 ? -errno : (int)ret;
}

/* --- the table. Both arrays are of the kernel's zeros, and take memory only where they are used. --- */

static void *reserve(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return at == MAP_FAILED ? NULL : at;
}

static struct node **bucket(struct nodes *nodes, dev_t dev, ino_t ino)
{
	/* A forged table says both numbers. Without the seed, nobody can choose them for one place. */
	uint64_t key = ((uint64_t)ino ^ nodes->seed) * 0x9e3779b97f4a7c15u;
	key = ((key ^ key >> 32) + dev) * 0xff51afd7ed558ccdu;
	return &nodes->hash[key >> (64 - HASH_BITS)];
}

struct node *node_find_inode(struct nodes *nodes, dev_t dev, ino_t ino)
{
	struct node *node = *bucket(nodes, dev, ino);
	while (node && (node->ino != ino || node->dev != dev))
		node = node->next;
	return node;
}

static void unhash(struct nodes *nodes, struct node *node)
{
	struct node **at = bucket(nodes, node->dev, node->ino);
	while (*at && *at != node)
		at = &(*at)->next;
	if (*at)
		*at = node->next;
}

static void hash(struct nodes *nodes, struct node *node)
{
	struct node **at = bucket(nodes, node->dev, node->ino);
	node->next = *at;
	*at = node;
	nodes->count++;
}

/* A new node without a name. NULL: there are too many. */
static struct node *add(struct nodes *nodes, const struct stat *st)
{
	struct node *node = nodes->free;
	if (node)
		nodes->free = node->next;
	else if (nodes->touched < nodes->max)
		node = &nodes->all[nodes->touched++];
	else
		return NULL;
	*node = (struct node){.dev = st->st_dev,
	        .ino = st->st_ino,
	        .type = st->st_mode & S_IFMT,
	        .generation = node->generation > nodes->generation ? node->generation : nodes->generation,
	        .fd = -1,
	        .used = true};
	hash(nodes, node);
	return node;
}

/* --- the order of use --- */

static void unlist(struct node *node)
{
	node->newer->older = node->older;
	node->older->newer = node->newer;
	node->listed = false;
}

static void enlist(struct nodes *nodes, struct node *node)
{
	struct node *head = &nodes->order;
	node->older = head->older;
	node->newer = head;
	head->older->newer = node;
	head->older = node;
	node->listed = true;
}

static void close_node(struct nodes *nodes, struct node *node)
{
	if (node->fd < 0)
		return;
	close(node->fd);
	node->fd = -1;
	if (node->listed) {
		unlist(node);
		nodes->fds--;
	} else {
		nodes->pinned--;
	}
}

/* The ring begins with the newest, so that the oldest is the head's newer. */
static void keep_fd(struct nodes *nodes, struct node *node, int fd)
{
	while (nodes->fds >= nodes->fds_max)
		close_node(nodes, nodes->order.newer);
	node->fd = fd;
	enlist(nodes, node);
	nodes->fds++;
}

/* --- names --- */

static void free_node(struct nodes *nodes, struct node *node);

static void set_name(struct nodes *nodes, struct node *node, struct node *parent, char *name)
{
	struct node *before = node->parent;
	free(node->name);
	node->name = name;
	node->parent = parent;
	if (parent)
		parent->children++;
	/* Where the host moves folders around, what was above it may have come below it. */
	node->lookups++;
	if (before && --before->children == 0 && before->lookups == 0)
		free_node(nodes, before);
	node->lookups--;
}

/* The root, which has no parent, is never freed; so the chain of those that go ends. */
static void free_node(struct nodes *nodes, struct node *node)
{
	while (node) {
		struct node *parent = node->parent;
		close_node(nodes, node);
		unhash(nodes, node);
		free(node->name);
		*node = (struct node){.generation = node->generation + 1, .next = nodes->free};
		nodes->free = node;
		nodes->count--;
		bool last = parent && --parent->children == 0 && parent->lookups == 0;
		node = last ? parent : NULL;
	}
}

static bool is_called(const struct node *node, const struct node *parent, const char *name)
{
	return node->parent == parent && node->name && strcmp(node->name, name) == 0;
}

/* Without memory for the name, it keeps the one that it has: it may then be stale, no more. */
void node_rename(struct nodes *nodes, struct node *node, struct node *parent, const char *name)
{
	if (node == nodes->all || node == parent || is_called(node, parent, name))
		return;
	char *copy = strdup(name);
	if (!copy)
		return;
	set_name(nodes, node, parent, copy);
	if (node->fd >= 0 && !node->listed) {
		nodes->pinned--;
		keep_fd(nodes, node, node->fd);
	}
}

/* A guest that removes without end, and forgets nothing, does not take all descriptors: it finds stale files. */
void node_unname(struct nodes *nodes, struct node *node)
{
	if (node->listed && nodes->pinned >= nodes->fds_max) {
		close_node(nodes, node);
	} else if (node->listed) {
		unlist(node);
		nodes->fds--;
		nodes->pinned++;
	}
	set_name(nodes, node, NULL, NULL);
}

/* --- descriptors --- */

static bool is_same(const struct node *node, const struct stat *st)
{
	return node->dev == st->st_dev && node->ino == st->st_ino && node->type == (st->st_mode & S_IFMT);
}

static int reopen(struct nodes *nodes, struct node *node)
{
	struct stat st;
	int fd = node_open_beneath(node->parent->fd, node->name, O_PATH, 0);
	if (fd < 0)
		return fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM ? fd : -ESTALE;
	if (fstat(fd, &st) < 0 || !is_same(node, &st)) {
		close(fd);
		return -ESTALE;
	}
	keep_fd(nodes, node, fd);
	return 0;
}

int node_fd(struct nodes *nodes, struct node *node)
{
	struct node *chain[NODE_DEPTH_MAX];
	unsigned depth = 0;
	for (struct node *at = node; at->fd < 0; at = at->parent) {
		if (!at->name || depth == NODE_DEPTH_MAX)
			return -ESTALE;
		chain[depth++] = at;
	}
	while (depth > 0) {
		int ret = reopen(nodes, chain[--depth]);
		if (ret < 0)
			return ret;
	}
	if (node->listed) {
		unlist(node);
		enlist(nodes, node);
	}
	return node->fd;
}

void node_let_go(struct nodes *nodes, struct node *node)
{
	if (S_ISREG(node->type) && node->opens == 0 && node->listed)
		close_node(nodes, node);
}

int node_stat(struct nodes *nodes, struct node *node, struct stat *st)
{
	if (node->fd >= 0)
		return fstat(node->fd, st) < 0 ? -errno : 0;
	int fd = node->name ? node_fd(nodes, node->parent) : -ESTALE;
	if (fd < 0)
		return fd;
	if (fstatat(fd, node->name, st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT || errno == ENOTDIR ? -ESTALE : -errno;
	return is_same(node, st) ? 0 : -ESTALE;
}

/* --- what the guest does --- */

struct node *node_find(struct nodes *nodes, uint64_t id)
{
	uint64_t at = (id - 1) & INDEX_MASK;
	if (at >= nodes->touched || !nodes->all[at].used || nodes->all[at].generation != (id - 1) >> NODE_INDEX_BITS)
		return NULL;
	return &nodes->all[at];
}

uint64_t node_id(const struct nodes *nodes, const struct node *node)
{
	return (node->generation << NODE_INDEX_BITS | (uint64_t)(node - nodes->all)) + 1;
}

bool nodes_full(const struct nodes *nodes)
{
	return !nodes->free && nodes->touched == nodes->max;
}

/*
 * Whether the host has given the node's number to another file, which it can if no descriptor holds the inode. A type
 * tells. So may a name: of a file that has one only, and was known by another one that leads there no more, nothing
 * says that it was moved. A folder in which the guest knows nothing is no loss either.
 */
static bool is_another(
        struct nodes *nodes, struct node *node, const struct node *parent, const char *name, const struct stat *st)
{
	if (node->type != (st->st_mode & S_IFMT))
		return true;
	if (node == nodes->all || node->fd >= 0 || is_called(node, parent, name))
		return false;
	if (S_ISDIR(node->type) ? node->children > 0 : st->st_nlink > 1)
		return false;
	return node_fd(nodes, node) < 0;
}

int node_adopt(struct nodes *nodes, struct node *parent, const char *name, const struct stat *st, struct node **found)
{
	struct node *node = node_find_inode(nodes, st->st_dev, st->st_ino);
	if (node && is_another(nodes, node, parent, name, st)) {
		unhash(nodes, node);
		node->ino = 0;
		node_unname(nodes, node);
		node = NULL;
	}
	if (!node && !(node = add(nodes, st)))
		return -ENFILE;
	node_rename(nodes, node, parent, name);
	if (node != nodes->all && !node->name && node->fd < 0) {
		if (node->lookups == 0)
			free_node(nodes, node);
		return -ENOMEM;
	}
	node->lookups++;
	*found = node;
	return 0;
}

int node_look_up(struct nodes *nodes, struct node *parent, const char *name, struct stat *st, struct node **found)
{
	int fd = node_fd(nodes, parent);
	if (fd < 0)
		return fd;
	if (fstatat(fd, name, st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return node_adopt(nodes, parent, name, st, found);
}

void node_forget(struct nodes *nodes, struct node *node, uint64_t lookups)
{
	if (node == nodes->all)
		return;
	node->lookups -= lookups < node->lookups ? lookups : node->lookups;
	if (node->lookups == 0 && node->children == 0)
		free_node(nodes, node);
}

struct node *node_hold(struct nodes *nodes, struct node *parent, const char *name)
{
	struct stat st;
	int fd = node_fd(nodes, parent);
	if (fd < 0 || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return NULL;
	struct node *node = node_find_inode(nodes, st.st_dev, st.st_ino);
	if (!node || !is_called(node, parent, name))
		return NULL;
	(void)node_fd(nodes, node);
	return node;
}

/* --- life --- */

int nodes_init(struct nodes *nodes, int fd, const struct stat *st, uint32_t max, uint32_t fds_max)
{
	*nodes = (struct nodes){.max = max, .fds_max = fds_max};
	nodes->order.newer = nodes->order.older = &nodes->order;
	nodes->all = reserve(max * sizeof(*nodes->all));
	nodes->hash = reserve(HASH_SIZE * sizeof(struct node *));
	if (!nodes->all || !nodes->hash)
		return -ENOMEM;
	(void)!getrandom(&nodes->seed, sizeof(nodes->seed), GRND_NONBLOCK);
	struct node *root = add(nodes, st);
	root->fd = fd;
	root->lookups = 1;
	return 0;
}

int nodes_put(struct nodes *nodes, uint64_t id, const struct node *as, const char *name)
{
	uint64_t at = (id - 1) & INDEX_MASK;
	if (at >= nodes->max || nodes->all[at].used || !S_ISDIR(as->parent->type) ||
	        node_find_inode(nodes, as->dev, as->ino))
		return -EINVAL;
	char *copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	struct node *node = &nodes->all[at];
	*node = (struct node){.dev = as->dev,
	        .ino = as->ino,
	        .type = as->type,
	        .lookups = as->lookups,
	        .generation = (id - 1) >> NODE_INDEX_BITS,
	        .fd = -1,
	        .used = true};
	set_name(nodes, node, as->parent, copy);
	hash(nodes, node);
	if (at >= nodes->touched)
		nodes->touched = (uint32_t)at + 1;
	return 0;
}

/* The guest may have pages of each, since a time that is not known. */
void nodes_go_on(struct nodes *nodes, uint64_t generation)
{
	nodes->generation = generation;
	for (uint32_t i = nodes->touched; i-- > 0;) {
		struct node *node = &nodes->all[i];
		node->cached_ns = NODE_CACHED_BEFORE;
		if (node->used)
			continue;
		node->next = nodes->free;
		nodes->free = node;
	}
}

void nodes_destroy(struct nodes *nodes)
{
	for (uint32_t i = 1; i < nodes->touched; i++) {
		if (nodes->all[i].fd >= 0 && nodes->all[i].used)
			close(nodes->all[i].fd);
		free(nodes->all[i].name);
	}
	if (nodes->all)
		munmap(nodes->all, nodes->max * sizeof(*nodes->all));
	if (nodes->hash)
		munmap(nodes->hash, HASH_SIZE * sizeof(struct node *));
	*nodes = (struct nodes){0};
}
