/* SPDX-License-Identifier: Apache-2.0 */
/* The host library through its public calls, against a monitor and an agent that answer with a script and hang up. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/shared/proto.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/lib/conn.h"
#include "vmm/lib/sandbox.h"
#include "wisp.h"

struct script {
	int listener;
	const uint8_t *data;
	size_t size;
};

static char dir[64];

static void remove_dir(void)
{
	char path[80];
	snprintf(path, sizeof(path), "%s/vsock.sock", dir);
	unlink(path);
	rmdir(dir);
}

static int listener(void)
{
	static int fd = -1;
	if (fd >= 0)
		return fd;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(dir, sizeof(dir), "/tmp/wisp-fuzz-lib-%d", getpid());
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/vsock.sock", dir);
	mkdir(dir, 0700);
	unlink(address.sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 4) == 0);
	atexit(remove_dir);
	return fd;
}

/* Says all at once, then hangs up in order: whoever waits for more learns that there is none. */
static void *serve(void *arg)
{
	const struct script *script = arg;
	uint8_t bytes[4096];
	int fd = accept4(script->listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return NULL;
	for (size_t at = 0; at < script->size;) {
		ssize_t n = send(fd, script->data + at, script->size - at, MSG_NOSIGNAL);
		if (n < 0)
			break;
		at += (size_t)n;
	}
	shutdown(fd, SHUT_WR);
	while (recv(fd, bytes, sizeof(bytes), 0) > 0)
		;
	close(fd);
	return NULL;
}

/* Frames that are whole, of types that an agent may send, so that more than the first is looked at. */
static void add_frame(struct input *in, struct lib_string *out)
{
	static const uint8_t types[] = {PROTO_STARTED, PROTO_STDOUT, PROTO_STDERR, PROTO_DROPPED, PROTO_STDIN_WINDOW,
	        PROTO_STDIN_ERROR, PROTO_EXITED, PROTO_FAILED, PROTO_DONE, PROTO_SESSION, PROTO_ERROR, PROTO_PING,
	        PROTO_PONG, PROTO_HELLO, PROTO_STDOUT, 0};
	static const uint8_t lengths[] = {16, 30, 30, 8, 4, 4, 12, 20, 0, 60, 20, 8, 8, 16, 1, 1};
	uint8_t payload[65536];
	uint8_t kind = in8(in);
	size_t len = kind & 128 ? in16(in) : lengths[kind % 16];
	struct proto_frame frame = {.length = (uint32_t)len, .type = types[kind % 16]};
	if (frame.type == 0)
		frame.type = in8(in);
	memset(payload, 'o', sizeof(payload));
	in_bytes(in, payload, len < 64 ? len : 64);
	if (frame.type == PROTO_EXITED && !(kind & 64))
		memset(payload, 0, sizeof(struct proto_exited));
	lib_string_add(out, &frame, sizeof(frame));
	lib_string_add(out, payload, len);
}

static void build(struct input *in, struct lib_string *out)
{
	struct {
		struct proto_frame frame;
		struct proto_hello hello;
	} hello = {{.length = sizeof(struct proto_hello), .type = PROTO_HELLO},
	        {.magic = PROTO_MAGIC, .version = PROTO_VERSION}};
	uint8_t kind = in8(in);
	if (kind & 1)
		lib_string_format(out, "OK %u\n", 1024);
	if (kind & 2)
		lib_string_add(out, &hello, sizeof(hello));
	for (unsigned i = 0; kind & 4 && i < 64 && in->left > 0; i++)
		add_frame(in, out);
	lib_string_add(out, in->at, in->left);
}

static void check_event(const struct wisp_event *event)
{
	MUST(event->message && event->errno_name);
	touch(event->message, strlen(event->message) + 1);
}

static void stream(struct wisp_sandbox *sandbox, uint8_t kind)
{
	const char *argv[] = {"true", NULL};
	static const char fed[100000];
	struct wisp_exec_options options = {.size = sizeof(options), .tty = kind & 1};
	options.stdin_mode = kind & 2 ? WISP_STDIN_PIPE : kind & 4 ? WISP_STDIN_BYTES : WISP_STDIN_NULL;
	options.stdin_data = kind & 4 && !(kind & 2) ? fed : NULL;
	options.stdin_length = kind & 4 && !(kind & 2) ? sizeof(fed) : 0;
	struct wisp_session *session;
	struct wisp_error error = {0};
	if (wisp_exec_stream(sandbox, argv, &options, &session, &error) < 0)
		return;
	struct wisp_stdin *writer = wisp_take_stdin(session);
	const struct wisp_event *event;
	for (unsigned i = 0; i < 200; i++) {
		if (writer && i == 1)
			wisp_write_stdin(writer, fed, sizeof(fed), 0, &error);
		if (wisp_recv_event(session, -1, &event, &error) < 0)
			break;
		check_event(event);
		if (event->type == WISP_EVENT_DONE)
			break;
		if (i == 2)
			wisp_signal_session(session, 15, &error);
	}
	wisp_close_stdin(writer);
	wisp_close_session(session);
}

static void call(struct wisp_sandbox *sandbox, uint8_t kind)
{
	const char *argv[] = {"true", NULL};
	struct wisp_error error = {0};
	struct wisp_output *output;
	struct wisp_session_info **list;
	struct wisp_session *session;
	struct wisp_open_options open = {.size = sizeof(open), .write = kind & 8};
	int64_t ns;
	switch (kind % 5) {
	case 0:
		wisp_exec(sandbox, argv, NULL, &output, &error);
		wisp_free_output(output);
		break;
	case 1: stream(sandbox, kind / 5); break;
	case 2:
		if (wisp_list_sessions(sandbox, &list, &error) >= 0)
			wisp_free_session_list(list);
		break;
	case 3: wisp_ping_sandbox(sandbox, &ns, &error); break;
	default:
		if (wisp_open_session(sandbox, 1, &open, &session, &error) < 0)
			break;
		wisp_collect_output(session, &output, &error);
		wisp_free_output(output);
		wisp_close_session(session);
		break;
	}
	MUST(!strchr(error.message, '\n') && lib_is_utf8(error.message, strlen(error.message), &(size_t){0}));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct lib_string answer = {0};
	pthread_t thread;
	static char name[] = "box";
	struct script script;
	int listen_fd = listener();
	struct wisp_sandbox sandbox = {.name = name,
	        .dir = dir,
	        .root_fd = -1,
	        .pool = conn_pool_new(),
	        .dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
	        .pidfd = -1,
	        .status_fd = -1};
	MUST(sandbox.dir_fd >= 0 && sandbox.pool);
	uint8_t kind = in8(&in);
	build(&in, &answer);
	script = (struct script){listen_fd, (const uint8_t *)answer.text, answer.length};
	MUST(!answer.failed && pthread_create(&thread, NULL, serve, &script) == 0);
	call(&sandbox, kind);
	conn_pool_close(sandbox.pool);
	pthread_join(thread, NULL);
	free(answer.text);
	close(sandbox.dir_fd);
	return 0;
}
