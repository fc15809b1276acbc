/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's parts by themselves: queue of bytes, output ring, timers, requests. */
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/folders.h"
#include "agent/bytes.h"
#include "agent/forward.h"
#include "agent/outring.h"
#include "agent/poller.h"
#include "agent/hosts.h"
#include "agent/net.h"
#include "agent/power.h"
#include "agent/request.h"
#include "tests/unit/test.h"
#include "virtio/vsock.h"
#include "vmm/monitor/init_args.h"

static void byte_queue(void)
{
	struct bytes bytes = {0};
	uint8_t written = 0, read = 0, prefix[3] = {1, 2, 3};
	uint32_t state = 7;
	for (int round = 0; round < 20000; round++) {
		uint8_t part[300];
		state = state * 1103515245 + 12345;
		size_t count = (state >> 16) % sizeof(part);
		if (state & 0x1000) {
			for (size_t i = 0; i < count; i++)
				part[i] = written++;
			REQUIRE(bytes_append(&bytes, part, count) == 0);
		} else {
			count = count < bytes.length ? count : bytes.length;
			for (size_t i = 0; i < count; i++)
				if (bytes_data(&bytes)[i] != read++)
					REQUIRE(!"the bytes are those that were appended");
			bytes_consume(&bytes, count);
		}
	}
	REQUIRE(bytes_append(&bytes, "x", 1) == 0);
	CHECK(bytes_prepend(&bytes, prefix, sizeof(prefix)) == 0);
	CHECK(memcmp(bytes_data(&bytes), prefix, sizeof(prefix)) == 0);
	CHECK(bytes_reserve(&bytes, SIZE_MAX) == NULL);
	bytes_consume(&bytes, bytes.length);
	CHECK(bytes.capacity <= 1024);
	bytes_free(&bytes);
}

/* A model: every byte that was read, with its stream. */
struct model {
	struct outring ring;
	int pipe[2];
	uint8_t *bytes, *streams;
	size_t length;
};

static bool model_open(struct model *model, size_t size)
{
	model->bytes = malloc(size);
	model->streams = malloc(size);
	model->length = 0;
	return model->bytes && model->streams && outring_init(&model->ring) == 0 && pipe2(model->pipe, O_NONBLOCK) == 0;
}

static void model_close(struct model *model)
{
	outring_free(&model->ring);
	close(model->pipe[0]);
	close(model->pipe[1]);
	free(model->bytes);
	free(model->streams);
}

/* `count` bytes of one stream through the pipe into the ring. How many it took. */
static size_t model_put(struct model *model, unsigned int stream, size_t count, uint64_t floor)
{
	static uint8_t data[16384];
	for (size_t i = 0; i < count; i++)
		data[i] = (uint8_t)((model->length + i) * 31 >> 3);
	if (write(model->pipe[1], data, count) != (ssize_t)count)
		test_failed = true;
	size_t done = 0;
	while (done < count) {
		uint32_t room = outring_room(&model->ring, floor, stream), asked = 0;
		if (!room)
			break;
		ssize_t got = outring_read(&model->ring, model->pipe[0], stream, room, &asked);
		if (got <= 0 || (size_t)got > asked || asked > room) {
			test_failed = true;
			break;
		}
		done += (size_t)got;
	}
	uint8_t rest[16384];
	if (done < count && read(model->pipe[0], rest, sizeof(rest)) != (ssize_t)(count - done))
		test_failed = true;
	memcpy(model->bytes + model->length, data, done);
	memset(model->streams + model->length, (int)stream, done);
	model->length += done;
	return done;
}

/* The ring holds what the model does, from its tail on. */
static void model_check(const struct model *model)
{
	const struct outring *ring = &model->ring;
	REQUIRE(ring->head == model->length && ring->tail <= ring->head && ring->head - ring->tail <= OUTRING_MAX);
	for (uint64_t position = ring->tail; position < ring->head;) {
		unsigned int stream;
		struct iovec slices[2];
		uint32_t run = outring_run(ring, position, &stream);
		REQUIRE(run > 0 && run <= ring->head - position);
		int count = outring_slices(ring, position, run, slices);
		for (int i = 0; i < count; i++) {
			REQUIRE(memcmp(slices[i].iov_base, model->bytes + position, slices[i].iov_len) == 0);
			for (size_t j = 0; j < slices[i].iov_len; j++)
				REQUIRE(model->streams[position + j] == stream);
			position += slices[i].iov_len;
		}
	}
}

static void ring_keeps_the_last(void)
{
	struct model model;
	uint32_t state = 3;
	REQUIRE(model_open(&model, 16 * OUTRING_MAX));
	CHECK_EQ(model.ring.capacity, OUTRING_MIN);
	for (int i = 0; i < 400; i++) {
		state = state * 1103515245 + 12345;
		size_t count = (state >> 16) % 9000 + 1;
		CHECK_EQ(model_put(&model, state >> 12 & 1, count, OUTRING_NO_FLOOR), count);
		if (i % 16 == 0)
			model_check(&model);
		/* Nothing is lost before the ring is as large as it may be. */
		CHECK_EQ(model.ring.head - model.ring.tail,
		        model.length < OUTRING_MAX ? model.length : (size_t)OUTRING_MAX);
	}
	model_check(&model);
	model_close(&model);
}

static void ring_keeps_the_floor(void)
{
	struct model model;
	REQUIRE(model_open(&model, 4 * OUTRING_MAX));
	size_t taken = 0;
	for (int i = 0; i < 40; i++)
		taken += model_put(&model, 0, 9999, 0);
	CHECK_EQ(taken, OUTRING_MAX);
	CHECK_EQ(outring_room(&model.ring, 0, 0), 0);
	CHECK_EQ(outring_room(&model.ring, 1000, 0), 1000);
	CHECK_EQ(model_put(&model, 1, 5000, 1000), 1000);
	CHECK_EQ(model.ring.tail, 1000);
	model_check(&model);
	model_close(&model);
}

/* One byte a stream in turn: bounded by the number of changes. */
static void ring_of_changes(void)
{
	struct model model;
	REQUIRE(model_open(&model, 4 * OUTRING_MAX));
	for (unsigned int i = 0; i < OUTRING_RUNS_MAX; i++)
		CHECK_EQ(model_put(&model, i & 1, 1, 0), 1);
	CHECK_EQ(outring_room(&model.ring, 0, 0), 0);
	CHECK(outring_room(&model.ring, 0, 1) > 0); /* goes on with the last run */
	CHECK(outring_room(&model.ring, 1, 0) > 0);
	model_check(&model);
	for (unsigned int i = 0; i < 3 * OUTRING_RUNS_MAX; i++)
		CHECK_EQ(model_put(&model, i & 1, 1, OUTRING_NO_FLOOR), 1);
	CHECK_EQ(model.ring.head - model.ring.tail, OUTRING_RUNS_MAX);
	model_check(&model);
	model_close(&model);
}

/* ---- Timers and tasks ---- */

struct fired {
	struct poller_timer timer;
	struct poller_task task;
	struct poller *poller;
	int *order, *count, number, again;
};

static void timer_fired(struct poller_timer *timer)
{
	struct fired *fired = container_of(timer, struct fired, timer);
	fired->order[(*fired->count)++] = fired->number;
	if (fired->number == 9)
		fired->poller->stop = true;
}

static void task_run(struct poller_task *task)
{
	struct fired *fired = container_of(task, struct fired, task);
	fired->order[(*fired->count)++] = fired->number;
	if (fired->again-- > 0)
		poller_defer(fired->poller, &fired->task);
}

static void timers_in_order(void)
{
	static struct poller poller;
	int order[16], count = 0;
	struct fired fired[10] = {0};
	static const int delays_ms[10] = {5, 1, 3, 9, 7, 1, 20, 2, 8, 30};
	static const int expected[] = {1, 5, 7, 2, 4, 8, 3, 6, 9};
	REQUIRE(poller_init(&poller) == 0);
	uint64_t begin = poller_now();
	for (int i = 0; i < 10; i++) {
		fired[i] = (struct fired){
		        .timer.fire = timer_fired, .poller = &poller, .order = order, .count = &count, .number = i};
		poller_arm(&poller, &fired[i].timer, begin + (uint64_t)delays_ms[i] * 1000000);
	}
	poller_disarm(&fired[0].timer);
	poller_arm(&poller, &fired[3].timer, begin + 10 * 1000000);
	CHECK_EQ(poller_run(&poller), 0);
	CHECK(poller_now() - begin >= 30 * 1000000);
	CHECK_EQ(count, 9);
	CHECK(memcmp(order, expected, sizeof(expected)) == 0);
	poller_destroy(&poller);
}

/* Tasks run in the order they were put off; one that puts itself off does not keep timers away. */
static void tasks_take_turns(void)
{
	static struct poller poller;
	static int order[4000];
	int count = 0;
	struct fired task = {.task.run = task_run, .number = 1, .again = 3000},
	             timer = {.timer.fire = timer_fired, .number = 9};
	REQUIRE(poller_init(&poller) == 0);
	task.poller = timer.poller = &poller;
	task.order = timer.order = order;
	task.count = timer.count = &count;
	poller_defer(&poller, &task.task);
	poller_defer(&poller, &task.task);
	poller_arm(&poller, &timer.timer, poller_now());
	CHECK_EQ(poller_run(&poller), 0);
	CHECK(count > 1 && count < 3000);
	list_remove(&task.task.node);
	poller_destroy(&poller);
}

/* ---- Requests ---- */

/* A hundred thousand variables of few names take no time to sort out. */
static void many_variables(void)
{
	enum { COUNT = 100000 };
	uint8_t *payload = malloc(PROTO_EXEC_MAX);
	struct proto_exec fixed = {.argc = 1, .envc = COUNT};
	memcpy(payload, &fixed, sizeof(fixed));
	size_t at = sizeof(fixed);
	memcpy(payload + at, "\0\0x", 4);
	at += 4;
	for (int i = 0; i < COUNT; i++)
		at += (size_t)sprintf((char *)payload + at, "V%d=%d", i % 7, i) + 1;
	struct agent_request request;
	struct agent_user user = {.name = "n", .home = "/h"};
	const char *why = NULL;
	REQUIRE(agent_request_parse(&request, payload, at, &why) == 0);
	uint64_t begin = poller_now();
	CHECK_EQ(agent_request_environ(&request, &user), 0);
	CHECK(poller_now() - begin < 2000000000u);
	int count = 0;
	while (request.envp[count])
		count++;
	CHECK_EQ(count, 7 + 4);
	CHECK_STR(agent_request_getenv(&request, "V4"), "99999");
	CHECK_STR(agent_request_getenv(&request, "HOME"), "/h");
	CHECK(!agent_request_getenv(&request, "V"));
	agent_request_free(&request);
	free(payload);
}

/* Random changes of a good request: refused or taken, never more read than there is (ASan sees). */
static void mutated_requests(void)
{
	static const char strings[] = "/tmp\0user\0sh\0-c\0true\0A=1\0B=2";
	struct proto_exec fixed = {.argc = 3, .envc = 2, .rlimit_count = 1};
	struct proto_rlimit limit = {.resource = 7, .soft = 1, .hard = 2};
	uint32_t state = 11;
	size_t length = sizeof(fixed) + sizeof(limit) + sizeof(strings);
	int taken = 0;
	for (int round = 0; round < 50000; round++) {
		uint8_t *payload = malloc(length);
		memcpy(payload, &fixed, sizeof(fixed));
		memcpy(payload + sizeof(fixed), &limit, sizeof(limit));
		memcpy(payload + sizeof(fixed) + sizeof(limit), strings, sizeof(strings));
		for (uint32_t changes = round % 4; changes; changes--) {
			state = state * 1103515245 + 12345;
			payload[(state >> 8) % length] = (uint8_t)(state >> 24) & (state & 0x80 ? 0xff : 3);
		}
		state = state * 1103515245 + 12345;
		size_t cut = state & 0x10000 ? length : length - (state >> 20) % length;
		struct agent_request request;
		struct agent_user user = {.name = "n", .home = "/h"};
		const char *why = NULL;
		if (agent_request_parse(&request, payload, cut, &why) == 0) {
			taken++;
			agent_request_environ(&request, &user);
			agent_request_free(&request);
		} else {
			CHECK(why);
		}
		free(payload);
	}
	CHECK(taken > 5000 && taken < 45000);
}

/* The guest ends before the host's patience does, whatever that is. */
static void time_to_end(void)
{
	CHECK_EQ(power_term_ns(0), POWER_TERM_NS);
	CHECK_EQ(power_term_ns(60000), 59000000000);
	CHECK_EQ(power_term_ns(2001), 1001000000);
	CHECK_EQ(power_term_ns(1000), 500000000);
	CHECK_EQ(power_term_ns(1), 500000);
	CHECK_EQ(power_term_ns(UINT32_MAX), UINT32_MAX * 1000000ull - POWER_SYNC_NS);
}

static void check_hosts(const char *before, const char *after)
{
	char path[] = "/tmp/wisp-hosts-XXXXXX", text[256] = "";
	int fd = mkstemp(path);
	REQUIRE(fd >= 0 && write(fd, before, strlen(before)) == (ssize_t)strlen(before));
	CHECK_EQ(hosts_add(path, "box"), 0);
	CHECK(pread(fd, text, sizeof(text) - 1, 0) >= 0);
	CHECK_STR(text, after);
	close(fd);
	unlink(path);
}

static void own_name(void)
{
	check_hosts("", "127.0.0.1\tlocalhost\n127.0.1.1\tbox\n");
	check_hosts("127.0.0.1 localhost", "127.0.0.1 localhost\n127.0.1.1\tbox\n");
	check_hosts("127.0.0.1 a box\n", "127.0.0.1 a box\n");
	check_hosts("1.1.1.1\tbox", "1.1.1.1\tbox");
	check_hosts("1.1.1.1 boxes #box\nbox\n", "1.1.1.1 boxes #box\nbox\n127.0.1.1\tbox\n");
	CHECK_EQ(hosts_add("/dev/null", "box"), -EINVAL);
}

static void folder_words(void)
{
	static const struct {
		const char *word, *path; /* NULL: it is refused */
		bool read_only, is_file;
	} words[] = {
	        {"rw:/work", "/work", false, false},
	        {"ro:/a/b", "/a/b", true, false},
	        {"ro:file:/etc/my%20file", "/etc/my file", true, true},
	        {"rw:/%0A%FF%25", "/\n\xff%", false, false},
	        {"rw:file", NULL, false, false},
	        {"rw:work", NULL, false, false},
	        {"rw:", NULL, false, false},
	        {"rx:/work", NULL, false, false},
	        {"", NULL, false, false},
	        {"rw:/a%2", NULL, false, false},
	        {"rw:/a%", NULL, false, false},
	        {"rw:/a%zz", NULL, false, false},
	        {"rw:/a%00b", NULL, false, false},
	};
	static char longest[400] = "rw:/";
	struct folder folder;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		bool good = folder_parse(words[i].word, &folder);
		CHECK_EQ(good, words[i].path != NULL);
		if (!good || !words[i].path)
			continue;
		CHECK_STR(folder.path, words[i].path);
		CHECK(folder.read_only == words[i].read_only && folder.is_file == words[i].is_file);
	}
	memset(longest + 4, 'x', 254);
	CHECK(folder_parse(longest, &folder) && strlen(folder.path) == 255);
	longest[258] = 'x';
	CHECK(!folder_parse(longest, &folder));
}

/* What the monitor writes, the agent reads, whatever is in the path; and the words stay words. */
static void folder_words_of_the_monitor(void)
{
	static struct description d;
	static char text[INIT_ARGS_MAX];
	char *rest = text, *word;
	unsigned found = 0;
	description_init(&d);
	description_set(d.hostname, sizeof(d.hostname), "host");
	d.folder_count = 3;
	strcpy(d.folder[0].path, "/a b\"c'%=\\\n\xc3\xa9\xff--");
	d.folder[1].read_only = 1;
	strcpy(d.folder[1].path, "/plain/path-1_2.txt");
	d.folder[2].is_file = 1;
	memset(d.folder[2].path, ' ', sizeof(d.folder[2].path) - 1);
	d.folder[2].path[0] = '/';
	init_args_make(&d, text);
	CHECK(strncmp(text, "host=host folder=rw:/a%20b%22c%27%25%3D%5C%0A%C3%A9%FF-- folder=ro:/plain/path-1_2.txt ",
	              86) == 0);
	while ((word = strsep(&rest, " "))) {
		struct folder folder;
		if (strncmp(word, "folder=", 7) != 0)
			continue;
		REQUIRE(found < 3 && folder_parse(word + 7, &folder));
		CHECK_STR(folder.path, d.folder[found].path);
		CHECK(folder.read_only == d.folder[found].read_only && folder.is_file == d.folder[found].is_file);
		found++;
	}
	CHECK_EQ(found, 3);
	/* One as the root is told as that. */
	strcpy(d.folder[0].path, "/");
	d.folder_count = 1;
	init_args_make(&d, text);
	CHECK_STR(text, "host=host root=folder0 mode=ro folder=/");
}

/* The network's addresses, too. */
static void net_words_of_the_monitor(void)
{
	static struct description d;
	static char text[INIT_ARGS_MAX];
	struct net_address a = {0};
	description_init(&d);
	description_set(d.hostname, sizeof(d.hostname), "host");
	d.net = (struct description_net){.port = DESCRIPTION_NET_TAP, .mtu = 1500};
	init_args_make(&d, text);
	CHECK_STR(text, "host=host net=dhcp");
	d.net.prefix6 = 128;
	memset(&d.net.address6, 0xfe, sizeof(d.net.address6));
	memset(&d.net.dns6, 0x09, sizeof(d.net.dns6));
	init_args_make(&d, text);
	CHECK_STR(text, "host=host net6=fefefefefefefefefefefefefefefefe/128,00000000000000000000000000000000,"
	                "09090909090909090909090909090909 net=none");
	d.net.prefix = 32;
	memset(&d.net.address, 255, sizeof(d.net.address));
	memset(&d.net.gateway6, 255, sizeof(d.net.gateway6));
	init_args_make(&d, text);
	char *net6 = strstr(text, "net6="), *net = strstr(text, "net=");
	REQUIRE(net6 && net && net > net6);
	net[-1] = '\0';
	CHECK(net_parse6(net6 + 5, &a) && net_parse(net + 4, &a));
	CHECK(memcmp(&a.address6, &d.net.address6, 16) == 0 && a.prefix6 == 128);
	CHECK(memcmp(&a.router6, &d.net.gateway6, 16) == 0);
	CHECK(memcmp(&a.dns6, &d.net.dns6, 16) == 0);
	CHECK_EQ(a.address, d.net.address);
}

/* Connections to the host take no places of those that come from it, nor these of those. */
static void places_of_forwards(void)
{
	enum { OUT = 512 };
	static uint8_t scratch[FORWARD_CHUNK_LARGE];
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	struct poller poller;
	struct agent_forwards forwards;
	int pairs[4][2], server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char byte;
	REQUIRE(bind(server, (struct sockaddr *)&address, size) == 0 && listen(server, 1) == 0);
	REQUIRE(getsockname(server, (struct sockaddr *)&address, &size) == 0 && poller_init(&poller) == 0);
	for (unsigned i = 0; i < 4; i++)
		REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pairs[i]) == 0);
	agent_forwards_init(&forwards, &poller, NULL, scratch);
	forwards.count = OUT + VSOCK_FORWARDS_MAX; /* one of them has ended for the monitor, which makes the next */
	forwards.out_count = OUT;
	agent_forward(&forwards, pairs[0][1], ntohs(address.sin_port));
	CHECK_EQ(forwards.count, OUT + VSOCK_FORWARDS_MAX + 1);
	CHECK(recv(pairs[0][0], &byte, 1, 0) < 0 && errno == EAGAIN);
	forwards.count = OUT + FORWARDS_MAX;
	agent_forward(&forwards, pairs[1][1], ntohs(address.sin_port)); /* one too many */
	CHECK_EQ(forwards.count, OUT + FORWARDS_MAX);
	CHECK_EQ(recv(pairs[1][0], &byte, 1, 0), 0);
	agent_forward_out(&forwards, pairs[2][1], pairs[3][1]);
	CHECK_EQ(forwards.count, OUT + 1 + FORWARDS_MAX);
	CHECK_EQ(forwards.out_count, OUT + 1);
	agent_forwards_destroy(&forwards);
	CHECK_EQ(forwards.count, OUT + FORWARDS_MAX - 1);
	poller_destroy(&poller);
	for (unsigned i = 0; i < 4; i++)
		close(pairs[i][0]);
	close(server);
}

TEST_MAIN("agent_parts", {"folder_words", folder_words}, {"folder_words_of_the_monitor", folder_words_of_the_monitor},
        {"net_words_of_the_monitor", net_words_of_the_monitor}, {"byte_queue", byte_queue},
        {"ring_keeps_the_last", ring_keeps_the_last}, {"ring_keeps_the_floor", ring_keeps_the_floor},
        {"ring_of_changes", ring_of_changes}, {"timers_in_order", timers_in_order},
        {"tasks_take_turns", tasks_take_turns}, {"many_variables", many_variables},
        {"mutated_requests", mutated_requests}, {"places_of_forwards", places_of_forwards},
        {"time_to_end", time_to_end}, {"own_name", own_name})
