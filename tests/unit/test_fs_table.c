/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest knows of a folder, taken from one wisp-fs to the next, and what a forged table may do. */
#include "tests/unit/fs_client.h"

#include "vmm/fs/table.h"

#define ROOT 1u

static uint8_t *table; /* that was saved last; it stays allocated */

/* The size of what is now in `table`; or an error. */
static int save(void)
{
	struct fs_table_message message = {.op = FS_SAVE};
	struct fs_table_reply reply;
	if (send(client.socket, &message, sizeof(message), 0) != sizeof(message) ||
	        recv(client.socket, &reply, sizeof(reply), 0) != sizeof(reply))
		return -1000;
	table = realloc(table, reply.size + 1);
	for (uint32_t done = 0; done < reply.size;) {
		ssize_t n = recv(client.socket, table + done, reply.size - done, 0);
		if (n <= 0)
			return -1000;
		done += (uint32_t)n;
	}
	return reply.error ? reply.error : (int)reply.size;
}

static int restore(const uint8_t *from, uint32_t size)
{
	struct fs_table_message message = {.op = FS_RESTORE, .size = size};
	struct fs_table_reply reply;
	if (send(client.socket, &message, sizeof(message), 0) != sizeof(message))
		return -1000;
	for (uint32_t piece; size > 0; from += piece, size -= piece) {
		piece = size < FS_TABLE_PIECE ? size : FS_TABLE_PIECE;
		if (send(client.socket, from, piece, 0) != (ssize_t)piece)
			return -1000;
	}
	return recv(client.socket, &reply, sizeof(reply), 0) == sizeof(reply) && reply.size == 0 ? reply.error : -1000;
}

/* Of a table of the folder as it is now, with nothing in it. */
static struct fs_table head_now(void)
{
	struct fs_table head = {0};
	CHECK(save() > 0);
	memcpy(&head, table, sizeof(head));
	head.nodes = head.handles = 0;
	return head;
}

/* Another wisp-fs for the guest. */
static bool move(const struct start *start)
{
	int size = save();
	return size > 0 && client_stop() && client_start_over(start) && restore(table, (uint32_t)size) == 0;
}

static bool make_tree(void)
{
	return mkdir(at("a"), 0755) == 0 && mkdir(at("a/b"), 0755) == 0 && put(at("a/b/f"), "contents") &&
	       put(at("g"), "others");
}

static int list(uint64_t node, int64_t fh)
{
	struct fuse_read_in in = {.fh = (uint64_t)fh, .size = 4096};
	int ret = call(FUSE_READDIR, node, &in, sizeof(in));
	return ret < 0 ? ret : (int)client.size;
}

static bool reads(uint64_t node, int64_t fh, const char *text)
{
	return read_node(node, fh, 0, 100) == (int)strlen(text) && memcmp(client.in, text, strlen(text)) == 0;
}

/* Numbers, references and handles go on; in its jail, too. */
static void goes_on(void)
{
	for (int jail = 0; jail < 2; jail++) {
		struct start start = {.jail = jail};
		struct fuse_attr attr;
		REQUIRE(client_start(&start) && make_tree());
		uint64_t a = (uint64_t)look_up(ROOT, "a"), b = (uint64_t)look_up(a, "b");
		uint64_t f = (uint64_t)look_up(b, "f"), g = (uint64_t)look_up(ROOT, "g");
		CHECK_EQ(look_up(b, "f"), (int64_t)f);
		int64_t writing = open_node(f, O_RDWR), reading = open_node(g, O_RDONLY);
		int64_t folder = open_node(a, O_RDONLY | O_DIRECTORY), closed = open_node(g, O_RDONLY);
		CHECK(writing > 0 && reading > 0 && folder > 0);
		CHECK_EQ(release_node(g, (uint64_t)closed, false), 0);
		for (int twice = 0; twice < 2; twice++) {
			REQUIRE(move(&start));
			CHECK(stat_node(f, &attr) == 0 && attr.size == 8);
			CHECK(reads(f, writing, "contents") && reads(g, reading, "others"));
			CHECK(list(a, folder) > 0);
		}
		CHECK_EQ(write_node(f, writing, 0, "CON", 3, 0), 3);
		CHECK_STR(get(at("a/b/f")), "CONtents");
		CHECK_EQ(write_node(g, reading, 0, "x", 1, 0), -EBADF);
		CHECK(look_up(ROOT, "a") == (int64_t)a && look_up(a, "b") == (int64_t)b);
		/* The guest may have pages of the file as it was. */
		struct fuse_open_in in = {.flags = O_RDONLY};
		CHECK_EQ(call(FUSE_OPEN, g, &in, sizeof(in)), 0);
		CHECK(!(REPLY(struct fuse_open_out)->open_flags & FOPEN_KEEP_CACHE));
		CHECK_EQ((int64_t)REPLY(struct fuse_open_out)->fh, closed);
		/* It had two references, and has none when both are given back: its number is then nobody's. */
		CHECK_EQ(forget(f, 1), 0);
		CHECK_EQ(stat_node(f, &attr), 0);
		CHECK_EQ(release_node(f, (uint64_t)writing, false), 0);
		CHECK_EQ(forget(f, 1), 0);
		CHECK_EQ(stat_node(f, &attr), -ESTALE);
		int64_t again = look_up(b, "f");
		CHECK(again > 0 && again != (int64_t)f);
		client_end();
	}
}

/*
 * A folder that only the guest changes. Its pages may be of before the restore, and stay after that. What it may do
 * without opening was settled before, with another wisp-fs.
 */
static void cached_always(void)
{
	const struct start start = {.always = true, .read_only = true};
	struct fuse_open_in in = {.flags = O_RDONLY};
	REQUIRE(client_start(&start) && make_tree());
	uint64_t a = (uint64_t)look_up(ROOT, "a"), g = (uint64_t)look_up(ROOT, "g");
	CHECK(reads(g, 0, "others") && list(a, 0) > 0);
	REQUIRE(move(&start));
	CHECK(reads(g, 0, "others") && list(a, 0) > 0);
	CHECK(open_node(a, O_RDONLY | O_DIRECTORY) > 0);
	CHECK_EQ(call(FUSE_OPEN, g, &in, sizeof(in)), 0);
	CHECK(!(REPLY(struct fuse_open_out)->open_flags & FOPEN_KEEP_CACHE));
	CHECK_EQ(call(FUSE_OPEN, g, &in, sizeof(in)), 0);
	CHECK(REPLY(struct fuse_open_out)->open_flags & FOPEN_KEEP_CACHE);
	client_end();
}

/* What the host has changed meanwhile. No number of what is gone is given to another file while the guest has it. */
static void host_changes(void)
{
	static const char *const names[] = {"removed", "renamed", "replaced", "link", "unlinked"};
	uint64_t node[5];
	int64_t fh[5];
	struct fuse_attr attr;
	REQUIRE(client_start(&(struct start){0}));
	for (unsigned i = 0; i < 5; i++) {
		REQUIRE(put(at("%s", names[i]), names[i]));
		node[i] = (uint64_t)look_up(ROOT, names[i]);
		fh[i] = open_node(node[i], O_RDWR);
	}
	CHECK_EQ(call_names(FUSE_UNLINK, ROOT, NULL, 0, "unlinked", NULL), 0);
	CHECK(reads(node[4], fh[4], "unlinked"));
	int size = save();
	REQUIRE(size > 0 && client_stop());
	REQUIRE(unlink(at("removed")) == 0 && rename(at("renamed"), at("name")) == 0);
	REQUIRE(put(at("other"), "other") && rename(at("other"), at("replaced")) == 0);
	REQUIRE(rename(at("link"), at("target")) == 0 && symlink("target", at("link")) == 0);
	REQUIRE(client_start_over(&(struct start){0}) && restore(table, (uint32_t)size) == 0);
	for (unsigned i = 0; i < 5; i++) {
		CHECK_EQ(stat_node(node[i], &attr), -ESTALE);
		CHECK_EQ(read_node(node[i], fh[i], 0, 10), i == 4 ? -ESTALE : -EBADF);
		CHECK(open_node(node[i], O_RDONLY) == -ESTALE);
	}
	/* Of one that was renamed nothing says that it is that: its number may be another file's by now. */
	CHECK(look_up(ROOT, "name") > 1 && look_up(ROOT, "name") != (int64_t)node[1]);
	uint64_t other = (uint64_t)look_up(ROOT, "replaced");
	CHECK(other != node[2]);
	int64_t opened = open_node(other, O_RDONLY);
	for (unsigned i = 0; i < 5; i++)
		CHECK(opened != fh[i]);
	CHECK_EQ(release_node(node[0], (uint64_t)fh[0], false), 0);
	CHECK_EQ(open_node(other, O_RDONLY), fh[0]);
	/* What the guest gives back of the old file is none of the new one's. */
	CHECK_EQ(forget(node[2], 5), 0);
	CHECK_EQ(stat_node(other, &attr), 0);
	client_end();
}

static bool has_times_of_birth(void)
{
	struct statx st;
	return statx(AT_FDCWD, client.dir, 0, STATX_BTIME, &st) == 0 && st.stx_mask & STATX_BTIME;
}

/* Between saving and restoring, the host removes a file that is open, and makes another of its name and number. */
static void reused_number(void)
{
	struct stat st;
	REQUIRE(client_start(&(struct start){0}) && make_tree());
	uint64_t g = (uint64_t)look_up(ROOT, "g");
	int64_t fh = open_node(g, O_RDWR);
	int size = save();
	REQUIRE(size > 0 && client_stop());
	REQUIRE(stat(at("g"), &st) == 0 && unlink(at("g")) == 0);
	poll(NULL, 0, 20); /* times of birth are of the clock's ticks */
	bool same = recreate(at("g"), st.st_ino);
	REQUIRE(client_start_over(&(struct start){0}));
	CHECK_EQ(restore(table, (uint32_t)size), 0);
	int ret = write_node(g, fh, 0, "x", 1, 0);
	bool known = has_times_of_birth();
	client_end();
	if (!same)
		SKIP("this file system gives no number of an inode again");
	if (!known)
		SKIP("this file system knows no times of birth");
	CHECK_EQ(ret, -EBADF);
}

/* An ordinary user may not open a file again as it was opened when it was created. */
static void not_allowed(void)
{
	bool root = geteuid() == 0;
	int64_t fh;
	REQUIRE(!root || seteuid(65534) == 0);
	CHECK(client_start(&(struct start){0}));
	uint64_t node = (uint64_t)create_node(ROOT, "object", O_RDWR, 0444, &fh);
	CHECK_EQ(write_node(node, fh, 0, "text", 4, 0), 4);
	CHECK(move(&(struct start){0}));
	CHECK_EQ(write_node(node, fh, 4, "more", 4, 0), -EBADF);
	CHECK(reads(node, open_node(node, O_RDONLY), "text"));
	client_end();
	REQUIRE(!root || seteuid(0) == 0);
}

/* What is known by a name that was removed has none, also if it has another. */
static void hard_links(void)
{
	struct fuse_attr attr;
	REQUIRE(client_start(&(struct start){0}) && put(at("a"), "text") && link(at("a"), at("b")) == 0);
	uint64_t node = (uint64_t)look_up(ROOT, "a");
	int64_t fh = open_node(node, O_RDONLY);
	CHECK_EQ(call_names(FUSE_UNLINK, ROOT, NULL, 0, "a", NULL), 0);
	REQUIRE(move(&(struct start){0}));
	CHECK_EQ(stat_node(node, &attr), -ESTALE);
	uint64_t other = (uint64_t)look_up(ROOT, "b");
	CHECK_EQ(read_node(other, fh, 0, 10), -EBADF);
	CHECK(reads(other, open_node(other, O_RDONLY), "text"));
	client_end();
}

static void another_folder(void)
{
	char before[96];
	struct fuse_attr attr;
	REQUIRE(client_start(&(struct start){0}) && make_tree());
	uint64_t g = (uint64_t)look_up(ROOT, "g");
	int64_t fh = open_node(g, O_RDONLY);
	int size = save();
	REQUIRE(size > 0 && client_stop());
	snprintf(before, sizeof(before), "%s-before", client.dir);
	REQUIRE(rename(client.dir, before) == 0 && mkdir(client.dir, 0755) == 0 && put(at("g"), "elsewhere"));
	REQUIRE(client_start_over(&(struct start){.same = true}));
	CHECK_EQ(restore(table, (uint32_t)size), -EXDEV);
	REQUIRE(client_stop() && client_start_over(&(struct start){0}));
	CHECK_EQ(restore(table, (uint32_t)size), 0);
	CHECK_EQ(stat_node(ROOT, &attr), 0);
	CHECK_EQ(stat_node(g, &attr), -ESTALE);
	CHECK_EQ(read_node(ROOT, fh, 0, 10), -EBADF);
	int64_t here = look_up(ROOT, "g");
	CHECK(here > 0 && here != (int64_t)g);
	int64_t opened = open_node((uint64_t)here, O_RDONLY);
	CHECK(opened != fh && reads((uint64_t)here, opened, "elsewhere"));
	client_end();
	nftw(before, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The rights are those of the new wisp-fs. */
static void read_only(void)
{
	REQUIRE(client_start(&(struct start){0}) && make_tree());
	uint64_t g = (uint64_t)look_up(ROOT, "g");
	int64_t writing = open_node(g, O_RDWR), reading = open_node(g, O_RDONLY);
	REQUIRE(move(&(struct start){.read_only = true}));
	CHECK(reads(g, reading, "others"));
	CHECK_EQ(read_node(g, writing, 0, 10), -EBADF);
	CHECK_EQ(write_node(g, writing, 0, "x", 1, 0), -EROFS);
	CHECK_STR(get(at("g")), "others");
	client_end();
}

static void single_file(void)
{
	const struct start start = {.file = "one"};
	REQUIRE(client_start(&start));
	uint64_t one = (uint64_t)look_up(ROOT, FS_FILE_NAME);
	int64_t fh = open_node(one, O_RDONLY);
	REQUIRE(move(&start));
	CHECK(reads(one, fh, "shared") && look_up(ROOT, FS_FILE_NAME) == (int64_t)one);
	/* Another in its place: what is open is not that one. */
	REQUIRE(put(at("two"), "another"));
	int size = save();
	REQUIRE(size > 0 && client_stop() && rename(at("two"), at("one")) == 0 && client_start_over(&start));
	CHECK_EQ(restore(table, (uint32_t)size), 0);
	CHECK_EQ(read_node(one, fh, 0, 10), -EBADF);
	CHECK(reads(one, open_node(one, O_RDONLY), "another"));
	/* Nor is it a folder's. */
	REQUIRE(client_stop() && client_start_over(&(struct start){0}));
	CHECK_EQ(restore(table, (uint32_t)size), -EINVAL);
	client_end();
}

/* More than there is room for: open files and folders come first, and the guest finds the rest by their names. */
static void bounded(void)
{
	enum { FILES = 9000 };
	static char name[201];
	static int64_t node[FILES];
	struct fuse_attr attr;
	unsigned stale = 0;
	const struct start start = {.jail = true, .table = 2 << 20};
	REQUIRE(client_start(&start));
	memset(name, 'n', 200);
	int folder = open(client.dir, O_PATH);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, 5, "%04u", i);
		name[4] = 'n';
		close(openat(folder, name, O_WRONLY | O_CREAT, 0644));
		node[i] = look_up(ROOT, name);
	}
	close(folder);
	int64_t fh = open_node((uint64_t)node[FILES - 1], O_RDONLY);
	REQUIRE(mkdir(at("d"), 0755) == 0);
	int64_t d = look_up(ROOT, "d");
	REQUIRE(move(&start));
	CHECK_EQ(read_node((uint64_t)node[FILES - 1], fh, 0, 10), 0);
	CHECK_EQ(stat_node((uint64_t)d, &attr), 0);
	for (unsigned i = 0; i < FILES; i++)
		stale += stat_node((uint64_t)node[i], &attr) == -ESTALE;
	CHECK(stale > 0 && stale < 2000);
	int64_t again = look_up(ROOT, name);
	CHECK_EQ(again, node[FILES - 1]);
	snprintf(name, 5, "%04u", FILES - 2);
	name[4] = 'n';
	again = look_up(ROOT, name);
	CHECK(again > 0 && again != node[FILES - 2]);
	client_end();
}

/* A number that the guest has since before a restore is nobody's after the next one either. */
static void no_number_comes_again(void)
{
	REQUIRE(client_start(&(struct start){0}) && make_tree());
	struct fs_table head = head_now();
	head.generation = 7;
	CHECK_EQ(restore((const uint8_t *)&head, sizeof(head)), 0);
	for (int twice = 0; twice < 2; twice++) {
		REQUIRE(move(&(struct start){0}));
		CHECK(look_up(ROOT, "g") > 7 << NODE_INDEX_BITS);
		CHECK(look_up(ROOT, "a") > 7 << NODE_INDEX_BITS);
	}
	client_end();
}

/* --- without a guest --- */

static struct fs alone; /* which serves an empty folder */

static bool start_alone(void)
{
	strcpy(client.dir, "/tmp/wisp-test-fs-XXXXXX");
	if (!mkdtemp(client.dir))
		return false;
	const struct fs_options options = {.socket = -1, .folder = open(client.dir, O_PATH)};
	return fs_init(&alone, &options) == 0;
}

/* Another wisp-fs for what it knows. */
static int move_alone(void)
{
	uint8_t *saved;
	int64_t size = fs_save_table(&alone, &saved);
	if (size < 0)
		return (int)size;
	int ret = fs_restore_table(&alone, saved, (size_t)size);
	free(saved);
	return ret;
}

static void end_alone(void)
{
	fs_destroy(&alone);
	close(alone.o.folder);
	rmdir(client.dir);
}

static struct node *adopt(const char *name, ino_t ino, mode_t type)
{
	const struct stat st = {.st_dev = 7, .st_ino = ino, .st_mode = type};
	struct node *node;
	return node_adopt(&alone.nodes, alone.nodes.all, name, &st, &node) == 0 ? node : NULL;
}

/* What a guest knows of a large tree goes on, all of it. */
static void many(void)
{
	enum { FILES = 60000 };
	static uint64_t id[FILES];
	unsigned stale = 0;
	REQUIRE(start_alone());
	for (unsigned i = 0; i < FILES; i++) {
		char name[16];
		snprintf(name, sizeof(name), "%u", i);
		struct node *node = adopt(name, 1000 + i, S_IFREG);
		REQUIRE(node);
		id[i] = node_id(&alone.nodes, node);
	}
	CHECK_EQ(move_alone(), 0);
	for (unsigned i = 0; i < FILES; i++)
		stale += !node_find(&alone.nodes, id[i]);
	CHECK_EQ(stale, 0);
	end_alone();
}

/*
 * The host gives the number of a removed file to a file of another type, twice: what the guest still knows of the
 * removed ones is not in the table, and the table is good.
 */
static void reused_inodes(void)
{
	static const char *const name[] = {"a", "b"};
	uint64_t id[2][2];
	struct stat st;
	REQUIRE(start_alone());
	for (unsigned i = 0; i < 2; i++) {
		struct node *old = adopt(name[i], 1000 + i, S_IFREG), *now = adopt(name[i], 1000 + i, S_IFDIR);
		REQUIRE(old && now && now != old);
		CHECK_EQ(node_stat(&alone.nodes, old, &st), -ESTALE);
		id[i][0] = node_id(&alone.nodes, old);
		id[i][1] = node_id(&alone.nodes, now);
	}
	CHECK_EQ(move_alone(), 0);
	for (unsigned i = 0; i < 2; i++)
		CHECK(!node_find(&alone.nodes, id[i][0]) && node_find(&alone.nodes, id[i][1]));
	end_alone();
}

/* --- forged tables --- */

struct forged {
	struct fs_table head;
	struct {
		struct fs_table_node node;
		char name[8];
	} node[2];
	struct fs_table_handle handle[2];
};

static struct forged good(void)
{
	struct stat st;
	struct forged f = {.head = head_now(),
	        .node = {{{.id = 2, .parent = ROOT, .lookups = 1, .type = S_IFDIR, .name = 8}, "a"},
	                {{.id = 3, .parent = 2, .lookups = 1, .type = S_IFDIR, .name = 8}, "b"}},
	        .handle = {{.node = 2, .fh = 1, .flags = O_DIRECTORY}, {.node = 0, .fh = 2}}};
	f.head.generation = 1;
	f.head.nodes = f.head.handles = 2;
	stat(at("a"), &st);
	f.node[0].node.ino = st.st_ino;
	stat(at("a/b"), &st);
	f.node[1].node.ino = st.st_ino;
	return f;
}

static void refuse(const struct forged *f, size_t size)
{
	struct fuse_attr attr;
	CHECK_EQ(restore((const uint8_t *)f, (uint32_t)size), -EINVAL);
	/* And nothing of it is left. */
	CHECK_EQ(stat_node(ROOT, &attr), 0);
	CHECK_EQ(stat_node(2, &attr), -ESTALE);
	CHECK_EQ(list(2, 1), -ESTALE);
}

#define REFUSE(change)                    \
	do {                              \
		struct forged f = good(); \
		change;                   \
		refuse(&f, sizeof(f));    \
	} while (0)

static void forged(void)
{
	struct fuse_attr attr;
	REQUIRE(client_start(&(struct start){0}) && make_tree());
	struct forged plain = good();
	CHECK_EQ(restore((uint8_t *)&plain, sizeof(plain)), 0);
	CHECK(stat_node(3, &attr) == 0 && list(2, 1) > 0);
	for (size_t size = 0; size < sizeof(plain); size += 4)
		refuse(&plain, size);
	REFUSE(f.head.magic++);
	REFUSE(f.head.is_file = 1);
	REFUSE(f.head.is_file = 2);
	REFUSE(f.head.nodes = 1);
	REFUSE(f.head.nodes = UINT32_MAX);
	REFUSE(f.head.handles = 1);
	REFUSE(f.head.handles = UINT32_MAX);
	REFUSE(f.head.generation = 0);
	REFUSE(f.head.generation = UINT64_MAX);
	REFUSE(f.node[0].node.id = 0);
	REFUSE(f.node[0].node.id = ROOT);
	REFUSE(f.node[0].node.id = UINT64_MAX);
	REFUSE(f.node[0].node.id = 2 + (1u << NODE_INDEX_BITS)); /* of a later generation */
	REFUSE(f.node[1].node.id = 2);
	REFUSE(f.node[1].node.ino = f.node[0].node.ino);
	REFUSE(f.node[1].node.parent = 3);
	REFUSE(f.node[1].node.parent = 0);
	REFUSE(f.node[0].node.parent = 3);
	REFUSE(f.node[0].node.type = S_IFREG); /* and the other one's parent */
	REFUSE(f.node[1].node.type = 0);
	REFUSE(f.node[1].node.type = S_IFDIR | 0644);
	REFUSE(f.node[1].node.lookups = UINT64_MAX);
	REFUSE(f.node[1].node.name = 0);
	REFUSE(f.node[1].node.name = 7);
	REFUSE(f.node[1].node.name = UINT32_MAX);
	REFUSE(f.node[1].node.name = UINT32_MAX - 7);
	REFUSE(memcpy(f.node[1].name, "12345678", 8));
	REFUSE(memcpy(f.node[1].name, "..", 3));
	REFUSE(memcpy(f.node[1].name, "../a", 5));
	REFUSE(memcpy(f.node[1].name, "", 1));
	REFUSE(f.handle[0].fh = 0);
	REFUSE(f.handle[0].fh = 2);
	REFUSE(f.handle[0].fh = UINT32_MAX);
	REFUSE(f.handle[0].fh = FS_HANDLES_MAX + 1);
	/* More open files than this wisp-fs may have. */
	struct forged many_files = good();
	many_files.handle[0].fh = 2000;
	REQUIRE(client_stop() && client_start_over(&(struct start){.fds = 2100}));
	CHECK_EQ(restore((uint8_t *)&many_files, sizeof(many_files)), -EMFILE);
	REQUIRE(client_stop() && client_start_over(&(struct start){0}));
	CHECK_EQ(restore((uint8_t *)&many_files, sizeof(many_files)), 0);
	/* Of another folder, of the same number: all is stale, or refused. */
	for (int i = 0; i < 2; i++) {
		struct forged other = good();
		++*(i ? &other.head.born : &other.head.fsid);
		CHECK_EQ(restore((uint8_t *)&other, sizeof(other)), 0);
		CHECK_EQ(stat_node(2, &attr), -ESTALE);
		REQUIRE(client_stop() && client_start_over(&(struct start){.same = true}));
		CHECK_EQ(restore((uint8_t *)&other, sizeof(other)), -EXDEV);
		REQUIRE(client_stop() && client_start_over(&(struct start){0}));
	}
	/* A file, which the table takes for something else, stays what it is. */
	struct forged f = good();
	struct stat st;
	REQUIRE(symlink("/etc", at("a/l")) == 0 && stat("/etc", &st) == 0);
	memcpy(f.node[1].name, "l", 2);
	f.node[1].node.ino = st.st_ino;
	f.node[1].node.dev = st.st_dev;
	f.handle[1] = (struct fs_table_handle){.node = 3, .fh = 2, .flags = O_DIRECTORY};
	CHECK_EQ(restore((uint8_t *)&f, sizeof(f)), 0);
	CHECK_EQ(stat_node(3, &attr), -ESTALE);
	CHECK_EQ(list(2, 2), -EBADF);
	/* Flags that no guest can open a file with have no effect. */
	f = good();
	f.node[1].node.type = S_IFREG;
	stat(at("g"), &st);
	f.node[1].node.ino = st.st_ino;
	f.node[1].node.parent = ROOT;
	memcpy(f.node[1].name, "g", 2);
	f.handle[1] =
	        (struct fs_table_handle){.node = 3, .fh = 2, .flags = O_RDWR | O_TRUNC | O_CREAT | O_EXCL | O_PATH};
	CHECK_EQ(restore((uint8_t *)&f, sizeof(f)), 0);
	CHECK(reads(3, 2, "others"));
	f.handle[1].born = 1;
	CHECK_EQ(restore((uint8_t *)&f, sizeof(f)), 0);
	CHECK_EQ(read_node(3, 2, 0, 10), -EBADF);
	client_end();
}

/* Messages of a monitor that is none. */
static void wrong_messages(void)
{
	static const struct fs_table_message wrong[] = {
	        {0, 0}, {3, 0}, {FS_SAVE, 1}, {FS_RESTORE, FS_TABLE_MAX + 1}, {UINT32_MAX, UINT32_MAX}};
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char byte;
		REQUIRE(client_start(&(struct start){0}));
		CHECK(send(client.socket, &wrong[i], sizeof(wrong[i]), 0) == sizeof(wrong[i]));
		CHECK_EQ(recv(client.socket, &byte, 1, 0), 0);
		client_end();
	}
}

TEST_MAIN("fs_table", {"goes_on", goes_on}, {"cached_always", cached_always}, {"host_changes", host_changes},
        {"reused_number", reused_number}, {"not_allowed", not_allowed}, {"hard_links", hard_links},
        {"another_folder", another_folder}, {"read_only", read_only}, {"single_file", single_file},
        {"bounded", bounded}, {"no_number_comes_again", no_number_comes_again}, {"many", many},
        {"reused_inodes", reused_inodes}, {"forged", forged}, {"wrong_messages", wrong_messages})
