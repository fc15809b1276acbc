/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent, with three connections of hostile clients and the control connection. Programs really start, but only
 * harmless ones: what the request names is replaced (the linker puts __wrap_agent_spawn in agent_spawn's place).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/serve.h"
#include "agent/session.h"
#include "tests/fuzz/fuzz.h"

#define CLIENTS 4u /* the last one is the control connection */
#define CHILDREN_MAX 1000u

/* To wait for when an input is over; libFuzzer has children of its own. */
static pid_t children[CHILDREN_MAX];
static unsigned child_count;

int __wrap_agent_spawn(struct agent_spawn *spawn, int null_fd, int cgroup_fd, struct agent_spawned *spawned,
        struct agent_failure *failure);
int __real_agent_spawn(struct agent_spawn *spawn, int null_fd, int cgroup_fd, struct agent_spawned *spawned,
        struct agent_failure *failure);

int __wrap_agent_spawn(struct agent_spawn *spawn, int null_fd, int cgroup_fd, struct agent_spawned *spawned,
        struct agent_failure *failure)
{
	static char cat[] = "/bin/cat", echo[] = "/bin/echo", nothing[] = "/bin/true", none[] = "/nonexistent",
	            text[] = "some output";
	char *const programs[] = {cat, echo, nothing, none};
	struct agent_request *request = &spawn->request;
	request->argv[0] = programs[(uint8_t)request->argv[0][0] % 4];
	/* The request has room for an argument and NULL at least when it has two. */
	if (request->exec.argc > 1) {
		request->argv[1] = request->argv[0] == echo ? text : NULL;
		request->argv[2] = NULL;
	}
	request->exec.rlimit_count = 0;
	int ret = __real_agent_spawn(spawn, null_fd, cgroup_fd, spawned, failure);
	if (ret == 0 && child_count < CHILDREN_MAX)
		children[child_count++] = spawn->pid;
	return ret;
}

struct stop {
	struct poller_task task;
	struct poller *poller;
};

static void stop_round(struct poller_task *task)
{
	container_of(task, struct stop, task)->poller->stop = true;
}

/* One round: a task at its end stops the poller, and keeps it from sleeping. */
static void step(struct agent *agent)
{
	struct stop stop = {.task.run = stop_round, .poller = &agent->poller};
	agent->poller.stop = false;
	poller_defer(&agent->poller, &stop.task);
	agent_run(agent);
}

static void connect_client(struct agent *agent, int *fd, bool control)
{
	int ends[2];
	if (*fd >= 0)
		close(*fd);
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
	*fd = ends[0];
	if (control && !agent->control)
		agent_serve_control(agent, ends[1]);
	else
		agent_serve_connection(agent, ends[1]);
}

static void put(int fd, uint8_t type, const void *payload, size_t len)
{
	struct proto_frame frame = {.length = (uint32_t)len, .type = type};
	send(fd, &frame, sizeof(frame), MSG_NOSIGNAL);
	send(fd, payload, len, MSG_NOSIGNAL);
}

static void put_exec(int fd, struct input *in)
{
	struct {
		struct proto_exec exec;
		char strings[64];
	} payload = {.exec = {.argc = 1}};
	uint8_t kind = in8(in);
	payload.exec.flags = kind & 3;
	payload.exec.timeout_ns = kind & 4 ? in32(in) : 0;
	payload.exec.envc = kind & 8 ? in8(in) : 0;
	payload.exec.argc = kind & 16 ? in8(in) : 1;
	/* cwd and user empty, then a program of one letter, then whatever comes */
	payload.strings[2] = (char)('@' + (kind >> 6));
	size_t more = kind & 32 ? in8(in) % 60 : 0;
	in_bytes(in, payload.strings + 4, more);
	put(fd, PROTO_EXEC, &payload, sizeof(payload.exec) + 4 + more);
}

/* FREEZE, which fails as there are no cgroups here, or THAW, by a host or by who is none. */
static void put_freeze(int fd, struct input *in)
{
	struct proto_thaw thaw = {.flags = in8(in)};
	in_bytes(in, thaw.hostname, thaw.flags & 2 ? sizeof(thaw.hostname) : 0);
	if (thaw.flags & 4)
		put(fd, PROTO_FREEZE, NULL, 0);
	else if (thaw.flags & 8)
		put(fd, PROTO_CLOCK, &thaw, sizeof(struct proto_clock));
	else
		put(fd, PROTO_THAW, &thaw, sizeof(thaw));
}

/* A whole frame of a type that a client may send, and of a length that fits it more often than not. */
static void put_frame(int fd, struct input *in)
{
	static const uint8_t types[] = {PROTO_PING, PROTO_PONG, PROTO_OPEN, PROTO_LIST, PROTO_POWEROFF, PROTO_STDIN,
	        PROTO_STDIN_EOF, PROTO_SIGNAL, PROTO_RESIZE, PROTO_STDIN, PROTO_KEEP, PROTO_OPEN, PROTO_LIST,
	        PROTO_EXEC, PROTO_STDOUT, 0};
	static const uint8_t lengths[] = {8, 8, sizeof(struct proto_open), 0, 0, 100, 0, 4, 4, 10, 0, 16, 0, 40, 5, 5};
	static uint8_t payload[65536];
	uint8_t kind = in8(in);
	size_t len = kind & 128 ? in16(in) : lengths[kind % 16];
	in_bytes(in, payload, len < 16 ? len : 16);
	put(fd, types[kind % 16], payload, len);
}

static void client(struct agent *agent, int *fds, struct input *in)
{
	static uint8_t bytes[65536];
	struct proto_hello hello = {.magic = PROTO_MAGIC, .version = PROTO_VERSION};
	uint8_t what = in8(in);
	int *fd = &fds[what % CLIENTS];
	size_t len;
	switch (what / CLIENTS % 16) {
	case 0: connect_client(agent, fd, what % CLIENTS == CLIENTS - 1); break;
	case 1:
	case 2: put(*fd, PROTO_HELLO, &hello, sizeof(hello)); break;
	case 3:
	case 4: put_exec(*fd, in); break;
	case 5:
	case 6:
	case 7:
	case 8: put_frame(*fd, in); break;
	case 9: {
		const uint8_t *piece = in_piece(in, in8(in), &len);
		send(*fd, piece, len, MSG_NOSIGNAL);
		break;
	}
	case 10: recv(*fd, bytes, sizeof(bytes), 0); break;
	case 11: shutdown(*fd, what / 64 % 3); break;
	case 12:
		if (what & 64) {
			put_freeze(*fd, in);
			break;
		}
		step(agent);
		break;
	default: step(agent); break;
	}
}

static void end_all(struct agent *agent)
{
	list_for_each_safe(node, next, &agent->running)
	        agent_session_signal(container_of(node, struct agent_session, node), SIGKILL);
	agent_destroy(agent);
	while (child_count > 0)
		waitpid(children[--child_count], NULL, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct agent_hooks hooks;
	struct agent *agent = calloc(1, sizeof(*agent)); /* not twice: children leave poison where their stack was */
	struct input in = {data, size};
	int fds[CLIENTS] = {-1, -1, -1, -1};
	MUST(agent && agent_init(agent, &hooks, NULL) == 0);
	for (unsigned i = 0; i < CLIENTS; i++)
		connect_client(agent, &fds[i], i == CLIENTS - 1);
	for (unsigned i = 0; i < 300 && in.left > 0; i++)
		client(agent, fds, &in);
	step(agent);
	MUST(agent->client_count <= PROTO_CLIENTS_MAX + 1);
	for (unsigned i = 0; i < CLIENTS; i++)
		close(fds[i]);
	step(agent);
	end_all(agent);
	free(agent);
	return 0;
}
