/* SPDX-License-Identifier: Apache-2.0 */
/* Faults in the agent, which runs on this machine (tests/agent/agent_host.c); its client is the library. */
#include "tests/faults/sessions.h"

static const char config[] = "cpus=1\nmemory_mib=64\nshell=/bin/sh\n";

/*
 * What a killed session leaves in the background ends at its timeout, and so does a session that was still being
 * started when the sessions were listed. The rest is for a busy machine: the limit only ends a hang.
 */
#define DESCRIPTORS_MS (SESSION_MS + 10000)

static char agent_path[PATH_MAX];

/* The agent looks for its plan where it is started from. -1 if it cannot serve, which it may say. */
static pid_t start_planned(struct fault_run *run, const char *dir)
{
	char program[PATH_MAX], word[8];
	int ends[2];
	snprintf(program, sizeof(program), "%s/agent_host", run->dir);
	if (symlink(agent_path, program) < 0 || pipe2(ends, O_CLOEXEC) < 0)
		abort();
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(ends[1], 1);
		execl(program, program, dir, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	ssize_t n = read(ends[0], word, sizeof(word));
	close(ends[0]);
	if (n > 0)
		return pid;
	waitpid(pid, NULL, 0);
	return -1;
}

static int count_fds(pid_t pid)
{
	char path[32];
	int count = 0;
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	DIR *dir = opendir(path);
	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

/* A session whose client was lost goes on. */
static void kill_sessions(struct fault_run *run, struct wisp_sandbox *sandbox)
{
	struct wisp_session_info **list;
	struct wisp_session *session;
	struct wisp_error error = {0};
	if (wisp_list_sessions(sandbox, &list, &error) < 0) {
		fault_violation(run, "it does not list its sessions: %s", error.message);
		return;
	}
	for (size_t i = 0; list[i]; i++) {
		if (wisp_open_session(sandbox, list[i]->id, NULL, &session, &error) < 0) {
			fault_violation(run, "it does not open session %d: %s", (int)list[i]->id, error.message);
			continue;
		}
		wisp_kill_session(session, NULL);
		wisp_wait_session(session, NULL, NULL);
		wisp_close_session(session);
	}
	wisp_free_session_list(list);
}

/* Whatever has failed, the agent goes on, with the descriptors that it began with. */
static void check_agent(struct fault_run *run, struct fixture *f, int idle_fds)
{
	struct wisp_error error = {0};
	run->plan->target.calls = 0; /* no fault from here on */
	kill_sessions(run, f->sandbox);
	if (wisp_ping_sandbox(f->sandbox, NULL, &error) < 0)
		fault_violation(run, "it no longer serves: %s", error.message);
	wisp_close_sandbox(f->sandbox); /* and with it the connection that it keeps */
	f->sandbox = NULL;
	for (int i = 0; i < DESCRIPTORS_MS / 2 && count_fds(f->agent) != idle_fds; i++)
		sleep_ms(2);
	if (count_fds(f->agent) != idle_fds)
		fault_violation(run, "the agent had %d descriptors, and has %d", idle_fds, count_fds(f->agent));
}

static void serve(struct fault_run *run, void (*use)(struct fault_run *run, struct wisp_sandbox *sandbox))
{
	struct fixture f;
	struct wisp_error error = {0};
	if (!fixture_dir(&f, config))
		abort();
	f.agent = start_planned(run, f.dir);
	if (f.agent < 0) {
		fault_report(run, "the agent cannot serve");
	} else {
		int idle_fds = count_fds(f.agent);
		if (wisp_open_sandbox(f.root, "box", &f.sandbox, &error) < 0)
			abort();
		use(run, f.sandbox);
		check_agent(run, &f, idle_fds);
	}
	fixture_end(&f);
}

static void collect(struct fault_run *run)
{
	serve(run, collect_output);
}

static void stream(struct fault_run *run)
{
	serve(run, stream_through);
}

static void terminal(struct fault_run *run)
{
	serve(run, control_terminal);
}

int main(int argc, char **argv)
{
	static const struct fault_scenario scenarios[] = {
	        {"collect", collect}, {"stream", stream}, {"terminal", terminal}, {0}};
	/* Next to this program. */
	if (!realpath("/proc/self/exe", agent_path))
		return 1;
	snprintf(strrchr(agent_path, '/') + 1, 16, "agent_host");
	return fault_main("agent", agent_path, scenarios, argc, argv);
}
