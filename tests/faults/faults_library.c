/* SPDX-License-Identifier: Apache-2.0 */
/* Faults in the library: its monitor is tests/unit/test_lib.h's, its agent tests/agent/agent_host.c. */
#include "tests/faults/sessions.h"

/* In passt's place: its child has the socket, until nobody else has it. */
static void make_passt(const char *path)
{
	static const char script[] = "#!/bin/sh\ncat <&3 >/dev/null 2>&1 3<&- &\n";
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	if (fd < 0 || write(fd, script, sizeof(script) - 1) != sizeof(script) - 1 || close(fd) < 0)
		abort();
}

static struct wisp_create_options options_for(struct fault_run *run, char libdir[PATH_MAX])
{
	static char passt[PATH_MAX + 8];
	static const struct wisp_net net = {.size = sizeof(net), .kind = WISP_NET_PASST, .program = passt};
	snprintf(libdir, PATH_MAX, "%s/lib", run->dir);
	if (!make_libdir(libdir))
		abort();
	snprintf(passt, sizeof(passt), "%s/passt", libdir);
	make_passt(passt);
	return (struct wisp_create_options){.size = sizeof(struct wisp_create_options),
	        .state_root = run->root,
	        .name = "box",
	        .libdir = libdir,
	        .memory_mib = WISP_MEMORY_MIB_MIN,
	        .stop_grace_ms = 1000,
	        .net = &net};
}

static struct wisp_sandbox *begin(struct fault_run *run, const struct wisp_create_options *options)
{
	struct wisp_sandbox *sandbox;
	struct wisp_error error = {0};
	fault_use(run->plan);
	return fault_check(run, "create", wisp_create_sandbox(options, &sandbox, &error), &error) ? sandbox : NULL;
}

/* A sandbox that is there before the faults begin. */
static struct wisp_sandbox *begin_without_faults(struct fault_run *run, const struct wisp_create_options *options)
{
	struct wisp_sandbox *sandbox;
	struct wisp_error error = {0};
	if (wisp_create_sandbox(options, &sandbox, &error) == 0)
		return sandbox;
	fault_violation(run, "without a fault: %s", error.message);
	return NULL;
}

/* The faults of an ordinary create are collect()'s. */
static struct wisp_sandbox *begin_before_faults(struct fault_run *run, const struct wisp_create_options *options)
{
	struct wisp_sandbox *sandbox = begin_without_faults(run, options);
	fault_use(run->plan);
	return sandbox;
}

typedef struct wisp_sandbox *begin_fn(struct fault_run *run, const struct wisp_create_options *options);

static void live(
        struct fault_run *run, begin_fn *begin_it, void (*use)(struct fault_run *, struct wisp_sandbox *), bool stop)
{
	char libdir[PATH_MAX];
	struct wisp_create_options create = options_for(run, libdir);
	struct wisp_sandbox *sandbox = begin_it(run, &create);
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	use(run, sandbox);
	if (stop && !run->error[0])
		fault_check(run, "stop", wisp_stop_sandbox(sandbox, WAIT_MS, &error), &error);
	wisp_close_sandbox(sandbox);
}

static void collect(struct fault_run *run)
{
	live(run, begin, collect_output, false);
}

static void stream(struct fault_run *run)
{
	live(run, begin_before_faults, stream_through, true);
}

static void terminal(struct fault_run *run)
{
	live(run, begin_before_faults, control_terminal, false);
}

/* One that outlives its handle, and is found, described, stopped and deleted by name. */
static void detached(struct fault_run *run)
{
	char libdir[PATH_MAX];
	struct wisp_create_options create = options_for(run, libdir);
	create.detach = create.keep = true;
	struct wisp_sandbox *sandbox = begin(run, &create);
	struct wisp_sandbox_info *info, **list;
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	wisp_close_sandbox(sandbox);
	if (fault_check(run, "inspect", wisp_inspect_sandbox(run->root, "box", &info, &error), &error)) {
		if (info->state != WISP_SANDBOX_RUNNING)
			fault_violation(run, "its state is %d", (int)info->state);
		wisp_free_sandbox_info(info);
	}
	int count = wisp_list_sandboxes(run->root, &list, &error);
	if (fault_check(run, "list", count, &error)) {
		if (count != 1)
			fault_violation(run, "%d sandboxes are listed", count);
		wisp_free_sandbox_list(list);
	}
	if (fault_check(run, "prune", wisp_prune_sandboxes(run->root, false, NULL, &error), &error) &&
	        fault_check(run, "open", wisp_open_sandbox(run->root, "box", &sandbox, &error), &error)) {
		fault_check(run, "stop", wisp_stop_sandbox(sandbox, WAIT_MS, &error), &error);
		wisp_close_sandbox(sandbox);
	}
	fault_check(run, "remove", wisp_remove_sandbox(run->root, "box", &error), &error);
	/* What could not be done must be possible afterwards. */
	fault_use(NULL);
	if (wisp_open_sandbox(run->root, "box", &sandbox, &error) == 0) {
		if (wisp_kill_sandbox(sandbox, &error) < 0)
			fault_violation(run, "it cannot be killed afterwards: %s", error.message);
		wisp_close_sandbox(sandbox);
	}
	/* The fake monitor's agent may have the lock for a moment, too: until its exec. */
	int r = wisp_remove_sandbox(run->root, "box", &error);
	for (int tries = 0; tries < 100 && r == -EBUSY; tries++) {
		poll(NULL, 0, 20);
		r = wisp_remove_sandbox(run->root, "box", &error);
	}
	if (r < 0 && r != -ENOENT)
		fault_violation(run, "it cannot be removed afterwards: %s", error.message);
}

/* A snapshot, a sandbox from it, and a clone of that. */
static void saved(struct fault_run *run)
{
	char libdir[PATH_MAX], file[PATH_MAX], cache[PATH_MAX];
	struct wisp_create_options create = options_for(run, libdir);
	struct wisp_sandbox *sandbox = begin_before_faults(run, &create), *restored, *clone;
	struct wisp_snapshot_options options = {.size = sizeof(options), .compress = true};
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	snprintf(file, sizeof(file), "%s/file", run->dir);
	snprintf(cache, sizeof(cache), "%s/cache", run->dir);
	int r = wisp_snapshot_sandbox(sandbox, file, &options, &error);
	bool there = access(file, F_OK) == 0;
	fault_check(run, "snapshot", r, &error);
	if (there != (r == 0))
		fault_violation(run, "the snapshot %s", there ? "was left behind" : "is missing");
	if (there)
		fault_check(run, "verify", wisp_verify_snapshot(file, NULL, &error), &error);
	create.name = "new";
	create.from = file;
	create.cache_dir = cache;
	if (there && fault_check(run, "restore", wisp_create_sandbox(&create, &restored, &error), &error)) {
		if (fault_check(run, "fork", wisp_fork_sandbox(restored, 1, NULL, &clone, &error), &error))
			wisp_close_sandbox(clone);
		wisp_close_sandbox(restored);
	}
	wisp_close_sandbox(sandbox);
}

/* ---- Pausing, saving, forking ---- */

/* Its source has lost nothing. */
static void still_runs(struct fault_run *run, struct wisp_sandbox *sandbox)
{
	enum wisp_sandbox_state state = WISP_SANDBOX_PAUSED;
	struct wisp_error error = {0};
	fault_use(NULL);
	for (int i = 0; i < 1000 && state == WISP_SANDBOX_PAUSED; i++) {
		usleep(i > 0 ? 2000 : 0);
		if (wisp_get_sandbox_state(sandbox, &state, &error) < 0)
			break;
	}
	if (state != WISP_SANDBOX_RUNNING)
		fault_violation(run, "the source does not run: state %d (%s)", (int)state, run->error);
	wisp_close_sandbox(sandbox);
}

/* Where the answer of the monitor is lost, a port may have been added all the same. */
static void ports(struct fault_run *run)
{
	char libdir[PATH_MAX], path[PATH_MAX];
	struct wisp_create_options create = options_for(run, libdir);
	snprintf(path, sizeof(path), "%s/../web.sock", run->root);
	const struct wisp_port port = {"0", 80};
	create.ports = &port;
	create.port_count = 1;
	create.port_size = sizeof(port);
	struct wisp_sandbox *sandbox = begin(run, &create);
	struct wisp_port_info **list;
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	bool added = fault_check(run, "add", wisp_add_port(sandbox, path, 8080, &error), &error);
	int count = wisp_list_ports(sandbox, &list, &error);
	if (fault_check(run, "list", count < 0 ? count : 0, &error)) {
		if (count != 2 && (count != 1 || added))
			fault_violation(run, "%d ports", count);
		wisp_free_port_list(list);
	}
	if (added)
		fault_check(run, "remove", wisp_remove_port(sandbox, path, &error), &error);
	fault_check(run, "stop", wisp_stop_sandbox(sandbox, WAIT_MS, &error), &error);
	wisp_close_sandbox(sandbox);
	fault_use(NULL);
	unlink(path); /* one that the fault kept from being removed */
}

/* wisp-proxy is the real one; it ends with the monitor, whatever failed. */
static void network(struct fault_run *run)
{
	static const char *const allow[] = {"example.org", NULL}, *const secrets[] = {"KEY=value@example.org", NULL};
	char libdir[PATH_MAX], path[PATH_MAX], proxy[PATH_MAX];
	struct wisp_create_options create = options_for(run, libdir);
	snprintf(path, sizeof(path), "%s/lib/wisp-proxy", run->dir);
	if (symlink(built("../../lib/wisp/wisp-proxy", proxy), path) < 0)
		abort();
	create.allow = allow;
	create.secrets = secrets;
	struct wisp_sandbox *sandbox = begin(run, &create);
	if (!sandbox)
		return;
	collect_output(run, sandbox);
	wisp_close_sandbox(sandbox);
}

struct shares {
	char folder[PATH_MAX], file[PATH_MAX];
	struct wisp_folder list[2];
};

/* wisp-fs is the real one too. */
static void share(struct fault_run *run, struct shares *shares, struct wisp_create_options *create)
{
	char program[PATH_MAX];
	snprintf(shares->file, PATH_MAX, "%s/lib/wisp-fs", run->dir);
	snprintf(shares->folder, PATH_MAX, "%s/shared", run->dir);
	if ((symlink(built("../../lib/wisp/wisp-fs", program), shares->file) < 0 || mkdir(shares->folder, 0700) < 0) &&
	        errno != EEXIST)
		abort();
	shares->list[0] = (struct wisp_folder){.path = shares->folder, .guest = "/work"};
	shares->list[1] = (struct wisp_folder){.path = shares->file, .guest = "/etc/file"};
	create->folders = shares->list;
	create->folder_count = 2;
	create->folder_size = sizeof(shares->list[0]);
}

static void folders(struct fault_run *run)
{
	char libdir[PATH_MAX];
	struct wisp_create_options create = options_for(run, libdir);
	struct shares shares;
	share(run, &shares, &create);
	struct wisp_sandbox *sandbox = begin(run, &create);
	struct wisp_sandbox_info *info;
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	if (fault_check(run, "inspect", wisp_inspect_sandbox(run->root, "box", &info, &error), &error)) {
		if (!info->folders[0] || !info->folders[1] || info->folders[2])
			fault_violation(run, "its folders are not shown");
		wisp_free_sandbox_info(info);
	}
	wisp_close_sandbox(sandbox);
}

static void pausing(struct fault_run *run)
{
	char libdir[PATH_MAX];
	struct wisp_create_options create = options_for(run, libdir);
	struct wisp_sandbox *sandbox = begin_before_faults(run, &create);
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	if (fault_check(run, "pause", wisp_pause_sandbox(sandbox, &error), &error))
		fault_check(run, "resume", wisp_resume_sandbox(sandbox, &error), &error);
	fault_use(NULL);
	wisp_resume_sandbox(sandbox, &error);
	still_runs(run, sandbox);
}

/* Whatever happened, the file is whole or not there, and no other is left next to it. */
static void check_file(struct fault_run *run, const char *file)
{
	struct wisp_error error = {0};
	DIR *dir = opendir(run->dir);
	struct dirent *entry;
	while (dir && (entry = readdir(dir)))
		if (strncmp(entry->d_name, ".wisp-", 6) == 0)
			fault_violation(run, "%s is left: %s", entry->d_name, run->error);
	if (dir)
		closedir(dir);
	if (access(file, F_OK) != 0)
		return;
	if (wisp_verify_snapshot(file, NULL, &error) < 0)
		fault_violation(run, "the snapshot is not whole: %s", error.message);
	unlink(file);
}

static void saving(struct fault_run *run)
{
	char libdir[PATH_MAX], file[96];
	struct wisp_create_options create = options_for(run, libdir);
	struct wisp_sandbox *sandbox = begin_before_faults(run, &create);
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	snprintf(file, sizeof(file), "%s/snapshot", run->dir);
	if (fault_check(run, "save", wisp_snapshot_sandbox(sandbox, file, NULL, &error), &error))
		fault_check(run, "verify", wisp_verify_snapshot(file, NULL, &error), &error);
	fault_use(NULL);
	check_file(run, file);
	still_runs(run, sandbox);
}

static void restoring(struct fault_run *run)
{
	char libdir[PATH_MAX], file[96];
	struct wisp_create_options create = options_for(run, libdir);
	struct wisp_snapshot_options options = {.size = sizeof(options), .stop = true};
	struct shares shares;
	share(run, &shares, &create);
	struct wisp_sandbox *sandbox = begin_without_faults(run, &create);
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	snprintf(file, sizeof(file), "%s/snapshot", run->dir);
	if (wisp_snapshot_sandbox(sandbox, file, &options, &error) < 0)
		fault_violation(run, "without a fault: %s", error.message);
	wisp_close_sandbox(sandbox);
	create = (struct wisp_create_options){
	        .size = sizeof(create), .state_root = run->root, .name = "box", .libdir = libdir, .from = file};
	share(run, &shares, &create);
	sandbox = begin(run, &create);
	if (!sandbox)
		return;
	collect_output(run, sandbox);
	wisp_close_sandbox(sandbox);
}

static void forking(struct fault_run *run)
{
	char libdir[PATH_MAX];
	struct wisp_create_options create = options_for(run, libdir);
	struct wisp_fork_options options = {.size = sizeof(options), .name = "clone", .libdir = libdir};
	struct shares shares;
	share(run, &shares, &create);
	struct wisp_sandbox *sandbox = begin_before_faults(run, &create), *clones[2];
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	if (fault_check(run, "fork", wisp_fork_sandbox(sandbox, 2, &options, clones, &error), &error))
		for (int i = 0; i < 2; i++)
			wisp_close_sandbox(clones[i]);
	still_runs(run, sandbox);
}

int main(int argc, char **argv)
{
	static const struct fault_scenario scenarios[] = {{"collect", collect}, {"stream", stream},
	        {"terminal", terminal}, {"detached", detached}, {"saved", saved}, {"ports", ports},
	        {"network", network}, {"folders", folders}, {"pausing", pausing}, {"saving", saving},
	        {"restoring", restoring}, {"forking", forking}, {0}};
	char self[PATH_MAX];
	fake_vmm_main(argc, argv);
	if (!realpath("/proc/self/exe", self))
		return 1;
	return fault_main("library", self, scenarios, argc, argv);
}
