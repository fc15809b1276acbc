/* SPDX-License-Identifier: Apache-2.0 */
/* The way out in the library: options, the proxy's start and end, sessions, clones. The monitor is test_lib.h's. */
#include <netinet/in.h>

#include "tests/unit/test_saved.h"

static const char *const allow[] = {"localhost:*", "127.0.0.1:*", "*.example.org", NULL};
static const char *const secrets[] = {"KEY=sesame@127.0.0.1:8080", NULL};

static bool give_proxy(const struct place *p, const char *program)
{
	char path[PATH_MAX], proxy[PATH_MAX];
	snprintf(path, sizeof(path), "%s/wisp-proxy", p->lib);
	unlink(path);
	return symlink(program ? program : built("../../lib/wisp/wisp-proxy", proxy), path) == 0;
}

static bool begin(struct saved *s)
{
	struct wisp_error error;
	memset(s, 0, sizeof(*s));
	/* The process that serves would be init's. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (!make_place(&s->place) || !give_proxy(&s->place, NULL))
		return false;
	snprintf(s->file, sizeof(s->file), "%s/file", s->place.dir);
	snprintf(s->cache, sizeof(s->cache), "%s/cache", s->place.dir);
	s->place.options.allow = allow;
	s->place.options.secrets = secrets;
	s->place.options.cache_dir = s->cache;
	if (wisp_create_sandbox(&s->place.options, &s->sandbox, &error) == 0)
		return true;
	printf("# %s\n", error.message);
	return false;
}

/* All proxies, and monitors of clones, which are this subreaper's children, have ended. */
static void reap(void)
{
	pid_t pid;
	do
		pid = waitpid(-1, NULL, 0);
	while (pid > 0);
	CHECK_EQ(errno, ECHILD);
}

/* Asks the proxy of a sandbox as its guest would; the status of the answer, or -1 if there is nobody. */
static int ask(const char *sandbox_dir, const char *host)
{
	struct sockaddr_in server = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(server);
	struct sockaddr_un proxy = {.sun_family = AF_UNIX};
	char text[512] = "";
	int status = -1, peer = -1;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bind(listener, (struct sockaddr *)&server, sizeof(server));
	listen(listener, 1);
	getsockname(listener, (struct sockaddr *)&server, &size);
	snprintf(proxy.sun_path, sizeof(proxy.sun_path), "%s/vsock.sock_1026", sandbox_dir);
	if (connect(fd, (struct sockaddr *)&proxy, sizeof(proxy)) == 0) {
		int n = snprintf(text, sizeof(text), "CONNECT %s:%u HTTP/1.1\r\n\r\n", host, ntohs(server.sin_port));
		send(fd, text, (size_t)n, MSG_NOSIGNAL);
		struct pollfd pfds[] = {{.fd = fd, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
		if (poll(pfds, 2, 20000) > 0 && pfds[1].revents)
			peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		n = (int)recv(fd, text, sizeof(text) - 1, 0);
		text[n > 0 ? n : 0] = '\0';
		sscanf(text, "HTTP/1.1 %d", &status);
	}
	if (peer >= 0)
		close(peer);
	close(listener);
	close(fd);
	return status;
}

static void options(void)
{
	struct place p;
	static const char *const bad[] = {"example.org", "10.0.0.1/8", NULL};
	static const char *const good[] = {"example.org", NULL};
	static const char *const bad_secret[] = {"KEY=sesame@*", NULL};
	REQUIRE(make_place(&p) && give_proxy(&p, NULL));
	p.options.allow = bad;
	refuse(&p.options, -EINVAL, "to reach '10.0.0.1/8': it is a network whose address has bits beyond its prefix");
	p.options.allow = NULL;
	p.options.secrets = secrets;
	refuse(&p.options, -EINVAL, "set allow too");
	p.options.allow = good;
	p.options.secrets = bad_secret;
	refuse(&p.options, -EINVAL, "the secret 'KEY' cannot be used: it is for more than one host");
	p.options.secrets = NULL;
	const char *many[1026];
	for (size_t i = 0; i < 1025; i++)
		many[i] = "h";
	many[1025] = NULL;
	p.options.allow = many;
	refuse(&p.options, -E2BIG, "1025 rules");
	p.options.allow = good;
	p.options.bare = p.options.no_wait = true;
	refuse(&p.options, -EINVAL, "a bare sandbox has no agent");
	p.options.bare = p.options.no_wait = false;
	/* What is missing is said before anything starts; what fails leaves nothing. */
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/wisp-proxy", p.lib);
	unlink(path);
	refuse(&p.options, -ENOENT, "cannot use the proxy");
	REQUIRE(give_proxy(&p, "/bin/false"));
	refuse(&p.options, -EIO, "could not be set up: it died without saying why");
	p.options.detach = p.options.keep = true;
	refuse(&p.options, -EIO, "could not be set up");
	while (waitpid(-1, NULL, 0) > 0)
		;
	end_place(&p, 0);
}

static void a_proxy_of_its_own(void)
{
	struct saved s;
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	char dir[PATH_MAX], text[4096];
	REQUIRE(begin(&s));
	snprintf(dir, sizeof(dir), "%s", wisp_get_sandbox_dir(s.sandbox));
	CHECK_EQ(ask(dir, "127.0.0.1"), 200);
	CHECK_EQ(ask(dir, "other.example"), 403);
	read_text(dir, "net.log", text, sizeof(text));
	CHECK(strstr(text, " allowed connect 127.0.0.1:") && strstr(text, " refused connect other.example:"));
	REQUIRE(wisp_inspect_sandbox(s.place.root, "box", &info, &error) == 0);
	for (int i = 0; allow[i]; i++)
		CHECK(info->allow[i] && strcmp(info->allow[i], allow[i]) == 0);
	CHECK(info->secrets[0] && strcmp(info->secrets[0], "KEY@127.0.0.1:8080") == 0 && !info->secrets[1]);
	wisp_free_sandbox_info(info);
	/* The value is in no file. */
	read_text(dir, "config", text, sizeof(text));
	CHECK(strstr(text, "\nsecret=KEY@127.0.0.1:8080\n") && !strstr(text, "sesame"));
	/* It ends with the monitor, however that ends. */
	CHECK_EQ(wisp_kill_sandbox(s.sandbox, &error), 0);
	reap();
	CHECK_EQ(ask(dir, "127.0.0.1"), -1);
	end(&s);
}

static void sessions(void)
{
	struct saved s;
	struct wisp_error error;
	struct wisp_output *output;
	const char *env[] = {"no_proxy=own", NULL};
	struct wisp_exec_options exec = {.size = sizeof(exec), .env = env};
	const char *script = "echo $HTTP_PROXY $http_proxy $HTTPS_PROXY $https_proxy $ALL_PROXY $all_proxy $NO_PROXY "
	                     "$no_proxy $KEY";
	REQUIRE(begin(&s));
	REQUIRE(wisp_shell(s.sandbox, script, NULL, &exec, &output, &error) == 0);
	CHECK_STR((const char *)output->stdout_data,
	        "http://127.0.0.1:3128 http://127.0.0.1:3128 http://127.0.0.1:3128 http://127.0.0.1:3128 "
	        "http://127.0.0.1:3128 http://127.0.0.1:3128 localhost,127.0.0.1,::1 own wisp-secret-KEY-\n");
	wisp_free_output(output);
	/* The proxy has ended when the call returns. */
	wisp_close_sandbox(s.sandbox);
	s.sandbox = NULL;
	CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
	/* Without rules, nothing of it. */
	s.place.options.allow = s.place.options.secrets = NULL;
	REQUIRE(wisp_create_sandbox(&s.place.options, &s.sandbox, &error) == 0);
	REQUIRE(wisp_shell(s.sandbox, "env | grep -ci proxy", NULL, NULL, &output, &error) == 0);
	CHECK_STR((const char *)output->stdout_data, "0\n");
	wisp_free_output(output);
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/net.log", wisp_get_sandbox_dir(s.sandbox));
	CHECK(access(path, F_OK) < 0);
	end(&s);
}

/* A clone has its own proxy, which does not need its source's, and no secrets. */
static void clones(void)
{
	struct saved s;
	struct wisp_sandbox *clone, *opened;
	struct wisp_error error;
	struct wisp_sandbox_info *info;
	struct wisp_fork_options options = {.size = sizeof(options), .name = "twin"};
	char dir[PATH_MAX];
	REQUIRE(begin(&s));
	options.libdir = s.place.lib;
	/* A monitor that the guest has taken over can write this. It does not say what is executed. */
	snprintf(dir, sizeof(dir), "%s/config", wisp_get_sandbox_dir(s.sandbox));
	FILE *config = fopen(dir, "a");
	REQUIRE(config && fputs("proxy=/bin/false\n", config) >= 0 && fclose(config) == 0);
	/* By a handle that did not create it, as wisp fork has. */
	REQUIRE(wisp_open_sandbox(s.place.root, "box", &opened, &error) == 0);
	expect(wisp_fork_sandbox(opened, 1, &options, &clone, &error), 0, &error, "");
	wisp_close_sandbox(opened);
	REQUIRE(clone);
	wisp_close_sandbox(s.sandbox);
	s.sandbox = NULL;
	snprintf(dir, sizeof(dir), "%s", wisp_get_sandbox_dir(clone));
	CHECK_EQ(ask(dir, "127.0.0.1"), 200);
	CHECK_EQ(ask(dir, "other.example"), 403);
	REQUIRE(wisp_inspect_sandbox(s.place.root, "twin", &info, &error) == 0);
	CHECK(info->allow[0] && strcmp(info->allow[0], allow[0]) == 0);
	CHECK(!info->secrets[0]);
	wisp_free_sandbox_info(info);
	wisp_close_sandbox(clone);
	reap();
	CHECK_EQ(ask(dir, "127.0.0.1"), -1);
	end(&s);
}

/* A snapshot has no rules; a sandbox from it has those that it is given. */
static void snapshots(void)
{
	struct saved s;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	struct wisp_sandbox_info *info;
	REQUIRE(begin(&s));
	expect(wisp_snapshot_sandbox(s.sandbox, s.file, NULL, &error), 0, &error, "");
	struct wisp_create_options options = from(&s);
	expect(wisp_create_sandbox(&options, &sandbox, &error), 0, &error, "");
	REQUIRE(sandbox);
	CHECK_EQ(ask(wisp_get_sandbox_dir(sandbox), "127.0.0.1"), -1);
	REQUIRE(wisp_inspect_sandbox(s.place.root, "new", &info, &error) == 0);
	CHECK(!info->allow[0] && !info->secrets[0]);
	wisp_free_sandbox_info(info);
	wisp_close_sandbox(sandbox);
	options.allow = allow;
	expect(wisp_create_sandbox(&options, &sandbox, &error), 0, &error, "");
	REQUIRE(sandbox);
	CHECK_EQ(ask(wisp_get_sandbox_dir(sandbox), "localhost"), 200);
	wisp_close_sandbox(sandbox);
	/* A template needs no proxy, and its clones have their own. */
	struct wisp_sandbox *clone;
	struct wisp_fork_options fork_options = {.size = sizeof(fork_options), .libdir = options.libdir};
	options.is_template = options.detach = true;
	expect(wisp_create_sandbox(&options, &sandbox, &error), 0, &error, "");
	REQUIRE(sandbox);
	CHECK_EQ(ask(wisp_get_sandbox_dir(sandbox), "localhost"), -1);
	expect(wisp_fork_sandbox(sandbox, 1, &fork_options, &clone, &error), 0, &error, "");
	REQUIRE(clone);
	CHECK_EQ(ask(wisp_get_sandbox_dir(clone), "localhost"), 200);
	wisp_close_sandbox(clone);
	CHECK_EQ(wisp_kill_sandbox(sandbox, &error), 0);
	wisp_close_sandbox(sandbox);
	wisp_close_sandbox(s.sandbox);
	s.sandbox = NULL;
	reap();
	end(&s);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {{"options", options}, {"a_proxy_of_its_own", a_proxy_of_its_own},
	        {"sessions", sessions}, {"clones", clones}, {"snapshots", snapshots}};
	fake_vmm_main(argc, argv);
	return test_main("lib_egress", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
