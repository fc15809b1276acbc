/* SPDX-License-Identifier: Apache-2.0 */
/* wisp-fs: several requests in a message, and several replies. */
#include "tests/unit/fs_client.h"

#define ROOT 1u
#define OUT_HEAD sizeof(struct fuse_out_header)

static uint8_t message[2 * FS_MESSAGE_MAX];
static size_t filled;

/* Adds a request to the message. The end of its argument, `piped` bytes, is for the pipe. */
static void add(uint32_t opcode, uint64_t nodeid, const void *arg, size_t size, uint32_t room, uint32_t piped)
{
	struct fuse_in_header header = {.len = (uint32_t)(sizeof(header) + size + piped),
	        .opcode = opcode,
	        .unique = ++client.unique,
	        .nodeid = nodeid};
	struct fs_frame frame = {.room = room, .piped = piped};
	memcpy(message + filled, &frame, sizeof(frame));
	memcpy(message + filled + sizeof(frame), &header, sizeof(header));
	if (size > 0)
		memcpy(message + filled + sizeof(frame) + sizeof(header), arg, size);
	filled += sizeof(frame) + sizeof(header) + size;
}

static void add_lookup(const char *name)
{
	add(FUSE_LOOKUP, ROOT, name, strlen(name) + 1, 300, 0);
}

static void post_all(void)
{
	CHECK(send(client.socket, message, filled, 0) == (ssize_t)filled);
	filled = 0;
}

/*
 * Receives a message, which is to have replies to `count` requests from `first` on, the last of which may go on in the
 * pipe. Returns the last one's error.
 */
static int expect_replies(uint64_t first, unsigned count)
{
	static uint8_t got[FS_INLINE_MAX + 1];
	struct fuse_out_header head = {0};
	ssize_t n = receive(got, sizeof(got)), at = 0;
	for (unsigned i = 0; i < count; i++, at += head.len) {
		CHECK(n - at >= (ssize_t)OUT_HEAD);
		if (n - at < (ssize_t)OUT_HEAD)
			return -1000;
		memcpy(&head, got + at, OUT_HEAD);
		CHECK_EQ(head.unique, first + i);
	}
	CHECK(at >= n);
	for (; at > n; at--)
		CHECK(read(client.replies, got, 1) == 1);
	return head.error;
}

static void replies_come_together(void)
{
	REQUIRE(client_start(&(struct start){0}));
	uint64_t first = client.unique + 1;
	put(at("a"), "a");
	put(at("longer-name"), "b");
	add_lookup("a");
	add_lookup("longer-name");
	add_lookup("none"); /* which is a reply too: there is none */
	struct fuse_getattr_in in = {0};
	add(FUSE_GETATTR, ROOT, &in, sizeof(in), 200, 0);
	post_all();
	CHECK_EQ(expect_replies(first, 4), 0);
	/* Also around one that has no reply, which may be the last. */
	struct fuse_forget_in forgotten = {.nlookup = 1};
	first = client.unique + 1;
	add_lookup("none");
	add(FUSE_FORGET, 2, &forgotten, sizeof(forgotten), 0, 0);
	post_all();
	CHECK_EQ(expect_replies(first, 1), 0);
	/* More than a message has room for. */
	first = client.unique + 1;
	for (unsigned i = 0; i < 80; i++)
		add_lookup("a");
	post_all();
	unsigned fit = FS_INLINE_MAX / (OUT_HEAD + sizeof(struct fuse_entry_out));
	CHECK_EQ(expect_replies(first, fit), 0);
	CHECK_EQ(expect_replies(first + fit, 80 - fit), 0);
	client_end();
}

/* They do not wait for what may take long, and neither a file nor the pipe is another reply's. */
static void replies_come_before(void)
{
	static uint8_t data[20000], got[20000];
	REQUIRE(client_start(&(struct start){0}));
	put(at("a"), "a");
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	uint64_t node = (uint64_t)look_up(ROOT, "a"), first = client.unique + 1;
	add_lookup("a");
	add(FUSE_STATFS, ROOT, NULL, 0, 300, 0);
	add_lookup("a");
	post_all();
	CHECK_EQ(expect_replies(first, 1), 0);
	CHECK_EQ(expect_replies(first + 1, 2), 0);
	first = client.unique + 1;
	struct fuse_open_in in = {.flags = O_RDWR};
	add_lookup("a");
	add(FUSE_OPEN, node, &in, sizeof(in), 300, 0);
	add_lookup("none");
	post_all();
	CHECK(expect_replies(first, 1) == 0 && client.file < 0);
	CHECK(expect_replies(first + 1, 1) == 0 && client.file >= 0);
	CHECK(expect_replies(first + 2, 1) == 0 && client.file < 0);
	int64_t fh = open_node(node, O_RDWR);
	struct fuse_write_in write_in = {.fh = (uint64_t)fh, .size = sizeof(data)};
	first = client.unique + 1;
	add_lookup("none");
	add(FUSE_WRITE, node, &write_in, sizeof(write_in), 300, sizeof(data));
	post_all();
	CHECK(write_all(client.requests, data, sizeof(data)));
	CHECK_EQ(expect_replies(first, 1), 0);
	CHECK_EQ(expect_replies(first + 1, 1), 0);
	struct fuse_read_in read_in = {.fh = (uint64_t)fh, .size = sizeof(got)};
	first = client.unique + 1;
	add_lookup("a");
	add(FUSE_READ, node, &read_in, sizeof(read_in), FS_REPLY_MAX, 0);
	add_lookup("none");
	post_all();
	CHECK_EQ(expect_replies(first, 1), 0);
	CHECK_EQ(expect_replies(first + 1, 1), 0);
	CHECK_EQ(expect_replies(first + 2, 1), 0);
	CHECK(read_node(node, fh, 0, sizeof(got)) == sizeof(data) && memcmp(client.in, data, sizeof(data)) == 0);
	client_end();
}

/* Only the last request may go on in the pipe, and nothing is left over. */
static void broken_messages(void)
{
	for (unsigned i = 0; i < 3; i++) {
		uint8_t byte;
		REQUIRE(client_start(&(struct start){0}));
		struct fuse_write_in in = {0};
		if (i == 0)
			add(FUSE_WRITE, ROOT, &in, sizeof(in), 300, 10);
		add_lookup("none");
		filled += i == 0 ? 0 : i == 1 ? 1 : sizeof(struct fs_frame) + sizeof(struct fuse_in_header) - 1;
		post_all();
		while (recv(client.socket, &byte, 1, 0) > 0)
			;
		CHECK(!client_stop());
		rmdir(client.dir);
	}
}

TEST_MAIN("fs_batch", {"replies_come_together", replies_come_together}, {"replies_come_before", replies_come_before},
        {"broken_messages", broken_messages})
