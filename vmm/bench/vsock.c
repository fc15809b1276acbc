/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock: streams in both directions, round trips and short connections, between this process and the guest. The library
 * connects to wisp's guest; the peer's is reached through the host's AF_VSOCK. The same through a port of the host
 * (wisp_add_port), in wisp's guest.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "vmm/bench/side.h"

#define MEASURE_NS (BENCH_GUEST_MS * 1000000ull)
#define CHUNK (64u << 10)
#define CYCLES_MAX 100000u /* --cycles has the same limit */
#define PATIENCE_S 30

#define OPERATIONS 4u /* of each way */

/* How a sandbox is reached. */
struct way {
	const struct bench_side *side;
	uint16_t port; /* of TCP; 0: by vsock */
};

/* ---- Connections ---- */

static bool send_all(int fd, const void *data, size_t length)
{
	for (const char *at = data; length > 0;) {
		ssize_t n = send(fd, at, length, MSG_NOSIGNAL);
		if (n <= 0)
			return false;
		at += n;
		length -= (size_t)n;
	}
	return true;
}

static bool receive_all(int fd, void *data, size_t length)
{
	ssize_t n = recv(fd, data, length, MSG_WAITALL);
	if (n >= 0 && (size_t)n < length)
		errno = ECONNRESET;
	return n == (ssize_t)length;
}

/* Returns the socket, connected; or closes it, and returns -1 with errno. */
static int connect_or_close(int fd, const struct sockaddr *address, socklen_t size)
{
	if (connect(fd, address, size) == 0)
		return fd;
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* A connection to the peer's guest, or -1 with errno. */
static int connect_peer(const struct bench *bench)
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK,
	        .svm_port = BENCH_GUEST_PORT,
	        .svm_cid = bench->options->peer_cid ? (unsigned)bench->options->peer_cid : BENCH_PEER_CID};
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
	return connect_or_close(fd, (struct sockaddr *)&address, sizeof(address));
}

static int connect_tcp(uint16_t port)
{
	static const int on = 1;
	struct sockaddr_in address = {
	        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return connect_or_close(fd, (struct sockaddr *)&address, sizeof(address));
}

static int connect_side(const struct bench *bench, const struct way *way)
{
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	int fd;
	if (way->port) {
		fd = connect_tcp(way->port);
	} else if (!way->side->sandbox) {
		fd = connect_peer(bench);
	} else {
		int r = wisp_connect_port(way->side->sandbox, BENCH_GUEST_PORT, -1, &fd, NULL);
		errno = r < 0 ? -r : errno;
		fd = r < 0 ? -1 : fd;
	}
	if (fd >= 0) {
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	}
	return fd;
}

/* Connects and sends a request. Returns the descriptor, or -1 with errno. */
static int request(const struct bench *bench, const struct way *way, enum bench_guest_verb verb, uint64_t number)
{
	const struct bench_guest_request message = {.verb = verb, .number = number};
	int fd = connect_side(bench, way);
	if (fd < 0 || send_all(fd, &message, sizeof(message)))
		return fd;
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* -1: unknown. */
static int64_t count_interrupts(const struct bench *bench, const struct way *way)
{
	uint64_t count = 0;
	int fd = request(bench, way, BENCH_GUEST_INTERRUPTS, 0);
	bool got = fd >= 0 && receive_all(fd, &count, sizeof(count));
	if (fd >= 0)
		close(fd);
	return got ? (int64_t)count : -1;
}

/* ---- What is measured ---- */

static bool stream(const struct bench *bench, const struct way *way, bool to_guest, struct bench_result *result)
{
	char chunk[CHUNK] = {0};
	uint64_t begin = bench_now(), bytes = 0;
	int fd = request(bench, way, to_guest ? BENCH_GUEST_RECEIVE : BENCH_GUEST_SEND, 0);
	bool good = fd >= 0;
	/* At least one MiB: counts are per MiB. */
	while (good && (bench_now() - begin < MEASURE_NS || bytes < 1u << 20)) {
		ssize_t n = to_guest ? send(fd, chunk, CHUNK, MSG_NOSIGNAL) : recv(fd, chunk, CHUNK, 0);
		good = n > 0;
		if (n == 0)
			errno = ECONNRESET; /* the guest never ends a stream */
		bytes += good ? (size_t)n : 0;
	}
	if (good && to_guest)
		good = shutdown(fd, SHUT_WR) == 0 && receive_all(fd, chunk, 1);
	*result = (struct bench_result){.requests = bytes >> 20, .bytes = bytes, .ns = bench_now() - begin};
	if (fd >= 0)
		close(fd);
	return good;
}

static bool stream_to_host(const struct bench *bench, const struct way *way, struct bench_result *result)
{
	return stream(bench, way, false, result);
}

static bool stream_to_guest(const struct bench *bench, const struct way *way, struct bench_result *result)
{
	return stream(bench, way, true, result);
}

static bool connections(const struct bench *bench, const struct way *way, struct bench_result *result)
{
	uint64_t wanted = bench->options->cycles;
	int64_t *took = calloc(CYCLES_MAX, sizeof(*took));
	struct bench_guest_request echo = {0};
	struct bench_summary summary;
	uint64_t begin = bench_now(), last = begin;
	size_t cycles = 0;
	bool good = took;
	while (good && (wanted ? cycles < wanted : last - begin < MEASURE_NS && cycles < CYCLES_MAX)) {
		int fd = request(bench, way, BENCH_GUEST_ECHO, cycles);
		good = fd >= 0 && receive_all(fd, &echo, sizeof(echo)) && echo.number == cycles;
		if (fd >= 0)
			close(fd);
		uint64_t now = bench_now();
		took[cycles++] = (int64_t)(now - last);
		last = now;
	}
	if (good) {
		bench_summarize(took, cycles, &summary);
		*result =
		        (struct bench_result){.requests = cycles, .ns = last - begin, .p99_ns = (uint64_t)summary.p99};
	}
	free(took);
	return good;
}

static bool round_trips(const struct bench *bench, const struct way *way, struct bench_result *result)
{
	struct bench_guest_request message = {.verb = BENCH_GUEST_PINGS}, echo;
	uint64_t begin = bench_now(), count = 0;
	int fd = request(bench, way, BENCH_GUEST_PINGS, 0);
	bool good = fd >= 0 && receive_all(fd, &echo, sizeof(echo));
	begin = bench_now();
	while (good && bench_now() - begin < MEASURE_NS) {
		message.number = ++count;
		good = send_all(fd, &message, sizeof(message)) && receive_all(fd, &echo, sizeof(echo)) &&
		       echo.number == count;
	}
	*result = (struct bench_result){.requests = count, .ns = bench_now() - begin};
	if (fd >= 0)
		close(fd);
	return good;
}

static const struct {
	const char *name, *unit, *what, *per;
	bool (*run)(const struct bench *bench, const struct way *way, struct bench_result *result);
} operations[OPERATIONS] = {
        {"to-host", "kB/s", "from the guest, received here", "MiB", stream_to_host},
        {"to-guest", "kB/s", "to the guest, until all has arrived", "MiB", stream_to_guest},
        {"connections", "1/ks", "connect, echo, close: cycles per second", "cycle", connections},
        {"round-trips", "1/ks", "of a message of 16 bytes, per second", "round trip", round_trips},
};

static int measure_way(struct bench *bench, const struct way *way, bool counts)
{
	const struct bench_side *side = way->side;
	struct bench_metric *metric = &bench->metric[way->port ? OPERATIONS * BENCH_RESULT_METRICS : 0];
	for (size_t i = 0; i < OPERATIONS && !bench_poll_signal(bench, 0); i++, metric += BENCH_RESULT_METRICS) {
		struct bench_result result;
		int64_t interrupts = count_interrupts(bench, way);
		struct bench_counts before = bench_count_side(side);
		if (!operations[i].run(bench, way, &result))
			return cli_fail("bench: %s of %s: %s", operations[i].name, side->name, strerror(errno));
		struct bench_counts after = bench_count_side(side);
		int64_t interrupts_after = count_interrupts(bench, way);
		bench_set_counts(&result, &before, &after);
		result.interrupts = interrupts >= 0 && interrupts_after >= 0 ? interrupts_after - interrupts : -1;
		if (counts)
			bench_add_result(metric, !side->sandbox, &result);
	}
	return 0;
}

/* With a port of its own for each run: the program is another. */
static int measure_port(struct bench *bench, const struct bench_side *side, bool counts)
{
	struct way way = {.side = side};
	struct wisp_error error;
	char host[16];
	int port = wisp_add_port(side->sandbox, "0", BENCH_GUEST_PORT, &error);
	if (port < 0)
		return cli_fail_error(&error);
	way.port = (uint16_t)port;
	snprintf(host, sizeof(host), "%d", port);
	int code = measure_way(bench, &way, counts);
	wisp_remove_port(side->sandbox, host, NULL);
	return code;
}

static int measure(struct bench *bench, struct bench_side *side, bool counts)
{
	struct bench_guest_line line = {0};
	if (!bench_read_side(bench, side, &line) || line.type != BENCH_LINE_READY)
		return bench_fail_side(bench, side, &line);
	int code = measure_way(bench, &(struct way){.side = side}, counts);
	return code == 0 && side->sandbox ? measure_port(bench, side, counts) : code;
}

static bool add_metrics(struct bench *bench)
{
	struct bench_metric *first[OPERATIONS];
	char text[32];
	for (size_t i = 0; i < OPERATIONS; i++) {
		first[i] = bench_add_results(
		        bench, operations[i].name, operations[i].unit, operations[i].what, operations[i].per);
		if (!first[i])
			return false;
	}
	for (size_t i = 0; i < OPERATIONS; i++) {
		snprintf(text, sizeof(text), "tcp %s", operations[i].name);
		struct bench_metric *metric =
		        bench_add_results(bench, text, operations[i].unit, operations[i].what, operations[i].per);
		if (!metric)
			return false;
		metric->reference = first[i];
	}
	return true;
}

int bench_run_vsock(struct bench *bench)
{
	static const char *const words[] = {"vsock", NULL};
	struct bench_side wisp;
	int code = bench_open_sandbox_side(bench, &wisp);
	if (code == 0 && wisp.sandbox && !add_metrics(bench))
		code = cli_fail("out of memory");
	if (code == 0 && wisp.sandbox)
		code = bench_run_sides(bench, &wisp, words, measure);
	bench_unwatch_syscalls(&wisp.syscalls);
	wisp_close_sandbox(wisp.sandbox);
	return code;
}
