/* SPDX-License-Identifier: Apache-2.0 */
/* The file system device: files that wisp-fs passes, which the device then reads and writes itself. */
#include "tests/unit/fs_passed.h"

#include <dirent.h>

static bool is_passed_on(struct shared *t, uint64_t fh)
{
	uint32_t len;
	post_read(t, 901, fh, 0, 100);
	if (next(t) < 0)
		return !done(t, &len);
	struct fuse_out_header head = {.len = OUT_HEAD, .error = -EBADF, .unique = 901};
	answer_with(t, head, NULL, 0, -1, -1);
	return done(t, &len);
}

/* Open descriptors of this process that are `like` one. */
static unsigned count_like(int like)
{
	struct stat own, st;
	unsigned count = 0;
	fstat(like, &own);
	for (int fd = 0; fd < 256; fd++)
		count += fstat(fd, &st) == 0 && st.st_ino == own.st_ino && st.st_dev == own.st_dev;
	return count;
}

static void reading(void)
{
	struct shared *t = &shared;
	uint32_t len;
	int fd = make_file(200000);
	REQUIRE(fd >= 0 && start(t) && open_file(t, 1, fd));
	CHECK_EQ(count_like(fd), 2);
	static const struct {
		uint64_t offset;
		uint32_t size, got;
	} reads[] = {{0, 1, 1}, {0, 4096, 4096}, {4095, 8193, 8193}, {100, FS_DATA_MAX / 2, FS_DATA_MAX / 2},
	        {199990, 4096, 10}, {200000, 4096, 0}, {1ull << 40, 4096, 0}};
	for (unsigned i = 0; i < sizeof(reads) / sizeof(reads[0]); i++) {
		struct place to = post_read(t, 10 + i, 1, reads[i].offset, reads[i].size);
		CHECK_EQ(next(t), -1);
		REQUIRE(done(t, &len));
		CHECK_EQ(len, OUT_HEAD + reads[i].got);
		struct fuse_out_header head = head_of(t, to.head);
		CHECK(head.len == len && head.error == 0 && head.unique == 10 + i);
		CHECK(has(t, to.body, (uint32_t)reads[i].offset, reads[i].got));
		/* What is behind the file's end, and behind the buffers, stays as it was. */
		CHECK_EQ(*(uint8_t *)guest_at(&t->g, to.body + reads[i].got, 1), 0xaa);
	}
	CHECK(t->d.dev->to_guest.operations == 8 && t->d.dev->from_guest.operations == 8);
	end(t);
	CHECK_EQ(count_like(fd), 1);
	close(fd);
}

static void writing(void)
{
	struct shared *t = &shared;
	static uint8_t data[70000], back[70000];
	int fd = memfd_create("file", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	for (uint32_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 3 + i / 256);
	REQUIRE(fd >= 0 && start(t) && open_file(t, 3, fd));
	struct fuse_write_in in = {.fh = 3, .offset = 77, .size = sizeof(data)};
	CHECK_EQ(write_bytes(t, in, data), sizeof(data));
	CHECK(pread(fd, back, sizeof(back), 77) == sizeof(back) && memcmp(back, data, sizeof(back)) == 0);
	/* A page of a mapping has its place, also in a file that was opened to append. */
	in = (struct fuse_write_in){.fh = 3, .size = 4, .flags = O_APPEND, .write_flags = FUSE_WRITE_CACHE};
	CHECK_EQ(write_bytes(t, in, "page"), 4);
	CHECK(pread(fd, back, 4, 0) == 4 && memcmp(back, "page", 4) == 0);
	/* An error is the guest's. */
	fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE);
	in = (struct fuse_write_in){.fh = 3, .size = 4};
	CHECK_EQ(write_bytes(t, in, "more"), -EPERM);
	end(t);
	close(fd);
}

/* What is not a transfer of such a file, or has other buffers than Linux gives it, goes to wisp-fs as it is. */
static void passed_on(void)
{
	struct shared *t = &shared;
	const struct fuse_write_in wrong[] = {{.fh = 1, .size = 10, .flags = O_APPEND}, {.fh = 1, .size = 9},
	        {.fh = 1, .size = 11}, {.fh = 1, .size = UINT32_MAX}, {.fh = 1, .size = 10, .offset = INT64_MAX},
	        {.fh = 1, .size = 10, .offset = UINT64_MAX}, {.fh = 0, .size = 10}, {.fh = 2, .size = 10},
	        {.fh = FS_DIRECT_FILES + 1, .size = 10}, {.fh = UINT64_MAX, .size = 10}};
	uint32_t len;
	int fd = make_file(1000);
	REQUIRE(fd >= 0 && start(t) && open_file(t, 1, fd));
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct fuse_out_header head = {.len = OUT_HEAD, .error = -EINVAL, .unique = 30 + i};
		struct place to = post_write(t, 30 + i, wrong[i], "0123456789", 10);
		CHECK_EQ(next(t), 8 + (ssize_t)(IN_HEAD + sizeof(wrong[i]) + 10));
		CHECK(memcmp(t->got.body, &wrong[i], sizeof(wrong[i])) == 0);
		CHECK(memcmp(t->got.body + sizeof(wrong[i]), "0123456789", 10) == 0);
		answer_with(t, head, NULL, 0, -1, -1);
		CHECK(done(t, &len) && head_of(t, to.head).error == -EINVAL);
	}
	/* The header and the structure in one buffer; no room for what a write answers; more room than is asked for. */
	struct {
		struct fuse_in_header header;
		struct fuse_write_in in;
	} whole = {{.len = sizeof(whole), .opcode = FUSE_READ, .unique = 50}, {.fh = 1, .size = 100}};
	uint64_t at = guest_alloc(&t->g, 400, 8);
	memcpy(guest_at(&t->g, at, sizeof(whole)), &whole, sizeof(whole));
	struct buf bufs[] = {{at, sizeof(whole)}, {at + 200, OUT_HEAD}, {at + 200 + OUT_HEAD, 100}};
	CHECK(ring_add(&t->d, REQUEST, bufs, 1, 2) >= 0);
	ring_kick(&t->d, REQUEST);
	CHECK_EQ(next(t), 8 + (ssize_t)sizeof(whole));
	answer(t, 50, OUT_HEAD, NULL, 0);
	CHECK(done(t, &len));
	struct fuse_write_in in = {.fh = 1, .size = 1};
	post(t, FUSE_WRITE, 51, &in, sizeof(in), "x", 1, 4);
	CHECK(next(t) > 0);
	answer(t, 51, OUT_HEAD, NULL, 0);
	CHECK(done(t, &len));
	post(t, FUSE_READ, 52, &in, sizeof(in), NULL, 0, 100);
	CHECK(next(t) > 0);
	answer(t, 52, OUT_HEAD + 1, "x", 1);
	CHECK(done(t, &len) && len == OUT_HEAD + 1);
	end(t);
	close(fd);
}

/* As long as the guest has the handle, and no longer. */
static void handles_end(void)
{
	struct shared *t = &shared;
	struct fuse_release_in release = {.fh = 5, .flags = O_RDWR};
	uint32_t len;
	int fd = make_file(1000), other = make_file(2000);
	REQUIRE(fd >= 0 && other >= 0 && start(t));
	for (unsigned i = 0; i < 4; i++) {
		static const uint32_t opcode[] = {FUSE_RELEASE, FUSE_INIT, FUSE_DESTROY, FUSE_OPEN};
		REQUIRE(open_file(t, 5, fd));
		CHECK(!is_passed_on(t, 5));
		CHECK_EQ(count_like(fd), 2);
		if (opcode[i] == FUSE_OPEN) { /* one that has its place */
			REQUIRE(open_file(t, 5, other));
			CHECK_EQ(count_like(other), 2);
			CHECK_EQ(count_like(fd), 1);
			continue;
		}
		post(t, opcode[i], 60, &release, sizeof(release), NULL, 0, 0);
		CHECK(next(t) > 0);
		CHECK_EQ(count_like(fd), 2); /* wisp-fs has not said so yet */
		answer(t, 60, OUT_HEAD, NULL, 0);
		CHECK(done(t, &len));
		CHECK_EQ(count_like(fd), 1);
		CHECK(is_passed_on(t, 5));
	}
	/* Nor after the end of wisp-fs, once that has been noticed. */
	close_server(t);
	post_read(t, 61, 77, 0, 10);
	CHECK(done(t, &len));
	struct place to = post_read(t, 62, 5, 0, 10);
	CHECK(done(t, &len) && head_of(t, to.head).error == -EIO);
	CHECK_EQ(count_like(other), 1);
	end(t);
	close(fd);
	close(other);
}

/* The close of what was only read does not wait for wisp-fs, which is told all the same, and gives no reply. */
static void early_releases(void)
{
	struct shared *t = &shared;
	const struct fuse_release_in in = {.fh = 5, .flags = O_RDONLY | O_CLOEXEC};
	static const uint32_t opcode[] = {FUSE_RELEASE, FUSE_RELEASEDIR};
	uint32_t len;
	int fd = make_file(1000);
	REQUIRE(fd >= 0 && start(t));
	for (unsigned i = 0; i < 2; i++) {
		REQUIRE(open_file(t, 5, fd));
		struct place to = post(t, opcode[i], 90 + i, &in, sizeof(in), NULL, 0, 0);
		REQUIRE(done(t, &len));
		struct fuse_out_header head = head_of(t, to.head);
		CHECK(len == OUT_HEAD && head.len == OUT_HEAD && head.error == 0 && head.unique == 90 + i);
		CHECK(next(t) == 8 + (ssize_t)(IN_HEAD + sizeof(in)) && t->got.frame.room == 0);
		CHECK(t->got.header.opcode == opcode[i] && memcmp(t->got.body, &in, sizeof(in)) == 0);
		CHECK_EQ(count_like(fd), i == 0 ? 1 : 2); /* a folder has a handle of its own */
	}
	/* Replies go on in their order. */
	post_read(t, 94, 77, 0, 10);
	post(t, FUSE_RELEASEDIR, 95, &in, sizeof(in), NULL, 0, 0);
	post_read(t, 96, 77, 0, 10);
	CHECK(next(t) > 0 && t->got.header.unique == 94 && next(t) > 0 && t->got.header.unique == 95);
	CHECK(next(t) > 0 && t->got.header.unique == 96);
	answer(t, 94, OUT_HEAD, NULL, 0);
	answer(t, 96, OUT_HEAD, NULL, 0);
	CHECK(done(t, &len) && done(t, &len) && done(t, &len));
	close_server(t);
	struct place to = post(t, FUSE_RELEASE, 97, &in, sizeof(in), NULL, 0, 0);
	CHECK(done(t, &len) && head_of(t, to.head).error == -EIO);
	end(t);
	close(fd);
}

/* What wisp-fs may not pass is closed, and serves for nothing. */
static void hostile_server(void)
{
	struct shared *t = &shared;
	const struct fuse_open_in in = {0};
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} created = {.open = {.fh = 7}};
	int fd = make_file(1000), pipes[2], folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint32_t len;
	REQUIRE(fd >= 0 && folder >= 0 && pipe2(pipes, O_CLOEXEC) == 0 && start(t));
	/* No regular file: to read from it could take for ever. */
	REQUIRE(open_file(t, 1, pipes[0]) && open_file(t, 2, folder) && open_file(t, 3, t->socket));
	CHECK(is_passed_on(t, 1) && is_passed_on(t, 2) && is_passed_on(t, 3));
	CHECK(count_like(pipes[0]) == 2 && count_like(folder) == 1 && count_like(t->socket) == 1);
	/* A handle that no file can have. */
	REQUIRE(open_file(t, 0, fd) && open_file(t, FS_DIRECT_FILES + 1, fd) && open_file(t, UINT64_MAX, fd));
	/* With a reply that opens nothing, with an error, or one that is too short. */
	post(t, FUSE_GETATTR, 70, &in, sizeof(in), NULL, 0, sizeof(struct fuse_open_out));
	CHECK(next(t) > 0);
	answer_with(t, (struct fuse_out_header){.len = OUT_HEAD + sizeof(created.open), .unique = 70}, &created.open,
	        sizeof(created.open), fd, -1);
	CHECK(done(t, &len));
	post(t, FUSE_CREATE, 71, &in, sizeof(in), NULL, 0, sizeof(created));
	CHECK(next(t) > 0);
	answer_with(t, (struct fuse_out_header){.len = OUT_HEAD + sizeof(created), .error = -EIO, .unique = 71},
	        &created, sizeof(created), fd, -1);
	CHECK(done(t, &len));
	post(t, FUSE_CREATE, 72, &in, sizeof(in), NULL, 0, sizeof(created));
	CHECK(next(t) > 0);
	answer_with(t, (struct fuse_out_header){.len = OUT_HEAD + sizeof(created) - 1, .unique = 72}, &created,
	        sizeof(created) - 1, fd, -1);
	CHECK(done(t, &len));
	CHECK_EQ(count_like(fd), 1);
	CHECK(is_passed_on(t, 7));
	/* Two: the kernel gives the device one at most. */
	post(t, FUSE_CREATE, 73, &in, sizeof(in), NULL, 0, sizeof(created));
	CHECK(next(t) > 0);
	answer_with(t, (struct fuse_out_header){.len = OUT_HEAD + sizeof(created), .unique = 73}, &created,
	        sizeof(created), fd, folder);
	CHECK(done(t, &len));
	CHECK(count_like(fd) <= 2 && count_like(folder) == 1);
	/* A reply that may have a file comes at once: one that does not is no reply. */
	struct place to = post(t, FUSE_CREATE, 74, &in, sizeof(in), NULL, 0, sizeof(created));
	CHECK(next(t) > 0);
	answer_with(
	        t, (struct fuse_out_header){.len = OUT_HEAD + sizeof(created), .unique = 74}, &created, 100, fd, -1);
	CHECK(done(t, &len) && head_of(t, to.head).error == -EIO);
	CHECK_EQ(count_like(fd), 1);
	end(t);
	close(fd);
	close(folder);
	close(pipes[0]);
	close(pipes[1]);
}

/* The guest's handle is the one that wisp-fs gave, whatever the guest writes over it. */
static void hostile_guest(void)
{
	struct shared *t = &shared;
	struct fuse_open_in in = {0};
	struct fuse_open_out out = {.fh = 9};
	uint32_t len;
	int fd = make_file(1000);
	REQUIRE(fd >= 0 && start(t));
	/* No room for the handle. */
	post(t, FUSE_OPEN, 80, &in, sizeof(in), NULL, 0, 8);
	CHECK(next(t) > 0);
	CHECK_EQ(t->got.frame.room, OUT_HEAD + 8);
	answer_with(t, (struct fuse_out_header){.len = OUT_HEAD, .error = -ERANGE, .unique = 80}, NULL, 0, fd, -1);
	CHECK(done(t, &len) && count_like(fd) == 1);
	/* No room for a reply of the release: the handle's place is the next one's. */
	REQUIRE(open_file(t, 9, fd));
	struct fuse_in_header header = {.len = IN_HEAD + 24, .opcode = FUSE_RELEASE, .unique = 81};
	uint64_t at = guest_alloc(&t->g, header.len, 8);
	memcpy(guest_at(&t->g, at, IN_HEAD), &header, IN_HEAD);
	memcpy(guest_at(&t->g, at + IN_HEAD, 8), &out.fh, 8);
	CHECK(ring_add(&t->d, REQUEST, &(struct buf){at, header.len}, 1, 0) >= 0);
	ring_kick(&t->d, REQUEST);
	CHECK(next(t) > 0 && done(t, &len));
	int other = make_file(10);
	REQUIRE(open_file(t, 9, other));
	CHECK(count_like(fd) == 1 && count_like(other) == 2);
	end(t);
	close(fd);
	close(other);
}

struct waiting {
	struct fs_transfer transfer;
	bool finished;
};

static void note(struct fs_transfer *transfer)
{
	((struct waiting *)transfer)->finished = true;
}

/* A descriptor outlives the transfers that use it: its number must not become another file's meanwhile. */
static void released_in_flight(void)
{
	static struct fs_direct direct;
	static struct virtq_chain chain;
	static struct waiting waiting;
	struct fuse_in_header header = {.len = 80, .opcode = FUSE_READ};
	struct fuse_write_in in = {.fh = 4, .size = 1000};
	uint8_t answer_head[OUT_HEAD], data[1000];
	struct guest g;
	int fd = make_file(1000), other = make_file(2000), passed = dup(fd), spare = dup(other);
	REQUIRE(fd >= 0 && other >= 0 && guest_open(&g));
	chain = (struct virtq_chain){.readable = 2, .writable = 2, .readable_bytes = 80, .writable_bytes = 1016};
	chain.iov[0] = (struct iovec){&header, sizeof(header)};
	chain.iov[1] = (struct iovec){&in, sizeof(in)};
	chain.iov[2] = (struct iovec){answer_head, sizeof(answer_head)};
	chain.iov[3] = (struct iovec){data, sizeof(data)};
	fs_direct_init(&direct, g.loop);
	fs_direct_add(&direct, 4, passed);
	waiting.transfer.finished = note;
	REQUIRE(fs_direct_start(&direct, &header, &chain, &waiting.transfer));
	fs_direct_release(&direct, 4);
	CHECK_EQ(count_like(fd), 2);
	fs_direct_add(&direct, 4, spare); /* has no place yet */
	CHECK_EQ(count_like(other), 1);
	CHECK(!fs_direct_start(&direct, &header, &chain, &waiting.transfer));
	for (unsigned i = 0; i < 100 && !waiting.finished; i++)
		loop_step(g.loop, 20);
	CHECK(waiting.finished && waiting.transfer.error == 0 && waiting.transfer.done == 1000);
	CHECK(data[999] == (uint8_t)(999 * 7 + 999 / 251));
	CHECK_EQ(count_like(fd), 1);
	fs_direct_add(&direct, 4, dup(other));
	CHECK_EQ(count_like(other), 2);
	fs_direct_release_all(&direct);
	CHECK_EQ(count_like(other), 1);
	guest_close(&g);
	close(fd);
	close(other);
}

/* The device ends, or is reset, while it transfers. */
static void ends_in_flight(void)
{
	struct shared *t = &shared;
	uint32_t len;
	int fd = make_file(200000);
	for (unsigned i = 0; i < 2; i++) {
		REQUIRE(fd >= 0 && start(t) && open_file(t, 1, fd));
		for (unsigned k = 0; k < 10; k++)
			post_read(t, k, 1, 0, 100000);
		if (i == 0) {
			drv_reset(&t->d);
			CHECK_EQ(t->d.dev->in_flight, 0);
			REQUIRE(drv_start(&t->d, RING_FEATURES_ALL, 64));
			post_read(t, 50, 1, 0, 100); /* wisp-fs has not forgotten it */
			CHECK(done(t, &len) && len == OUT_HEAD + 100);
		}
		end(t);
		CHECK_EQ(count_like(fd), 1);
	}
	close(fd);
}

TEST_MAIN("virtio_fs_direct", {"reading", reading}, {"writing", writing}, {"passed_on", passed_on},
        {"handles_end", handles_end}, {"early_releases", early_releases}, {"hostile_server", hostile_server},
        {"hostile_guest", hostile_guest}, {"released_in_flight", released_in_flight},
        {"ends_in_flight", ends_in_flight})
