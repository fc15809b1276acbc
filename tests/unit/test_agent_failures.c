/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that never start: every kind of failure, with its errno, stage and message, with pipes and with a tty. */
#include <malloc.h>

#include "tests/agent/harness.h"

static struct agent_process agent;

#define START() REQUIRE(agent_start(&agent, 0))
#define STOP() CHECK_EQ(agent_stop(&agent), 0)

struct expected {
	enum proto_failure kind;
	enum proto_stage stage;
	int error;
	const char *message; /* a part of it */
};

static void check_failure(const struct result *result, const struct expected *expected)
{
	CHECK(result->failed && !result->started && result->done && result->ended && !result->exited);
	CHECK_EQ(result->failure.kind, expected->kind);
	CHECK_EQ(result->failure.stage, expected->stage);
	CHECK_EQ(result->failure.error, expected->error);
	CHECK_EQ(result->failure.zero[0] | result->failure.zero[1], 0);
	if (!strstr(result->message, expected->message)) {
		printf("# \"%s\" does not say \"%s\"\n", result->message, expected->message);
		test_failed = true;
	}
}

/* In both modes. The agent goes on as before. */
static void expect_failure(struct exec *exec, const struct expected *expected)
{
	for (int tty = 0; tty < 2; tty++) {
		exec->flags = tty ? PROTO_EXEC_TTY : 0;
		struct result result = run(&agent, exec);
		check_failure(&result, expected);
		result_free(&result);
		WAIT_FOR(count_fds(agent.pid) == agent.idle_fds);
		CHECK_EQ(count_fds(agent.pid), agent.idle_fds);
	}
	struct result result = run(&agent, &SH("exit 0"));
	CHECK(ended_with(&result, 0));
	result_free(&result);
}

static void make_file(char *path, mode_t mode, const char *content)
{
	strcpy(path, "/tmp/wisp-agent-XXXXXX");
	int fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0 || write(fd, content, strlen(content)) != (ssize_t)strlen(content) || fchmod(fd, mode))
		test_failed = true;
	close(fd);
}

static void not_found(void)
{
	START();
	struct exec exec = {.argv = {"no-such-program"}};
	expect_failure(&exec, &(struct expected){PROTO_FAILURE_NOT_FOUND, PROTO_STAGE_EXEC, ENOENT, "not in PATH"});
	exec.argv[0] = "/no/such/program";
	expect_failure(
	        &exec, &(struct expected){PROTO_FAILURE_NOT_FOUND, PROTO_STAGE_EXEC, ENOENT, "/no/such/program"});
	exec.argv[0] = "/etc/passwd/program";
	expect_failure(&exec, &(struct expected){PROTO_FAILURE_NOT_FOUND, PROTO_STAGE_EXEC, ENOTDIR, "/etc/passwd/"});
	exec.argv[0] = "";
	expect_failure(&exec, &(struct expected){PROTO_FAILURE_NOT_FOUND, PROTO_STAGE_EXEC, ENOENT, "\"\""});
	char path[32];
	make_file(path, 0755, "#!/no/such/interpreter\n");
	exec.argv[0] = path;
	expect_failure(&exec, &(struct expected){PROTO_FAILURE_NOT_FOUND, PROTO_STAGE_EXEC, ENOENT, "interpreter"});
	/* A relative name counts from the working directory of the program, not the agent's. */
	char folder[128];
	snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(path, '/') - path), path);
	exec.cwd = folder;
	char name[128];
	snprintf(name, sizeof(name), ".%s", strrchr(path, '/'));
	exec.argv[0] = name;
	expect_failure(&exec, &(struct expected){PROTO_FAILURE_NOT_FOUND, PROTO_STAGE_EXEC, ENOENT, "interpreter"});
	unlink(path);
	STOP();
}

static void permission_denied(void)
{
	START();
	struct expected expected = {PROTO_FAILURE_PERMISSION_DENIED, PROTO_STAGE_EXEC, EACCES, "ermission denied"};
	struct exec exec = {.argv = {"/etc/passwd"}};
	expect_failure(&exec, &expected);
	/* Root may, this user may not. */
	char path[32];
	make_file(path, 0700, "#!/bin/sh\n");
	exec = (struct exec){.argv = {path}, .user = "nobody"};
	expect_failure(&exec, &expected);
	unlink(path);
	STOP();
}

static void not_executable(void)
{
	START();
	char path[32];
	make_file(path, 0755, "neither a binary nor a script\n");
	struct exec exec = {.argv = {path}};
	expect_failure(&exec, &(struct expected){PROTO_FAILURE_NOT_EXECUTABLE, PROTO_STAGE_EXEC, ENOEXEC, path});
	unlink(path);
	exec.argv[0] = "/etc";
	expect_failure(&exec, &(struct expected){PROTO_FAILURE_NOT_EXECUTABLE, PROTO_STAGE_EXEC, EACCES, "/etc"});
	STOP();
}

static void bad_cwd(void)
{
	START();
	struct exec exec = {.argv = {"true"}, .cwd = "/no/such/folder"};
	expect_failure(&exec, &(struct expected){PROTO_FAILURE_BAD_CWD, PROTO_STAGE_CWD, ENOENT, "/no/such/folder"});
	exec.cwd = "/etc/passwd";
	expect_failure(&exec, &(struct expected){PROTO_FAILURE_BAD_CWD, PROTO_STAGE_CWD, ENOTDIR, "/etc/passwd"});
	exec.cwd = "tmp";
	expect_failure(&exec, &(struct expected){PROTO_FAILURE_BAD_CWD, PROTO_STAGE_CWD, EINVAL, "not absolute"});
	/* The user's permissions count. */
	char folder[] = "/tmp/wisp-agent-XXXXXX";
	REQUIRE(mkdtemp(folder));
	exec.cwd = folder;
	exec.user = "nobody";
	expect_failure(&exec, &(struct expected){PROTO_FAILURE_BAD_CWD, PROTO_STAGE_CWD, EACCES, folder});
	rmdir(folder);
	STOP();
}

static void bad_args(void)
{
	START();
	/* One argument longer than the kernel takes. */
	char *argument = malloc(200001);
	memset(argument, 'a', 200000);
	argument[200000] = '\0';
	struct exec exec = {.argv = {"true", argument}};
	expect_failure(&exec, &(struct expected){PROTO_FAILURE_BAD_ARGS, PROTO_STAGE_EXEC, E2BIG, "true"});
	free(argument);
	static const char *const entries[] = {"", "=value", "no equals sign"};
	for (size_t i = 0; i < 3; i++) {
		exec = (struct exec){.argv = {"true"}, .env = {"A=1", entries[i]}};
		expect_failure(
		        &exec, &(struct expected){PROTO_FAILURE_BAD_ARGS, PROTO_STAGE_REQUEST, EINVAL, "NAME=value"});
	}
	STOP();
}

static void resource_limit(void)
{
	START();
	struct exec exec = {.argv = {"true"}, .rlimit_count = 2};
	exec.rlimits[0] = (struct proto_rlimit){.resource = RLIMIT_CORE, .soft = 0, .hard = 0};
	exec.rlimits[1] = (struct proto_rlimit){.resource = RLIMIT_NOFILE, .soft = 20, .hard = 10};
	struct expected expected = {PROTO_FAILURE_RESOURCE_LIMIT, PROTO_STAGE_RLIMIT, EINVAL, "limit 7 to 20:10"};
	expect_failure(&exec, &expected);
	exec.rlimits[1] = (struct proto_rlimit){.resource = 16, .soft = 1, .hard = 1};
	expected.message = "limit 16 to 1:1";
	expect_failure(&exec, &expected);
	STOP();
}

static void user_setup_failed(void)
{
	START();
	static const struct {
		const char *user;
		int error;
		const char *message;
	} cases[] = {{"no-such-user", ENOENT, "no-such-user"}, {"root:no-such-group", ENOENT, "no-such-group"},
	        {":root", EINVAL, "form"}, {"root:", EINVAL, "form"}, {":", EINVAL, "form"},
	        {"4294967295", ENOENT, "4294967295"}, {"root:4294967295", ENOENT, "4294967295"}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct exec exec = {.argv = {"true"}, .user = cases[i].user};
		expect_failure(&exec, &(struct expected){PROTO_FAILURE_USER_SETUP_FAILED, PROTO_STAGE_USER,
		                              cases[i].error, cases[i].message});
	}
	STOP();
}

static void set_files(rlim_t count)
{
	struct rlimit files = {count, 524288};
	if (prlimit(agent.pid, RLIMIT_NOFILE, NULL, &files) == 0) {
		files.rlim_cur = count;
		prlimit(agent.pid, RLIMIT_NOFILE, &files, NULL);
	}
}

/* The agent itself is out of descriptors: that execution fails, and later ones do not. */
static void out_of_descriptors(void)
{
	START();
	struct exec exec = {.argv = {"true"}};
	for (int tty = 0; tty < 2; tty++) {
		struct result result = {0};
		int fd = dial(&agent);
		REQUIRE(expect_frame(fd, PROTO_HELLO, NULL, 0));
		set_files((rlim_t)count_fds(agent.pid) + 1);
		exec.flags = tty ? PROTO_EXEC_TTY : 0;
		uint8_t payload[256];
		send_hello(fd);
		send_frame(fd, PROTO_EXEC, payload, exec_payload(&exec, payload));
		collect(fd, &result);
		set_files(4096);
		enum proto_failure kind = tty ? PROTO_FAILURE_PTY_SETUP_FAILED : PROTO_FAILURE_RESOURCE_LIMIT;
		check_failure(&result,
		        &(struct expected){kind, tty ? PROTO_STAGE_PTY : PROTO_STAGE_PIPE, EMFILE, "cannot open"});
		result_free(&result);
	}
	expect_failure(&(struct exec){.argv = {"/etc/passwd"}},
	        &(struct expected){PROTO_FAILURE_PERMISSION_DENIED, PROTO_STAGE_EXEC, EACCES, ""});
	STOP();
}

/* A connection that cannot be accepted is not asked for again and again, and is served when it can be. */
static void out_of_descriptors_to_accept(void)
{
	START();
	struct result result = {0};
	set_files((rlim_t)agent.idle_fds);
	char path[32];
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)agent.pid);
	int fd = dial(&agent);
	send_exec(fd, &SH("exit 4"));
	sleep_ms(300);
	unsigned long user = 1000, kernel = 1000;
	FILE *file = fopen(path, "r");
	REQUIRE(file);
	CHECK_EQ(fscanf(file, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lu %lu", &user, &kernel), 2);
	fclose(file);
	CHECK(user + kernel < 10); /* of 30 ticks */
	set_files(4096);
	collect(fd, &result);
	CHECK(ended_with(&result, 4));
	result_free(&result);
	STOP();
}

/* The agent inherits this process's heap: were there large free pieces in it, it would not be short of memory. */
static __attribute__((constructor)) void keep_the_heap_small(void)
{
	mallopt(M_MMAP_THRESHOLD, 64 * 1024);
}

/* What needs more memory than there is fails, and the agent lives. */
static void out_of_memory(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	SKIP("the sanitizer's memory cannot be limited");
#else
	START();
	char path[32], *argument = malloc(100001);
	unsigned long pages = 0;
	memset(argument, 'a', 100000);
	argument[100000] = '\0';
	struct exec exec = {.argv = {"true", argument, argument, argument, argument, argument, argument, argument,
	                            argument, argument, argument, argument, argument}};
	snprintf(path, sizeof(path), "/proc/%d/statm", (int)agent.pid);
	FILE *file = fopen(path, "r");
	REQUIRE(file && fscanf(file, "%lu", &pages) == 1);
	fclose(file);
	struct rlimit memory = {pages * 4096 + 512 * 1024, RLIM_INFINITY};
	REQUIRE(prlimit(agent.pid, RLIMIT_AS, &memory, NULL) == 0);
	struct result result = run(&agent, &exec);
	check_failure(
	        &result, &(struct expected){PROTO_FAILURE_OUT_OF_MEMORY, PROTO_STAGE_REQUEST, ENOMEM, "cannot read"});
	result_free(&result);
	memory.rlim_cur = RLIM_INFINITY;
	prlimit(agent.pid, RLIMIT_AS, &memory, NULL);
	result = run(&agent, &exec);
	CHECK(ended_with(&result, 0));
	result_free(&result);
	free(argument);
	STOP();
#endif
}

/* ---- In a mount namespace of its own ---- */

static bool cover(const char *path, const char *content)
{
	char file[32];
	make_file(file, 0644, content);
	bool ok = mount(file, path, NULL, MS_BIND, NULL) == 0;
	unlink(file);
	return ok;
}

static bool without_ptmx(void)
{
	return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("/dev/null", "/dev/ptmx", NULL, MS_BIND, NULL) == 0;
}

static void pty_setup_failed(void)
{
	REQUIRE(agent_start_with(&agent, 0, without_ptmx));
	if (agent.unavailable)
		SKIP("no mount namespaces here");
	struct exec exec = {.argv = {"true"}, .flags = PROTO_EXEC_TTY};
	struct result result = run(&agent, &exec);
	check_failure(&result, &(struct expected){PROTO_FAILURE_PTY_SETUP_FAILED, PROTO_STAGE_PTY, ENOTTY, "terminal"});
	result_free(&result);
	STOP();
}

#define MANY_GROUPS 300

static bool with_users(void)
{
	char group[16384], *end = group;
	end += sprintf(end, "root:x:0:\nalice:x:2345:\nwheel:x:10:bob,alice\nbroken\naudio:x:29:alicex\n"
	                    "video:x:44:carol,alice\ndup:x:44:alice\n");
	for (int i = 0; i < MANY_GROUPS; i++)
		end += sprintf(end, "g%d:x:%d:many\n", i, 3000 + i);
	char long_line[40000];
	memset(long_line, 'x', sizeof(long_line));
	char *passwd = malloc(100000);
	/* The last line has no newline; one before is longer than any buffer; others are not of the form. */
	sprintf(passwd,
	        "root:x:0:0:root:/root:/bin/sh\nbroken\n:::::::\nbad:x:-1:y:::\n%.*s\nalice:x:1234:2345:Alice:/home/"
	        "alice:/bin/sh\n"
	        "many:x:1236:3000::/%.*s:\ntoomuch:x:1237:0::/%.*s:\nbob:x:1235:2346::relative:",
	        (int)sizeof(long_line), long_line, 1000, long_line, 5000, long_line);
	bool ok = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	          cover("/etc/passwd", passwd) && cover("/etc/group", group);
	free(passwd);
	return ok;
}

static void user_forms(void)
{
	REQUIRE(agent_start_with(&agent, 0, with_users));
	if (agent.unavailable)
		SKIP("no mount namespaces here");
	static const struct {
		const char *user, *ids, *home, *name;
	} cases[] = {
	        {"", "0 0 0", "/root", "root"},
	        {"root", "0 0 0", "/root", "root"},
	        {"alice", "1234 2345 2345 10 44", "/home/alice", "alice"},
	        {"1234", "1234 2345 2345 10 44", "/home/alice", "alice"},
	        {"alice:wheel", "1234 10 10 44", "/home/alice", "alice"},
	        {"alice:77", "1234 77 10 44 77", "/home/alice", "alice"},
	        {"1234:77", "1234 77 10 44 77", "/home/alice", "alice"},
	        {"bob", "1235 2346 2346 10", "/", "bob"},
	        {"555", "555 0 0", "/", "555"},
	        {"555:666", "555 666 666", "/", "555"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* The groups sorted, as setgroups() leaves them in the kernel. */
		struct exec exec = SH("echo $(id -u) $(id -g) $(sed -n 's/^Groups://p' /proc/self/status); "
		                      "echo $HOME $USER $LOGNAME");
		exec.user = cases[i].user;
		struct result result = run(&agent, &exec);
		CHECK(ended_with(&result, 0));
		unsigned int uid = 99, gid = 99, wanted_uid, wanted_gid;
		sscanf(text(&result, 0), "%u %u", &uid, &gid);
		sscanf(cases[i].ids, "%u %u", &wanted_uid, &wanted_gid);
		CHECK_EQ(uid, wanted_uid);
		CHECK_EQ(gid, wanted_gid);
		char names[128], *line = strchr(text(&result, 0), '\n');
		snprintf(names, sizeof(names), "%s %s %s\n", cases[i].home, cases[i].name, cases[i].name);
		REQUIRE(line);
		CHECK_STR(line + 1, names);
		*line = '\0';
		/* Each wanted group is there, and no more. */
		int wanted_count = -2, count = -2;
		char wanted[64], *save = NULL;
		snprintf(wanted, sizeof(wanted), "%s", cases[i].ids);
		for (char *word = strtok_r(wanted, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
			char padded[32], all[160];
			snprintf(padded, sizeof(padded), " %s ", word);
			snprintf(all, sizeof(all), " %s ", text(&result, 0));
			wanted_count++;
			CHECK(strstr(all, padded));
		}
		save = NULL;
		for (char *word = strtok_r((char *)result.output[0], " ", &save); word;
		        word = strtok_r(NULL, " ", &save))
			count++;
		/* Root as the agent runs: the groups of whoever runs the tests. */
		if (*cases[i].user)
			CHECK_EQ(count, wanted_count);
		result_free(&result);
	}
	STOP();
}

static bool with_fifo_passwd(void)
{
	char path[] = "/tmp/wisp-agent-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	close(fd);
	unlink(path);
	bool ok = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	          mkfifo(path, 0600) == 0 && mount(path, "/etc/passwd", NULL, MS_BIND, NULL) == 0 &&
	          mount("/dev/zero", "/etc/group", NULL, MS_BIND, NULL) == 0;
	unlink(path);
	return ok;
}

/* All groups and all of HOME, or a refusal: never a part. */
static void large_users(void)
{
	REQUIRE(agent_start_with(&agent, 0, with_users));
	if (agent.unavailable)
		SKIP("no mount namespaces here");
	struct exec exec = SH("id -G | wc -w; printf %s \"$HOME\" | wc -c");
	exec.user = "many";
	struct result result = run(&agent, &exec);
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "300\n1001\n");
	result_free(&result);
	exec.user = "toomuch";
	result = run(&agent, &exec);
	check_failure(&result, &(struct expected){PROTO_FAILURE_USER_SETUP_FAILED, PROTO_STAGE_USER, ENAMETOOLONG,
	                               "home directory of \"toomuch\""});
	result_free(&result);
	STOP();
}

/* An image may have a FIFO for /etc/passwd and an endless device for /etc/group: no wait, no endless read. */
static void hostile_user_files(void)
{
	REQUIRE(agent_start_with(&agent, 0, with_fifo_passwd));
	if (agent.unavailable)
		SKIP("no mount namespaces here");
	struct exec exec = {.argv = {"true"}, .user = "alice:wheel"};
	struct result result = run(&agent, &exec);
	check_failure(&result, &(struct expected){PROTO_FAILURE_USER_SETUP_FAILED, PROTO_STAGE_USER, ENOENT, "alice"});
	result_free(&result);
	exec.user = "12:wheel";
	result = run(&agent, &exec);
	check_failure(&result, &(struct expected){PROTO_FAILURE_USER_SETUP_FAILED, PROTO_STAGE_USER, ENOENT, "wheel"});
	result_free(&result);
	STOP();
}

TEST_MAIN("agent_failures", {"not_found", not_found}, {"permission_denied", permission_denied},
        {"not_executable", not_executable}, {"bad_cwd", bad_cwd}, {"bad_args", bad_args},
        {"resource_limit", resource_limit}, {"user_setup_failed", user_setup_failed},
        {"out_of_descriptors", out_of_descriptors}, {"out_of_descriptors_to_accept", out_of_descriptors_to_accept},
        {"out_of_memory", out_of_memory}, {"pty_setup_failed", pty_setup_failed}, {"user_forms", user_forms},
        {"large_users", large_users}, {"hostile_user_files", hostile_user_files})
