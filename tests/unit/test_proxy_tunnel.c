/* SPDX-License-Identifier: Apache-2.0 */
/* Tunnels through wisp-proxy, and the process: its jail, its places, its end. */
#include <pthread.h>
#include <sys/resource.h>

#include "tests/unit/test_proxy.h"
#include "vmm/proxy/proxy.h"
#include "vmm/shared/confine.h"
#include "vmm/shared/egress.h"

static int tunnel(const struct world *w, int *server)
{
	char text[128];
	int client = dial_proxy(w);
	if (!put(client, request(w, "CONNECT 127.0.0.1:%u HTTP/1.1\r\n\r\n")))
		return -1;
	*server = accept_one(w);
	get(client, "\r\n\r\n", text, sizeof(text));
	return strcmp(text, "HTTP/1.1 200 Connection established\r\n\r\n") == 0 ? client : -1;
}

static void test_tunnel(void)
{
	struct world w;
	char text[256];
	int server;
	REQUIRE(world_start(&w, here, NULL));
	int client = tunnel(&w, &server);
	REQUIRE(client >= 0);
	/* Each direction ends on its own. */
	CHECK(put(client, "question"));
	shutdown(client, SHUT_WR);
	get(server, "", text, sizeof(text));
	CHECK_STR(text, "question");
	CHECK(put(server, "answer"));
	shutdown(server, SHUT_WR);
	get(client, "", text, sizeof(text));
	CHECK_STR(text, "answer");
	close(server);
	close(client);
	client = tunnel(&w, &server);
	REQUIRE(client >= 0);
	shutdown(server, SHUT_WR);
	get(client, "", text, sizeof(text));
	CHECK(put(client, "still here"));
	get(server, "here", text, sizeof(text));
	CHECK_STR(text, "still here");
	close(client);
	close(server);
	CHECK_EQ(world_end(&w), 0);
}

struct flood {
	int fd;
	size_t bytes, sent;
};

static void *pour(void *argument)
{
	struct flood *flood = argument;
	char block[4096];
	for (; flood->sent < flood->bytes; flood->sent += sizeof(block)) {
		memset(block, (int)(flood->sent >> 12), sizeof(block));
		if (send(flood->fd, block, sizeof(block), MSG_NOSIGNAL) != sizeof(block))
			break;
	}
	shutdown(flood->fd, SHUT_WR);
	return NULL;
}

static bool arrives(int fd, size_t bytes)
{
	uint8_t block[4096];
	for (size_t got = 0; got < bytes; got += sizeof(block)) {
		if (!await(fd) || recv(fd, block, sizeof(block), MSG_WAITALL) != sizeof(block) ||
		        block[0] != (uint8_t)(got >> 12) || block[4095] != block[0])
			return false;
	}
	return recv(fd, block, 1, 0) == 0;
}

/* More than all buffers hold, both ways at the same time, and readers that come late. */
static void test_floods(void)
{
	struct world w;
	int server;
	pthread_t up, down;
	REQUIRE(world_start(&w, here, NULL));
	int client = tunnel(&w, &server);
	REQUIRE(client >= 0);
	struct flood from_client = {client, 16 << 20, 0}, from_server = {server, 16 << 20, 0};
	pthread_create(&up, NULL, pour, &from_client);
	CHECK(arrives(server, from_client.bytes));
	pthread_join(up, NULL);
	pthread_create(&down, NULL, pour, &from_server);
	CHECK(arrives(client, from_server.bytes));
	pthread_join(down, NULL);
	close(client);
	close(server);
	CHECK_EQ(world_end(&w), 0);
}

/* What broke off is not taken for the end: the other side is reset. */
static void test_broken_off(void)
{
	static const struct linger hard = {.l_onoff = 1};
	struct world w;
	char byte;
	int server;
	REQUIRE(world_start(&w, here, NULL));
	int client = tunnel(&w, &server);
	REQUIRE(client >= 0);
	setsockopt(server, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(server);
	CHECK(await(client));
	CHECK(recv(client, &byte, 1, 0) <= 0);
	/* The guest's agent tells it so, too: nothing can be sent. */
	CHECK(send(client, "x", 1, MSG_NOSIGNAL) < 0);
	close(client);
	/* A client that vanishes while its server is silent does not hold a place. */
	client = tunnel(&w, &server);
	REQUIRE(client >= 0);
	close(client);
	CHECK(await(server));
	CHECK(recv(server, &byte, 1, 0) <= 0);
	close(server);
	CHECK_EQ(world_end(&w), 0);
}

/* A server that answers early resets a client that still sends; the client gets the answer first. */
static void test_early_answers(void)
{
	static const struct {
		const char *request, *wanted;
	} cases[] = {
	        {"CONNECT 127.0.0.1:%u HTTP/1.1\r\n\r\n",
	                "HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 413 x\r\n\r\n"},
	        {"POST http://127.0.0.1:%u/ HTTP/1.1\r\nContent-Length: 67108864\r\n\r\n",
	                "HTTP/1.1 413 x\r\nConnection: close\r\n\r\n"},
	};
	struct world w;
	REQUIRE(world_start(&w, here, NULL));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[256];
		int client = dial_proxy(&w);
		CHECK(put(client, request(&w, cases[i].request)));
		int server = accept_one(&w);
		REQUIRE(server >= 0);
		struct flood flood = {client, 64 << 20, 0}; /* more than all buffers hold */
		pthread_t up;
		pthread_create(&up, NULL, pour, &flood);
		CHECK(await(server));
		poll(NULL, 0, 100); /* all buffers are full */
		/* The proxy finds the answer and the reset together. */
		kill(w.proxy, SIGSTOP);
		CHECK_EQ(waitpid(w.proxy, NULL, WUNTRACED), w.proxy);
		CHECK(put(server, "HTTP/1.1 413 x\r\n\r\n"));
		close(server);
		kill(w.proxy, SIGCONT);
		get(client, "", text, sizeof(text));
		CHECK_STR(text, cases[i].wanted);
		pthread_join(up, NULL);
		CHECK(flood.sent < flood.bytes);
		close(client);
	}
	CHECK_EQ(world_end(&w), 0);
}

static void test_socks(void)
{
	static const char *const rules[] = {"localhost:%u", "127.0.0.1:%u", NULL};
	struct world w;
	char text[256];
	uint8_t answer[12];
	REQUIRE(world_start(&w, rules, NULL));
	uint8_t question[] = "\5\1\0\5\1\0\3\11localhost\0\0hello";
	question[17] = (uint8_t)(w.port >> 8);
	question[18] = (uint8_t)w.port;
	int client = dial_proxy(&w);
	CHECK_EQ(send(client, question, sizeof(question) - 1, 0), sizeof(question) - 1);
	int server = accept_one(&w);
	get(server, "hello", text, sizeof(text));
	CHECK_STR(text, "hello");
	CHECK(await(client));
	CHECK_EQ(recv(client, answer, 12, MSG_WAITALL), 12);
	CHECK(memcmp(answer, "\5\0\5\0\0\1\0\0\0\0\0\0", 12) == 0);
	close(server);
	close(client);
	/* Not allowed, by an address and by a name that is not resolved. */
	static const uint8_t others[2][17] = {"\5\1\0\5\1\0\1\12\0\0\1\0\120", "\5\1\0\5\1\0\3\3a.b\0\120"};
	static const size_t lengths[] = {13, 13};
	for (int i = 0; i < 2; i++) {
		client = dial_proxy(&w);
		CHECK_EQ(send(client, others[i], lengths[i], 0), (ssize_t)lengths[i]);
		CHECK(await(client));
		CHECK_EQ(recv(client, answer, 12, MSG_WAITALL), 12);
		CHECK(memcmp(answer, "\5\0\5\2", 4) == 0);
		close(client);
	}
	CHECK(log_has(&w, " allowed socks localhost:%u 127.0.0.1\n"));
	CHECK(log_has(&w, " refused socks 10.0.0.1:80: its address 10.0.0.1 is private, and no rule names that\n"));
	CHECK(log_has(&w, " refused socks a.b:80: no rule allows it\n"));
	CHECK_EQ(world_end(&w), 0);
}

/* ---- The process ---- */

static void test_ends_with_the_monitor(void)
{
	struct world w;
	char byte;
	int server;
	REQUIRE(world_start(&w, here, NULL));
	int client = tunnel(&w, &server), silent = dial_proxy(&w);
	REQUIRE(client >= 0 && silent >= 0);
	kill(w.monitor, SIGKILL);
	/* Whatever it was doing. */
	CHECK(await(server));
	CHECK(recv(server, &byte, 1, 0) <= 0);
	CHECK(await(client));
	CHECK(recv(client, &byte, 1, 0) <= 0);
	CHECK(await(silent));
	int status = -1;
	CHECK_EQ(waitpid(w.proxy, &status, 0), w.proxy);
	CHECK_EQ(status, 0);
	CHECK(dial_proxy(&w) < 0);
	close(client);
	close(silent);
	close(server);
	w.proxy = -1;
	world_end(&w);
}

static bool status_has(const char *text, const char *name, const char *value)
{
	const char *line = strstr(text, name);
	if (line && strncmp(line + strlen(name), value, strlen(value)) == 0)
		return true;
	printf("# %s: %.40s\n", name, line ? line : "");
	return false;
}

static void test_jail(void)
{
	struct world w;
	struct rlimit files;
	struct stat st;
	char path[64], text[4096], wanted[80];
	if (CONFINE_SANITIZED)
		SKIP("builds with sanitizers have no jail");
	REQUIRE(world_start(&w, here, NULL));
	snprintf(path, sizeof(path), "/proc/%d", (int)w.proxy);
	read_text(path, "status", text, sizeof(text));
	CHECK(status_has(text, "Name:\t", "wisp-proxy\n"));
	CHECK(status_has(text, "\nNoNewPrivs:\t", "1\n"));
	CHECK(status_has(text, "\nSeccomp:\t", "2\n"));
	CHECK(status_has(text, "\nCapPrm:\t", "0000000000000000\n"));
	CHECK(status_has(text, "\nCapEff:\t", "0000000000000000\n"));
	if (geteuid() == 0) {
		CHECK(status_has(text, "\nUid:\t", "65534\t65534\t65534\t65534\n"));
		CHECK(status_has(text, "\nGroups:\t", " \n"));
	}
	read_text(path, "limits", text, sizeof(text));
	CHECK(strstr(text, "Max core file size        0                    0 "));
	CHECK(strstr(text, "Max data size             268435456            268435456 "));
	getrlimit(RLIMIT_NOFILE, &files);
	unsigned most = files.rlim_max < 2048 ? (unsigned)files.rlim_max : 2048;
	snprintf(wanted, sizeof(wanted), "Max open files            %-20u %-20u ", most, most);
	CHECK(strstr(text, wanted));
	/* What other processes of its user may not look into belongs to root. */
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)w.proxy);
	CHECK(stat(path, &st) == 0 && st.st_uid == 0);
	CHECK_EQ(world_end(&w), 0);
}

/* More clients than places: they wait until one ends. */
static void test_places(void)
{
	static int clients[EGRESS_CONNECTIONS_MAX + 8], servers[EGRESS_CONNECTIONS_MAX + 8];
	const struct rlimit many = {4096, 4096};
	struct rlimit files;
	struct world w;
	size_t count = sizeof(clients) / sizeof(clients[0]), served = 0;
	getrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_max < many.rlim_max)
		SKIP("too few descriptors");
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){many.rlim_cur, files.rlim_max});
	REQUIRE(world_start(&w, here, NULL));
	for (size_t i = 0; i < count; i++) {
		clients[i] = dial_proxy(&w);
		CHECK(put(clients[i], request(&w, "CONNECT 127.0.0.1:%u HTTP/1.1\r\n\r\n")));
	}
	while (served < EGRESS_CONNECTIONS_MAX && (servers[served] = accept_one(&w)) >= 0)
		served++;
	CHECK_EQ(served, EGRESS_CONNECTIONS_MAX);
	for (size_t i = 0; i < 8; i++) {
		struct pollfd pfd = {.fd = w.server, .events = POLLIN};
		CHECK_EQ(poll(&pfd, 1, 0), 0);
		close(servers[i]);
		close(clients[i]);
		servers[served] = accept_one(&w);
		CHECK(servers[served] >= 0);
		served++;
	}
	for (size_t i = 8; i < count; i++)
		close(clients[i]);
	for (size_t i = 8; i < served; i++)
		close(servers[i]);
	CHECK_EQ(world_end(&w), 0);
}

static void *serve(void *argument)
{
	static struct proxy proxy = {.request_ms = 50, .connect_ms = 50, .linger_ms = 50};
	serve_client(&proxy, *(int *)argument);
	return NULL;
}

/* A request that does not come, or comes in part only. */
static void test_silence(void)
{
	static const char *const parts[] = {"", "GET http://example.org/ HTTP/1.1\r\n", "\5", "\5\1", "\5\1\0\5\1"};
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		int pair[2];
		pthread_t thread;
		char text[16];
		REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
		fcntl(pair[1], F_SETFL, O_NONBLOCK);
		pthread_create(&thread, NULL, serve, &pair[1]);
		send(pair[0], parts[i], i == 4 ? 5 : strlen(parts[i]), 0);
		get(pair[0], "", text, sizeof(text));
		CHECK(strcmp(text, "") == 0 || memcmp(text, "\5", 2) == 0);
		pthread_join(thread, NULL);
		close(pair[0]);
	}
}

static void test_start_fails(void)
{
	const char *const allow[] = {"example.org", NULL};
	const struct wisp_create_options options = {.size = sizeof(options), .allow = allow};
	struct egress *egress = NULL;
	struct wisp_error error;
	CHECK_EQ(egress_prepare(&options, "/nonexistent/wisp-proxy", &egress, &error), -ENOENT);
	CHECK_EQ(error.status, WISP_ERR_SETUP);
	CHECK(!egress);
	REQUIRE(egress_prepare(&options, "/bin/false", &egress, &error) == 0);
	egress->listen_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	char place[] = "/tmp/wisp-test-XXXXXX";
	REQUIRE(mkdtemp(place));
	int dir = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pid_t pid;
	CHECK_EQ(egress_start(egress, dir, egress->listen_fd, &pid, &error), -EIO);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	CHECK_STR(error.message, "the proxy /bin/false could not be set up: it died without saying why");
	close(dir);
	remove_all(place);
	egress_free(egress);
}

TEST_MAIN("proxy", {"tunnel", test_tunnel}, {"floods", test_floods}, {"broken_off", test_broken_off},
        {"early_answers", test_early_answers}, {"socks", test_socks},
        {"ends_with_the_monitor", test_ends_with_the_monitor}, {"jail", test_jail}, {"places", test_places},
        {"silence", test_silence}, {"start_fails", test_start_fails})
