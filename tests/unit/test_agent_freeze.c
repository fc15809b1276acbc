/* SPDX-License-Identifier: Apache-2.0 */
/* A machine that stands still for a snapshot, and what a restored one does before its programs run again. */
#include "tests/agent/harness.h"

static struct agent_process agent;
static char place[64];    /* a folder of the test's own */
static char mounted[80];  /* cgroup2 in it */
static char folder[112];  /* the agent's cgroups */
static char files[4][96]; /* struct identity_files */
static struct sockaddr_un host;
static int host_fd = -1; /* listens there */
static bool no_host;     /* of the agent that is started next */

static void write_file(const char *path, const char *content)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	CHECK_EQ(write(fd, content, strlen(content)), strlen(content));
	close(fd);
}

static const char *read_file(const char *path)
{
	static char content[512];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? 0 : read(fd, content, sizeof(content) - 1);
	content[length < 0 ? 0 : length] = '\0';
	close(fd);
	return content;
}

static void set_up_files(void)
{
	static const char *const names[] = {"generation", "hosts", "machine-id", "dbus-machine-id"};
	for (int i = 0; i < 4; i++)
		snprintf(files[i], sizeof(files[i]), "%s/%s", place, names[i]);
	harness_identity = (struct identity_files){
	        .random = "/dev/null", .generation = files[0], .hosts = files[1], .machine_ids = {files[2], files[3]}};
	write_file(files[0], "00000000-0000-0000-0000-000000000000\n");
	write_file(files[1], "127.0.0.1\tlocalhost\n127.0.1.1\told\n10.0.0.1 old.example\n");
	write_file(files[2], "uninitialized until the first boot of this machine\n");
	CHECK_EQ(symlink("machine-id", files[3]), 0);
}

static void listen_as_host(void)
{
	host = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(host.sun_path, sizeof(host.sun_path), "%s/host", place);
	host_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQ(bind(host_fd, (struct sockaddr *)&host, sizeof(host)), 0);
	CHECK_EQ(listen(host_fd, 1), 0);
	harness_host = no_host ? NULL : &host;
}

/* In a UTS namespace, the host name is not this machine's. */
static bool rename_host(void)
{
	return unshare(CLONE_NEWUTS) == 0 && sethostname("old", 3) == 0;
}

/* An agent with cgroups and a control connection. False with the case skipped or failed. */
static bool start(void)
{
	snprintf(place, sizeof(place), "/tmp/wisp-freeze-%d", (int)getpid());
	snprintf(mounted, sizeof(mounted), "%s/cgroup", place);
	snprintf(folder, sizeof(folder), "%s/wisp-test-%d", mounted, (int)getpid());
	mkdir(place, 0700);
	mkdir(mounted, 0700);
	if (mount("cgroup2", mounted, "cgroup2", 0, NULL) < 0 || mkdir(folder, 0755) < 0) {
		umount(mounted);
		rmdir(mounted);
		rmdir(place);
		test_skipped = "no cgroup2 here";
		return false;
	}
	set_up_files();
	listen_as_host();
	harness_cgroups = folder;
	test_failed |= !agent_start_with(&agent, WITH_CONTROL, rename_host);
	if (agent.unavailable)
		test_skipped = "no UTS namespace here";
	else
		test_failed |= !expect_frame(agent.control, PROTO_HELLO, NULL, 0) || !send_hello(agent.control);
	return !test_failed && !agent.unavailable;
}

/* Ends what still runs in a cgroup of the agent. */
static void kill_cgroup(int number)
{
	char path[160];
	snprintf(path, sizeof(path), "%s/wisp-%d/cgroup.kill", folder, number);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t written = write(fd, "1", 1);
	(void)written;
	close(fd);
}

static void stop(void)
{
	char path[160];
	for (int i = 1; i < 4; i++)
		kill_cgroup(i);
	CHECK_EQ(agent_stop(&agent), 0);
	for (int i = 1; i < 4; i++) {
		snprintf(path, sizeof(path), "%s/wisp-%d", folder, i);
		WAIT_FOR(rmdir(path) == 0 || errno == ENOENT);
	}
	CHECK_EQ(rmdir(folder), 0);
	close(host_fd);
	unlink(host.sun_path);
	for (int i = 0; i < 4; i++)
		unlink(files[i]);
	umount(mounted);
	rmdir(mounted);
	CHECK_EQ(rmdir(place), 0);
	harness_cgroups = NULL;
	harness_host = NULL;
	harness_freeze_ns = 0;
	harness_renew_error = 0;
	no_host = false;
}

/* ---- The host ---- */

/* What came on the control connection. */
struct log {
	int started, stdout_events;
	char text[256]; /* of standard output */
	uint32_t error; /* FROZEN's */
};

/* Reads events up to a frame of that type. */
static bool read_log(uint8_t type, struct log *log)
{
	struct frame frame;
	*log = (struct log){0};
	while (read_frame(agent.control, &frame)) {
		struct proto_event event;
		bool found = frame.type == type;
		if (found && type == PROTO_FROZEN && frame.length == sizeof(log->error))
			memcpy(&log->error, frame.payload, sizeof(log->error));
		if (frame.type == PROTO_EVENT && frame.length >= sizeof(event)) {
			memcpy(&event, frame.payload, sizeof(event));
			log->started += event.type == PROTO_STARTED;
			if (event.type == PROTO_STDOUT)
				snprintf(log->text + strlen(log->text), sizeof(log->text) - strlen(log->text), "%s",
				        (char *)frame.payload + sizeof(event));
		}
		frame_free(&frame);
		if (found)
			return true;
	}
	frame_free(&frame);
	return false;
}

/* FREEZE, and the errno of its answer. */
static uint32_t freeze(struct log *log)
{
	CHECK(send_frame(agent.control, PROTO_FREEZE, NULL, 0));
	CHECK(read_log(PROTO_FROZEN, log));
	return log->error;
}

static struct proto_thaw clone_thaw(void)
{
	struct proto_thaw thaw = {
	        .flags = PROTO_THAW_CLONE, .realtime_ns = 1234567890, .seed = {77}, .hostname = "clone"};
	for (int i = 0; i < 16; i++)
		thaw.generation[i] = (uint8_t)(0xa0 + i);
	return thaw;
}

static const char generation[] = "a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf\n";

static bool thaw(struct proto_thaw request, struct log *log)
{
	return send_frame(agent.control, PROTO_THAW, &request, sizeof(request)) && read_log(PROTO_THAWED, log);
}

/* The restored machine's: every connection of the guest is reset, and the agent connects anew. */
static void restore(void)
{
	close(agent.control);
	agent.control = accept4(host_fd, NULL, NULL, SOCK_CLOEXEC);
	CHECK(expect_frame(agent.control, PROTO_HELLO, NULL, 0));
	CHECK(send_hello(agent.control));
}

/* What cgroup.events of the first session's cgroup says. */
static bool frozen(int number)
{
	char path[160];
	snprintf(path, sizeof(path), "%s/wisp-%d/cgroup.events", folder, number);
	return strstr(read_file(path), "frozen 1") != NULL;
}

/* Answers what it reads. */
#define ECHO "echo ready; while read -r line; do echo \"$line\"; done"

static int start_echo(struct result *result)
{
	struct exec exec = SH(ECHO);
	exec.flags = PROTO_EXEC_STDIN;
	int fd = dial(&agent);
	*result = (struct result){0};
	CHECK(send_exec(fd, &exec));
	CHECK(await_text(fd, result, "ready"));
	return fd;
}

static bool echoes(int fd, struct result *result, const char *line)
{
	return send_frame(fd, PROTO_STDIN, line, strlen(line)) && await_text(fd, result, line);
}

/* ---- Cases ---- */

static void programs_stop_and_go_on(void)
{
	struct result result;
	struct log log;
	if (!start())
		return;
	int fd = start_echo(&result);
	CHECK_EQ(freeze(&log), 0);
	/* What the client has seen, the log has. */
	CHECK_EQ(log.started, 1);
	CHECK_STR(log.text, "ready\n");
	CHECK(frozen(1));
	CHECK(send_frame(fd, PROTO_STDIN, "line\n", 5));
	CHECK_EQ(agent.seen->clock_ns, 0);
	CHECK(thaw((struct proto_thaw){.realtime_ns = 5000000000}, &log));
	CHECK_EQ(agent.seen->clock_ns, 5000000000);
	CHECK_EQ(agent.seen->seed, 0);
	CHECK_EQ(log.started, 0);
	CHECK(!frozen(1));
	CHECK(await_text(fd, &result, "line"));
	CHECK_STR(read_file(files[0]), "00000000-0000-0000-0000-000000000000\n");
	/* And again. */
	CHECK_EQ(freeze(&log), 0);
	CHECK(frozen(1));
	CHECK(thaw((struct proto_thaw){0}, &log));
	CHECK(echoes(fd, &result, "more\n"));
	close(fd);
	result_free(&result);
	stop();
}

/* What an ended session has left, and cgroups that a program has made next to its own. */
static void nothing_runs_on(void)
{
	char script[512], path[160];
	struct log log;
	if (!start())
		return;
	snprintf(script, sizeof(script),
	        "mkdir %s/other && sh -c 'echo $$ >%s/other/cgroup.procs; exec sleep 60' & sleep 60 & "
	        "until grep -q 'populated 1' %s/other/cgroup.events; do :; done; exec >/dev/null 2>&1",
	        folder, folder, folder);
	struct result result = run(&agent, &SH(script));
	CHECK(ended_with(&result, 0));
	result_free(&result);
	CHECK_EQ(freeze(&log), 0);
	CHECK(frozen(1));
	snprintf(path, sizeof(path), "%s/other/cgroup.events", folder);
	CHECK_STR(read_file(path), "populated 1\nfrozen 1\n");
	CHECK(thaw((struct proto_thaw){0}, &log));
	CHECK_STR(read_file(path), "populated 1\nfrozen 0\n");
	snprintf(path, sizeof(path), "%s/other/cgroup.kill", folder);
	write_file(path, "1");
	snprintf(path, sizeof(path), "%s/other", folder);
	WAIT_FOR(rmdir(path) == 0);
	stop();
}

/* A request that comes meanwhile is for the machine that goes on. */
static void exec_waits_for_thaw(void)
{
	struct result result = {0};
	struct log log;
	char byte;
	if (!start())
		return;
	CHECK_EQ(freeze(&log), 0);
	int fd = dial(&agent);
	char script[160];
	snprintf(script, sizeof(script), "cat %s; hostname", files[0]);
	CHECK(send_exec(fd, &SH(script)));
	/* It serves the control connection, and nothing else. */
	CHECK(send_frame(agent.control, PROTO_PING, "?", 1));
	CHECK(expect_frame(agent.control, PROTO_PONG, NULL, 1));
	CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) < 0);
	CHECK(thaw(clone_thaw(), &log));
	collect(fd, &result);
	CHECK(ended_with(&result, 0));
	CHECK_STR(text(&result, 0), "a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf\nclone\n");
	result_free(&result);
	stop();
}

/* One that is being started is frozen on its way. */
static void a_program_on_its_way_is_frozen(void)
{
	struct result result = {0};
	struct log log;
	if (!start())
		return;
	uint8_t payload[512];
	size_t length = exec_payload(&SH("exec sleep 60"), payload);
	int fd = dial(&agent);
	CHECK(send_hello(fd) && expect_frame(fd, PROTO_HELLO, NULL, 0));
	stop_process(agent.pid); /* so it has both in one round */
	CHECK(send_frame(fd, PROTO_EXEC, payload, length));
	CHECK(send_frame(agent.control, PROTO_FREEZE, NULL, 0));
	kill(agent.pid, SIGCONT);
	CHECK(read_log(PROTO_FROZEN, &log));
	CHECK_EQ(log.error, 0);
	CHECK_EQ(log.started, 0);
	CHECK(frozen(1));
	CHECK(thaw((struct proto_thaw){0}, &log));
	CHECK(await_start(fd, &result));
	close(fd);
	result_free(&result);
	stop();
}

static void a_clone_is_another_machine(void)
{
	struct result result, watched = {0};
	struct log log;
	if (!start())
		return;
	int fd = start_echo(&result);
	int watch = open(files[0], O_RDONLY | O_CLOEXEC);
	CHECK_EQ(freeze(&log), 0);
	restore();
	CHECK(frozen(1));
	CHECK(thaw(clone_thaw(), &log));
	CHECK_EQ(agent.seen->seed, 77);
	CHECK_EQ(agent.seen->clock_ns, 1234567890);
	/* The file is the one that was open before. */
	char text_of[64] = "";
	CHECK_EQ(read(watch, text_of, sizeof(text_of) - 1), sizeof(generation) - 1);
	CHECK_STR(text_of, generation);
	close(watch);
	CHECK_STR(read_file(files[1]), "127.0.0.1\tlocalhost\n127.0.1.1\tclone\n10.0.0.1 old.example\n");
	CHECK_STR(read_file(files[2]), "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf\n");
	struct stat status;
	CHECK(lstat(files[3], &status) == 0 && S_ISLNK(status.st_mode));
	/* The session is in the new log, and can be joined with all that it wrote. */
	CHECK(echoes(fd, &result, "on\n"));
	CHECK_EQ(freeze(&log), 0);
	CHECK_EQ(log.started, 1);
	CHECK_STR(log.text, "on\n");
	CHECK(thaw((struct proto_thaw){0}, &log));
	int other = open_session(&agent, result.start.session, PROTO_OPEN_REPLAY);
	CHECK(await_text(other, &watched, "ready\non\n"));
	close(other);
	close(fd);
	result_free(&watched);
	result_free(&result);
	stop();
}

/* With the random numbers of another, it does not run. */
static void a_clone_without_a_seed_stays_frozen(void)
{
	struct result result;
	struct log log;
	harness_renew_error = -EPERM;
	if (!start())
		return;
	int fd = start_echo(&result);
	CHECK_EQ(freeze(&log), 0);
	restore();
	CHECK(!thaw(clone_thaw(), &log));
	CHECK(frozen(1));
	close(agent.control);
	agent.control = accept4(host_fd, NULL, NULL, SOCK_CLOEXEC);
	CHECK(expect_frame(agent.control, PROTO_HELLO, NULL, 0) && send_hello(agent.control));
	CHECK(frozen(1));
	CHECK(thaw((struct proto_thaw){0}, &log));
	CHECK(echoes(fd, &result, "on\n"));
	close(fd);
	result_free(&result);
	stop();
}

static void a_freeze_that_fails_is_undone(void)
{
	struct result result;
	struct log log;
	char path[160];
	if (!start())
		return;
	int fd = start_echo(&result);
	/* A program in the root cgroup cannot be frozen. */
	snprintf(path, sizeof(path), "%s/cgroup.procs", folder);
	pid_t stray = fork();
	if (stray == 0) {
		setsid();
		write_file(path, "0");
		execlp("sleep", "sleep", "60", (char *)NULL);
		_exit(1);
	}
	WAIT_FOR(*read_file(path));
	CHECK_EQ(freeze(&log), EBUSY);
	CHECK(!frozen(1));
	CHECK(echoes(fd, &result, "on\n"));
	kill_program(stray);
	waitpid(stray, NULL, 0);
	CHECK_EQ(freeze(&log), 0);
	CHECK(thaw((struct proto_thaw){0}, &log));
	close(fd);
	result_free(&result);
	stop();
}

static void a_freeze_has_a_limit(void)
{
	struct result result;
	struct log log;
	harness_freeze_ns = 1;
	if (!start())
		return;
	int fd = start_echo(&result);
	CHECK_EQ(freeze(&log), ETIMEDOUT);
	CHECK(!frozen(1));
	CHECK(echoes(fd, &result, "on\n"));
	close(fd);
	result_free(&result);
	stop();
}

static void without_cgroups_nothing_freezes(void)
{
	struct log log;
	REQUIRE(agent_start(&agent, WITH_CONTROL));
	REQUIRE(expect_frame(agent.control, PROTO_HELLO, NULL, 0) && send_hello(agent.control));
	CHECK_EQ(freeze(&log), EOPNOTSUPP);
	CHECK_EQ(agent_stop(&agent), 0);
}

/* Frames of this kind are for the control connection, and in turns. */
static void out_of_place(void)
{
	struct log log;
	struct result result = {0};
	if (!start())
		return;
	int fd = dial(&agent);
	send_hello(fd);
	send_frame(fd, PROTO_FREEZE, NULL, 0);
	collect(fd, &result);
	CHECK_EQ(result.error.code, PROTO_ERROR_PROTOCOL);
	result_free(&result);
	CHECK_EQ(freeze(&log), 0);
	CHECK(send_frame(agent.control, PROTO_FREEZE, NULL, 0));
	CHECK(!read_log(PROTO_FROZEN, &log));
	restore();
	struct proto_thaw request = {.flags = 2};
	CHECK(!thaw(request, &log));
	restore();
	memset(request.hostname, 'x', sizeof(request.hostname));
	request.flags = 0;
	CHECK(!thaw(request, &log));
	restore();
	CHECK(thaw((struct proto_thaw){0}, &log));
	CHECK(!thaw((struct proto_thaw){0}, &log));
	stop();
}

/* A frozen guest can be stopped: its programs get their signal. */
static void poweroff_thaws(void)
{
	struct result result;
	struct log log;
	if (!start())
		return;
	int fd = start_echo(&result);
	CHECK_EQ(freeze(&log), 0);
	struct proto_poweroff request = {.grace_ms = 1000};
	CHECK(send_frame(agent.control, PROTO_POWEROFF, &request, sizeof(request)));
	WAIT_FOR(agent.seen->power);
	CHECK_EQ(agent.seen->grace_ms, 1000);
	CHECK(!frozen(1));
	close(fd);
	result_free(&result);
	stop();
}

/* An agent that cannot connect anew, which nobody could thaw, goes on. */
static void it_goes_on_without_a_host(void)
{
	struct result result;
	struct log log;
	no_host = true;
	if (!start())
		return;
	int fd = start_echo(&result);
	CHECK_EQ(freeze(&log), 0);
	close(agent.control);
	agent.control = -1;
	CHECK(echoes(fd, &result, "on\n"));
	close(fd);
	result_free(&result);
	stop();
}

TEST_MAIN("agent_freeze", {"programs_stop_and_go_on", programs_stop_and_go_on}, {"nothing_runs_on", nothing_runs_on},
        {"exec_waits_for_thaw", exec_waits_for_thaw},
        {"a_program_on_its_way_is_frozen", a_program_on_its_way_is_frozen},
        {"a_clone_is_another_machine", a_clone_is_another_machine},
        {"a_clone_without_a_seed_stays_frozen", a_clone_without_a_seed_stays_frozen},
        {"a_freeze_that_fails_is_undone", a_freeze_that_fails_is_undone},
        {"a_freeze_has_a_limit", a_freeze_has_a_limit},
        {"without_cgroups_nothing_freezes", without_cgroups_nothing_freezes}, {"out_of_place", out_of_place},
        {"poweroff_thaws", poweroff_thaws}, {"it_goes_on_without_a_host", it_goes_on_without_a_host})
