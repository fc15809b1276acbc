/* SPDX-License-Identifier: Apache-2.0 */
/* Ports of the host: their text, their sockets, and a monitor that only keeps what it gets (test_manage.h). */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>

#include "tests/unit/test_place.h"
#include "vmm/lib/listen.h"

static void texts(void)
{
	static const struct {
		const char *given, *shown; /* NULL: refused */
	} cases[] = {
	        {"8080", "127.0.0.1:8080"},
	        {"0", "127.0.0.1:0"},
	        {"0.0.0.0:80", "0.0.0.0:80"},
	        {"[::1]:8080", "[::1]:8080"},
	        {"[0:0::1]:1", "[::1]:1"},
	        {"[::]:65535", "[::]:65535"},
	        {"/run/x.sock", "/run/x.sock"},
	        {"/run/a:1", "/run/a:1"},
	        {"", NULL},
	        {":", NULL},
	        {"127.0.0.1", NULL},
	        {"127.0.0.1:", NULL},
	        {"127.0.0.1:65536", NULL},
	        {"127.0.0.1:-1", NULL},
	        {"127.0.0.1:+1", NULL},
	        {"127.0.0.1: 1", NULL},
	        {"127.0.0.1:000080", NULL},
	        {"127.0.0.256:1", NULL},
	        {":80", NULL},
	        {"localhost:80", NULL},
	        {"::1:80", NULL},
	        {"[::1]", NULL},
	        {"[::1:80", NULL},
	        {"[]:80", NULL},
	        {"[127.0.0.1]:80", NULL},
	        {"[::1]80", NULL},
	        {"/a\nb", NULL},
	        {"[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd]:1", NULL},
	};
	char long_path[200] = "/", text[LISTEN_TEXT_MAX];
	struct listen_address address;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wisp_error error = {0};
		int r = listen_parse(cases[i].given, &address, &error);
		CHECK_EQ(r, cases[i].shown ? 0 : -EINVAL);
		CHECK(cases[i].shown || (error.status == WISP_ERR_INVALID && strlen(error.message) > 20));
		if (r == 0 && cases[i].shown) {
			CHECK(listen_format(&address, text));
			CHECK_STR(text, cases[i].shown);
		}
	}
	memset(long_path + 1, 'x', 107);
	CHECK_EQ(listen_parse(long_path, &address, NULL), -ENAMETOOLONG);
	long_path[107] = '\0';
	CHECK_EQ(listen_parse(long_path, &address, NULL), 0);
	CHECK(listen_format(&address, text));
	CHECK_STR(text, long_path);
}

/* Clients that vanish are noticed: the kernel asks for those that are silent. */
static void vanished_clients(void)
{
	static const char *const hosts[] = {"127.0.0.1:0", "[::1]:0"};
	for (unsigned i = 0; i < 2; i++) {
		struct listen_address address;
		int listener, on = 0, idle = 0;
		socklen_t size = sizeof(on);
		REQUIRE(listen_parse(hosts[i], &address, NULL) == 0);
		int r = listen_open(&address, &listener, NULL);
		if (r < 0 && i == 1)
			SKIP("this host has no IPv6");
		REQUIRE(r == 0);
		int peer = socket(address.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		REQUIRE(connect(peer, (struct sockaddr *)&address.address, address.size) == 0);
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		REQUIRE(fd >= 0);
		CHECK_EQ(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &size), 0);
		CHECK_EQ(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, &size), 0);
		CHECK_EQ(on, 1);
		CHECK_EQ(idle, 300);
		close(fd);
		close(peer);
		close(listener);
	}
}

static int client(const char *text)
{
	struct listen_address address;
	if (listen_parse(text, &address, NULL) < 0)
		return -EINVAL;
	int fd = socket(address.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = connect(fd, (struct sockaddr *)&address.address, address.size) < 0 ? -errno : 0;
	close(fd);
	return r;
}

static bool lists(struct wisp_sandbox *sandbox, const char *wanted)
{
	char text[512] = "";
	struct wisp_port_info **list = NULL;
	int count = wisp_list_ports(sandbox, &list, NULL);
	for (int i = 0; i < count; i++)
		snprintf(
		        text + strlen(text), sizeof(text) - strlen(text), "%s=%u ", list[i]->host, list[i]->guest_port);
	CHECK(count < 0 || !list[count]);
	wisp_free_port_list(list);
	if (strcmp(text, wanted) != 0)
		printf("# \"%s\", not \"%s\"\n", text, wanted);
	return count >= 0 && strcmp(text, wanted) == 0;
}

static void with_the_sandbox(void)
{
	for (int waits = 0; waits < 2; waits++) {
		struct place p;
		struct wisp_sandbox *sandbox;
		struct wisp_port_info **list;
		struct stat st;
		char path[100], wanted[256], host[64];
		REQUIRE(make_place(&p));
		snprintf(path, sizeof(path), "%s/web.sock", p.dir);
		struct wisp_port ports[] = {{"0", 80}, {path, 8080}};
		p.options.ports = ports;
		p.options.port_count = 2;
		p.options.port_size = sizeof(ports[0]);
		p.options.no_wait = !waits;
		int before = count_entries("/proc/self/fd");
		REQUIRE(wisp_create_sandbox(&p.options, &sandbox, NULL) == 0);
		CHECK(lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 07777) == 0600);
		CHECK_EQ(wisp_wait_ready(sandbox, -1, NULL), 0);
		CHECK_EQ(wisp_wait_ready(sandbox, -1, NULL), 0);
		REQUIRE(wisp_list_ports(sandbox, &list, NULL) == 2);
		snprintf(host, sizeof(host), "%s", list[0]->host);
		CHECK(strncmp(host, "127.0.0.1:", 10) == 0 && strcmp(host, "127.0.0.1:0") != 0);
		wisp_free_port_list(list);
		snprintf(wanted, sizeof(wanted), "%s=80 %s=8080 ", host, path);
		CHECK(lists(sandbox, wanted));
		CHECK_EQ(client(host), 0);
		CHECK_EQ(client(path), 0);
		wisp_close_sandbox(sandbox);
		CHECK_EQ(client(host), -ECONNREFUSED);
		CHECK(lstat(path, &st) < 0);
		CHECK_EQ(count_entries("/proc/self/fd"), before);
		end_place(&p, 0);
	}
}

static void while_it_runs(void)
{
	struct place p;
	struct wisp_sandbox *sandbox, *other;
	struct wisp_error error;
	struct stat st;
	char path[100], wanted[256], host[32];
	REQUIRE(make_place(&p));
	snprintf(path, sizeof(path), "%s/web.sock", p.dir);
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, NULL) == 0);
	REQUIRE(wisp_open_sandbox(p.root, "box", &other, NULL) == 0);
	CHECK(lists(sandbox, ""));
	int port = wisp_add_port(other, "127.0.0.1:0", 80, &error);
	REQUIRE(port > 0);
	snprintf(host, sizeof(host), "%d", port);
	CHECK_EQ(wisp_add_port(sandbox, path, 81, &error), 0);
	snprintf(wanted, sizeof(wanted), "127.0.0.1:%d=80 %s=81 ", port, path);
	CHECK(lists(other, wanted));

	/* In use, by itself or another; a file that is none's; not allowed. */
	CHECK_EQ(wisp_add_port(sandbox, host, 80, &error), -EADDRINUSE);
	CHECK(strstr(error.message, "choose another port"));
	CHECK_EQ(wisp_add_port(sandbox, path, 80, &error), -EADDRINUSE);
	CHECK(strstr(error.message, "choose another path"));
	write_file(p.dir, "file", "data");
	snprintf(wanted, sizeof(wanted), "%s/file", p.dir);
	CHECK_EQ(wisp_add_port(sandbox, wanted, 80, &error), -EADDRINUSE);
	CHECK(lstat(wanted, &st) == 0 && st.st_size == 4);
	CHECK_EQ(wisp_add_port(sandbox, "192.0.2.1:0", 80, &error), -EADDRNOTAVAIL);
	CHECK(strstr(error.message, "does not have the address"));
	CHECK_EQ(wisp_add_port(sandbox, host, 0, &error), -EINVAL);

	CHECK_EQ(wisp_remove_port(other, "1", &error), -ENOENT);
	CHECK(strstr(error.message, "127.0.0.1:1"));
	CHECK_EQ(wisp_remove_port(other, host, &error), 0);
	CHECK_EQ(wisp_remove_port(other, host, &error), -ENOENT);
	CHECK_EQ(client(host), -ECONNREFUSED);
	CHECK_EQ(wisp_remove_port(sandbox, path, &error), 0);
	CHECK(lstat(path, &st) < 0);
	CHECK(lists(other, ""));

	/* What another handle added goes with the sandbox as well. */
	CHECK_EQ(wisp_add_port(other, path, 81, &error), 0);
	wisp_close_sandbox(other);
	CHECK(lstat(path, &st) == 0);
	wisp_close_sandbox(sandbox);
	CHECK(lstat(path, &st) < 0);
	end_place(&p, 0);
}

/* The file of a socket whose owner is gone is taken over; one that is another's by the end is left alone. */
static void socket_files(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	struct stat st;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	REQUIRE(make_place(&p));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/web.sock", p.dir);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	REQUIRE(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 1) == 0);
	close(fd);
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, NULL) == 0);
	/* Nothing listens on it any more, but nothing says that it was wisp's. */
	CHECK_EQ(wisp_add_port(sandbox, address.sun_path, 80, &error), -EADDRINUSE);
	CHECK(strstr(error.message, "remove the file"));
	unlink(address.sun_path);
	CHECK_EQ(wisp_add_port(sandbox, address.sun_path, 80, &error), 0);
	CHECK_EQ(client(address.sun_path), 0);
	unlink(address.sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	REQUIRE(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 8) == 0);
	wisp_close_sandbox(sandbox);
	CHECK(lstat(address.sun_path, &st) == 0);
	close(fd);
	end_place(&p, 0);
}

/* What is in use is removed at the end, however much was added and removed before: here, almost 1 MiB of paths. */
static void many_socket_files(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct stat st;
	char paths[3][100], file[200];
	REQUIRE(make_place(&p));
	for (unsigned i = 0; i < 3; i++)
		snprintf(paths[i], sizeof(paths[i]), "%s/%u-%050u.sock", p.dir, i, 0);
	struct wisp_port port = {paths[0], 80};
	p.options.ports = &port;
	p.options.port_count = 1;
	p.options.port_size = sizeof(port);
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, NULL) == 0);
	snprintf(file, sizeof(file), "%s/sockets", wisp_get_sandbox_dir(sandbox));
	FILE *sockets = fopen(file, "a");
	REQUIRE(sockets);
	long line = (long)strlen(paths[0]) + 1;
	/* One that is added again and again, and one that is gone. */
	for (unsigned i = 0; ftell(sockets) + line <= 1 << 20; i++)
		fprintf(sockets, "%s\n", paths[1 + i % 2]);
	fclose(sockets);
	CHECK_EQ(wisp_add_port(sandbox, paths[1], 80, NULL), 0);
	CHECK(lstat(file, &st) == 0 && st.st_size == 2 * line);
	CHECK(lstat(paths[0], &st) == 0 && lstat(paths[1], &st) == 0);
	wisp_close_sandbox(sandbox);
	CHECK(lstat(paths[0], &st) < 0 && lstat(paths[1], &st) < 0);
	end_place(&p, 0);
}

struct adder {
	struct wisp_sandbox *sandbox;
	pthread_barrier_t *start;
	pthread_t thread;
	char path[100];
	int result;
};

static void *add_one(void *data)
{
	struct adder *a = data;
	pthread_barrier_wait(a->start);
	a->result = wisp_add_port(a->sandbox, a->path, 80, NULL);
	return NULL;
}

/* None of several that are added at the same time is lost when the file is made shorter. */
static void socket_files_at_once(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct adder adders[4];
	struct stat st;
	pthread_barrier_t start;
	char file[200];
	REQUIRE(make_place(&p));
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, NULL) == 0);
	snprintf(file, sizeof(file), "%s/sockets", wisp_get_sandbox_dir(sandbox));
	FILE *sockets = fopen(file, "a");
	REQUIRE(sockets);
	while (ftell(sockets) < 1000 << 10)
		fprintf(sockets, "%s/gone.sock\n", p.dir);
	fclose(sockets);
	pthread_barrier_init(&start, NULL, 4);
	for (unsigned i = 0; i < 4; i++) {
		adders[i] = (struct adder){.sandbox = sandbox, .start = &start};
		snprintf(adders[i].path, sizeof(adders[i].path), "%s/%u.sock", p.dir, i);
		REQUIRE(pthread_create(&adders[i].thread, NULL, add_one, &adders[i]) == 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(adders[i].thread, NULL);
		CHECK_EQ(adders[i].result, 0);
	}
	pthread_barrier_destroy(&start);
	CHECK(lstat(file, &st) == 0);
	CHECK_EQ(st.st_size, 4 * (strlen(adders[0].path) + 1));
	wisp_close_sandbox(sandbox);
	for (unsigned i = 0; i < 4; i++)
		CHECK(lstat(adders[i].path, &st) < 0);
	end_place(&p, 0);
}

/* A sandbox that cannot have its ports is not started, and what was opened is closed. */
static void refused(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	struct stat st;
	char path[100];
	REQUIRE(make_place(&p));
	snprintf(path, sizeof(path), "%s/web.sock", p.dir);
	struct wisp_port ports[WISP_PORTS_MAX + 1] = {{path, 8080}, {"nowhere:1", 80}};
	p.options.ports = ports;
	p.options.port_size = sizeof(ports[0]);
	p.options.port_count = 2;
	CHECK_EQ(wisp_create_sandbox(&p.options, &sandbox, &error), -EINVAL);
	CHECK(strstr(error.message, "nowhere:1"));
	CHECK(lstat(path, &st) < 0);
	p.options.port_count = WISP_PORTS_MAX + 1;
	CHECK_EQ(wisp_create_sandbox(&p.options, &sandbox, &error), -EINVAL);
	p.options.port_count = 1;
	p.options.ports = NULL;
	CHECK_EQ(wisp_create_sandbox(&p.options, &sandbox, &error), -EINVAL);
	p.options.ports = ports;
	ports[0].guest_port = 0;
	CHECK_EQ(wisp_create_sandbox(&p.options, &sandbox, &error), -EINVAL);
	CHECK(lstat(path, &st) < 0);
	end_place(&p, 0);
}

/* What the monitor writes is not trusted. */
static void hostile_list(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_port_info **list;
	struct wisp_error error;
	REQUIRE(make_place(&p));
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, NULL) == 0);
	CHECK(wisp_add_port(sandbox, "0", 666, &error) > 0);
	CHECK_EQ(wisp_list_ports(sandbox, &list, &error), -EPROTO);
	CHECK_EQ(error.status, WISP_ERR_PROTOCOL);
	wisp_close_sandbox(sandbox);
	end_place(&p, 0);
}

int main(int argc, char **argv)
{
	fake_vmm_main(argc, argv);
	static const struct test_case cases[] = {
	        {"texts", texts},
	        {"vanished_clients", vanished_clients},
	        {"with_the_sandbox", with_the_sandbox},
	        {"while_it_runs", while_it_runs},
	        {"socket_files", socket_files},
	        {"many_socket_files", many_socket_files},
	        {"socket_files_at_once", socket_files_at_once},
	        {"refused", refused},
	        {"hostile_list", hostile_list},
	};
	return test_main("lib_ports", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
