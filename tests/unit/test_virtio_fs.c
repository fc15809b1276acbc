/* SPDX-License-Identifier: Apache-2.0 */
/* The file system device: messages, and what a driver or a wisp-fs may do to it. */
#include "tests/unit/fs_server.h"

#include "virtio/state.h"

static bool answered(struct shared *t, uint64_t unique)
{
	uint16_t head;
	uint32_t len;
	answer(t, unique, OUT_HEAD, NULL, 0);
	return ring_wait(&t->d, REQUEST, &head, &len);
}

/* A request is served. */
static void expect_service(struct shared *t, uint64_t unique)
{
	ask(t, REQUEST, unique, 100, 60);
	CHECK(next(t) > 0);
	CHECK(answered(t, unique));
}

static void config(void)
{
	struct shared *t = &shared;
	struct virtio_fs_config c;
	REQUIRE(create(t));
	for (unsigned i = 0; i < sizeof(c); i++)
		virtio_mmio_read(&t->d.mmio, VIRTIO_MMIO_CONFIG + i, (uint8_t *)&c + i, 1);
	CHECK_STR((const char *)c.tag, "folder0");
	CHECK_EQ(c.num_request_queues, 1);
	REQUIRE(drv_start(&t->d, RING_FEATURES_ALL, 64));
	CHECK_EQ(drv_queues(&t->d), 2);
	end(t);
}

static void round_trip(void)
{
	struct shared *t = &shared;
	uint16_t head;
	uint32_t len;
	REQUIRE(start(t));
	uint64_t to = ask(t, REQUEST, 5, 100, 60);
	CHECK_EQ(next(t), 8 + 100);
	CHECK(t->got.frame.room == 60 && t->got.frame.piped == 0);
	CHECK(t->got.header.len == 100 && t->got.header.unique == 5 && t->got.header.nodeid == 7);
	CHECK(t->got.body[0] == (uint8_t)(IN_HEAD + 5) && t->got.body[59] == 99 + 5);
	answer(t, 5, OUT_HEAD + 30, "0123456789abcdefghijklmnopqrst", 30);
	REQUIRE(ring_wait(&t->d, REQUEST, &head, &len));
	CHECK_EQ(len, OUT_HEAD + 30);
	CHECK(head_of(t, to).len == OUT_HEAD + 30 && head_of(t, to).unique == 5);
	CHECK(memcmp(guest_at(&t->g, to + OUT_HEAD, 30), "0123456789abcdefghijklmnopqrst", 30) == 0);
	/* An error, with no body. */
	to = ask(t, REQUEST, 6, IN_HEAD, OUT_HEAD);
	CHECK_EQ(next(t), 8 + (ssize_t)IN_HEAD);
	struct fuse_out_header error = {.len = OUT_HEAD, .error = -ENOENT, .unique = 6};
	CHECK(send(t->socket, &error, sizeof(error), 0) == sizeof(error));
	REQUIRE(ring_wait(&t->d, REQUEST, &head, &len));
	CHECK(len == OUT_HEAD && head_of(t, to).error == -ENOENT);
	CHECK(t->d.dev->from_guest.operations == 2 && t->d.dev->to_guest.bytes == 2 * OUT_HEAD + 30);
	end(t);
}

/* Both queues at once: what is asked first is answered first, and what asks for no reply gets none. */
static void order(void)
{
	struct shared *t = &shared;
	uint64_t to[20];
	uint16_t head;
	uint32_t len;
	REQUIRE(start(t));
	for (unsigned i = 0; i < 10; i++)
		to[i] = ask(t, REQUEST, 100 + i, 64, 32);
	guest_settle(&t->g, 2);
	ask(t, HIPRIO, 200, 48, 0);
	for (unsigned i = 0; i < 10; i++) {
		CHECK_EQ(next(t), 8 + 64);
		CHECK_EQ(t->got.header.unique, 100 + i);
	}
	CHECK_EQ(next(t), 8 + 48);
	CHECK_EQ(t->got.frame.room, 0);
	REQUIRE(ring_wait(&t->d, HIPRIO, &head, &len)); /* done when it is sent */
	CHECK_EQ(len, 0);
	CHECK(!ring_used(&t->d, REQUEST, &head, &len));
	for (unsigned i = 0; i < 10; i++)
		answer(t, 100 + i, OUT_HEAD + i, "0123456789", i);
	for (unsigned i = 0; i < 10; i++) {
		REQUIRE(ring_wait(&t->d, REQUEST, &head, &len));
		CHECK(len == OUT_HEAD + i && head_of(t, to[i]).unique == 100 + i);
	}
	end(t);
}

/* While the oldest request is a lookup, the driver need not notify: the device looks when the reply has come. */
static void expect_few_kicks(uint64_t features)
{
	struct shared *t = &shared;
	const struct ring *ring = &t->d.ring[REQUEST];
	uint64_t to[3];
	uint16_t head;
	uint32_t len;
	REQUIRE(create(t) && drv_start(&t->d, features, 64));
	for (unsigned round = 0; round < 100; round++) { /* more than the ring has places */
		unsigned kicks = ring->kicks;
		ask_for(t, REQUEST, FUSE_LOOKUP, 1, 64, 60);
		REQUIRE(next(t) > 0);
		ask_for(t, REQUEST, round % 2 ? FUSE_LOOKUP : FUSE_READ, 2, 64, 60);
		CHECK_EQ(next(t), -1);
		CHECK_EQ(ring->kicks - kicks, 1);
		ask(t, HIPRIO, 3, 48, 0);
		CHECK(next(t) > 0 && t->got.header.unique == 3);
		REQUIRE(ring_wait(&t->d, HIPRIO, &head, &len));
		CHECK(answered(t, 1));
		REQUIRE(next(t) > 0);
		CHECK_EQ(t->got.header.unique, 2);
		CHECK(answered(t, 2));
		guest_settle(&t->g, 2);
	}
	/* What may take long does not keep others from being served. */
	ask_for(t, REQUEST, FUSE_FSYNC, 4, 64, 60);
	CHECK(next(t) > 0);
	for (unsigned i = 5; i < 7; i++) {
		ask_for(t, REQUEST, FUSE_LOOKUP, i, 64, 60);
		CHECK(next(t) > 0 && t->got.header.unique == i);
	}
	for (unsigned i = 4; i < 7; i++)
		CHECK(answered(t, i));
	/* Nor does the end of wisp-fs. */
	for (unsigned i = 0; i < 3; i++) {
		to[i] = ask_for(t, REQUEST, FUSE_LOOKUP, 7 + i, 64, 60);
		guest_settle(&t->g, 2);
	}
	close_server(t);
	for (unsigned i = 0; i < 3; i++) {
		REQUIRE(ring_wait(&t->d, REQUEST, &head, &len));
		CHECK(head_of(t, to[i]).error == -EIO);
	}
	end(t);
}

static void lookups(void)
{
	expect_few_kicks(RING_FEATURES_ALL);
	expect_few_kicks(RING_FEATURES_ALL & ~(1ull << VIRTIO_RING_F_EVENT_IDX));
}

static bool drain(struct shared *t, uint64_t unique, uint32_t from, uint32_t size)
{
	uint32_t done = 0;
	while (done < size) {
		ssize_t n =
		        read(t->requests, t->bytes, sizeof(t->bytes) < size - done ? sizeof(t->bytes) : size - done);
		if (n < 0 && errno == EAGAIN) {
			if (loop_step(t->g.loop, 1000) <= 0)
				return false;
			continue;
		}
		for (ssize_t i = 0; i < n; i++, done++)
			if (t->bytes[i] != (uint8_t)(from + done + unique))
				return false;
	}
	return true;
}

/* Long requests: their end is in the pipe, which is smaller. The next one waits until all of it is there. */
static void long_requests(void)
{
	struct shared *t = &shared;
	static const uint32_t size[] = {FS_INLINE_MAX, FS_INLINE_MAX + 1, 70000, 200000, FS_REQUEST_MAX};
	uint16_t head;
	uint32_t len;
	REQUIRE(start(t));
	for (unsigned i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
		uint32_t piped = size[i] > FS_INLINE_MAX ? size[i] - FS_SPLIT : 0;
		ask(t, REQUEST, 10 + i, size[i], 100);
		ask(t, REQUEST, 50 + i, 64, 100);
		CHECK_EQ(next(t), 8 + size[i] - piped);
		CHECK_EQ(t->got.frame.piped, piped);
		if (piped > 65536)
			CHECK_EQ(next(t), -1);
		CHECK(drain(t, 10 + i, FS_SPLIT, piped));
		CHECK_EQ(next(t), 8 + 64);
		CHECK_EQ(t->got.header.unique, 50 + i);
		answer(t, 10 + i, OUT_HEAD, NULL, 0);
		answer(t, 50 + i, OUT_HEAD, NULL, 0);
		CHECK(ring_wait(&t->d, REQUEST, &head, &len) && ring_wait(&t->d, REQUEST, &head, &len));
	}
	end(t);
}

/* Long replies: what follows the message comes by the pipe, in pieces, and not a byte more is taken. */
static void long_replies(void)
{
	struct shared *t = &shared;
	static uint8_t data[100000];
	uint16_t head;
	uint32_t len;
	REQUIRE(start(t));
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 3 + i / 256);
	uint64_t one = ask(t, REQUEST, 1, 80, 200000), two = ask(t, REQUEST, 2, 80, 90000);
	CHECK(next(t) > 0 && next(t) > 0);
	CHECK(write(t->replies, data, 50) == 50);
	answer(t, 1, OUT_HEAD + 30000, NULL, 0);
	guest_settle(&t->g, 2);
	CHECK(!ring_used(&t->d, REQUEST, &head, &len));
	CHECK(write(t->replies, data + 50, 29950) == 29950);
	/* The next one's follows at once. */
	CHECK(write(t->replies, data, 20000) == 20000);
	answer(t, 2, OUT_HEAD + 100 + 20000, data, 100);
	REQUIRE(ring_wait(&t->d, REQUEST, &head, &len));
	CHECK_EQ(len, OUT_HEAD + 30000);
	CHECK(memcmp(guest_at(&t->g, one + OUT_HEAD, 30000), data, 30000) == 0);
	REQUIRE(ring_wait(&t->d, REQUEST, &head, &len));
	CHECK_EQ(len, OUT_HEAD + 20100);
	CHECK(memcmp(guest_at(&t->g, two + OUT_HEAD, 100), data, 100) == 0);
	CHECK(memcmp(guest_at(&t->g, two + OUT_HEAD + 100, 20000), data, 20000) == 0);
	/* One that failed when a part was in the pipe already. */
	uint64_t three = ask(t, REQUEST, 3, 80, 50000);
	CHECK(next(t) > 0 && write(t->replies, data, 20000) == 20000);
	struct fuse_out_header failed = {.len = OUT_HEAD + 20000, .error = -EIO, .unique = 3};
	CHECK(send(t->socket, &failed, sizeof(failed), 0) == sizeof(failed));
	REQUIRE(ring_wait(&t->d, REQUEST, &head, &len));
	CHECK(len == OUT_HEAD + 20000 && head_of(t, three).error == -EIO);
	expect_service(t, 4);
	end(t);
}

/* A wisp-fs that takes nothing: the requests that its socket has no room for wait, and none is lost. */
static void full_socket(void)
{
	struct shared *t = &shared;
	uint16_t head;
	uint32_t len;
	unsigned got = 0, small = 4096;
	REQUIRE(create(t));
	setsockopt(((int[]){t->socket})[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	REQUIRE(drv_start(&t->d, RING_FEATURES_ALL, 128));
	struct fuse_in_header header = {.len = 8000, .opcode = FUSE_WRITE};
	uint64_t at = guest_alloc(&t->g, 8000, 8), to = guest_alloc(&t->g, 64 * 128, 8);
	unsigned posted = 0;
	for (; posted < 64; posted++) {
		header.unique = posted;
		uint64_t own = guest_alloc(&t->g, IN_HEAD, 8);
		memcpy(guest_at(&t->g, own, IN_HEAD), &header, IN_HEAD);
		struct buf bufs[] = {{own, IN_HEAD}, {at, 8000 - IN_HEAD}};
		(void)to;
		if (ring_add(&t->d, HIPRIO, bufs, 2, 0) < 0)
			break;
		ring_kick(&t->d, HIPRIO);
	}
	guest_settle(&t->g, 5);
	unsigned done = 0;
	while (ring_used(&t->d, HIPRIO, &head, &len))
		done++;
	CHECK(done < posted);
	while (got < posted && next(t) > 0) {
		CHECK_EQ(t->got.header.unique, got);
		got++;
	}
	CHECK_EQ(got, posted);
	while (ring_used(&t->d, HIPRIO, &head, &len))
		done++;
	CHECK_EQ(done, posted);
	end(t);
}

/* What a driver must not do: the device stops, with one line about it, until it is reset. */
static void broken_requests(void)
{
	static const struct {
		uint32_t len, out, in;
	} wrong[] = {
	        {40, 39, 0},                                   /* no whole header */
	        {40, 0, 100},                                  /* none at all */
	        {41, 40, 0},                                   /* another length than it says */
	        {40, 41, 100},                                 /* */
	        {UINT32_MAX, 40, 100},                         /* */
	        {0, 40, 0},                                    /* */
	        {FS_REQUEST_MAX + 1, FS_REQUEST_MAX + 1, 100}, /* longer than may be */
	        {40, 40, 15},                                  /* no room for a header */
	        {40, 40, 1},                                   /* */
	};
	struct shared *t = &shared;
	REQUIRE(start(t));
	uint64_t at = guest_alloc(&t->g, FS_REQUEST_MAX + 1, 8);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct fuse_in_header header = {.len = wrong[i].len};
		memcpy(guest_at(&t->g, at, IN_HEAD), &header, IN_HEAD);
		struct buf bufs[] = {{at, wrong[i].out}, {at, wrong[i].in}};
		if (wrong[i].out == 0)
			ring_add(&t->d, REQUEST, &bufs[1], 0, 1);
		else
			ring_add(&t->d, REQUEST, bufs, 1, wrong[i].in > 0);
		ring_kick(&t->d, REQUEST);
		CHECK_EQ(next(t), -1);
		CHECK(drv_failed(&t->d));
		drv_reset(&t->d);
		REQUIRE(drv_start(&t->d, RING_FEATURES_ALL, 64));
	}
	CHECK_EQ(t->g.log_lines, 1);
	/* And it works again. */
	expect_service(t, 5);
	end(t);
}

/* All that waits fails, and all that comes. */
static void expect_lost(struct shared *t, const uint64_t *to, unsigned count)
{
	uint16_t head;
	uint32_t len;
	for (unsigned i = 0; i < count; i++) {
		REQUIRE(ring_wait(&t->d, REQUEST, &head, &len));
		CHECK(len == OUT_HEAD && head_of(t, to[i]).error == -EIO && head_of(t, to[i]).len == OUT_HEAD);
	}
	uint64_t later = ask(t, REQUEST, 77, 100, 60);
	ask(t, HIPRIO, 78, 48, 0);
	REQUIRE(ring_wait(&t->d, REQUEST, &head, &len) && ring_wait(&t->d, HIPRIO, &head, &len));
	CHECK(head_of(t, later).error == -EIO && head_of(t, later).unique == 77);
	CHECK(!drv_failed(&t->d) && t->g.log_lines == 1 && strstr(t->g.last_line, "folder0"));
}

static void server_dies(void)
{
	struct shared *t = &shared;
	uint64_t to[3];
	for (unsigned when = 0; when < 4; when++) {
		REQUIRE(start(t));
		unsigned count = when == 0 ? 0 : 3;
		for (unsigned i = 0; i < count; i++)
			to[i] = ask(t, REQUEST, i, i == 2 && when == 3 ? 200000 : 100, 60); /* the last is half sent */
		guest_settle(&t->g, 2);
		if (when == 2) {
			answer(t, 0, OUT_HEAD + 20, NULL, 0); /* and its rest never comes */
			guest_settle(&t->g, 2);
		}
		close_server(t);
		if (count == 0) {
			to[0] = ask(t, REQUEST, 0, 100, 60);
			count = 1;
		}
		expect_lost(t, to, count);
		end(t);
	}
}

/* A wisp-fs that a guest has taken over does what it likes to the folder, and nothing else. */
static void hostile_server(void)
{
	static const struct {
		struct fuse_out_header head;
		size_t here;
	} wrong[] = {
	        {{.len = 16, .unique = 4}, 16},         /* another request's */
	        {{.len = 15, .unique = 5}, 16},         /* shorter than its header */
	        {{.len = 17, .unique = 5}, 20},         /* shorter than it is */
	        {{.len = 61, .unique = 5}, 16},         /* longer than there is room */
	        {{.len = UINT32_MAX, .unique = 5}, 16}, /* */
	        {{.len = 0, .unique = 5}, 16},          /* */
	        {{.len = 16, .unique = 5}, 8},          /* no whole header */
	        {{.len = 200, .unique = 5}, 200},       /* more than was offered */
	};
	struct shared *t = &shared;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		REQUIRE(start(t));
		uint64_t to = ask(t, REQUEST, 5, 100, 60);
		CHECK(next(t) > 0);
		memset(guest_at(&t->g, to, 61), 0xaa, 61);
		memset(t->bytes, 0xff, 300);
		memcpy(t->bytes, &wrong[i].head, OUT_HEAD);
		CHECK(send(t->socket, t->bytes, wrong[i].here, 0) == (ssize_t)wrong[i].here);
		expect_lost(t, &to, 1);
		CHECK_EQ(*(uint8_t *)guest_at(&t->g, to + 60, 1), 0xaa); /* what is behind the room stays as it was */
		end(t);
	}
}

struct resetting {
	struct shared *t;
	bool done;
};

static void *reset_thread(void *context)
{
	struct resetting *r = context;
	drv_reset(&r->t->d);
	__atomic_store_n(&r->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

/* A reset waits for what wisp-fs has, which writes into the guest's memory; then nothing does. */
static void reset(void)
{
	struct shared *t = &shared;
	struct resetting r = {.t = t};
	pthread_t thread;
	REQUIRE(start(t));
	ask(t, REQUEST, 1, 100, 60);
	CHECK(next(t) > 0);
	REQUIRE(pthread_create(&thread, NULL, reset_thread, &r) == 0);
	guest_settle(&t->g, 20);
	CHECK(!__atomic_load_n(&r.done, __ATOMIC_SEQ_CST));
	answer(t, 1, OUT_HEAD, NULL, 0);
	long long until = now_ms() + 2000;
	while (!__atomic_load_n(&r.done, __ATOMIC_SEQ_CST) && now_ms() < until)
		loop_step(t->g.loop, 10);
	pthread_join(thread, NULL);
	CHECK_EQ(t->d.dev->in_flight, 0);
	REQUIRE(drv_start(&t->d, RING_FEATURES_ALL, 64));
	expect_service(t, 2);
	end(t);
}

/* The end of the device does not wait for a wisp-fs that hangs. */
static void end_in_flight(void)
{
	struct shared *t = &shared;
	for (unsigned i = 0; i < 2; i++) {
		REQUIRE(start(t));
		ask(t, REQUEST, 1, 100, 60);
		if (i == 1)
			ask(t, REQUEST, 2, 200000, 60);
		CHECK(next(t) > 0);
		end(t);
		CHECK_EQ(t->g.log_lines, 0);
	}
}

/* --- snapshots --- */

static void tell(struct shared *t, int32_t error, uint32_t size, const void *table, size_t here)
{
	struct fs_table_reply reply = {.error = error, .size = size};
	CHECK(send(t->socket, &reply, sizeof(reply), 0) == sizeof(reply));
	if (here > 0)
		CHECK(send(t->socket, table, here, 0) == (ssize_t)here);
}

/* wisp-fs's table goes into the machine's state, and from there to another wisp-fs, as it is. */
static void tables(void)
{
	static uint8_t table[100000], got[100000];
	struct shared *t = &shared;
	struct fs_table_message message;
	struct err err = {0};
	void *data;
	size_t size;
	for (size_t i = 0; i < sizeof(table); i++)
		table[i] = (uint8_t)(i * 7 + i / 256);
	REQUIRE(start(t));
	tell(t, 0, sizeof(table), table, FS_TABLE_PIECE);
	CHECK(send(t->socket, table + FS_TABLE_PIECE, sizeof(table) - FS_TABLE_PIECE, 0) > 0);
	CHECK(virtio_has_more(t->d.dev));
	REQUIRE(virtio_save_more(t->d.dev, &data, &size, &err) == 0);
	CHECK(size == sizeof(table) && memcmp(data, table, size) == 0);
	CHECK(recv(t->socket, &message, sizeof(message), 0) == sizeof(message));
	CHECK(message.op == FS_SAVE && message.size == 0);
	tell(t, 0, 0, NULL, 0);
	CHECK_EQ(virtio_restore_more(t->d.dev, data, size, &err), 0);
	free(data);
	CHECK(recv(t->socket, &message, sizeof(message), 0) == sizeof(message));
	CHECK(message.op == FS_RESTORE && message.size == sizeof(table));
	for (size_t done = 0; done < sizeof(got);) {
		ssize_t n = recv(t->socket, got + done, sizeof(got) - done, 0);
		REQUIRE(n > 0 && n <= (ssize_t)FS_TABLE_PIECE);
		done += (size_t)n;
	}
	CHECK(memcmp(got, table, sizeof(got)) == 0);
	/* The guest's requests go on. */
	expect_service(t, 5);
	/* What a wisp-fs says of a table that it does not take. */
	tell(t, -EXDEV, 0, NULL, 0);
	CHECK_EQ(virtio_restore_more(t->d.dev, "x", 1, &err), -EXDEV);
	CHECK(strstr(err.text, "the folder /work is another one"));
	err = (struct err){0};
	tell(t, -EMFILE, 0, NULL, 0);
	CHECK_EQ(virtio_restore_more(t->d.dev, "x", 1, &err), -EMFILE);
	CHECK(strstr(err.text, "cannot restore the folder /work: ") && strstr(err.text, "ulimit -Hn"));
	end(t);
}

static void no_tables(void)
{
	static const struct {
		struct fs_table_reply reply;
		size_t here; /* bytes, and then it ends */
		const char *why;
	} wrong[] = {
	        {{1, 0}, sizeof(struct fs_table_reply), "protocol"}, /* not an error number */
	        {{0, FS_TABLE_MAX + 1}, sizeof(struct fs_table_reply), "protocol"},
	        {{0, UINT32_MAX}, sizeof(struct fs_table_reply), "protocol"},
	        {{0, 10}, sizeof(struct fs_table_reply) - 1, "protocol"}, /* not a whole reply */
	        {{0, 10}, sizeof(struct fs_table_reply), "any more"},     /* without its table */
	        {{-ENOMEM, 0}, sizeof(struct fs_table_reply), "memory"},
	        {{0, 0}, 0, "any more"},
	};
	struct shared *t = &shared;
	void *data;
	size_t size;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct err err = {0};
		REQUIRE(start(t));
		if (wrong[i].here > 0)
			CHECK(send(t->socket, &wrong[i].reply, wrong[i].here, 0) == (ssize_t)wrong[i].here);
		shutdown(t->socket, SHUT_WR);
		CHECK(virtio_save_more(t->d.dev, &data, &size, &err) < 0);
		CHECK(strstr(err.text, "cannot save the folder /work: "));
		if (!strstr(err.text, wrong[i].why))
			printf("# %s\n", err.text);
		CHECK(strstr(err.text, wrong[i].why));
		end(t);
	}
	/* One that is lost has no table. */
	struct err err = {0};
	REQUIRE(start(t));
	close_server(t);
	ask(t, REQUEST, 1, 100, 60);
	guest_settle(&t->g, 3);
	CHECK_EQ(virtio_save_more(t->d.dev, &data, &size, &err), -EPIPE);
	CHECK(strstr(err.text, "any more"));
	CHECK(virtio_restore_more(t->d.dev, "x", 1, &err) < 0);
	end(t);
}

TEST_MAIN("virtio_fs", {"config", config}, {"round_trip", round_trip}, {"order", order}, {"lookups", lookups},
        {"long_requests", long_requests}, {"long_replies", long_replies}, {"full_socket", full_socket},
        {"broken_requests", broken_requests}, {"server_dies", server_dies}, {"hostile_server", hostile_server},
        {"reset", reset}, {"end_in_flight", end_in_flight}, {"tables", tables}, {"no_tables", no_tables})
