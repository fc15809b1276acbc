/* SPDX-License-Identifier: Apache-2.0 */
/* wisp-fs: a guest that breaks rules, takes all it can, or forgets what it may not; its monitor; its jail. */
#include "tests/unit/fs_client.h"

#include <linux/capability.h>
#include <linux/landlock.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define ROOT 1u
#define FEW_FDS (4 * 2 * NODE_DEPTH_MAX) /* the least */

/* Every operation, with every length up to that of its structure and a little more, of zeros and of ones. */
static void short_requests(void)
{
	static uint8_t bytes[256];
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("f"), "x"));
	uint64_t node = (uint64_t)look_up(ROOT, "f");
	for (unsigned fill = 0; fill < 2; fill++) {
		memset(bytes, fill ? 0xff : 0, sizeof(bytes));
		for (uint32_t opcode = 0; opcode < 64; opcode++) {
			if (opcode == FUSE_SYNCFS) /* as it should be, and slow */
				continue;
			node = (uint64_t)look_up(ROOT, "f"); /* after an INIT, it is to be found anew */
			for (size_t size = 0; size < 140; size++) {
				uint64_t nodes[] = {0, ROOT, node, 0xffffffff};
				for (unsigned i = 0; i < 4; i++) {
					int ret = call(opcode, nodes[i], bytes, size);
					REQUIRE(ret != -1000);
				}
			}
		}
	}
	struct fuse_init_in init = {.major = 7, .minor = 36};
	CHECK_EQ(call(FUSE_INIT, 0, &init, sizeof(init)), 0);
	CHECK(look_up(ROOT, "f") > 1);
	client_end();
}

static void unknown_operations(void)
{
	static const uint32_t unknown[] = {0, 7, 19, 40, 60, 100, 4096, 1u << 31, UINT32_MAX, FUSE_IOCTL, FUSE_POLL,
	        FUSE_SETUPMAPPING, FUSE_GETLK, FUSE_SETLK, FUSE_BMAP, FUSE_ACCESS};
	REQUIRE(client_start(&(struct start){0}));
	for (unsigned i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
		CHECK_EQ(call(unknown[i], ROOT, "0123456789abcdef", 16), -ENOSYS);
	client_end();
}

/* The order of replies holds, whether a guest leaves room for one where it should or not. */
static void rooms(void)
{
	struct fuse_getattr_in in = {0};
	struct fuse_forget_in forget_in = {.nlookup = 1};
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(put(at("f"), "x"));
	uint64_t node = (uint64_t)look_up(ROOT, "f");
	CHECK(post(FUSE_GETATTR, ROOT, &in, sizeof(in), 0)); /* no room: no reply */
	CHECK(post(FUSE_GETATTR, ROOT, &in, sizeof(in), sizeof(struct fuse_out_header)));
	CHECK_EQ(take(), -ERANGE);
	CHECK(post(FUSE_GETATTR, ROOT, &in, sizeof(in), 16 + sizeof(struct fuse_attr_out) - 1));
	CHECK_EQ(take(), -ERANGE);
	CHECK(post(FUSE_GETATTR, ROOT, &in, sizeof(in), 16 + sizeof(struct fuse_attr_out)));
	CHECK_EQ(take(), 0);
	CHECK(post(FUSE_FORGET, node, &forget_in, sizeof(forget_in), 16));
	CHECK_EQ(take(), 0);
	CHECK(post(FUSE_READ, node, &in, sizeof(in), 0));
	static const uint8_t nothing[100000];
	CHECK(post(FUSE_WRITE, node, nothing, sizeof(nothing), 0)); /* and nothing is left in the pipe */
	CHECK(look_up(ROOT, "f") > 1);
	client_end();
}

/* References that were never given, nodes that are gone. */
static void forgetting(void)
{
	struct fuse_attr attr;
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(mkdir(at("d"), 0755) == 0 && put(at("d/f"), "x"));
	uint64_t d = (uint64_t)look_up(ROOT, "d"), f = (uint64_t)look_up(d, "f");
	CHECK_EQ(look_up(d, "f"), (int64_t)f);
	CHECK_EQ(forget(f, 1), 0);
	CHECK_EQ(stat_node(f, &attr), 0); /* it has another reference */
	CHECK_EQ(forget(d, 1), 0);
	CHECK_EQ(stat_node(f, &attr), 0); /* whose folder stays with it */
	CHECK_EQ(forget(f, UINT64_MAX), 0);
	CHECK_EQ(stat_node(f, &attr), -ESTALE);
	CHECK_EQ(stat_node(d, &attr), -ESTALE);
	CHECK_EQ(forget(ROOT, UINT64_MAX), 0);
	CHECK_EQ(stat_node(ROOT, &attr), 0);
	CHECK_EQ(forget(0, 1), 0);
	CHECK_EQ(forget(UINT64_MAX, 1), 0);
	struct {
		struct fuse_batch_forget_in in;
		struct fuse_forget_one one[2];
	} batch = {.in = {.count = 2}};
	batch.one[0].nodeid = (uint64_t)look_up(ROOT, "d");
	batch.one[0].nlookup = 1;
	CHECK_EQ(call(FUSE_BATCH_FORGET, 0, &batch, sizeof(batch)), 0);
	CHECK_EQ(stat_node(batch.one[0].nodeid, &attr), -ESTALE);
	batch.in.count = 3;
	CHECK_EQ(call(FUSE_BATCH_FORGET, 0, &batch, sizeof(batch)), -EINVAL);
	batch.in.count = UINT32_MAX;
	CHECK_EQ(call(FUSE_BATCH_FORGET, 0, &batch, sizeof(batch)), -EINVAL);
	client_end();
}

static unsigned count_fds(pid_t pid)
{
	char path[64];
	unsigned count = 0;
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	int fd = open(path, O_RDONLY | O_DIRECTORY);
	char entries[32768];
	for (long n; (n = syscall(SYS_getdents64, fd, entries, sizeof(entries))) > 0;)
		for (long i = 0; i < n; i += *(uint16_t *)(void *)(entries + i + 16))
			count++;
	close(fd);
	return count;
}

/* More folders than there are descriptors: those that are not in use are opened again when they are. */
static void many_folders(void)
{
	enum { FOLDERS = 3000 };
	static uint64_t node[FOLDERS];
	struct fuse_attr attr;
	REQUIRE(client_start(&(struct start){.fds = FEW_FDS}));
	for (unsigned i = 0; i < FOLDERS; i++) {
		REQUIRE(mkdir(at("%u", i), 0755) == 0 && put(at("%u/f", i), "x"));
		char name[12];
		snprintf(name, sizeof(name), "%u", i);
		node[i] = (uint64_t)look_up(ROOT, name);
		REQUIRE(look_up(node[i], "f") > 1);
	}
	CHECK(count_fds(client.pid) < FEW_FDS);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < FOLDERS; i += 7)
			REQUIRE(look_up(node[i], "f") > 1 && stat_node(node[i], &attr) == 0);
	}
	CHECK(count_fds(client.pid) < FEW_FDS);
	/* One that the host has replaced in the meantime is not taken for what it was. */
	REQUIRE(rename(at("0"), at("elsewhere")) == 0 && symlink("elsewhere", at("0")) == 0);
	for (unsigned i = 1; i < FOLDERS; i++)
		REQUIRE(look_up(node[i], "f") > 1);
	CHECK_EQ(look_up(node[0], "f"), -ESTALE);
	client_end();
}

/* Deeper than descriptors are opened again for. */
static void deep_folders(void)
{
	REQUIRE(client_start(&(struct start){.fds = FEW_FDS}));
	uint64_t node = ROOT, path[700];
	unsigned depth = 0;
	for (; depth < 700; depth++) {
		if (make_folder(node, "d") != 0)
			break;
		path[depth] = node = REPLY(struct fuse_entry_out)->nodeid;
	}
	CHECK_EQ(depth, 700);
	CHECK(make_folder(path[699], "x") == 0); /* the deepest were used last */
	int ret = make_folder(path[350], "x");
	CHECK(ret == 0 || ret == -ESTALE);
	/* From the root down, each is found again. */
	node = ROOT;
	for (unsigned i = 0; i < 700; i++) {
		int64_t next = look_up(node, "d");
		REQUIRE(next == (int64_t)path[i]);
		node = (uint64_t)next;
	}
	CHECK(count_fds(client.pid) < FEW_FDS);
	client_end();
}

/* A guest that opens files without end gets an error, and goes on when it has closed some. */
static void many_open_files(void)
{
	REQUIRE(client_start(&(struct start){.fds = FEW_FDS}));
	REQUIRE(put(at("f"), "x"));
	uint64_t node = (uint64_t)look_up(ROOT, "f");
	int64_t fh = 0, last = 0;
	unsigned count = 0;
	while (count < 100000 && (fh = open_node(node, O_RDONLY)) > 0) {
		last = fh;
		count++;
	}
	CHECK_EQ(fh, -ENFILE);
	CHECK_EQ(count, FEW_FDS / 2);
	CHECK_EQ(open_node(ROOT, O_RDONLY | O_DIRECTORY), -ENFILE);
	CHECK_EQ(create_node(ROOT, "g", O_RDWR, 0644, &fh), -ENFILE);
	CHECK(access(at("g"), F_OK) < 0);
	CHECK_EQ(open_node(node, O_WRONLY | O_TRUNC), -ENFILE);
	CHECK_STR(get(at("f")), "x");
	CHECK_EQ(release_node(node, (uint64_t)last, false), 0);
	CHECK_EQ(open_node(node, O_RDONLY), last);
	client_end();
}

/* Files that are removed and never forgotten: their descriptors are bounded too. */
static void many_removed_files(void)
{
	REQUIRE(client_start(&(struct start){.fds = FEW_FDS}));
	for (unsigned i = 0; i < 3000; i++) {
		int64_t fh, node = create_node(ROOT, "f", O_RDWR | O_EXCL, 0644, &fh);
		REQUIRE(node > 1 && release_node((uint64_t)node, (uint64_t)fh, false) == 0);
		REQUIRE(call_names(FUSE_UNLINK, ROOT, NULL, 0, "f", NULL) == 0);
	}
	CHECK(count_fds(client.pid) <= FEW_FDS);
	client_end();
}

/* More files than may be known: they can be listed, and known ones be used. */
static void many_files(void)
{
	static uint8_t seen[64];
	char known[8] = "";
	struct fuse_open_in open_in = {.flags = O_DIRECTORY};
	REQUIRE(client_start(&(struct start){.nodes = 50}));
	for (unsigned i = 0; i < 64; i++)
		REQUIRE(put(at("%u", i), ""));
	CHECK_EQ(call(FUSE_OPENDIR, ROOT, &open_in, sizeof(open_in)), 0);
	struct fuse_read_in in = {.fh = REPLY(struct fuse_open_out)->fh, .size = 4096};
	unsigned with = 0, without = 0;
	while (call(FUSE_READDIRPLUS, ROOT, &in, sizeof(in)) == 0 && client.size > 0) {
		for (uint32_t i = 0; i < client.size;) {
			const struct fuse_direntplus *d = (const void *)(client.in + i);
			if (d->dirent.name[0] != '.') {
				seen[atoi(d->dirent.name)]++;
				*(d->entry_out.nodeid ? &with : &without) += 1;
				if (d->entry_out.nodeid)
					snprintf(known, sizeof(known), "%d", atoi(d->dirent.name));
			}
			in.offset = d->dirent.off;
			i += (uint32_t)FUSE_DIRENTPLUS_SIZE(d);
		}
	}
	CHECK(with == 49 && without == 15);
	for (unsigned i = 0; i < 64; i++)
		CHECK_EQ(seen[i], 1);
	int64_t fh;
	CHECK_EQ(create_node(ROOT, "one more", O_RDWR, 0644, &fh), -ENFILE);
	CHECK_EQ(make_folder(ROOT, "one more"), -ENFILE);
	CHECK(access(at("one more"), F_OK) < 0);
	CHECK(create_node(ROOT, known, O_RDWR, 0644, &fh) > 1);
	CHECK_EQ(forget(2, 100), 0);
	CHECK(create_node(ROOT, "one more", O_RDWR, 0644, &fh) > 1);
	client_end();
}

/* A folder that the host removes: errors, for as long as the guest likes. */
static void vanished(void)
{
	struct fuse_attr attr;
	int64_t fh, made;
	REQUIRE(client_start(&(struct start){0}));
	REQUIRE(mkdir(at("d"), 0755) == 0 && put(at("d/f"), "text") && put(at("open"), "text"));
	uint64_t d = (uint64_t)look_up(ROOT, "d"), f = (uint64_t)look_up(d, "f"),
	         file = (uint64_t)look_up(ROOT, "open");
	REQUIRE((fh = open_node(file, O_RDWR)) > 0);
	REQUIRE(nftw(client.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
	CHECK_EQ(look_up(ROOT, "d"), 0); /* there is no such file */
	CHECK_EQ(look_up(d, "f"), 0);
	CHECK_EQ(stat_node(f, &attr), -ESTALE);
	CHECK_EQ(open_node(f, O_RDONLY), -ESTALE);
	CHECK_EQ(make_folder(ROOT, "new"), -ENOENT);
	CHECK_EQ(create_node(d, "new", O_RDWR, 0644, &made), -ENOENT);
	CHECK_EQ(call_names(FUSE_UNLINK, ROOT, NULL, 0, "open", NULL), -ENOENT);
	CHECK_EQ(stat_node(ROOT, &attr), 0);
	CHECK_EQ(call(FUSE_STATFS, ROOT, NULL, 0), 0);
	/* What is open lives on. */
	CHECK_EQ(read_node(file, fh, 0, 10), 4);
	CHECK_EQ(write_node(file, fh, 4, "more", 4, 0), 4);
	int64_t list = open_node(ROOT, O_RDONLY | O_DIRECTORY);
	struct fuse_read_in in = {.fh = (uint64_t)list, .size = 4096};
	CHECK(list > 0 && call(FUSE_READDIRPLUS, ROOT, &in, sizeof(in)) == -ENOENT);
	/* Another folder in its place is another folder. */
	REQUIRE(mkdir(client.dir, 0755) == 0 && put(at("x"), ""));
	CHECK_EQ(look_up(ROOT, "x"), 0);
	client_end();
}

/* WISP_FILES=1000000 tries as many as the guest may know. */
static unsigned large_count(void)
{
	const char *text = getenv("WISP_FILES");
	return text ? (unsigned)atoi(text) : 5000;
}

static unsigned resident_mib(pid_t pid)
{
	char path[64], line[256];
	unsigned kib = 0;
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	FILE *file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file) && sscanf(line, "VmRSS: %u", &kib) != 1)
		;
	if (file)
		fclose(file);
	return kib / 1024;
}

/* A folder with very many files: each is listed once, and is then found without the host being asked for a path. */
static void large_folder(void)
{
	unsigned count = large_count(), listed = 0, again = 0;
	struct fuse_attr attr;
	uint8_t *seen = calloc(count, 1);
	uint64_t *node = calloc(count, sizeof(*node));
	REQUIRE(seen && node && client_start(&(struct start){0}));
	for (unsigned i = 0; i < count; i++) {
		char name[16];
		snprintf(name, sizeof(name), "%u", i);
		int fd = open(at("%s", name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		REQUIRE(fd >= 0);
		close(fd);
	}
	int64_t list = open_node(ROOT, O_RDONLY | O_DIRECTORY);
	struct fuse_read_in in = {.fh = (uint64_t)list, .size = 32768};
	long long from = now_ms();
	while (call(FUSE_READDIRPLUS, ROOT, &in, sizeof(in)) == 0 && client.size > 0) {
		for (uint32_t i = 0; i < client.size;) {
			const struct fuse_direntplus *d = (const void *)(client.in + i);
			unsigned number = (unsigned)atoi(d->dirent.name);
			if (d->dirent.name[0] != '.' && number < count && seen[number]++ == 0) {
				node[number] = d->entry_out.nodeid;
				listed++;
			} else if (d->dirent.name[0] != '.') {
				again++;
			}
			in.offset = d->dirent.off;
			i += (uint32_t)FUSE_DIRENTPLUS_SIZE(d);
		}
	}
	long long to = now_ms();
	CHECK_EQ(listed, count);
	CHECK_EQ(again, 0);
	for (unsigned i = 0; i < count; i += 7)
		REQUIRE(node[i] > 1 && stat_node(node[i], &attr) == 0);
	if (getenv("WISP_FILES"))
		printf("# %u files: listed in %lld ms, every 7th asked for in %lld ms, wisp-fs has %u MiB\n", count,
		        to - from, now_ms() - to, resident_mib(client.pid));
	CHECK(resident_mib(client.pid) < 512);
	free(seen);
	free(node);
	client_end();
}

/* What is not a message of the monitor's ends it: there is no sense in going on. */
static void not_a_monitor(void)
{
	struct message {
		struct fs_frame frame;
		struct fuse_in_header header;
	} wrong[] = {
	        {{.room = 0}, {.len = 39}},
	        {{.room = 0}, {.len = 41}},
	        {{.room = 0}, {.len = UINT32_MAX}},
	        {{.piped = 1}, {.len = 40}},
	        {{.piped = UINT32_MAX}, {.len = 39}},
	        {{.piped = FS_REQUEST_MAX}, {.len = FS_REQUEST_MAX + 40}},
	        {{.room = 15}, {.len = 40}},
	};
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char byte;
		REQUIRE(client_start(&(struct start){0}));
		CHECK(send(client.socket, &wrong[i], sizeof(wrong[i]), 0) == sizeof(wrong[i]));
		CHECK_EQ(recv(client.socket, &byte, 1, 0), 0);
		CHECK(!client_stop());
		rmdir(client.dir);
	}
}

/* It ends with its monitor, also in the middle of a request. */
static void monitor_dies(void)
{
	int64_t fh;
	REQUIRE(client_start(&(struct start){0}));
	uint64_t node = (uint64_t)create_node(ROOT, "f", O_RDWR, 0644, &fh);
	struct {
		struct fs_frame frame;
		struct fuse_in_header header;
		struct fuse_write_in in;
	} message = {.frame = {.room = 100, .piped = 100000},
	        .header = {.len = 100080, .opcode = FUSE_WRITE, .unique = 9, .nodeid = node},
	        .in = {.fh = (uint64_t)fh, .size = 100000}};
	CHECK(send(client.socket, &message, sizeof(message), 0) == sizeof(message));
	CHECK(write(client.requests, "half", 4) == 4);
	client_end();
}

/* In its jail it serves as before. */
static void jailed(void)
{
	static uint8_t data[100000];
	int64_t fh;
	REQUIRE(client_start(&(struct start){.jail = true, .map = geteuid() == 0}));
	CHECK_EQ(make_folder(ROOT, "d"), 0);
	uint64_t d = REPLY(struct fuse_entry_out)->nodeid;
	uint64_t node = (uint64_t)create_node(d, "f", O_RDWR, 0644, &fh);
	CHECK_EQ(write_node(node, fh, 0, data, sizeof(data), 0), sizeof(data));
	CHECK_EQ(write_node(node, fh, 0, "x", 1, O_APPEND), 1);
	CHECK_EQ(read_node(node, fh, 0, sizeof(data)), sizeof(data));
	CHECK_EQ(rename_node(d, "f", ROOT, "g", 0), 0);
	struct fuse_link_in link_in = {.oldnodeid = node};
	CHECK_EQ(call_names(FUSE_LINK, d, &link_in, sizeof(link_in), "h", NULL), 0);
	CHECK_EQ(call_names(FUSE_SYMLINK, ROOT, NULL, 0, "s", "g"), 0);
	CHECK_EQ(call(FUSE_READLINK, REPLY(struct fuse_entry_out)->nodeid, NULL, 0), 0);
	struct fuse_setattr_in in = {
	        .valid = FATTR_MODE | FATTR_SIZE | FATTR_MTIME | FATTR_UID, .mode = 0600, .size = 5, .mtime = 5};
	in.uid = geteuid();
	CHECK_EQ(call(FUSE_SETATTR, node, &in, sizeof(in)), 0);
	struct fuse_getxattr_in ask = {.size = 10};
	CHECK(call_names(FUSE_GETXATTR, node, &ask, sizeof(ask), "user.x", NULL) < 0);
	CHECK(call(FUSE_LISTXATTR, node, &ask, sizeof(ask)) <= 0);
	struct fuse_fsync_in sync_in = {.fh = (uint64_t)fh};
	CHECK_EQ(call(FUSE_FSYNC, node, &sync_in, sizeof(sync_in)), 0);
	struct fuse_copy_file_range_in copy = {.fh_in = (uint64_t)fh, .fh_out = (uint64_t)fh, .off_out = 100, .len = 5};
	CHECK_EQ(call(FUSE_COPY_FILE_RANGE, node, &copy, sizeof(copy)), 0);
	struct fuse_fallocate_in more = {.fh = (uint64_t)fh, .length = 1000};
	int ret = call(FUSE_FALLOCATE, node, &more, sizeof(more));
	CHECK(ret == 0 || ret == -EOPNOTSUPP);
	CHECK_EQ(call(FUSE_STATFS, ROOT, NULL, 0), 0);
	struct fuse_syncfs_in all = {0};
	CHECK_EQ(call(FUSE_SYNCFS, ROOT, &all, sizeof(all)), 0);
	struct fuse_mknod_in fifo = {.mode = S_IFIFO | 0644};
	CHECK_EQ(call_names(FUSE_MKNOD, ROOT, &fifo, sizeof(fifo), "fifo", NULL), 0);
	int64_t dir = open_node(ROOT, O_RDONLY | O_DIRECTORY);
	struct fuse_read_in list = {.fh = (uint64_t)dir, .size = 4096};
	CHECK_EQ(call(FUSE_READDIRPLUS, ROOT, &list, sizeof(list)), 0);
	CHECK(client.size > 0);
	CHECK_EQ(call_names(FUSE_UNLINK, ROOT, NULL, 0, "g", NULL), 0);
	struct fuse_init_in init = {.major = 7, .minor = 36};
	CHECK_EQ(call(FUSE_INIT, 0, &init, sizeof(init)), 0);
	CHECK(look_up(ROOT, "d") > 1);
	client_end();
}

static unsigned long long effective_capabilities(pid_t pid)
{
	char path[64], line[256];
	unsigned long long bits = ~0ull;
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	FILE *file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file) && sscanf(line, "CapEff: %llx", &bits) != 1)
		;
	if (file)
		fclose(file);
	return bits;
}

/* What root keeps is for files of others, never CAP_FSETID: a write ends what a setuid bit of the host's means. */
static void jailed_root(void)
{
	static const unsigned long long files = 1ull << CAP_DAC_OVERRIDE | 1ull << CAP_FOWNER,
	                                owners = 1ull << CAP_CHOWN | 1ull << CAP_SETUID | 1ull << CAP_SETGID;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	SKIP("no jail in builds with sanitizers");
#endif
	if (geteuid() != 0)
		SKIP("only root has capabilities to give up, and any write of another user ends these bits");
	for (int map = 0; map < 2; map++) {
		struct stat st;
		REQUIRE(client_start(&(struct start){.jail = true, .map = map}));
		unsigned long long may = effective_capabilities(getpid()) & (map ? files | owners : files);
		CHECK_EQ(effective_capabilities(client.pid), may);
		REQUIRE(put(at("su"), "text") && chmod(at("su"), 06755) == 0);
		uint64_t node = (uint64_t)look_up(ROOT, "su");
		int64_t fh = open_node(node, O_WRONLY);
		CHECK(stat(at("su"), &st) == 0 && (st.st_mode & 07777) == 06755);
		CHECK_EQ(write_node(node, fh, 0, "x", 1, 0), 1);
		CHECK(stat(at("su"), &st) == 0 && (st.st_mode & 07777) == 0755);
		client_end();
	}
}

/* What a child in the jail does: 0 if it fails as it should, and else a number; or a signal. */
static int tries(unsigned what, int folder)
{
	switch (what) {
	case 0: return open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES;
	case 1: return openat(folder, "../outside", O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES;
	case 2: return openat(folder, "../new", O_WRONLY | O_CREAT, 0644) >= 0 || errno != EACCES;
	case 3: return openat(folder, "f", O_WRONLY) >= 0 || errno != EACCES; /* read-only */
	case 4: return mkdirat(folder, "d", 0755) == 0 || errno != EACCES;
	case 5: return openat(folder, "f", O_RDONLY) < 0; /* the one that must not fail */
	case 6: socket(AF_INET, SOCK_STREAM, 0); return 1;
	case 7: execl("/bin/true", "true", (char *)NULL); return 1;
	case 8: return fork() != 0 ? 1 : 1;
	case 9: mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); return 1;
	case 10: kill(getppid(), 0); return 1;
	case 11: prctl(PR_SET_DUMPABLE, 1); return 1;
	default: syscall(SYS_mount, "", "", "", 0, NULL); return 1;
	}
}

static int in_jail(unsigned what)
{
	static struct fs fs;
	const char *why;
	int folder = open(client.dir, O_PATH);
	struct fs_options options = {.socket = -1, .requests = -1, .replies = -1, .folder = folder, .read_only = true};
	if (fs_init(&fs, &options) < 0 || fs_jail_enter(&fs, &why) < 0)
		return 99;
	return tries(what, folder);
}

static void jail(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	SKIP("no jail in builds with sanitizers");
#endif
	strcpy(client.dir, "/tmp/wisp-test-fs-XXXXXX");
	REQUIRE(mkdtemp(client.dir) && mkdir(at("in"), 0755) == 0 && put(at("outside"), "x") && put(at("in/f"), "x"));
	strcat(client.dir, "/in");
	bool landlock = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >= 2;
	for (unsigned what = 0; what <= 12; what++) {
		int status = -1;
		if (what < 5 && !landlock)
			continue;
		pid_t pid = fork();
		if (pid == 0)
			_exit(in_jail(what));
		waitpid(pid, &status, 0);
		if (what <= 5)
			CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		else
			CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
		if (test_failed)
			printf("# attempt %u: status %x\n", what, (unsigned)status);
	}
	*strrchr(client.dir, '/') = '\0';
	nftw(client.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

TEST_MAIN("fs_hostile", {"short_requests", short_requests}, {"unknown_operations", unknown_operations},
        {"rooms", rooms}, {"forgetting", forgetting}, {"many_folders", many_folders}, {"deep_folders", deep_folders},
        {"many_open_files", many_open_files}, {"many_removed_files", many_removed_files}, {"many_files", many_files},
        {"vanished", vanished}, {"large_folder", large_folder}, {"not_a_monitor", not_a_monitor},
        {"monitor_dies", monitor_dies}, {"jailed", jailed}, {"jailed_root", jailed_root}, {"jail", jail})
