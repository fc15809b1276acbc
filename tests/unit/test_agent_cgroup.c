/* SPDX-License-Identifier: Apache-2.0 */
/* A session and all that it started: what its end leaves alone, and what a timeout and a kill reach. */
#include "tests/agent/harness.h"

static struct agent_process agent;
static char mount_point[64], folder[80];

/* An agent that makes its cgroups in one of the test's own. False with the case skipped or failed. */
static bool start(void)
{
	snprintf(mount_point, sizeof(mount_point), "/tmp/wisp-cgroup-%d", (int)getpid());
	snprintf(folder, sizeof(folder), "%s/wisp-test-%d", mount_point, (int)getpid());
	mkdir(mount_point, 0700);
	if (mount("cgroup2", mount_point, "cgroup2", 0, NULL) < 0 || mkdir(folder, 0755) < 0) {
		umount(mount_point);
		rmdir(mount_point);
		test_skipped = "no cgroup2 here";
		return false;
	}
	harness_cgroups = folder;
	test_failed |= !agent_start(&agent, 0);
	return !test_failed;
}

/* Cgroups in the folder. */
static long cgroups(void)
{
	struct stat status;
	return stat(folder, &status) < 0 ? -1 : (long)status.st_nlink - 2;
}

/* Ends the agent when only the next session's cgroup is left, which goes with it. */
static void stop(void)
{
	WAIT_FOR(cgroups() == 1);
	CHECK_EQ(agent_stop(&agent), 0);
	CHECK_EQ(rmdir(folder), 0);
	umount(mount_point);
	rmdir(mount_point);
	harness_cgroups = NULL;
}

/* Everything that leaves the group of a session, or never was in it; each says its pid. */
#define DESCENDANTS                                                                                               \
	"echo $(setsid sh -c 'sleep 60 >/dev/null & echo $!'); sleep 60 & echo $!; (setsid sleep 60 & echo $!); " \
	"echo ready; "

/* How many that wrote their pid are gone. */
static int gone(const struct result *result)
{
	int count = 0;
	for (const char *at = text(result, 0); *at; at = strchr(at, '\n') + 1) {
		uint32_t pid = (uint32_t)strtoul(at, NULL, 10);
		if (!pid)
			continue;
		WAIT_FOR(!alive(pid));
		count += !alive(pid);
	}
	return count;
}

static void timeout_kills_all(void)
{
	if (!start())
		return;
	struct exec exec = SH(DESCENDANTS "sleep 60");
	exec.timeout_ns = 700u * 1000 * 1000;
	struct result result = run(&agent, &exec);
	CHECK(ended_with(&result, -1));
	CHECK_EQ(result.exit.flags, PROTO_SESSION_TIMEOUT);
	gone(&result);
	result_free(&result);
	WAIT_FOR(cgroups() == 1);
	CHECK_EQ(cgroups(), 1); /* that of the next session */
	stop();
}

static void sigkill_kills_all(void)
{
	if (!start())
		return;
	int fd = dial(&agent);
	struct result result = {0};
	struct exec exec = SH(DESCENDANTS "sleep 60");
	send_exec(fd, &exec);
	CHECK(await_text(fd, &result, "ready"));
	send_frame(fd, PROTO_SIGNAL, &(struct proto_signal){.signal = SIGKILL}, sizeof(struct proto_signal));
	collect(fd, &result);
	CHECK_EQ(result.exit.signal, SIGKILL);
	CHECK_EQ(gone(&result), 3);
	result_free(&result);
	stop();
}

/* Sends KILL: the code of the ERROR that answers it, 0 for DONE. */
static uint32_t kill_session(uint64_t session)
{
	struct proto_kill kill = {.session = session};
	struct result result = {0};
	int fd = dial(&agent);
	send_hello(fd);
	send_frame(fd, PROTO_KILL, &kill, sizeof(kill));
	collect(fd, &result);
	CHECK(result.done || result.refused);
	uint32_t code = result.error.code;
	result_free(&result);
	return code;
}

/* What a program leaves in the background lives on, and can still be ended. */
static void kill_after_the_end(void)
{
	if (!start())
		return;
	struct result result = run(&agent, &SH(DESCENDANTS "exec >/dev/null 2>&1"));
	CHECK(ended_with(&result, 0));
	uint32_t left = (uint32_t)strtoul(text(&result, 0), NULL, 10);
	CHECK(left && alive(left));
	WAIT_FOR(cgroups() == 2);
	CHECK_EQ(cgroups(), 2);
	CHECK_EQ(kill_session(result.start.session), 0);
	CHECK_EQ(gone(&result), 3);
	WAIT_FOR(cgroups() == 1);
	CHECK_EQ(cgroups(), 1);
	/* Nothing is left to kill, and that is no error. */
	CHECK_EQ(kill_session(result.start.session), 0);
	CHECK_EQ(kill_session(99), PROTO_ERROR_NO_SESSION);
	result_free(&result);
	stop();
}

/* A signal is for the process group, as a terminal's would be. */
static void signals_reach_the_group_alone(void)
{
	if (!start())
		return;
	struct result result = {0};
	int fd = dial(&agent);
	struct exec exec = SH("echo $(setsid sh -c 'sleep 60 >/dev/null & echo $!'); sleep 60");
	send_exec(fd, &exec);
	CHECK(await_text(fd, &result, "\n"));
	send_frame(fd, PROTO_SIGNAL, &(struct proto_signal){.signal = SIGTERM}, sizeof(struct proto_signal));
	collect(fd, &result);
	CHECK_EQ(result.exit.signal, SIGTERM);
	uint32_t other = (uint32_t)strtoul(text(&result, 0), NULL, 10);
	CHECK(other && alive(other));
	CHECK_EQ(kill_session(result.start.session), 0);
	WAIT_FOR(!alive(other));
	result_free(&result);
	stop();
}

/* Programs may make cgroups of their own below. */
static void cgroups_below_are_removed(void)
{
	if (!start())
		return;
	char script[256];
	snprintf(script, sizeof(script),
	        "cd %s/wisp-1 && mkdir -p a/b c && sh -c 'echo $$ >a/b/cgroup.procs; exec sleep 60'", folder);
	struct exec exec = SH(script);
	exec.timeout_ns = 300u * 1000 * 1000;
	struct result result = run(&agent, &exec);
	CHECK_EQ(result.exit.flags, PROTO_SESSION_TIMEOUT);
	result_free(&result);
	WAIT_FOR(cgroups() == 1);
	CHECK_EQ(cgroups(), 1);
	stop();
}

/* A cgroup that a session left empty serves the next one, which a late kill of the first does not reach. */
static void empty_ones_are_used_again(void)
{
	if (!start())
		return;
	char places[3][128];
	struct result result;
	for (int i = 0; i < 3; i++) {
		/* The second leaves something behind. */
		result = run(&agent, i == 1 ? &SH("grep ^0: /proc/self/cgroup; sleep 60 >/dev/null 2>&1 & echo $!")
		                            : &SH("grep ^0: /proc/self/cgroup"));
		CHECK(ended_with(&result, 0));
		snprintf(places[i], sizeof(places[i]), "%.*s", (int)strcspn(text(&result, 0), "\n"), text(&result, 0));
		if (i == 0)
			WAIT_FOR(cgroups() == 1);
		if (i == 1)
			WAIT_FOR(cgroups() == 2);
		result_free(&result);
	}
	CHECK(strstr(places[0], "/wisp-1"));
	CHECK_STR(places[1], places[0]);
	CHECK(strcmp(places[2], places[1]) != 0);
	struct exec exec = SH("echo ready; sleep 60");
	int fd = dial(&agent);
	result = (struct result){0};
	send_exec(fd, &exec);
	CHECK(await_text(fd, &result, "ready"));
	CHECK_EQ(kill_session(1), 0);
	CHECK_EQ(kill_session(3), 0);
	CHECK(alive(result.start.pid));
	CHECK_EQ(kill_session(2), 0);
	CHECK_EQ(kill_session(result.start.session), 0);
	collect(fd, &result);
	CHECK_EQ(result.exit.signal, SIGKILL);
	result_free(&result);
	stop();
}

/* Without cgroups, the process group is what is killed. */
static void group_without_cgroups(void)
{
	REQUIRE(agent_start(&agent, 0));
	struct exec exec = SH("sleep 60 & echo $!; sleep 60");
	int fd = dial(&agent);
	struct result result = {0};
	send_exec(fd, &exec);
	CHECK(await_text(fd, &result, "\n"));
	CHECK_EQ(kill_session(result.start.session), 0);
	collect(fd, &result);
	CHECK_EQ(result.exit.signal, SIGKILL);
	uint32_t other = (uint32_t)strtoul(text(&result, 0), NULL, 10);
	WAIT_FOR(!alive(other));
	CHECK(other && !alive(other));
	result_free(&result);
	CHECK_EQ(agent_stop(&agent), 0);
}

TEST_MAIN("agent_cgroup", {"timeout_kills_all", timeout_kills_all}, {"sigkill_kills_all", sigkill_kills_all},
        {"kill_after_the_end", kill_after_the_end}, {"signals_reach_the_group_alone", signals_reach_the_group_alone},
        {"cgroups_below_are_removed", cgroups_below_are_removed},
        {"empty_ones_are_used_again", empty_ones_are_used_again}, {"group_without_cgroups", group_without_cgroups})
