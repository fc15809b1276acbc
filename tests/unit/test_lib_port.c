/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's vsock ports, and the trace, of a directory that looks like a running sandbox. */
#include "tests/unit/test_lib.h"

#define BEGIN(f)                 \
	struct fixture f;        \
	struct wisp_error error; \
	int fd = -1;             \
	REQUIRE(begin(&f, &error))

static bool begin(struct fixture *f, struct wisp_error *error)
{
	return fixture_dir(f, "cpus=1\n") && wisp_open_sandbox(f->root, "box", &f->sandbox, error) == 0;
}

static void make_address(const struct fixture *f, const char *name, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(address->sun_path, sizeof(address->sun_path), "%.70s/%.30s", f->dir, name);
}

/* The monitor's socket, on which the test answers itself. */
static int open_monitor(const struct fixture *f, int backlog)
{
	struct sockaddr_un address;
	make_address(f, "vsock.sock", &address);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, backlog) < 0)
		abort();
	return listener;
}

/* A monitor that takes one connection, checks what it asks for, and sends the pieces that are not NULL. */
static pid_t answer(int listener, const char *request, const char *first, const char *second)
{
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	char line[64];
	size_t length = strlen(request);
	int fd = accept(listener, NULL, NULL);
	if (recv(fd, line, length, MSG_WAITALL) != (ssize_t)length || memcmp(line, request, length) != 0)
		_exit(1);
	if (first && send(fd, first, strlen(first), 0) < 0)
		_exit(2);
	if (second && send(fd, second, strlen(second), 0) < 0)
		_exit(3);
	_exit(0);
}

static void expect_exit(pid_t pid)
{
	int status = -1;
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
}

/* What the guest says right after it accepted is the caller's, to the byte. */
static void connects_to_the_guest(void)
{
	BEGIN(f);
	char text[16] = "";
	int listener = open_monitor(&f, 4);
	pid_t pid = answer(listener, "CONNECT 5000\n", "OK 1073741824\nhe", "llo");
	REQUIRE(wisp_connect_port(f.sandbox, 5000, -1, &fd, &error) == 0);
	CHECK_EQ(recv(fd, text, 5, MSG_WAITALL), 5);
	CHECK_STR(text, "hello");
	CHECK_EQ(recv(fd, text, 1, 0), 0);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK(!(fcntl(fd, F_GETFL) & O_NONBLOCK));
	struct timeval limit = {.tv_sec = 1};
	socklen_t size = sizeof(limit);
	CHECK_EQ(getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, &size), 0);
	CHECK(limit.tv_sec == 0 && limit.tv_usec == 0);
	close(fd);
	expect_exit(pid);
	pid = answer(listener, "CONNECT 4294967294\n", "OK ", "10\n");
	CHECK_EQ(wisp_connect_port(f.sandbox, UINT32_MAX - 1, -1, &fd, &error), 0);
	close(fd);
	expect_exit(pid);
	close(listener);
	fixture_end(&f);
}

static void refused_connections(void)
{
	BEGIN(f);
	CHECK_EQ(wisp_connect_port(f.sandbox, 5000, -1, &fd, &error), -ESRCH);
	CHECK_EQ(error.status, WISP_ERR_NOT_RUNNING);
	int listener = open_monitor(&f, 4);
	pid_t pid = answer(listener, "CONNECT 5000\n", NULL, NULL);
	CHECK_EQ(wisp_connect_port(f.sandbox, 5000, -1, &fd, &error), -ECONNREFUSED);
	CHECK_EQ(error.status, WISP_ERR_REFUSED);
	CHECK_EQ(fd, -1);
	expect_exit(pid);
	static const char *const wrong[] = {"OK\n", "NO 1234\n", "OK 12345678901234567890123456789012345678\n"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		pid = answer(listener, "CONNECT 5000\n", wrong[i], NULL);
		CHECK_EQ(wisp_connect_port(f.sandbox, 5000, -1, &fd, &error), -EPROTO);
		CHECK_EQ(error.status, WISP_ERR_PROTOCOL);
		expect_exit(pid);
	}
	CHECK_EQ(wisp_connect_port(f.sandbox, UINT32_MAX, -1, &fd, &error), -EINVAL);
	close(listener);
	fixture_end(&f);
}

/* The timeout holds for each step: a backlog that is full, and an answer that does not come or stops in the middle. */
static void connecting_times_out(void)
{
	BEGIN(f);
	int listener = open_monitor(&f, 0);
	CHECK_EQ(wisp_connect_port(f.sandbox, 5000, 0, &fd, &error), -EAGAIN);
	CHECK_EQ(error.status, WISP_ERR_AGAIN);
	CHECK_EQ(wisp_connect_port(f.sandbox, 5000, 10, &fd, &error), -EAGAIN);
	close(listener);
	fixture_end(&f);
	REQUIRE(begin(&f, &error));
	listener = open_monitor(&f, 4);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		send(accept(listener, NULL, NULL), "OK 1", 4, 0);
		pause();
	}
	CHECK_EQ(wisp_connect_port(f.sandbox, 5000, 10, &fd, &error), -EAGAIN);
	CHECK_EQ(error.status, WISP_ERR_AGAIN);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	CHECK_EQ(fd, -1);
	close(listener);
	fixture_end(&f);
}

static int connect_to(const struct fixture *f, const char *name)
{
	struct sockaddr_un address;
	make_address(f, name, &address);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

static void listens_for_the_guest(void)
{
	BEGIN(f);
	int second = -1;
	REQUIRE(wisp_listen_port(f.sandbox, 5000, &fd, &error) == 0);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK_EQ(wisp_listen_port(f.sandbox, 5000, &second, &error), -EADDRINUSE);
	CHECK_EQ(second, -1);
	int guest = connect_to(&f, "vsock.sock_5000");
	int served = accept(fd, NULL, NULL);
	CHECK(guest >= 0 && served >= 0);
	/* The attempt to listen twice was no connection. */
	fcntl(fd, F_SETFL, O_NONBLOCK);
	CHECK(accept(fd, NULL, NULL) < 0 && errno == EAGAIN);
	close(served);
	close(guest);
	close(fd);
	CHECK_EQ(connect_to(&f, "vsock.sock_5000"), -1);
	CHECK_EQ(wisp_listen_port(f.sandbox, 5000, &fd, &error), 0);
	close(fd);
	/* Only a socket is replaced. */
	write_file(f.dir, "vsock.sock_5001", "mine\n");
	CHECK(wisp_listen_port(f.sandbox, 5001, &fd, &error) < 0);
	char text[16];
	read_text(f.dir, "vsock.sock_5001", text, sizeof(text));
	CHECK_STR(text, "mine\n");
	CHECK_EQ(wisp_listen_port(f.sandbox, 1024, &fd, &error), -EINVAL);
	CHECK_EQ(wisp_listen_port(f.sandbox, UINT32_MAX, &fd, &error), -EINVAL);
	fixture_end(&f);
}

/* Sockets are reached through the open directory, whose own path may be longer than a socket's address. */
static void long_paths(void)
{
	struct fixture f;
	struct wisp_error error;
	char root[PATH_MAX], to[PATH_MAX];
	int fd = -1;
	REQUIRE(fixture_dir(&f, "cpus=1\n"));
	int listener = open_monitor(&f, 4);
	snprintf(root, sizeof(root), "%s/%0120d", f.root, 0);
	snprintf(to, sizeof(to), "%s/box", root);
	REQUIRE(mkdir(root, 0700) == 0 && rename(f.dir, to) == 0);
	REQUIRE(wisp_open_sandbox(root, "box", &f.sandbox, &error) == 0);
	pid_t pid = answer(listener, "CONNECT 5000\n", "OK 1\n", NULL);
	CHECK_EQ(wisp_connect_port(f.sandbox, 5000, -1, &fd, &error), 0);
	close(fd);
	expect_exit(pid);
	REQUIRE(wisp_listen_port(f.sandbox, 5000, &fd, &error) == 0);
	snprintf(to, sizeof(to), "%s/box/vsock.sock_5000", root);
	CHECK_EQ(access(to, F_OK), 0);
	close(fd);
	/* One that is gone is replaced, here as well. */
	CHECK_EQ(wisp_listen_port(f.sandbox, 5000, &fd, &error), 0);
	close(fd);
	close(listener);
	fixture_end(&f);
}

static void traces(void)
{
	BEGIN(f);
	char *text;
	size_t length = 0;
	CHECK_EQ(wisp_read_trace(f.root, "box", &text, &length, &error), -EBUSY);
	CHECK_EQ(error.status, WISP_ERR_STILL_RUNNING);
	flock(f.lock_fd, LOCK_UN);
	CHECK_EQ(wisp_read_trace(f.root, "box", &text, &length, &error), -ENOENT);
	CHECK(!text);
	CHECK_EQ(wisp_read_trace(f.root, "nobox", &text, &length, &error), -ENOENT);
	CHECK_EQ(error.status, WISP_ERR_NO_SANDBOX);
	write_file(f.dir, "trace", "{\"stage\":\"main\",\"ns\":1}\n");
	REQUIRE(wisp_read_trace(f.root, "box", &text, &length, &error) == 0);
	CHECK_STR(text, "{\"stage\":\"main\",\"ns\":1}\n");
	CHECK_EQ(length, strlen(text));
	wisp_free_text(text);
	CHECK_EQ(wisp_read_trace(f.root, "box", &text, NULL, &error), 0);
	wisp_free_text(text);
	(void)fd;
	fixture_end(&f);
}

TEST_MAIN("lib_port", {"connects_to_the_guest", connects_to_the_guest}, {"refused_connections", refused_connections},
        {"connecting_times_out", connecting_times_out}, {"listens_for_the_guest", listens_for_the_guest},
        {"long_paths", long_paths}, {"traces", traces})
