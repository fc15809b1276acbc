/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent's tests share: an agent in a process of its own behind a Unix socket, and a client that speaks the
 * protocol frame by frame, so that it can break it as well. Every wait ends by itself after WAIT_MS.
 */
#ifndef WISP_TESTS_AGENT_HARNESS_H
#define WISP_TESTS_AGENT_HARNESS_H

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/identity.h"
#include "agent/serve.h"
#include "tests/unit/test.h"

#define WAIT_MS 20000
#define UNUSED __attribute__((unused))

/* ---- The agent ---- */

/* What its hooks saw, in memory shared with the test. */
struct seen {
	volatile uint64_t clock_ns;
	volatile int power; /* 1 + enum agent_power */
	volatile uint32_t grace_ms;
	volatile uint8_t seed; /* the first byte of THAW's */
};

struct agent_process {
	pid_t pid;
	struct sockaddr_un address;
	socklen_t address_length;
	int control; /* the host's end of the control connection, -1: none */
	struct seen *seen;
	int idle_fds;     /* what it has open when it serves nobody */
	bool unavailable; /* prepare() did not work here */
};

enum agent_process_flags {
	WITH_CONTROL = 1,
};

/* Of the agents that are started next: */
static UNUSED uint64_t harness_start_ns;               /* agent.start_ns, 0: as it is */
static UNUSED const char *harness_cgroups;             /* where its cgroups are, NULL: nowhere */
static UNUSED uint64_t harness_freeze_ns;              /* agent.freeze.limit_ns, 0: as it is */
static UNUSED struct identity_files harness_identity;  /* what THAW changes */
static UNUSED int harness_renew_error;                 /* the random generator takes no seed */
static UNUSED const struct sockaddr_un *harness_host;  /* where it connects anew, NULL: nowhere */
static UNUSED const struct sockaddr_un *harness_proxy; /* where EGRESS leads, NULL: nowhere */
static UNUSED uint16_t harness_doors[2];               /* the ports that lead there */

static void seen_power(struct agent *agent, enum agent_power wanted, uint32_t grace_ms)
{
	((struct seen *)agent->owner)->grace_ms = grace_ms;
	((struct seen *)agent->owner)->power = 1 + (int)wanted;
	agent->poller.stop = true;
}

static void seen_clock(struct agent *agent, uint64_t realtime_ns)
{
	((struct seen *)agent->owner)->clock_ns = realtime_ns;
}

static int seen_thaw(struct agent *agent, const struct proto_thaw *thaw)
{
	((struct seen *)agent->owner)->seed = thaw->seed[0];
	return harness_renew_error ? harness_renew_error : identity_renew(&harness_identity, thaw);
}

static int dial_host(struct agent *agent)
{
	(void)agent;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (const struct sockaddr *)harness_host, sizeof(*harness_host)) == 0)
		return fd;
	close(fd);
	return -ECONNREFUSED;
}

static int dial_proxy(struct agent *agent, uint32_t port)
{
	(void)agent, (void)port;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (connect(fd, (const struct sockaddr *)harness_proxy, sizeof(*harness_proxy)) == 0)
		return fd;
	int error = errno;
	close(fd);
	return -error;
}

/* Returns the exit status: LeakSanitizer adds its own at exit(). */
static int be_agent(int listener, int control, struct seen *seen)
{
	struct agent_hooks hooks = {.power = seen_power, .step_clock = seen_clock, .renew = seen_thaw};
	struct agent *agent = malloc(sizeof(*agent));
	hooks.reconnect = harness_host ? dial_host : NULL;
	hooks.dial = harness_proxy ? dial_proxy : NULL;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* Nothing else, and no gaps: tests count and limit what it has open. */
	listener = fcntl(listener, F_DUPFD_CLOEXEC, 100);
	control = control >= 0 ? fcntl(control, F_DUPFD_CLOEXEC, 100) : -1;
	close_range(3, 99, 0);
	listener = fcntl(listener, F_DUPFD_CLOEXEC, 3);
	control = control >= 0 ? fcntl(control, F_DUPFD_CLOEXEC, 4) : -1;
	close_range(100, ~0u, 0);
	if (!agent || agent_init(agent, &hooks, seen) || agent_listen(agent, listener))
		return 99;
	agent->egress.http.port = harness_doors[0];
	agent->egress.socks.port = harness_doors[1];
	if (harness_start_ns)
		agent->start_ns = harness_start_ns;
	if (harness_freeze_ns)
		agent->freeze.limit_ns = harness_freeze_ns;
	if (harness_cgroups && agent_cgroups_use(&agent->cgroups, harness_cgroups))
		return 97;
	if (control >= 0)
		agent_serve_control(agent, control);
	int error = agent_run(agent);
	agent_destroy(agent);
	free(agent);
	return error ? 98 : 0;
}

/* Ends it as a signal to PID 1 would, and checks that it ended well (with what sanitizers found). */
static UNUSED int agent_stop(struct agent_process *process)
{
	int status = 0;
	if (process->control >= 0)
		close(process->control);
	if (process->pid <= 0)
		return -1;
	kill(process->pid, SIGTERM);
	waitpid(process->pid, &status, 0);
	munmap(process->seen, sizeof(struct seen));
	process->pid = -1;
	return status;
}

static UNUSED int count_fds(pid_t pid)
{
	char path[64];
	int count = 0;
	for (int fd = 0; fd < 4096; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
		struct stat status;
		count += lstat(path, &status) == 0;
	}
	return count;
}

static UNUSED uint64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static UNUSED void sleep_ms(long ms)
{
	struct timespec time = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&time, NULL);
}

/* Until condition, checked every millisecond: for what another process does. */
#define WAIT_FOR(condition)                                                    \
	for (int wait_ms_ = 0; wait_ms_ < WAIT_MS && !(condition); wait_ms_++) \
	sleep_ms(1)

/* ---- Frames ---- */

struct frame {
	uint8_t type;
	uint32_t length;
	uint8_t *payload; /* freed by frame_free() */
};

static UNUSED void frame_free(struct frame *frame)
{
	free(frame->payload);
	frame->payload = NULL;
}

static UNUSED bool send_bytes(int fd, const void *data, size_t length)
{
	const char *at = data;
	while (length) {
		ssize_t count = send(fd, at, length, MSG_NOSIGNAL);
		if (count <= 0)
			return false;
		at += count;
		length -= (size_t)count;
	}
	return true;
}

static UNUSED bool send_frame(int fd, uint8_t type, const void *payload, size_t length)
{
	struct proto_frame frame = {.length = (uint32_t)length, .type = type};
	return send_bytes(fd, &frame, sizeof(frame)) && (!length || send_bytes(fd, payload, length));
}

/* false at the end of the stream, or after WAIT_MS. */
static UNUSED bool read_bytes(int fd, void *into, size_t length)
{
	char *at = into;
	while (length) {
		struct pollfd poller = {.fd = fd, .events = POLLIN};
		if (poll(&poller, 1, WAIT_MS) <= 0) {
			printf("# nothing came for %d ms\n", WAIT_MS);
			return false;
		}
		ssize_t count = recv(fd, at, length, 0);
		if (count <= 0)
			return false;
		at += count;
		length -= (size_t)count;
	}
	return true;
}

static UNUSED bool read_frame(int fd, struct frame *frame)
{
	struct proto_frame header;
	*frame = (struct frame){0};
	if (!read_bytes(fd, &header, sizeof(header)))
		return false;
	frame->type = header.type;
	frame->length = header.length;
	if (header.length > PROTO_DATA_MAX || header.zero[0] || header.zero[1] || header.zero[2]) {
		printf("# a frame that breaks the rules: type %u, length %u\n", header.type, header.length);
		return false;
	}
	frame->payload = calloc(1, header.length + 1u); /* with a NUL, for text */
	return read_bytes(fd, frame->payload, header.length);
}

/* Reads one frame of that type into `payload` of exactly that size (0: any, dropped). */
static UNUSED bool expect_frame(int fd, uint8_t type, void *payload, size_t size)
{
	struct frame frame;
	bool ok = read_frame(fd, &frame);
	if (ok && (frame.type != type || (size && frame.length != size))) {
		printf("# a frame of type %u, %u bytes came, not of type %u\n", frame.type, frame.length, type);
		ok = false;
	}
	if (ok && payload)
		memcpy(payload, frame.payload, size);
	frame_free(&frame);
	return ok;
}

/* ---- Connections and requests ---- */

static UNUSED int dial(const struct agent_process *process)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (const struct sockaddr *)&process->address, process->address_length) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Until it serves; then what it has open is what it always has. */
static UNUSED bool await_service(struct agent_process *process)
{
	int status, fd = dial(process);
	if (fd < 0 || !expect_frame(fd, PROTO_HELLO, NULL, 0)) {
		close(fd);
		waitpid(process->pid, &status, 0);
		process->pid = -1;
		process->unavailable = WIFEXITED(status) && WEXITSTATUS(status) == 77;
		return process->unavailable;
	}
	process->idle_fds = count_fds(process->pid) - 1;
	close(fd);
	WAIT_FOR(count_fds(process->pid) == process->idle_fds);
	return true;
}

/* prepare: run in the agent's process before it starts; NULL: nothing. Where it returns false: unavailable. */
static UNUSED bool agent_start_with(struct agent_process *process, int flags, bool (*prepare)(void))
{
	static unsigned int count;
	*process = (struct agent_process){.control = -1, .address.sun_family = AF_UNIX};
	/* An abstract address: nothing to clean up. */
	int length = snprintf(process->address.sun_path + 1, sizeof(process->address.sun_path) - 1,
	        "wisp-agent-test-%d-%u", (int)getpid(), count++);
	process->address_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
	process->seen = mmap(NULL, sizeof(struct seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int control[2] = {-1, -1};
	if (process->seen == MAP_FAILED ||
	        bind(listener, (struct sockaddr *)&process->address, process->address_length) || listen(listener, 256))
		return false;
	if (flags & WITH_CONTROL && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control))
		return false;
	fflush(stdout);
	process->pid = fork();
	if (process->pid == 0) {
		if (control[0] >= 0)
			close(control[0]);
		if (prepare && !prepare())
			_exit(77);
		exit(be_agent(listener, control[1], process->seen));
	}
	close(listener);
	if (control[1] >= 0)
		close(control[1]);
	process->control = control[0];
	return process->pid > 0 && await_service(process);
}

static UNUSED bool agent_start(struct agent_process *process, int flags)
{
	return agent_start_with(process, flags, NULL);
}

static UNUSED bool send_hello(int fd)
{
	struct proto_hello hello = {.magic = PROTO_MAGIC, .version = PROTO_VERSION};
	return send_frame(fd, PROTO_HELLO, &hello, sizeof(hello));
}

#define ARGS_MAX 16

struct exec {
	const char *argv[ARGS_MAX]; /* to the first NULL */
	const char *env[ARGS_MAX];
	const char *cwd, *user; /* NULL: "" */
	uint32_t flags;
	uint64_t timeout_ns;
	uint16_t rows, cols;
	struct proto_rlimit rlimits[PROTO_RLIMITS_MAX];
	uint32_t rlimit_count;
};

/* Appends to a request that is being built in memory of ample size. */
static UNUSED size_t put(uint8_t *buffer, size_t at, const void *data, size_t length)
{
	memcpy(buffer + at, data, length);
	return at + length;
}

/* The payload; its length is returned. */
static UNUSED size_t exec_payload(const struct exec *exec, uint8_t *buffer)
{
	struct proto_exec fixed = {.flags = exec->flags,
	        .timeout_ns = exec->timeout_ns,
	        .rows = exec->rows,
	        .cols = exec->cols,
	        .rlimit_count = exec->rlimit_count};
	while (fixed.argc < ARGS_MAX && exec->argv[fixed.argc])
		fixed.argc++;
	while (fixed.envc < ARGS_MAX && exec->env[fixed.envc])
		fixed.envc++;
	size_t at = put(buffer, 0, &fixed, sizeof(fixed));
	at = put(buffer, at, exec->rlimits, exec->rlimit_count * sizeof(exec->rlimits[0]));
	const char *cwd = exec->cwd ? exec->cwd : "", *user = exec->user ? exec->user : "";
	at = put(buffer, at, cwd, strlen(cwd) + 1);
	at = put(buffer, at, user, strlen(user) + 1);
	for (uint32_t i = 0; i < fixed.argc; i++)
		at = put(buffer, at, exec->argv[i], strlen(exec->argv[i]) + 1);
	for (uint32_t i = 0; i < fixed.envc; i++)
		at = put(buffer, at, exec->env[i], strlen(exec->env[i]) + 1);
	return at;
}

/* HELLO and EXEC as a client sends them: at once. */
static UNUSED bool send_exec(int fd, const struct exec *exec)
{
	uint8_t *buffer = malloc(PROTO_EXEC_MAX);
	struct proto_hello hello = {.magic = PROTO_MAGIC, .version = PROTO_VERSION};
	struct proto_frame frame = {.length = sizeof(hello), .type = PROTO_HELLO};
	size_t at = put(buffer, 0, &frame, sizeof(frame));
	at = put(buffer, at, &hello, sizeof(hello));
	size_t length = exec_payload(exec, buffer + at + sizeof(frame));
	frame = (struct proto_frame){.length = (uint32_t)length, .type = PROTO_EXEC};
	put(buffer, at, &frame, sizeof(frame));
	bool ok = send_bytes(fd, buffer, at + sizeof(frame) + length);
	free(buffer);
	return ok;
}

/* ---- What comes of it ---- */

struct result {
	bool started, exited, failed, done, refused, ended; /* ended: the stream did, and in order */
	struct proto_started start;
	struct proto_exited exit;
	struct proto_failed failure;
	struct proto_error error;
	char message[PROTO_STRING_MAX + 1]; /* of FAILED or ERROR */
	uint8_t *output[2];                 /* each with a NUL behind */
	size_t length[2];
	uint64_t dropped;
	uint64_t granted;
	uint32_t stdin_error;
	int stdin_errors;
};

static UNUSED void result_free(struct result *result)
{
	free(result->output[0]);
	free(result->output[1]);
	*result = (struct result){0};
}

static UNUSED void result_add(struct result *result, int stream, const struct frame *frame)
{
	result->output[stream] = realloc(result->output[stream], result->length[stream] + frame->length + 1);
	memcpy(result->output[stream] + result->length[stream], frame->payload, frame->length);
	result->length[stream] += frame->length;
	result->output[stream][result->length[stream]] = '\0';
}

static UNUSED const char *text(const struct result *result, int stream)
{
	return result->output[stream] ? (const char *)result->output[stream] : "";
}

/* Files a frame. False when it is one that may not come from the agent at this point. */
static UNUSED bool result_take(struct result *result, const struct frame *frame)
{
	size_t length = frame->length;
	bool ok = !result->done && !result->refused;
	switch (frame->type) {
	case PROTO_HELLO: return ok && length == sizeof(struct proto_hello) && !result->started;
	case PROTO_STARTED:
		ok &= !result->started && length == sizeof(result->start);
		memcpy(&result->start, frame->payload, sizeof(result->start));
		result->started = true;
		return ok;
	case PROTO_STDOUT:
	case PROTO_STDERR:
		result_add(result, frame->type == PROTO_STDERR, frame);
		return ok && result->started && !result->exited && length > 0;
	case PROTO_DROPPED:
		result->dropped += *(const uint64_t *)(const void *)frame->payload;
		return ok && length == sizeof(struct proto_dropped);
	case PROTO_STDIN_WINDOW:
		result->granted += *(const uint32_t *)(const void *)frame->payload;
		return ok && length == sizeof(struct proto_window);
	case PROTO_STDIN_ERROR:
		result->stdin_error = *(const uint32_t *)(const void *)frame->payload;
		result->stdin_errors++;
		return ok && length == sizeof(struct proto_stdin_error);
	case PROTO_EXITED:
		ok &= result->started && !result->exited && length == sizeof(result->exit);
		memcpy(&result->exit, frame->payload, sizeof(result->exit));
		result->exited = true;
		return ok;
	case PROTO_FAILED:
		ok &= !result->started && length >= sizeof(result->failure);
		memcpy(&result->failure, frame->payload, sizeof(result->failure));
		snprintf(result->message, sizeof(result->message), "%s",
		        (char *)frame->payload + sizeof(result->failure));
		result->failed = true;
		return ok;
	case PROTO_ERROR:
		memcpy(&result->error, frame->payload, sizeof(result->error));
		snprintf(
		        result->message, sizeof(result->message), "%s", (char *)frame->payload + sizeof(result->error));
		result->refused = true;
		return ok && length >= sizeof(result->error);
	case PROTO_DONE: result->done = true; return ok && length == 0;
	case PROTO_PONG:
	case PROTO_SESSION: return ok;
	default: return false;
	}
}

/* Reads and files one frame; false at the end. */
static UNUSED bool result_step(int fd, struct result *result)
{
	struct frame frame;
	if (!read_frame(fd, &frame)) {
		frame_free(&frame);
		return false;
	}
	bool ok = result_take(result, &frame);
	if (!ok) {
		printf("# frame of type %u, %u bytes, out of place\n", frame.type, frame.length);
		test_failed = true;
	}
	frame_free(&frame);
	return ok;
}

/* Reads until the agent ends the connection, and closes it. */
static UNUSED void collect(int fd, struct result *result)
{
	while (result_step(fd, result))
		;
	char byte;
	result->ended = recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
	close(fd);
}

/* Until the session has started, or everything is over. */
static UNUSED bool await_start(int fd, struct result *result)
{
	while (!result->started && !result->failed && !result->refused)
		if (!result_step(fd, result))
			return false;
	return result->started;
}

/* Until stream 0 contains it. */
static UNUSED bool await_text(int fd, struct result *result, const char *wanted)
{
	while (!strstr(text(result, 0), wanted))
		if (!result_step(fd, result))
			return false;
	return true;
}

/* The whole conversation of an execution without stdin. */
static UNUSED struct result run(const struct agent_process *process, const struct exec *exec)
{
	struct result result = {0};
	int fd = dial(process);
	if (fd < 0 || !send_exec(fd, exec)) {
		printf("# cannot talk to the agent\n");
		test_failed = true;
		close(fd);
		return result;
	}
	collect(fd, &result);
	return result;
}

#define SH(...)                                     \
	(struct exec)                               \
	{                                           \
		.argv = { "sh", "-c", __VA_ARGS__ } \
	}

/* A program that was run to its end, told properly. */
static UNUSED bool ended_with(const struct result *result, int code)
{
	if (result->failed || result->refused)
		printf("# %s\n", result->message);
	if (result->exited && result->exit.code != code)
		printf("# exit code %d, signal %u; %s\n", result->exit.code, result->exit.signal, text(result, 1));
	return result->started && result->exited && result->done && result->ended && result->exit.code == code;
}

/* Opens a session; the answer is to be collected. */
static UNUSED int open_session(const struct agent_process *process, uint64_t session, uint32_t flags)
{
	struct proto_open open = {.session = session, .flags = flags};
	int fd = dial(process);
	send_hello(fd);
	send_frame(fd, PROTO_OPEN, &open, sizeof(open));
	return fd;
}

/* Is the process there (a zombie counts)? */
static UNUSED bool alive(uint32_t pid)
{
	return kill((pid_t)pid, 0) == 0;
}

/* SIGKILL to a program, or to the group of one; never, by a number that did not come, to the tests' own. */
static UNUSED void kill_program(long pid)
{
	if (pid > 1 || pid < -1)
		kill((pid_t)pid, SIGKILL);
	else
		test_failed = true;
}

static UNUSED bool ends_with(const struct result *result, int stream, const char *end)
{
	size_t length = strlen(end);
	return result->length[stream] >= length &&
	       memcmp(result->output[stream] + result->length[stream] - length, end, length) == 0;
}

#endif
